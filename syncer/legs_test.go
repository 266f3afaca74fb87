package syncer_test

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/virtual-disk-array/vda"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/array"
	"github.com/virtual-disk-array/vda/store"
	"github.com/virtual-disk-array/vda/syncer"
	"github.com/virtual-disk-array/vda/syncer/fakeagent"
)

// mirrored makes the fixture's array one of a mirror, whose legs are its two vds.
func (f *fixture) mirrored() {
	f.update(func(tx store.Tx) error {
		da, err := tx.DA(f.da.ID)
		if err != nil {
			return err
		}
		da.Redundancy, da.MinLegs = vda.Mirror2, 1
		errs := []error{tx.UpdateDA(da), tx.DeleteMirror("m0"), tx.DeleteMirror("m1"),
			tx.InsertMirror(&vda.Mirror{ID: "m", DAID: da.ID, Size: 4 << 20, Gen: 3})}
		for _, v := range f.vd {
			v.MirrorID, v.Idx = "m", 0
			errs = append(errs, tx.UpdateVD(v))
		}
		return errors.Join(errs...)
	})
}

// TestAPrimaryWaitsForALegThatIsNotFenced: the old primary may answer reads from
// such a leg for a while.
func TestAPrimaryWaitsForALegThatIsNotFenced(t *testing.T) {
	f := newFixture(t)
	f.mirrored()
	f.syncAll()
	const wait = time.Second
	s, err := syncer.New(syncer.Config{Store: f.store, Dial: f.agents, FenceTimeout: wait, Log: slog.New(slog.DiscardHandler)})
	f.ok(err)
	f.agents.Agent("cn0:9820").Stop()
	f.agents.Agent("dn1:9720").Stop() // refuses at once
	f.forget()
	begin := time.Now()
	f.ok(s.Move(t.Context(), []array.Move{{DAID: f.da.ID, Term: 1, To: f.cntlr[1].ID}})[0])
	if took := time.Since(begin); took < wait {
		t.Errorf("the new primary was told after %v, though the dn of a leg admits the old one; it must wait %v", took, wait)
	}
	syncs := f.agents.Agent("cn1:9820").Syncs()
	if len(syncs) == 0 || len(syncs[0].Cn.Cntlrs) != 1 || len(syncs[0].Cn.Cntlrs[0].Grps) != 1 {
		t.Fatalf("the new primary was told %v", syncs)
	}
	g := syncs[0].Cn.Cntlrs[0].Grps[0]
	if len(g.Vds) != 0 || len(g.Mirrors) != 1 || g.Mirrors[0].Gen != 3 || g.Mirrors[0].DataSize != 4<<20 || len(g.Mirrors[0].Legs) != 2 {
		t.Fatalf("the group is %v", g)
	}
	if g.Mirrors[0].Unfenced {
		t.Error("the new primary is told that no leg is fenced, though one is")
	}
	for _, l := range g.Mirrors[0].Legs {
		if l.Role != apiv1.LegRole_LEG_ROLE_MEMBER {
			t.Errorf("a leg is %v", l)
		}
	}
	// Nobody waits for a leg that is stale.
	f.update(func(tx store.Tx) error {
		v, err := tx.VD(f.vd[1].ID)
		if err != nil {
			return err
		}
		v.Role = vda.Stale
		return tx.UpdateVD(v)
	})
	calls := len(f.agents.Agent("dn1:9720").Syncs())
	f.ok(s.Sync(t.Context(), array.CN(f.cn[1].ID), syncer.Full))
	f.equal("syncs of the dn of a stale leg", len(f.agents.Agent("dn1:9720").Syncs()), calls)
}

// TestAPrimaryIsToldThatNoLegIsFenced: their dns may let go of the old primary at any time.
func TestAPrimaryIsToldThatNoLegIsFenced(t *testing.T) {
	f := newFixture(t)
	f.mirrored()
	f.syncAll()
	s, err := syncer.New(syncer.Config{Store: f.store, Dial: f.agents, FenceTimeout: time.Second, Log: slog.New(slog.DiscardHandler)})
	f.ok(err)
	told := func() *apiv1.MirrorSpec {
		syncs := f.agents.Agent("cn1:9820").Syncs()
		if len(syncs) == 0 || len(syncs[len(syncs)-1].Cn.Cntlrs) != 1 {
			t.Fatalf("the new primary was told %v", syncs)
		}
		return syncs[len(syncs)-1].Cn.Cntlrs[0].Grps[0].Mirrors[0]
	}
	for _, node := range []string{"cn0:9820", "dn0:9720", "dn1:9720"} {
		f.agents.Agent(node).Stop()
	}
	f.forget()
	f.ok(s.Move(t.Context(), []array.Move{{DAID: f.da.ID, Term: 1, To: f.cntlr[1].ID}})[0])
	if !told().Unfenced {
		t.Error("it is not told so")
	}
	f.agents.Agent("dn1:9720").Start()
	fakeagent.Wait(t, "dn1 to be fenced", func() bool { return s.Sync(t.Context(), array.DN(f.dn[1].ID), syncer.Changes) == nil })
	f.ok(s.Sync(t.Context(), array.CN(f.cn[1].ID), syncer.Full))
	if told().Unfenced {
		t.Error("it is told so, though one is by now")
	}
}

