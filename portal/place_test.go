package portal

import (
	"fmt"
	"testing"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/placement"
	"github.com/virtual-disk-array/vda/store"
	"github.com/virtual-disk-array/vda/store/storetest"
)

// wholeLists counts what reads every row of a table.
type wholeLists struct {
	store.Reader
	n int
}

func (w *wholeLists) ListPD(f store.PDFilter, p store.Page) ([]vda.PD, string, error) {
	w.n++
	return w.Reader.ListPD(f, p)
}

func (w *wholeLists) ListDN(f store.NodeFilter, p store.Page) ([]vda.DN, string, error) {
	w.n++
	return w.Reader.ListDN(f, p)
}

func (w *wholeLists) ListCN(f store.NodeFilter, p store.Page) ([]vda.CN, string, error) {
	w.n++
	return w.Reader.ListCN(f, p)
}

// TestPlacesAmongSome: in a cluster with more disks and cns than are looked at, a place
// costs no read of them all, unless those few are not good enough: then the only disk with
// room, or with a location of its own, is found.
func TestPlacesAmongSome(t *testing.T) {
	uri := storetest.SQLite(t)
	st, err := store.Open(t.Context(), uri)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = st.Close() })
	const nodes = 4 * some
	listener := vda.Listener{TrType: "tcp", TrAddr: "192.168.0.14", AdrFam: "ipv4", TrSvcID: "4420"}
	var roomy string
	err = st.Update(t.Context(), func(tx store.Tx) error {
		for i := range nodes {
			dn := vda.Node{ID: store.NewID(), Name: fmt.Sprintf("dn%d:9720", i), Location: fmt.Sprint("rack", i%10), Online: true,
				Listener: listener}
			cn := dn
			cn.ID, cn.Name = store.NewID(), fmt.Sprintf("cn%d:9820", i)
			pd := vda.PD{ID: store.NewID(), DNID: dn.ID, Name: "pd0", Conf: `{"type":"malloc","size":67108864}`, Online: true,
				ClusterSize: 1 << 20, TotalClusters: 1000, FreeClusters: 100}
			if i == 7 {
				pd.FreeClusters, roomy = 900, pd.ID
			}
			for _, err := range []error{tx.InsertNode(vda.DiskNode, &dn), tx.InsertNode(vda.ControllerNode, &cn), tx.InsertPD(&pd)} {
				if err != nil {
					return err
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	place := func(stripes uint32, vdBytes uint64, strict placement.Strictness) (p *plan, read int, err error) {
		da := &vda.DA{ID: store.NewID(), Name: "da0", CntlrCnt: 2, StripeCount: stripes, Redundancy: 1}
		viewed := st.View(t.Context(), func(tx store.Reader) error {
			w := &wholeLists{Reader: tx}
			p, _, err = placeDA(w, da, vdBytes, strict)
			read = w.n
			return nil
		})
		if viewed != nil {
			t.Fatal(viewed)
		}
		return p, read, err
	}
	disks := map[string]bool{}
	for range 50 {
		p, read, err := place(2, 8<<20, true)
		if err != nil || read != 0 || len(p.warnings) > 0 {
			t.Fatalf("a place for two small vds: %d whole lists, %v", read, err)
		}
		for _, v := range placement.Legs(p.columns) {
			disks[v.PDID] = true
		}
	}
	if len(disks) < 5 { // of disks that are alike, that of the first name among 64 is taken
		t.Errorf("50 arrays were to lie on %d disks", len(disks))
	}
	for range 5 {
		p, _, err := place(1, 500<<20, false)
		if err != nil || placement.Legs(p.columns)[0].PDID != roomy {
			t.Fatalf("a vd that one disk has room for: %v", err)
		}
	}
	if _, read, err := place(1, 5000<<20, false); vda.KindOf(err) != vda.ResourceExhausted || read == 0 {
		t.Errorf("a vd that no disk has room for: %d whole lists, %v", read, err)
	}
	if p, read, err := place(16, 8<<20, false); err != nil || len(p.warnings) == 0 || read == 0 {
		t.Errorf("16 vds in 10 racks: %d whole lists, %v", read, err)
	}
}
