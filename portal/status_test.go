package portal_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/virtual-disk-array/vda"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/array"
	"github.com/virtual-disk-array/vda/portal"
	"github.com/virtual-disk-array/vda/portal/portaltest"
	"github.com/virtual-disk-array/vda/rpc"
	"github.com/virtual-disk-array/vda/store"
	"github.com/virtual-disk-array/vda/syncer"
)

// TestStatus looks at a cluster that is well, and at one after the other of what can be
// wrong with it.
func TestStatus(t *testing.T) {
	ctx := context.Background()
	c := portaltest.New(t)
	client := c.Client()
	look := func() *apiv1.StatusMsg {
		t.Helper()
		r, err := client.GetStatus(ctx, &apiv1.GetStatusRequest{})
		if err != nil {
			t.Fatal(err)
		}
		if m := r.StatusMsg; m.Well != (m.ProblemCnt == 0) || len(m.ProblemList) != int(m.ProblemCnt) {
			t.Errorf("well %v with %d problems: %q", m.Well, m.ProblemCnt, m.ProblemList)
		}
		return r.StatusMsg
	}
	says := func(m *apiv1.StatusMsg, words string) {
		t.Helper()
		if m.Well || !slices.ContainsFunc(m.ProblemList, func(p string) bool { return strings.Contains(p, words) }) {
			t.Errorf("the status does not say %q: well %v, %q", words, m.Well, m.ProblemList)
		}
	}
	says(look(), "no monitor has ever run")

	c.Populate(client, 2, 2)
	c.Agent("mon0:9620")
	c.Change(func(tx store.Tx) error {
		_, err := tx.BeatMonitor("m0", "mon0:9620")
		return err
	})
	if _, err := client.CreateDa(ctx, &apiv1.CreateDaRequest{DaName: "da0", CntlrCnt: 2, DaSize: 16 << 20}); err != nil {
		t.Fatal(err)
	}
	m := look()
	if !m.Well {
		t.Errorf("a cluster that is well is not: %q", m.ProblemList)
	}
	if got := fmt.Sprint(m.NodeCountMsgList); strings.Count(got, "total:2") != 2 || strings.Count(got, "up:2") != 2 ||
		!strings.Contains(got, `kind:"monitor"`) {
		t.Errorf("nodes: %s", got)
	}
	if l := m.CapacityMsgList; len(l) != 4 || l[2].Location != "dn0:9720" || l[2].TotalSize == 0 || l[2].UsableSize != l[2].FreeSize ||
		l[0].CnCnt != 1 || l[2].PdCnt != 1 || l[2].FreeSize+l[3].FreeSize >= l[2].TotalSize+l[3].TotalSize {
		t.Errorf("capacity: %v", l)
	}
	if l := m.DaCountMsgList; len(l) != 1 || l[0].State != "healthy" || l[0].DaCnt != 1 || l[0].DaSize != 16<<20 {
		t.Errorf("arrays: %v", l)
	}
	primaries := uint32(0)
	for _, l := range m.CnLoadMsgList {
		primaries += l.PrimaryCnt
	}
	if len(m.CnLoadMsgList) != 2 || primaries != 1 {
		t.Errorf("primaries: %v", m.CnLoadMsgList)
	}

	// A pd that takes nothing new has space, but not for new arrays.
	no := false
	if _, err := client.ModifyPd(ctx, &apiv1.ModifyPdRequest{DnName: "dn0:9720", PdName: "pd0", NewOnline: &no}); err != nil {
		t.Fatal(err)
	}
	if m = look(); !m.Well || m.CapacityMsgList[2].UsableSize != 0 || m.CapacityMsgList[2].FreeSize == 0 {
		t.Errorf("a pd offline: well %v, %v", m.Well, m.CapacityMsgList[2])
	}

	ill := vda.Health{Error: true, Msg: "does not answer", Since: time.Now()}
	healthy := vda.Health{}
	for _, tt := range []struct {
		object store.Object
		id     func(tx store.Tx) (string, error)
		words  string
	}{
		{store.ObjDN, func(tx store.Tx) (string, error) {
			n, err := tx.NodeByName(vda.DiskNode, "dn0:9720")
			return n.ID, err
		}, "dn dn0:9720: does not answer"},
		{store.ObjCN, func(tx store.Tx) (string, error) {
			n, err := tx.NodeByName(vda.ControllerNode, "cn1:9820")
			return n.ID, err
		}, "cn cn1:9820: does not answer"},
		{store.ObjPD, func(tx store.Tx) (string, error) {
			l, _, err := tx.ListPD(store.PDFilter{}, store.Page{})
			return l[0].ID, err
		}, "pd pd0 of dn dn"},
		{store.ObjDA, func(tx store.Tx) (string, error) {
			d, err := tx.DAByName("da0")
			return d.ID, err
		}, "da da0: does not answer"},
	} {
		set := func(h vda.Health) {
			c.Change(func(tx store.Tx) error {
				id, err := tt.id(tx)
				if err != nil {
					return err
				}
				return tx.SetHealth(tt.object, id, h)
			})
		}
		set(ill)
		says(look(), tt.words)
		set(healthy)
	}
	if m = look(); !m.Well {
		t.Errorf("all is well again, and it says %q", m.ProblemList)
	}
	c.Agent("mon0:9620").Stop()
	says(look(), "monitor mon0:9620: ")
}

