package syncer_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/array"
	"github.com/virtual-disk-array/vda/store"
	"github.com/virtual-disk-array/vda/store/storetest"
	"github.com/virtual-disk-array/vda/syncer"
)

// watched counts transactions that write, and reads that are about one object, and tells which
// arrays and pds were locked.
type watched struct {
	store.Store
	mu      sync.Mutex
	updates int
	reads   int
	locked  map[string]bool
}

func (w *watched) note(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f()
}

func (w *watched) View(ctx context.Context, fn func(store.Reader) error) error {
	return w.Store.View(ctx, func(tx store.Reader) error { return fn(&watchedReader{tx, w}) })
}

func (w *watched) Update(ctx context.Context, fn func(store.Tx) error) error {
	w.note(func() { w.updates++ })
	return w.Store.Update(ctx, func(tx store.Tx) error { return fn(&watchedTx{tx, w}) })
}

type watchedTx struct {
	store.Tx
	w *watched
}

func (t *watchedTx) DAs(ids []string) ([]vda.DA, error) {
	t.w.note(func() {
		for _, id := range ids {
			t.w.locked[id] = true
		}
	})
	return t.Tx.DAs(ids)
}

func (t *watchedTx) DA(id string) (*vda.DA, error) {
	t.w.note(func() { t.w.locked[id] = true })
	return t.Tx.DA(id)
}

func (t *watchedTx) PD(id string) (*vda.PD, error) {
	t.w.note(func() { t.w.locked[id] = true })
	return t.Tx.PD(id)
}

type watchedReader struct {
	store.Reader
	w *watched
}

func (r *watchedReader) one() { r.w.note(func() { r.w.reads++ }) }

func (r *watchedReader) DA(id string) (*vda.DA, error)       { r.one(); return r.Reader.DA(id) }
func (r *watchedReader) VD(id string) (*vda.VD, error)       { r.one(); return r.Reader.VD(id) }
func (r *watchedReader) DN(id string) (*vda.DN, error)       { r.one(); return r.Reader.DN(id) }
func (r *watchedReader) CN(id string) (*vda.CN, error)       { r.one(); return r.Reader.CN(id) }
func (r *watchedReader) Cntlr(id string) (*vda.Cntlr, error) { r.one(); return r.Reader.Cntlr(id) }
func (r *watchedReader) Snap(id string) (*vda.Snap, error)   { r.one(); return r.Reader.Snap(id) }
func (r *watchedReader) CntlrsOfDA(id string) ([]vda.Cntlr, error) {
	r.one()
	return r.Reader.CntlrsOfDA(id)
}
func (r *watchedReader) GrpsOfDA(id string) ([]vda.Grp, error) { r.one(); return r.Reader.GrpsOfDA(id) }
func (r *watchedReader) VDsOfDA(id string) ([]vda.VD, error)   { r.one(); return r.Reader.VDsOfDA(id) }
func (r *watchedReader) MirrorsOfDA(id string) ([]vda.Mirror, error) {
	r.one()
	return r.Reader.MirrorsOfDA(id)
}
func (r *watchedReader) SnapsOfDA(id string) ([]vda.Snap, error) {
	r.one()
	return r.Reader.SnapsOfDA(id)
}
func (r *watchedReader) ExpsOfDA(id string) ([]vda.Exp, error) { r.one(); return r.Reader.ExpsOfDA(id) }
func (r *watchedReader) ESsOfCntlr(id string) ([]vda.ES, error) {
	r.one()
	return r.Reader.ESsOfCntlr(id)
}

// since returns what was counted, and begins to count from nothing.
func (w *watched) since() (updates, reads int, locked map[string]bool) {
	w.note(func() {
		updates, reads, locked = w.updates, w.reads, w.locked
		w.updates, w.reads, w.locked = 0, 0, map[string]bool{}
	})
	return updates, reads, locked
}

