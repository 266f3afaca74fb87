package storetest

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/store"
)

func testPaging(t *testing.T, s *suite) {
	loc := "paging-" + store.NewID()
	var want []string
	s.update(t, func(tx store.Tx) error {
		want = nil
		for _, suffix := range []string{"-", "B", "a", "b", "c", "z", "é"} { // in byte order
			dn := newDN()
			dn.Name, dn.Location = loc+suffix, loc
			if err := tx.InsertNode(vda.DiskNode, &dn.Node); err != nil {
				return err
			}
			want = append(want, dn.Name)
		}
		return nil
	})
	for limit := 0; limit <= 8; limit++ {
		t.Run(fmt.Sprintf("limit %d", limit), func(t *testing.T) {
			var got []string
			p := store.Page{Limit: limit}
			for range 10 {
				var rows []vda.DN
				s.view(t, func(tx store.Reader) (err error) {
					rows, p.After, err = tx.ListDN(store.NodeFilter{Location: &loc}, p)
					return err
				})
				if limit > 0 && len(rows) > limit {
					t.Fatalf("page of %d", len(rows))
				}
				for _, r := range rows {
					got = append(got, r.Name)
				}
				if p.After == "" {
					break
				}
			}
			same(t, "pages", got, want)
		})
	}
	err := s.View(s.ctx, func(tx store.Reader) error {
		_, _, err := tx.ListDN(store.NodeFilter{}, store.Page{After: "garbage!"})
		return err
	})
	if vda.KindOf(err) != vda.InvalidArgument {
		t.Errorf("a bad token: %v", err)
	}
	// pds of one name on several dns: none is lost between pages.
	name := "pd-" + store.NewID()
	s.update(t, func(tx store.Tx) error {
		for range 5 {
			dn := newDN()
			pd := newPD(dn)
			pd.Name = name
			if err := errors.Join(tx.InsertNode(vda.DiskNode, &dn.Node), tx.InsertPD(pd)); err != nil {
				return err
			}
		}
		return nil
	})
	seen := map[string]bool{}
	p := store.Page{Limit: 2}
	for {
		var rows []vda.PD
		s.view(t, func(tx store.Reader) (err error) { rows, p.After, err = tx.ListPD(store.PDFilter{}, p); return err })
		for _, r := range rows {
			if r.Name == name {
				seen[r.ID] = true
			}
		}
		if p.After == "" {
			break
		}
	}
	if len(seen) != 5 {
		t.Errorf("%d of 5 pds of one name listed", len(seen))
	}
}

func testTombstones(t *testing.T, s *suite) {
	c := s.newCluster(t)
	c.pd.Deleted, c.vd.Deleted, c.cntlr.Deleted, c.da.Deleted, c.exp.Deleted = true, true, true, true, true
	s.update(t, func(tx store.Tx) error {
		return errors.Join(tx.UpdatePD(c.pd), tx.UpdateVD(c.vd), tx.UpdateCntlr(c.cntlr), tx.UpdateDA(c.da), tx.UpdateExp(c.exp))
	})
	s.view(t, func(tx store.Reader) error {
		for name, get := range map[string]func() error{
			"pd":  func() error { _, err := tx.PDByName(c.dn.ID, c.pd.Name); return err },
			"da":  func() error { _, err := tx.DAByName(c.da.Name); return err },
			"exp": func() error { _, err := tx.ExpByName(c.da.ID, c.exp.Name); return err },
			"nqn": func() error { _, err := tx.ExpByNQN(c.exp.NQN); return err },
		} {
			if err := get(); vda.KindOf(err) != vda.NotFound || err == nil {
				t.Errorf("tombstone found by its %s name: %v", name, err)
			}
		}
		pds, _, err := tx.ListPD(store.PDFilter{DNID: &c.dn.ID}, store.Page{})
		exps, _, err2 := tx.ListExp(store.ExpFilter{DAID: &c.da.ID}, store.Page{})
		das, _, err3 := tx.ListDA(store.DAFilter{}, store.Page{})
		for _, d := range das {
			if d.ID == c.da.ID {
				t.Error("a deleted da is listed")
			}
		}
		if len(pds)+len(exps) > 0 {
			t.Errorf("tombstones listed: %v %v", pds, exps)
		}
		return errors.Join(err, err2, err3)
	})
	s.view(t, func(tx store.Reader) error { // but the nodes still get them
		pds, vds, err := tx.DNObjects(c.dn.ID, 0)
		cntlrs, err2 := tx.CNObjects(c.cn.ID, 0)
		exps, err3 := tx.ExpsOfDA(c.da.ID)
		deleted, err4 := tx.DeletedDAs()
		if len(pds) != 1 || len(vds) != 1 || len(cntlrs) != 1 || len(exps) != 1 {
			t.Errorf("tombstones: %d pds, %d vds, %d cntlrs, %d exps", len(pds), len(vds), len(cntlrs), len(exps))
		}
		found := false
		for _, d := range deleted {
			found = found || d.ID == c.da.ID
		}
		if !found {
			t.Error("DeletedDAs does not have it")
		}
		pd, err5 := tx.PD(c.pd.ID)
		same(t, "tombstone by id", pd, c.pd)
		return errors.Join(err, err2, err3, err4, err5)
	})
	s.refused(t, vda.NotFound, func(tx store.Tx) error { return tx.TakePD(c.pd.ID, 1) })
	s.update(t, func(tx store.Tx) error { // the names are free again, twice over
		for range 2 {
			pd, da, exp := newPD(c.dn), newDA(), newExp(c.da)
			pd.Name, da.Name, exp.Name, exp.NQN = c.pd.Name, c.da.Name, c.exp.Name, c.exp.NQN
			if err := errors.Join(tx.InsertPD(pd), tx.InsertDA(da), tx.InsertExp(exp)); err != nil {
				return err
			}
			pd.Deleted, da.Deleted, exp.Deleted = true, true, true
			if err := errors.Join(tx.UpdatePD(pd), tx.UpdateDA(da), tx.UpdateExp(exp)); err != nil {
				return err
			}
		}
		return nil
	})
}

