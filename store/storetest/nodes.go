package storetest

import (
	"errors"
	"slices"
	"testing"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/store"
)

func testClusterID(t *testing.T, s *suite) {
	var a, b string
	s.view(t, func(tx store.Reader) (err error) { a, err = tx.ClusterID(); return err })
	s.update(t, func(tx store.Tx) (err error) { b, err = tx.ClusterID(); return err })
	if len(a) != 32 || a != b {
		t.Fatalf("cluster id %q, then %q", a, b)
	}
}

func testDN(t *testing.T, s *suite) {
	testNode(t, s, vda.DiskNode, &newDN().Node, func(tx store.Reader, f store.NodeFilter) (nodes []vda.Node, next string, err error) {
		rows, next, err := tx.ListDN(f, store.Page{})
		for i := range rows {
			nodes = append(nodes, rows[i].Node)
		}
		return nodes, next, err
	}, func(tx store.Reader, id string) (*vda.Node, error) {
		dn, err := tx.DN(id)
		if err != nil {
			return nil, err
		}
		return &dn.Node, nil
	})
}

func testCN(t *testing.T, s *suite) {
	uncounted := func(cn *vda.CN) vda.Node {
		if cn.CntlrCount != 0 || cn.PrimaryCount != 0 {
			t.Errorf("a cn without controllers has %d, and %d primary", cn.CntlrCount, cn.PrimaryCount)
		}
		return cn.Node
	}
	testNode(t, s, vda.ControllerNode, &newCN().Node, func(tx store.Reader, f store.NodeFilter) (nodes []vda.Node, next string, err error) {
		rows, next, err := tx.ListCN(f, store.Page{})
		for i := range rows {
			nodes = append(nodes, rows[i].Node)
		}
		return nodes, next, err
	}, func(tx store.Reader, id string) (*vda.Node, error) {
		cn, err := tx.CN(id)
		if err != nil {
			return nil, err
		}
		n := uncounted(cn)
		return &n, nil
	})

	cn := newCN()
	s.update(t, func(tx store.Tx) error { return tx.InsertNode(vda.ControllerNode, &cn.Node) })
	for _, want := range []bool{true, true, false} {
		s.update(t, func(tx store.Tx) error {
			return errors.Join(tx.SetCNMirrors(cn.ID, want), tx.SetCNAuth(cn.ID, !want), tx.SetCNReserves(cn.ID, want),
				tx.UpdateNode(vda.ControllerNode, &cn.Node))
		})
		s.view(t, func(tx store.Reader) error {
			got, err := tx.CN(cn.ID)
			if err == nil && got.Mirrors != want {
				t.Errorf("mirrors is %v, want %v", got.Mirrors, want)
			}
			if err == nil && got.Auth == want {
				t.Errorf("auth is %v, want %v", got.Auth, !want)
			}
			if err == nil && got.Reserves != want {
				t.Errorf("reserves is %v, want %v", got.Reserves, want)
			}
			return err
		})
	}
	s.refused(t, vda.NotFound, func(tx store.Tx) error { return tx.SetCNMirrors("none", true) })
	s.refused(t, vda.NotFound, func(tx store.Tx) error { return tx.SetCNAuth("none", true) })
	s.refused(t, vda.NotFound, func(tx store.Tx) error { return tx.SetCNReserves("none", true) })
	for _, want := range []vda.CNDrain{vda.DrainPrimaries, vda.DrainCntlrs, vda.DrainCntlrs, vda.NoDrain} {
		s.update(t, func(tx store.Tx) error {
			return errors.Join(tx.SetCNDrain(cn.ID, want), tx.UpdateNode(vda.ControllerNode, &cn.Node))
		})
		s.view(t, func(tx store.Reader) error {
			got, err := tx.CN(cn.ID)
			if err == nil && got.Drain != want {
				t.Errorf("drain is %v, want %v", got.Drain, want)
			}
			return err
		})
	}
	s.refused(t, vda.NotFound, func(tx store.Tx) error { return tx.SetCNDrain("none", vda.DrainPrimaries) })
}