// TestPrimariesAreToldWhileOthersAreRecorded: I/O of an array whose leg is lost does not
// wait until the last of many others is recorded.
func TestPrimariesAreToldWhileOthersAreRecorded(t *testing.T) {
	f := newFixture(t)
	f.mirrored()
	f.syncAll()
	told := make(chan struct{})
	f.agents.Agent("cn0:9820").Before(sync.OnceFunc(func() { close(told) }))
	lost := &array.LegsReport{DAID: f.da.ID, Term: 1, Mirrors: []array.MirrorReport{{ID: "m", Gen: 3, Legs: []array.LegReport{
		{VDID: f.vd[0].ID, Connected: true}, {VDID: f.vd[1].ID, Lost: true}}}}}
	changes := []syncer.Transition{func(tx store.Tx) (array.Plan, error) { return array.ChangeLegs(tx, lost) }}
	for range 255 {
		changes = append(changes, func(store.Tx) (array.Plan, error) { return nil, nil })
	}
	late := errors.New("not recorded")
	changes = append(changes, func(store.Tx) (array.Plan, error) {
		select {
		case <-told:
			return nil, late
		case <-time.After(time.Minute):
			return nil, errors.New("the primary of the first of 257 arrays is not told before the last one is recorded")
		}
	})
	errs := f.syncer.ChangeLegs(t.Context(), changes)
	for i, err := range errs[:256] {
		if err != nil {
			t.Errorf("change %d: %v", i, err)
		}
	}
	if len(errs) != 257 || !errors.Is(errs[256], late) {
		t.Errorf("%d errors, the last %v, want %v", len(errs), errs[256], late)
	}

	// What cannot be told is an error of each change whose primary is there, also of those in later calls.
	f.agents.Agent("cn0:9820").Refuse(status.Error(codes.Internal, "no"))
	bump := func(tx store.Tx) (array.Plan, error) {
		_, err := tx.BumpNode(vda.ControllerNode, f.cn[0].ID)
		return array.Plan{{Role: array.Primary, Nodes: []array.Node{array.CN(f.cn[0].ID)}}}, err
	}
	for i, err := range f.syncer.ChangeLegs(t.Context(), slices.Repeat([]syncer.Transition{bump}, 130)) {
		if err == nil || !strings.Contains(err.Error(), "no") {
			t.Fatalf("change %d: %v", i, err)
		}
	}
}

// slowDatabase is a store whose transactions take a while, until it is made fast.
type slowDatabase struct {
	store.Store
	takes time.Duration
	fast  atomic.Bool
}

func (s *slowDatabase) wait() {
	if !s.fast.Load() {
		time.Sleep(s.takes)
	}
}

func (s *slowDatabase) Update(ctx context.Context, fn func(store.Tx) error) error {
	s.wait()
	return s.Store.Update(ctx, fn)
}

func (s *slowDatabase) View(ctx context.Context, fn func(store.Reader) error) error {
	s.wait()
	return s.Store.View(ctx, fn)
}

// TestFencesHaveTheirTime: the time for a dn to fence an old primary is that of the call. A
// database that takes longer than that leaves no dn untold, and the wait for one that does not answer
// begins when the others have, not before.
func TestFencesHaveTheirTime(t *testing.T) {
	const wait, takes = 500 * time.Millisecond, time.Second
	begin := func(t *testing.T) (f *fixture, s *syncer.Syncer, db *slowDatabase) {
		f = newFixture(t)
		f.mirrored()
		f.syncAll()
		db = &slowDatabase{Store: f.store, takes: takes}
		s, err := syncer.New(syncer.Config{Store: db, Dial: f.agents, FenceTimeout: wait, Log: slog.New(slog.DiscardHandler)})
		f.ok(err)
		f.agents.Agent("cn0:9820").Stop()
		f.forget()
		return f, s, db
	}
	move := func(f *fixture, s *syncer.Syncer) error {
		return s.Move(f.Context(), []array.Move{{DAID: f.da.ID, Term: 1, To: f.cntlr[1].ID}})[0]
	}
	t.Run("all answer", func(t *testing.T) {
		f, s, _ := begin(t)
		var order []string
		var mu sync.Mutex
		note := func(node string) {
			f.agents.Agent(node).Before(func() {
				mu.Lock()
				defer mu.Unlock()
				order = append(order, node[:2])
			})
		}
		note("dn0:9720")
		note("dn1:9720")
		note("cn1:9820")
		f.ok(move(f, s))
		mu.Lock()
		defer mu.Unlock()
		if len(order) < 3 || order[0] != "dn" || order[1] != "dn" || order[2] != "cn" {
			t.Errorf("nodes are told in the order %v, want both dns first", order)
		}
		if b := f.behind(); slices.Contains(b, "dn0:9720") || slices.Contains(b, "dn1:9720") {
			t.Errorf("behind: %v", b)
		}
	})
	t.Run("one does not", func(t *testing.T) {
		f, s, db := begin(t)
		f.agents.Agent("dn1:9720").Stop()
		var fenced, told time.Time
		// The fence falls late, and what follows takes no time that could pass for the wait.
		f.agents.Agent("dn0:9720").Before(func() {
			db.fast.Store(true)
			fenced = time.Now()
		})
		f.agents.Agent("cn1:9820").Before(sync.OnceFunc(func() { told = time.Now() }))
		// The portal that recorded the move has died, and the new primary is told by a Sync, which fences first.
		f.update(func(tx store.Tx) error {
			_, err := array.MovePrimary(tx, array.Move{DAID: f.da.ID, Term: 1, To: f.cntlr[1].ID})
			return err
		})
		f.ok(s.Sync(f.Context(), array.CN(f.cn[1].ID), syncer.Changes))
		if waited := told.Sub(fenced); waited < wait {
			t.Errorf("the new primary is told %v after a leg of its was fenced; it must wait %v", waited, wait)
		}
	})
}
