package portal_test

import (
	"fmt"
	"sync"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/portal/portaltest"
	"github.com/virtual-disk-array/vda/store"
	"github.com/virtual-disk-array/vda/store/dbtest"
)

// TestTwoPortals has eight clients at two portals fill one cluster: every
// array that was granted has its space, no cluster is given out twice, and
// nobody is turned away before the disks are full.
func TestTwoPortals(t *testing.T) {
	t.Parallel()
	t.Run("SQLite", func(t *testing.T) { fill(t, dbtest.SQLite(t)) })
	t.Run("MariaDB", func(t *testing.T) {
		_, uri := dbtest.MariaDB(t)
		fill(t, uri)
	})
	t.Run("PostgreSQL", func(t *testing.T) {
		_, uri := dbtest.Postgres(t)
		fill(t, uri)
	})
}

func fill(t *testing.T, uri string) {
	c := portaltest.On(t, uri)
	portals := []string{c.Portal(), c.Portal()}
	c.Populate(c.Dial(portals[0]), 3, 3)

	// Each array takes two vds of 11 MiB; a pd has 127 MiB: 11 vds. So 16
	// arrays fit, with one vd's room left.
	const clients, each, fit = 8, 3, 16
	var mu sync.Mutex
	granted, full := 0, 0
	var wg sync.WaitGroup
	for i := range clients {
		client := c.Dial(portals[i%2])
		wg.Go(func() {
			for j := range each {
				_, err := client.CreateDa(ctx, &apiv1.CreateDaRequest{DaName: fmt.Sprintf("da-%d-%d", i, j), CntlrCnt: 2, DaSize: 21 << 20, DaConf: `{"stripe_count":2}`})
				mu.Lock()
				switch status.Code(err) {
				case codes.OK:
					granted++
				case codes.ResourceExhausted:
					full++
				default:
					t.Errorf("da-%d-%d: %v", i, j, err)
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if granted != fit || full != clients*each-fit {
		t.Errorf("%d arrays granted and %d refused, want %d and %d", granted, full, fit, clients*each-fit)
	}
	err := c.Store.View(ctx, func(tx store.Reader) error {
		pds, _, err := tx.ListPD(store.PDFilter{}, store.Page{})
		if err != nil {
			return err
		}
		for i := range pds {
			vds, err := tx.VDsOfPD(pds[i].ID)
			if err != nil {
				return err
			}
			var used uint64
			for _, vd := range vds {
				used += vd.Clusters
			}
			if used+pds[i].FreeClusters != pds[i].TotalClusters || int(pds[i].VDCount) != len(vds) {
				t.Errorf("%s: %d clusters in vds and %d free of %d; %d vds counted, %d there", pds[i].ID, used, pds[i].FreeClusters,
					pds[i].TotalClusters, pds[i].VDCount, len(vds))
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestSameNameAtOnce has eight clients ask for one array: one makes it, the
// others learn that it is there just so.
func TestSameNameAtOnce(t *testing.T) {
	c := portaltest.New(t)
	portals := []string{c.Portal(), c.Portal()}
	c.Populate(c.Dial(portals[0]), 2, 2)
	errs := make([]error, 8)
	var wg sync.WaitGroup
	for i := range errs {
		client := c.Dial(portals[i%2])
		wg.Go(func() {
			_, errs[i] = client.CreateDa(ctx, &apiv1.CreateDaRequest{DaName: "one", DaSize: 4 << 20, DaConf: `{"stripe_count":2}`})
		})
	}
	wg.Wait()
	made := 0
	for _, err := range errs {
		if err == nil {
			made++
			continue
		}
		refusal(t, err, codes.AlreadyExists, 5, "exactly as asked")
	}
	if made != 1 {
		t.Errorf("made %d times", made)
	}
	if n := count(t, c.Store); n.das != 1 {
		t.Errorf("%d das", n.das)
	}
}