func testHealth(t *testing.T, s *suite) {
	c := s.newCluster(t)
	health := func(o store.Object) (h vda.Health) {
		s.view(t, func(tx store.Reader) error {
			dn, err := tx.DN(c.dn.ID)
			pd, err2 := tx.PD(c.pd.ID)
			vd, err3 := tx.VD(c.vd.ID)
			cn, err4 := tx.CN(c.cn.ID)
			cntlr, err5 := tx.Cntlr(c.cntlr.ID)
			da, err6 := tx.DA(c.da.ID)
			es, err7 := tx.ESsOfExp(c.exp.ID)
			if err := errors.Join(err, err2, err3, err4, err5, err6, err7); err != nil {
				return err
			}
			h = map[store.Object]vda.Health{store.ObjDN: dn.Health, store.ObjPD: pd.Health, store.ObjVD: vd.Health,
				store.ObjCN: cn.Health, store.ObjCntlr: cntlr.Health, store.ObjDA: da.Health, store.ObjES: es[0].Health}[o]
			return nil
		})
		return h
	}
	for o, id := range map[store.Object]string{store.ObjDN: c.dn.ID, store.ObjPD: c.pd.ID, store.ObjVD: c.vd.ID,
		store.ObjCN: c.cn.ID, store.ObjCntlr: c.cntlr.ID, store.ObjDA: c.da.ID, store.ObjES: c.es.ID} {
		t.Run(fmt.Sprintf("object %d", o), func(t *testing.T) {
			set := func(h vda.Health) {
				t.Helper()
				s.update(t, func(tx store.Tx) error { return tx.SetHealth(o, id, h) })
			}
			set(vda.Health{})
			same(t, "healthy", health(o), vda.Health{})
			set(vda.Health{Error: true, Msg: "first", Since: noon})
			same(t, "first error", health(o), vda.Health{Error: true, Msg: "first", Since: noon})
			set(vda.Health{Error: true, Msg: "rpc error: code = Unavailable desc = read: context deadline exceeded\n", Since: noon})
			same(t, "said by a library", health(o), vda.Health{Error: true, Msg: "read: no answer in time", Since: noon})
			set(vda.Health{Error: true, Msg: "second", Since: noon.Add(time.Hour)})
			same(t, "still in error", health(o), vda.Health{Error: true, Msg: "second", Since: noon})
			set(vda.Health{Msg: "ignored", Since: noon})
			same(t, "healed", health(o), vda.Health{})
			before := time.Now().Add(-time.Second)
			set(vda.Health{Error: true, Msg: "now"})
			if h := health(o); h.Since.Before(before) || h.Since.After(time.Now().Add(time.Second)) {
				t.Errorf("since %v is not now", h.Since)
			}
			s.refused(t, vda.NotFound, func(tx store.Tx) error { return tx.SetHealth(o, store.NewID(), vda.Health{}) })
		})
	}
	s.update(t, func(tx store.Tx) error {
		return tx.SetHealth(store.ObjDN, c.dn.ID, vda.Health{Error: true, Msg: "bad \xff byte, \x00, " + strings.Repeat("é", 100_000)})
	})
	if h := health(store.ObjDN); !strings.HasPrefix(h.Msg, "bad \uFFFD byte, , é") || len(h.Msg) > 5000 {
		t.Errorf("message of %d bytes begins %.40q", len(h.Msg), h.Msg)
	}
}