// testNode checks what is the same for both kinds of nodes. list and typed read
// them by the methods that have a type of their own for the kind.
func testNode(t *testing.T, s *suite, k vda.NodeKind, node *vda.Node, list func(store.Reader, store.NodeFilter) ([]vda.Node, string, error),
	typed func(store.Reader, string) (*vda.Node, error)) {
	s.update(t, func(tx store.Tx) error { return tx.InsertNode(k, node) })
	s.refused(t, vda.AlreadyExists, func(tx store.Tx) error {
		again := *node
		again.ID = store.NewID()
		return tx.InsertNode(k, &again)
	})
	read := func(what string, want *vda.Node) {
		s.view(t, func(tx store.Reader) error {
			byID, err := tx.Node(k, node.ID)
			byName, err2 := tx.NodeByName(k, node.Name)
			one, err3 := typed(tx, node.ID)
			if err := errors.Join(err, err2, err3); err != nil {
				return err
			}
			same(t, what+", by id", byID, want)
			same(t, what+", by name", byName, want)
			same(t, what+", by its kind's method", one, want)
			return nil
		})
	}
	read("inserted", node)

	upd := *node
	upd.Location, upd.Online, upd.DataPlaneVersion, upd.Listener.TrAddr = "moved", false, "vda_tgt", "10.0.0.1"
	if k == vda.ControllerNode {
		upd.Backend = vda.Listener{TrType: "tcp", TrAddr: "fd00::1", AdrFam: "ipv6", TrSvcID: "65535"}
	}
	upd.Version, upd.Applied, upd.Health = 99, 99, vda.Health{}
	s.update(t, func(tx store.Tx) error { return tx.UpdateNode(k, &upd) })
	want := upd
	want.Version, want.Applied, want.Health = node.Version, node.Applied, node.Health
	read("updated: versions and health are not its business", &want)

	for name, c := range map[string]struct {
		f     store.NodeFilter
		finds bool
	}{
		"all that fit":   {store.NodeFilter{Location: ptr("moved"), Online: ptr(false), Error: ptr(true)}, true},
		"all":            {store.NodeFilter{}, true},
		"other location": {store.NodeFilter{Location: &node.Location}, false},
		"online":         {store.NodeFilter{Location: ptr("moved"), Online: ptr(true)}, false},
		"error":          {store.NodeFilter{Location: ptr("moved"), Error: ptr(false)}, false},
	} {
		s.view(t, func(tx store.Reader) error {
			rows, next, err := list(tx, c.f)
			if next != "" {
				t.Errorf("filter %s: token %q", name, next)
			}
			found := false
			for i := range rows {
				if rows[i].ID == node.ID {
					found = true
					same(t, "listed", &rows[i], &want)
				}
			}
			if found != c.finds {
				t.Errorf("filter %s finds the %s: %v", name, k, found)
			}
			return err
		})
	}

	s.update(t, func(tx store.Tx) error { return tx.DeleteNode(k, node.ID) })
	for name, fn := range map[string]func(store.Tx) error{
		"Node":           func(tx store.Tx) error { _, err := tx.Node(k, node.ID); return err },
		"its own method": func(tx store.Tx) error { _, err := typed(tx, node.ID); return err },
		"NodeByName":     func(tx store.Tx) error { _, err := tx.NodeByName(k, node.Name); return err },
		"UpdateNode":     func(tx store.Tx) error { return tx.UpdateNode(k, node) },
		"DeleteNode":     func(tx store.Tx) error { return tx.DeleteNode(k, node.ID) },
		"BumpNode":       func(tx store.Tx) error { _, err := tx.BumpNode(k, node.ID); return err },
		"RaiseNode":      func(tx store.Tx) error { return tx.RaiseNode(k, node.ID, 1) },
		"SetNodeApplied": func(tx store.Tx) error { return tx.SetNodeApplied(k, node.ID, 1) },
	} {
		t.Run(name+" of none", func(t *testing.T) { s.refused(t, vda.NotFound, fn) })
	}
}

