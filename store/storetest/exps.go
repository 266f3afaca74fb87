package storetest

import (
	"errors"
	"testing"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/store"
)

func testExp(t *testing.T, s *suite) {
	c := s.newCluster(t)
	s.refused(t, vda.AlreadyExists, func(tx store.Tx) error {
		e := newExp(c.da)
		e.Name = c.exp.Name
		return tx.InsertExp(e)
	})
	s.refused(t, vda.AlreadyExists, func(tx store.Tx) error {
		e := newExp(c.da)
		e.NQN = c.exp.NQN
		return tx.InsertExp(e)
	})
	s.refused(t, vda.AlreadyExists, func(tx store.Tx) error {
		return tx.InsertES(&vda.ES{ID: store.NewID(), ExpID: c.exp.ID, CntlrID: c.cntlr.ID})
	})
	upd := *c.exp
	upd.InitiatorNQN, upd.Version, upd.MoreHosts = upd.InitiatorNQN+"-new", 30, []string{"nqn.gone-" + upd.ID}
	s.update(t, func(tx store.Tx) error { return tx.UpdateExp(&upd) })
	upd.MoreHosts = []string{"nqn.more-" + upd.ID, "nqn.most-" + upd.ID}
	s.update(t, func(tx store.Tx) error { return tx.UpdateExp(&upd) })
	s.view(t, func(tx store.Reader) error {
		for name, get := range map[string]func() (*vda.Exp, error){
			"by id":   func() (*vda.Exp, error) { return tx.Exp(upd.ID) },
			"by name": func() (*vda.Exp, error) { return tx.ExpByName(c.da.ID, upd.Name) },
			"by nqn":  func() (*vda.Exp, error) { return tx.ExpByNQN(upd.NQN) },
		} {
			got, err := get()
			if err != nil {
				return err
			}
			same(t, name, got, &upd)
		}
		of, err := tx.ESsOfExp(upd.ID)
		if err != nil {
			return err
		}
		same(t, "es of exp", of, []vda.ES{*c.es})
		of, err = tx.ESsOfCntlr(c.cntlr.ID)
		same(t, "es of cntlr", of, []vda.ES{*c.es})
		return err
	})
	listed := func(f store.ExpFilter) bool {
		f.DAID = &c.da.ID
		n := 0
		s.view(t, func(tx store.Reader) error {
			rows, _, err := tx.ListExp(f, store.Page{})
			n = len(rows)
			return err
		})
		return n == 1
	}
	s.update(t, func(tx store.Tx) error { return tx.SetHealth(store.ObjVD, c.vd.ID, vda.Health{}) })
	if !listed(store.ExpFilter{InitiatorNQN: &upd.InitiatorNQN, Error: ptr(false)}) ||
		listed(store.ExpFilter{Error: ptr(true)}) || listed(store.ExpFilter{InitiatorNQN: ptr("x")}) {
		t.Error("filters are wrong on a healthy exporter")
	}
	if !listed(store.ExpFilter{InitiatorNQN: &upd.MoreHosts[1]}) || listed(store.ExpFilter{InitiatorNQN: ptr("nqn.gone-" + upd.ID)}) {
		t.Error("an exporter is not found by the second of its other hosts, or by one that it has not any more")
	}
	s.update(t, func(tx store.Tx) error { return tx.SetHealth(store.ObjES, c.es.ID, vda.Health{Error: true, Msg: "no"}) })
	if listed(store.ExpFilter{Error: ptr(false)}) || !listed(store.ExpFilter{Error: ptr(true)}) {
		t.Error("filters are wrong on an exporter in error")
	}
	s.update(t, func(tx store.Tx) error {
		return errors.Join(tx.SetHealth(store.ObjES, c.es.ID, vda.Health{}),
			tx.SetHealth(store.ObjVD, c.vd.ID, vda.Health{Error: true, Msg: "full"}))
	})
	if listed(store.ExpFilter{Error: ptr(false)}) || !listed(store.ExpFilter{Error: ptr(true)}) {
		t.Error("filters are wrong on an exporter whose array has a vd in error")
	}
	s.refused(t, vda.FailedPrecondition, func(tx store.Tx) error { return tx.DeleteExp(c.exp.ID) })
	s.update(t, func(tx store.Tx) error { return errors.Join(tx.DeleteES(c.es.ID), tx.DeleteExp(c.exp.ID)) })
	for name, fn := range map[string]func(store.Tx) error{
		"Exp":       func(tx store.Tx) error { _, err := tx.Exp(upd.ID); return err },
		"ExpByName": func(tx store.Tx) error { _, err := tx.ExpByName(c.da.ID, upd.Name); return err },
		"ExpByNQN":  func(tx store.Tx) error { _, err := tx.ExpByNQN(upd.NQN); return err },
		"UpdateExp": func(tx store.Tx) error { return tx.UpdateExp(&upd) },
		"DeleteExp": func(tx store.Tx) error { return tx.DeleteExp(upd.ID) },
		"DeleteES":  func(tx store.Tx) error { return tx.DeleteES(c.es.ID) },
	} {
		t.Run(name+" of none", func(t *testing.T) { s.refused(t, vda.NotFound, fn) })
	}
}

// testWays reads the ways to several exporters in one question.
func testWays(t *testing.T, s *suite) {
	a, b := s.newCluster(t), s.newCluster(t)
	s.update(t, func(tx store.Tx) error {
		return errors.Join(tx.SetHealth(store.ObjES, a.es.ID, vda.Health{Error: true, Msg: "away", Since: noon}),
			tx.SetHealth(store.ObjCN, b.cn.ID, vda.Health{}))
	})
	s.view(t, func(tx store.Reader) error {
		none, err := tx.WaysOfExps(nil)
		if err != nil || len(none) != 0 {
			t.Errorf("ways to no exporter: %v, %v", none, err)
		}
		ways, err := tx.WaysOfExps([]string{b.exp.ID, a.exp.ID, "none"})
		if err != nil {
			return err
		}
		want := []store.Way{
			{ExpID: a.exp.ID, ESID: a.es.ID, CNName: a.cn.Name, Listener: a.cn.Listener, Health: vda.Health{Error: true, Msg: "away", Since: noon},
				CntlrHealth: a.cntlr.Health, CNHealth: a.cn.Health},
			{ExpID: b.exp.ID, ESID: b.es.ID, CNName: b.cn.Name, Listener: b.cn.Listener, CntlrHealth: b.cntlr.Health},
		}
		if a.exp.ID > b.exp.ID {
			want[0], want[1] = want[1], want[0]
		}
		same(t, "ways", ways, want)
		names, err := tx.DANames([]string{a.da.ID, b.da.ID})
		same(t, "names", names, map[string]string{a.da.ID: a.da.Name, b.da.ID: b.da.Name})
		if err != nil {
			return err
		}
		names, err = tx.NodeNames([]string{a.dn.ID, b.cn.ID, "none"})
		same(t, "names of nodes", names, map[string]string{a.dn.ID: a.dn.Name, b.cn.ID: b.cn.Name})
		for id, k := range map[string]vda.NodeKind{a.dn.ID: vda.DiskNode, a.cn.ID: vda.ControllerNode} {
			das, err := tx.DAsOnNode(k, id)
			if err != nil {
				return err
			}
			same(t, "arrays on a "+string(k), das, []string{a.da.ID})
		}
		return err
	})
}