// testMarks: each version of a node has a mark, which stays as long as an agent
// may hold the version.
func testMarks(t *testing.T, s *suite) {
	for _, k := range vda.NodeKinds {
		c := s.newCluster(t)
		id, version := c.dn.ID, c.dn.Version
		if k == vda.ControllerNode {
			id, version = c.cn.ID, c.cn.Version
		}
		marks := func() (m vda.VersionMarks) {
			s.view(t, func(tx store.Reader) error {
				n, err := tx.Node(k, id)
				if err == nil {
					m = n.Marks
				}
				return err
			})
			return m
		}
		bump := func() { s.update(t, func(tx store.Tx) error { _, err := tx.BumpNode(k, id); return err }) }
		bump()
		bump()
		two := marks()
		if len(two) != 2 || two.Of(version+1) == "" || two.Of(version+2) == "" || two.Of(version+1) == two.Of(version+2) {
			t.Errorf("%s: marks %v of versions %d and %d", k, two, version+1, version+2)
		}
		s.update(t, func(tx store.Tx) error { return tx.SetNodeApplied(k, id, version+2) })
		bump()
		if m := marks(); len(m) != 2 || m.Of(version+2) != two.Of(version+2) || m.Of(version+3) == "" {
			t.Errorf("%s: marks %v, when %d was carried out and %d given", k, m, version+2, version+3)
		}
		s.update(t, func(tx store.Tx) error { return tx.RaiseNode(k, id, version+100) })
		if m := marks(); m.Of(version+101) == "" {
			t.Errorf("%s: marks %v have none of version %d", k, m, version+101)
		}
		for range 200 {
			bump()
		}
		m := marks()
		if len(m) > 64 || m.Of(version+2) != two.Of(version+2) || m.Of(version+301) == "" || m.Of(version+300) == "" {
			t.Errorf("%s: %d marks %v of 200 versions that no agent has carried out", k, len(m), m)
		}
	}
}

func testVersions(t *testing.T, s *suite) {
	c := s.newCluster(t)
	var dnV, cnV uint64
	s.update(t, func(tx store.Tx) (err error) {
		if dnV, err = tx.BumpNode(vda.DiskNode, c.dn.ID); err != nil {
			return err
		}
		if cnV, err = tx.BumpNode(vda.ControllerNode, c.cn.ID); err != nil {
			return err
		}
		c.vd.Version, c.cntlr.Version = dnV, cnV
		return errors.Join(tx.UpdateVD(c.vd), tx.UpdateCntlr(c.cntlr), tx.SetNodeApplied(vda.DiskNode, c.dn.ID, 9),
			tx.SetNodeApplied(vda.DiskNode, c.dn.ID, 8),
			tx.SetNodeApplied(vda.ControllerNode, c.cn.ID, 9), tx.SetNodeApplied(vda.ControllerNode, c.cn.ID, 8))
	})
	if dnV != c.dn.Version+1 || cnV != c.cn.Version+1 {
		t.Errorf("versions %d and %d, want %d and %d", dnV, cnV, c.dn.Version+1, c.cn.Version+1)
	}
	s.view(t, func(tx store.Reader) error {
		dn, err := tx.DN(c.dn.ID)
		cn, err2 := tx.CN(c.cn.ID)
		if err := errors.Join(err, err2); err != nil {
			return err
		}
		if dn.Applied != 9 || cn.Applied != 9 || dn.Version != dnV || cn.Version != cnV {
			t.Errorf("dn %d/%d, cn %d/%d", dn.Applied, dn.Version, cn.Applied, cn.Version)
		}
		pds, vds, err := tx.DNObjects(c.dn.ID, dnV-1)
		cntlrs, err2 := tx.CNObjects(c.cn.ID, cnV-1)
		if len(pds) != 1 || len(vds) != 0 && vds[0].ID != c.vd.ID || len(cntlrs) != 1 {
			t.Errorf("delta has %d pds, %d vds, %d cntlrs", len(pds), len(vds), len(cntlrs))
		}
		return errors.Join(err, err2)
	})
	for _, above := range []uint64{dnV + 1000, 3} { // the second is below
		s.update(t, func(tx store.Tx) error {
			return errors.Join(tx.RaiseNode(vda.DiskNode, c.dn.ID, above), tx.RaiseNode(vda.ControllerNode, c.cn.ID, above))
		})
	}
	s.view(t, func(tx store.Reader) error {
		dn, err := tx.DN(c.dn.ID)
		cn, err2 := tx.CN(c.cn.ID)
		if err := errors.Join(err, err2); err != nil {
			return err
		}
		if dn.Version != dnV+1002 || cn.Version != dnV+1002 {
			t.Errorf("raised twice from %d: %d and %d", dnV, dn.Version, cn.Version)
		}
		return nil
	})
	s.view(t, func(tx store.Reader) error {
		pds, vds, err := tx.DNObjects(c.dn.ID, dnV+100)
		cntlrs, err2 := tx.CNObjects(c.cn.ID, cnV)
		if len(pds)+len(vds)+len(cntlrs) != 0 {
			t.Error("a delta from the newest version on is not empty")
		}
		return errors.Join(err, err2)
	})
}