func testPD(t *testing.T, s *suite) {
	dn := newDN()
	pd := newPD(dn)
	other := newDN()
	s.update(t, func(tx store.Tx) error {
		return errors.Join(tx.InsertNode(vda.DiskNode, &dn.Node), tx.InsertNode(vda.DiskNode, &other.Node), tx.InsertPD(pd))
	})
	s.refused(t, vda.AlreadyExists, func(tx store.Tx) error {
		again := newPD(dn)
		again.Name = pd.Name
		return tx.InsertPD(again)
	})
	s.update(t, func(tx store.Tx) error { // another dn may have a pd of that name
		p := newPD(other)
		p.Name = pd.Name
		return tx.InsertPD(p)
	})
	upd := *pd
	upd.Online, upd.ClusterSize, upd.TotalClusters, upd.Version = false, 4<<20, 150, 11
	upd.FreeClusters, upd.VDCount, upd.Health = 1, 77, vda.Health{}
	s.update(t, func(tx store.Tx) error {
		return errors.Join(tx.TakePD(pd.ID, 30), tx.UpdatePD(&upd))
	})
	want := upd
	want.FreeClusters, want.VDCount, want.Health = 120, 1, pd.Health // 100-30+50
	s.view(t, func(tx store.Reader) error {
		got, err := tx.PDByName(dn.ID, pd.Name)
		if err != nil {
			return err
		}
		same(t, "updated", got, &want)
		rows, _, err := tx.ListPD(store.PDFilter{DNID: &dn.ID, Online: ptr(false), Error: ptr(true)}, store.Page{})
		same(t, "listed", rows, []vda.PD{want})
		return err
	})
	s.refused(t, vda.FailedPrecondition, func(tx store.Tx) error {
		small := upd
		small.TotalClusters = 29 // 30 are taken
		return tx.UpdatePD(&small)
	})
	s.refused(t, vda.ResourceExhausted, func(tx store.Tx) error { return tx.TakePD(pd.ID, 121) })
	s.refused(t, vda.Internal, func(tx store.Tx) error { return tx.GivePD(pd.ID, 31) })
	s.update(t, func(tx store.Tx) error { return tx.GivePD(pd.ID, 30) })
	s.refused(t, vda.Internal, func(tx store.Tx) error { return tx.GivePD(pd.ID, 0) })
	s.refused(t, vda.FailedPrecondition, func(tx store.Tx) error { return tx.DeleteNode(vda.DiskNode, dn.ID) })
	s.update(t, func(tx store.Tx) error { return tx.DeletePD(pd.ID) })
	for name, fn := range map[string]func(store.Tx) error{
		"PD":       func(tx store.Tx) error { _, err := tx.PD(pd.ID); return err },
		"PDByName": func(tx store.Tx) error { _, err := tx.PDByName(dn.ID, pd.Name); return err },
		"UpdatePD": func(tx store.Tx) error { return tx.UpdatePD(pd) },
		"DeletePD": func(tx store.Tx) error { return tx.DeletePD(pd.ID) },
		"TakePD":   func(tx store.Tx) error { return tx.TakePD(pd.ID, 1) },
		"GivePD":   func(tx store.Tx) error { return tx.GivePD(pd.ID, 1) },
	} {
		t.Run(name+" of none", func(t *testing.T) { s.refused(t, vda.NotFound, fn) })
	}
}

// testOrphanSpace: clusters in use that no vd accounts for are not free, and
// can be taken by their vd.
func testOrphanSpace(t *testing.T, s *suite) {
	dn := newDN()
	pd := newPD(dn)
	s.update(t, func(tx store.Tx) error {
		return errors.Join(tx.InsertNode(vda.DiskNode, &dn.Node), tx.InsertPD(pd), tx.TakePD(pd.ID, 20))
	})
	check := func(what string, free, orphans uint64) {
		t.Helper()
		s.view(t, func(tx store.Reader) error {
			p, err := tx.PD(pd.ID)
			if err == nil && (p.FreeClusters != free || p.OrphanClusters != orphans) {
				t.Errorf("%s: %d free, %d of orphans; want %d and %d", what, p.FreeClusters, p.OrphanClusters, free, orphans)
			}
			return err
		})
	}
	used := func(n uint64) {
		t.Helper()
		s.update(t, func(tx store.Tx) error { return tx.SetPDUsed(pd.ID, n) })
	}
	s.update(t, func(tx store.Tx) error {
		p, err := tx.PD(pd.ID)
		if err != nil {
			return err
		}
		p.WriteCache = vda.CacheNotFlushed
		return tx.UpdatePD(p)
	})
	s.view(t, func(tx store.Reader) error {
		p, err := tx.PD(pd.ID)
		if err == nil && p.WriteCache != vda.CacheNotFlushed {
			t.Errorf("write cache %q", p.WriteCache)
		}
		return err
	})
	used(5) // not all of what is promised has been made
	check("less than promised", 80, 0)
	used(50)
	check("more than promised", 50, 30)
	s.refused(t, vda.ResourceExhausted, func(tx store.Tx) error { return tx.TakePD(pd.ID, 51) })
	s.update(t, func(tx store.Tx) error { return tx.TakeOrphan(pd.ID, 10) })
	check("some adopted", 50, 20)
	s.update(t, func(tx store.Tx) error { return tx.TakeOrphan(pd.ID, 25) })
	check("more adopted than was known", 45, 0)
	used(1000)
	check("more than there is", 0, 45)
	used(55)
	check("as promised", 45, 0)
}