// TestStatusCountsArrays: arrays are counted by what is wrong with them, and those in the trash
// are not.
func TestStatusCountsArrays(t *testing.T) {
	ctx := context.Background()
	c := portaltest.New(t)
	client := c.Client()
	c.Populate(client, 2, 2)
	c.CanMirror()
	made := map[string]*apiv1.DaMsg{}
	for _, name := range []string{"well", "lost", "lame", "down", "gone"} {
		r, err := client.CreateDa(ctx, &apiv1.CreateDaRequest{DaName: name, CntlrCnt: 2, DaSize: 16 << 20, Redundancy: "mirror:2"})
		if err != nil {
			t.Fatal(err)
		}
		made[name] = r.DaMsg
	}
	if _, err := client.DeleteDa(ctx, &apiv1.DeleteDaRequest{DaName: "gone", Keep: "1h"}); err != nil {
		t.Fatal(err)
	}
	ill := vda.Health{Error: true, Msg: "no answer", Since: time.Now()}
	c.Change(func(tx store.Tx) error {
		if err := tx.SetHealth(store.ObjDA, made["down"].DaId, ill); err != nil {
			return err
		}
		vds, err := tx.VDsOfDA(made["lost"].DaId)
		if err != nil {
			return err
		}
		for i := range vds {
			if err := tx.SetHealth(store.ObjVD, vds[i].ID, ill); err != nil {
				return err
			}
		}
		if vds, err = tx.VDsOfDA(made["lame"].DaId); err != nil {
			return err
		}
		vds[1].Role = vda.Stale
		return tx.UpdateVD(&vds[1])
	})
	r, err := client.GetStatus(ctx, &apiv1.GetStatusRequest{})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, n := range r.StatusMsg.DaCountMsgList {
		got = append(got, fmt.Sprint(n.State, " ", n.DaCnt, " ", n.DaSize>>20))
	}
	if want := []string{"down 1 16", "error 1 16", "healthy 1 16", "single 1 16"}; !slices.Equal(got, want) {
		t.Errorf("arrays: %q, want %q", got, want)
	}
	var about []string
	for _, p := range r.StatusMsg.ProblemList {
		if strings.HasPrefix(p, "da ") {
			about = append(about, p)
		}
	}
	want := []string{"da down: no answer", "da lame is single: its redundancy is mirror:2", "da lost is down: its redundancy is mirror:2"}
	if !slices.Equal(about, want) {
		t.Errorf("problems: %q, want %q", about, want)
	}
	kept := uint64(0)
	for _, l := range r.StatusMsg.CapacityMsgList {
		kept += l.ReclaimableSize
	}
	if kept < 2*16<<20 {
		t.Errorf("%d bytes are reclaimable of an array with two legs of 16 MiB and more in the trash", kept)
	}
}

// TestListVersion asks programs that run and one that does not.
func TestListVersion(t *testing.T) {
	c := portaltest.New(t)
	client := c.Client()
	c.Populate(client, 1, 1)
	c.Agent("cn0:9820").Stop()
	r, err := client.ListVersion(context.Background(), &apiv1.ListVersionRequest{})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]bool{"portal/": true, "dn_agent/dn0:9720": true, "cn_agent/cn0:9820": false, "data_plane/dn0:9720": false,
		"data_plane/cn0:9820": false}
	for _, m := range r.VersionMsgList {
		key := m.Component + "/" + m.Name
		known, is := want[key]
		if !is || known != strings.Contains(m.Version, "commit ") || known == (m.Problem != "") {
			t.Errorf("%s: version %q, problem %q", key, m.Version, m.Problem)
		}
		delete(want, key)
	}
	if len(want) > 0 {
		t.Errorf("not told of: %v", want)
	}
}