// TestNoNewsLocksNothing: the answer to a Sync of all objects that says what the database knows
// writes nothing and locks nothing. What it says of one object locks that one's array, or disk,
// and none besides; and a node that has come further is noted. However many arrays there are, a
// Sync and a heartbeat ask for no more.
func TestNoNewsLocksNothing(t *testing.T) {
	f := newFixture(t)
	w := &watched{Store: storetest.Ordered(t, f.store), locked: map[string]bool{}}
	s, err := syncer.New(syncer.Config{Store: w, Dial: f.agents, Timeout: 10 * time.Second, Log: slog.New(slog.DiscardHandler)})
	f.ok(err)
	f.syncAll()
	f.syncAll()
	nodes := []array.Node{array.DN(f.dn[0].ID), array.DN(f.dn[1].ID), array.CN(f.cn[0].ID), array.CN(f.cn[1].ID), array.CN(f.cn[2].ID)}
	full := func(at array.Node) (updates, reads int, locked map[string]bool) {
		t.Helper()
		w.since()
		f.ok(s.Sync(t.Context(), at, syncer.Full))
		return w.since()
	}
	few := map[array.Node]int{}
	for _, at := range nodes {
		updates, reads, locked := full(at)
		if updates != 0 || len(locked) != 0 {
			t.Errorf("%v: no news: %d transactions, which lock %v", at, updates, locked)
		}
		few[at] = reads
	}

	// Many others, each with a vd on the first dn and its primary on the second cn.
	const n = 50
	var others []*vda.DA
	var vds []*vda.VD
	f.update(func(tx store.Tx) error {
		vdAt, err := tx.BumpNode(vda.DiskNode, f.dn[0].ID)
		cntlrAt, err2 := tx.BumpNode(vda.ControllerNode, f.cn[1].ID)
		if err := errors.Join(err, err2); err != nil {
			return err
		}
		for i := range n {
			da := &vda.DA{ID: store.NewID(), Name: fmt.Sprint("many", i), Size: 1 << 20, PhysicalSize: 1 << 20, CntlrCnt: 1, StripeCount: 1,
				StripeSizeKB: 64, ClusterSize: 1 << 20, Term: 1, Created: true}
			m := &vda.Mirror{ID: store.NewID(), DAID: da.ID, Size: 1 << 20, Gen: 1}
			vd := &vda.VD{ID: store.NewID(), DAID: da.ID, PDID: f.pd[0].ID, DNID: f.dn[0].ID, Clusters: 1, Size: 1 << 20, MirrorID: m.ID,
				Version: vdAt}
			c := &vda.Cntlr{ID: store.NewID(), DAID: da.ID, CNID: f.cn[1].ID, Primary: true, Version: cntlrAt}
			exp := &vda.Exp{ID: store.NewID(), DAID: da.ID, Name: "exp0", NQN: "nqn.2016-06.io.spdk:vda-exp-" + da.Name, InitiatorNQN: "nqn.x",
				Serial: "1", NSUUID: "u"}
			if err := errors.Join(tx.InsertDA(da), tx.TakePD(f.pd[0].ID, 1), tx.InsertMirror(m),
				tx.InsertGrp(&vda.Grp{ID: store.NewID(), DAID: da.ID, Size: 1 << 20}),
				tx.InsertVD(vd), tx.InsertCntlr(c), tx.InsertExp(exp),
				tx.InsertES(&vda.ES{ID: store.NewID(), ExpID: exp.ID, CntlrID: c.ID})); err != nil {
				return err
			}
			others, vds = append(others, da), append(vds, vd)
		}
		return nil
	})
	f.syncAll()
	f.syncAll()
	for _, at := range nodes {
		updates, reads, locked := full(at)
		if updates != 0 || len(locked) != 0 {
			t.Errorf("%v: no news of many: %d transactions, which lock %v", at, updates, locked)
		}
		f.equal(fmt.Sprint("reads with many arrays, of ", at), reads, few[at])
		w.since()
		f.ok(s.Reports(t.Context(), []syncer.NodeReport{{Node: at, Report: syncer.Report{Version: 1 << 30}}}))
		_, reads, _ = w.since()
		if reads > 3 {
			t.Errorf("%v: a report reads %d times", at, reads)
		}
	}

	ill := vda.Health{Error: true, Msg: "nobody has looked"}
	dn, cn := nodes[0], nodes[3]
	for _, tt := range []struct {
		what string
		at   array.Node
		do   func(tx store.Tx) error
		want []string // that may be locked
	}{
		{"a vd is well again", dn, func(tx store.Tx) error { return tx.SetHealth(store.ObjVD, vds[7].ID, ill) }, []string{others[7].ID}},
		{"a pd is well again", dn, func(tx store.Tx) error { return tx.SetHealth(store.ObjPD, f.pd[0].ID, ill) }, []string{f.pd[0].ID}},
		{"other space is in use", dn, func(tx store.Tx) error { return tx.SetPDUsed(f.pd[0].ID, 1<<20) }, []string{f.pd[0].ID}},
		{"a dn has come further", dn, func(tx store.Tx) error { _, err := tx.BumpNode(vda.DiskNode, dn.ID); return err }, nil},
		{"a cn has come further", cn, func(tx store.Tx) error { _, err := tx.BumpNode(vda.ControllerNode, cn.ID); return err }, nil},
		{"a controller is well again", cn, func(tx store.Tx) error {
			cs, err := tx.CntlrsOfDA(others[3].ID)
			return errors.Join(err, tx.SetHealth(store.ObjCntlr, cs[0].ID, ill))
		}, []string{others[3].ID}},
		{"an exporter is well again", cn, func(tx store.Tx) error {
			cs, err := tx.CntlrsOfDA(others[4].ID)
			if err != nil {
				return err
			}
			ess, err := tx.ESsOfCntlr(cs[0].ID)
			return errors.Join(err, tx.SetHealth(store.ObjES, ess[0].ID, ill))
		}, []string{others[4].ID}},
		{"a failover has ended", cn, func(tx store.Tx) error {
			da, err := tx.DA(others[5].ID)
			if err != nil {
				return err
			}
			da.Moving = time.Now()
			return tx.UpdateDA(da)
		}, []string{others[5].ID}},
	} {
		f.update(tt.do)
		updates, _, locked := full(tt.at)
		if updates == 0 {
			t.Errorf("%s: nothing is written", tt.what)
		}
		for id := range locked {
			if !slices.Contains(tt.want, id) {
				t.Errorf("%s: %s is locked, besides %q", tt.what, id, tt.want)
			}
		}
		if updates, _, _ = full(tt.at); updates != 0 {
			t.Errorf("%s: it is not noted: the next answer is news again", tt.what)
		}
	}
	f.equal("nodes behind", len(f.behind()), 0)
}