func testReferences(t *testing.T, s *suite) {
	c := s.newCluster(t)
	for name, fn := range map[string]func(store.Tx) error{
		"dn with pds":       func(tx store.Tx) error { return tx.DeleteNode(vda.DiskNode, c.dn.ID) },
		"pd with vds":       func(tx store.Tx) error { return tx.DeletePD(c.pd.ID) },
		"cn with cntlrs":    func(tx store.Tx) error { return tx.DeleteNode(vda.ControllerNode, c.cn.ID) },
		"da with vds":       func(tx store.Tx) error { return tx.DeleteDA(c.da.ID) },
		"cntlr with es":     func(tx store.Tx) error { return tx.DeleteCntlr(c.cntlr.ID) },
		"exp with es":       func(tx store.Tx) error { return tx.DeleteExp(c.exp.ID) },
		"pd of no dn":       func(tx store.Tx) error { return tx.InsertPD(newPD(newDN())) },
		"vd of no da":       func(tx store.Tx) error { return tx.InsertVD(newVD(newDA(), c.pd)) },
		"exp of no da":      func(tx store.Tx) error { return tx.InsertExp(newExp(newDA())) },
		"pd beyond its end": func(tx store.Tx) error { p := newPD(c.dn); p.FreeClusters = 101; return tx.InsertPD(p) },
	} {
		t.Run(name, func(t *testing.T) { s.refused(t, vda.FailedPrecondition, fn) })
	}
}

// testText checks that names come back as they went in and are told apart by
// case, accents and blanks.
func testText(t *testing.T, s *suite) {
	base := store.NewID()
	names := []string{base + "a", base + "A", base + "á", base + "磁盘", base + `'"%_\;--?$1`, base + "🜁"}
	s.update(t, func(tx store.Tx) error {
		for _, n := range names {
			da := newDA()
			da.Name, da.Conf = n, strings.Repeat("x", 20_000)+n
			if err := tx.InsertDA(da); err != nil {
				return fmt.Errorf("%q: %w", n, err)
			}
		}
		return nil
	})
	for _, n := range names {
		s.view(t, func(tx store.Reader) error {
			da, err := tx.DAByName(n)
			if err == nil && (da.Name != n || !strings.HasSuffix(da.Conf, n)) {
				t.Errorf("%q came back as %q", n, da.Name)
			}
			return err
		})
	}
}

func testMonitors(t *testing.T, s *suite) {
	m := store.Monitor{ID: store.NewID(), Name: "192.168.0.12:9620", Halvings: -1}
	beat := func(wantNew bool) {
		t.Helper()
		s.update(t, func(tx store.Tx) error {
			isNew, err := tx.BeatMonitor(m.ID, m.Name)
			if isNew != wantNew {
				t.Errorf("new is %v", isNew)
			}
			return err
		})
	}
	row := func() (got store.Monitor) {
		t.Helper()
		s.view(t, func(tx store.Reader) error {
			rows, err := tx.Monitors()
			for _, r := range rows {
				if r.ID == m.ID {
					got = r
				}
			}
			return err
		})
		return got
	}
	beat(true)
	m.Beat = 1
	same(t, "first beat", row(), m)
	beat(false)
	beat(false)
	m.Beat = 3
	same(t, "third beat", row(), m)
	s.update(t, func(tx store.Tx) error { return tx.SetMonitorHalvings(m.ID, 2) })
	m.Halvings = 2
	same(t, "slow", row(), m)
	s.refused(t, vda.NotFound, func(tx store.Tx) error { return tx.SetMonitorHalvings(store.NewID(), 2) })
	s.update(t, func(tx store.Tx) error { return tx.DeleteMonitor(m.ID) })
	same(t, "deleted", row(), store.Monitor{})
	s.refused(t, vda.NotFound, func(tx store.Tx) error { return tx.DeleteMonitor(m.ID) })
	beat(true)
}