// counted counts who is asked for a version.
type counted struct {
	portal.Programs
	mu    sync.Mutex
	asked []string
}

func (c *counted) Program(at vda.At) (apiv1.ProgramClient, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked = append(c.asked, at.Addr)
	return c.Programs.Program(at)
}

func (c *counted) since() (asked []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	asked, c.asked = c.asked, nil
	slices.Sort(asked)
	return asked
}

// TestStatusAsksNoAgent: a status of a cluster of many nodes calls its monitors alone. It knows the versions
// of agents from what they told those, also of one that is down now.
func TestStatusAsksNoAgent(t *testing.T) {
	c := portaltest.New(t)
	var programs counted
	client := c.Client(func(cfg *portal.Config) {
		programs.Programs = cfg.Programs
		cfg.Programs = &programs
	})
	const nodes = 12
	c.Populate(client, nodes, nodes)
	c.Agent("mon0:9620")
	c.Change(func(tx store.Tx) error {
		_, err := tx.BeatMonitor("m0", "mon0:9620")
		return err
	})
	versions := func() (all []string) {
		t.Helper()
		r, err := client.GetStatus(t.Context(), &apiv1.GetStatusRequest{})
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range r.StatusMsg.VersionCountMsgList {
			if strings.HasSuffix(v.Component, "_agent") {
				all = append(all, fmt.Sprintf("%d %s %q", v.Cnt, v.Component, v.Version))
			}
		}
		return all
	}
	programs.since()
	if got, want := versions(), []string{`12 dn_agent ""`, `12 cn_agent ""`}; !slices.Equal(got, want) {
		t.Errorf("before a monitor has heard of the agents: %q, want %q", got, want)
	}
	if asked := programs.since(); !slices.Equal(asked, []string{"mon0:9620"}) {
		t.Errorf("a status asks %q, want the monitor alone", asked)
	}

	// What monitors report.
	var reports []syncer.NodeReport
	c.Change(func(tx store.Tx) error {
		reports = nil
		dns, _, err := tx.ListDN(store.NodeFilter{}, store.Page{})
		cns, _, err2 := tx.ListCN(store.NodeFilter{}, store.Page{})
		for i := range dns {
			heard := syncer.Report{AgentVersion: "1.1", Version: dns[i].Version}
			reports = append(reports, syncer.NodeReport{Node: array.DN(dns[i].ID), Report: heard})
		}
		for i := range cns {
			heard := syncer.Report{AgentVersion: "1.1", Version: cns[i].Version}
			reports = append(reports, syncer.NodeReport{Node: array.CN(cns[i].ID), Report: heard})
		}
		return errors.Join(err, err2)
	})
	pool := syncer.NewPool(rpc.DialConfig{})
	defer pool.Close()
	s, err := syncer.New(syncer.Config{Store: c.Store, Dial: pool})
	if err != nil {
		t.Fatal(err)
	}
	report := func(reports ...syncer.NodeReport) {
		t.Helper()
		if err := s.Reports(t.Context(), reports); err != nil {
			t.Fatal(err)
		}
	}
	report(reports...)
	upgraded, down := reports[0], reports[1]
	upgraded.AgentVersion = "1.2"
	down.Report = syncer.Report{Down: true, Problem: "no answer", Version: down.Version}
	report(upgraded, down)
	if got, want := versions(), []string{`11 dn_agent "1.1"`, `1 dn_agent "1.2"`, `12 cn_agent "1.1"`}; !slices.Equal(got, want) {
		t.Errorf("versions: %q, want %q", got, want)
	}
	if asked := programs.since(); !slices.Equal(asked, []string{"mon0:9620"}) {
		t.Errorf("a status asks %q, want the monitor alone", asked)
	}
	// Anyone who wants to know all of this moment asks for it.
	if _, err := client.ListVersion(t.Context(), &apiv1.ListVersionRequest{}); err != nil {
		t.Fatal(err)
	}
	if asked := programs.since(); len(asked) != 2*nodes+1 {
		t.Errorf("a list of versions asks %d programs, want %d", len(asked), 2*nodes+1)
	}
}