// testSome: some rows are that many different ones, each has its chance, and all there are
// when there are not more. The rows of nodes by id, and their states, are what each has
// alone.
func testSome(t *testing.T, s *suite) {
	const made = 40
	dn := newDN()
	var pds, cns []string
	s.update(t, func(tx store.Tx) error {
		pds, cns = nil, nil
		errs := []error{tx.InsertNode(vda.DiskNode, &dn.Node)}
		for range made {
			pd, cn := newPD(dn), newCN()
			pds, cns = append(pds, pd.ID), append(cns, cn.ID)
			errs = append(errs, tx.InsertPD(pd), tx.InsertNode(vda.ControllerNode, &cn.Node))
		}
		gone := newPD(dn)
		gone.Deleted = true
		return errors.Join(append(errs, tx.InsertPD(gone))...)
	})
	s.view(t, func(tx store.Reader) error {
		seen := map[string]bool{}
		for range 200 { // of the 40 and what other tests left; each starts at random
			some, err := tx.SomePDs(10)
			if err != nil {
				return err
			}
			ids := map[string]bool{}
			for i := range some {
				ids[some[i].ID], seen[some[i].ID] = true, true
				if some[i].Deleted {
					t.Error("a pd that is deleted")
				}
			}
			if len(ids) != 10 {
				t.Fatalf("10 pds are %d", len(ids))
			}
		}
		if len(seen) < made/2 {
			t.Errorf("200 times 10 pds were %d of %d at least", len(seen), made)
		}
		pdRows, _, err := tx.ListPD(store.PDFilter{}, store.Page{})
		if err != nil {
			return err
		}
		cnRows, _, err := tx.ListCN(store.NodeFilter{}, store.Page{})
		if err != nil {
			return err
		}
		somePDs, err := tx.SomePDs(len(pdRows) + 1)
		if err != nil || len(somePDs) != len(pdRows) {
			t.Errorf("all %d pds are %d: %v", len(pdRows), len(somePDs), err)
		}
		someCNs, err := tx.SomeCNs(len(cnRows) + 1)
		if err != nil || len(someCNs) != len(cnRows) {
			t.Errorf("all %d cns are %d: %v", len(cnRows), len(someCNs), err)
		}
		byID, err := tx.CNsByID([]string{cns[3], "nobody's", cns[5]})
		if err != nil || len(byID) != 2 {
			t.Errorf("two cns by id: %d, %v", len(byID), err)
		}
		dns, err := tx.DNsByID([]string{dn.ID})
		if err != nil || len(dns) != 1 || dns[0].Name != dn.Name {
			t.Errorf("a dn by id: %+v, %v", dns, err)
		}
		for _, k := range []vda.NodeKind{vda.DiskNode, vda.ControllerNode} {
			for i := range max(len(cnRows), 1) {
				of := dn.Listener
				if k == vda.ControllerNode {
					of = cnRows[i].Listener
				}
				near, err := tx.NodesListening(k, of.TrAddr)
				if err != nil || len(near) == 0 || slices.ContainsFunc(near, func(n vda.Node) bool { return n.Listener.TrAddr != of.TrAddr }) {
					t.Errorf("%ss that listen at %s: %+v, %v", k, of.TrAddr, near, err)
				}
			}
			if near, err := tx.NodesListening(k, "203.0.113.77"); err != nil || len(near) != 0 {
				t.Errorf("%ss that listen where nobody does: %+v, %v", k, near, err)
			}
		}
		states, err := tx.NodeStates(vda.DiskNode)
		at := slices.IndexFunc(states, func(n store.NodeState) bool { return n.ID == dn.ID })
		want := store.NodeState{ID: dn.ID, Name: dn.Name, Addr: dn.Addr, Online: true, Version: dn.Version, Applied: dn.Applied,
			Error: true, Msg: "new"}
		if err != nil || at < 0 || states[at] != want {
			t.Errorf("states of dns: %+v, %v", states, err)
		}
		there, err := tx.NodesAt(vda.DiskNode, dn.Agent())
		if err != nil || len(there) != 1 || there[0].ID != dn.ID {
			t.Errorf("the dn whose agent is at %s: %+v, %v", dn.Agent(), there, err)
		}
		if there, err = tx.NodesAt(vda.ControllerNode, dn.Agent()); err != nil || len(there) != 0 {
			t.Errorf("cns whose agent is at the dn's: %+v, %v", at, err)
		}
		states, err = tx.NodeStates(vda.ControllerNode)
		if err != nil || len(states) != len(cnRows) {
			t.Errorf("states of %d cns: %d, %v", len(cnRows), len(states), err)
		}
		return nil
	})
}
