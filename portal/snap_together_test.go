package portal_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/virtual-disk-array/vda"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/array"
	"github.com/virtual-disk-array/vda/client"
	"github.com/virtual-disk-array/vda/portal"
	"github.com/virtual-disk-array/vda/portal/portaltest"
	"github.com/virtual-disk-array/vda/store"
	"github.com/virtual-disk-array/vda/syncer"
)

// several makes arrays da0, da1 and so on, whose primaries are on several nodes.
func several(t *testing.T, c *portaltest.Cluster, cl *client.Client, das int) {
	t.Helper()
	c.Populate(cl, das, 2)
	for i := range das {
		must[*apiv1.CreateDaReply](t)(cl.CreateDa(ctx, &apiv1.CreateDaRequest{DaName: fmt.Sprint("da", i), DaSize: 8 << 20, CntlrCnt: 2}))
	}
}

// holdsAndSnaps are those of all agents.
func holdsAndSnaps(c *portaltest.Cluster) (holds, snaps int) {
	for i := range 2 {
		a := c.Agent(fmt.Sprintf("cn%d:9820", i))
		now, _ := a.Snaps()
		holds, snaps = holds+a.Holds(), snaps+now
	}
	return holds, snaps
}

// TestSnapshotsOfSeveralArrays: all are taken, or none is left, whichever primary cannot.
func TestSnapshotsOfSeveralArrays(t *testing.T) {
	t.Parallel()
	c := portaltest.New(t)
	cl := c.Client()
	several(t, c, cl, 3)
	all := func(name string) *apiv1.CreateSnapRequest {
		return &apiv1.CreateSnapRequest{DaName: "da0,da1,da2", SnapName: name, Label: []string{"kind=night"}}
	}
	made := must[*apiv1.CreateSnapReply](t)(cl.CreateSnap(ctx, all("s0")))
	if len(made.SnapMsgList) != 3 || made.SnapMsg.DaName != "da0" || made.PauseUsec == 0 {
		t.Fatalf("%v", made)
	}
	for i, m := range made.SnapMsgList {
		got := must[*apiv1.GetSnapReply](t)(cl.GetSnap(ctx, &apiv1.GetSnapRequest{DaName: fmt.Sprint("da", i), SnapName: "s0"})).SnapMsg
		if m.State != "taken" || m.TogetherId == "" || got.TogetherId != made.SnapMsg.TogetherId || got.State != "taken" ||
			fmt.Sprint(got.LabelList) != "[kind=night]" || got.DaSize != 8<<20 || got.Error {
			t.Errorf("da%d: %v, then %v", i, m, got)
		}
	}
	if holds, snaps := holdsAndSnaps(c); holds != 0 || snaps != 3 {
		t.Errorf("%d are held, of %d snapshots", holds, snaps)
	}
	none := func(why string) {
		t.Helper()
		if holds, snaps := holdsAndSnaps(c); holds != 0 || snaps != 3 {
			t.Errorf("%s: %d are held, of %d snapshots", why, holds, snaps)
		}
		for i := range 3 {
			if rows := snapRows(t, c, fmt.Sprint("da", i)); len(rows) != 1 {
				t.Errorf("%s: da%d has snapshots %v", why, i, rows)
			}
		}
	}
	for _, name := range []string{"da0,da0", "da0,", "da0,DA!"} {
		_, err := cl.CreateSnap(ctx, &apiv1.CreateSnapRequest{DaName: name, SnapName: "s1"})
		refusedWith(t, err, apiv1.CodeInvalid, "da_name")
	}
	_, err := cl.CreateSnap(ctx, &apiv1.CreateSnapRequest{DaName: "da0,da7", SnapName: "s1"})
	refusedWith(t, err, apiv1.CodeNotFound, `there is no da "da7"`)
	_, err = cl.CreateSnap(ctx, all("s0"))
	refusedWith(t, err, apiv1.CodeNameTaken, "snap s0 of da da0 already exists")
	none("refused")

	cn := c.Agent("cn0:9820")
	cn.FailHolds("a reason", false)
	_, err = cl.CreateSnap(ctx, all("s1"))
	refusedWith(t, err, apiv1.CodeFailedPrecondition, "snap s1 of das da0, da1, da2 is not taken: da da", "a reason; none is left")
	none("it cannot hold")
	cn.FailHolds("", true)
	_, err = cl.CreateSnap(ctx, all("s1"))
	refusedWith(t, err, apiv1.CodeFailedPrecondition, "its I/O was not held until all were taken, for 10s at most; none is left")
	none("holds ended")
	cn.FailHolds("", false)
	must[*apiv1.CreateSnapReply](t)(cl.CreateSnap(ctx, all("s1")))

	// A growth that SQL knows of is open: the primaries say how large the snapshots are. A clone
	// of one of another size would never come up.
	for i := range 3 {
		must[*apiv1.DeleteSnapReply](t)(cl.DeleteSnap(ctx, &apiv1.DeleteSnapRequest{DaName: fmt.Sprint("da", i), SnapName: "s1"}))
	}
	for i := range 2 {
		c.Agent(fmt.Sprintf("cn%d:9820", i)).SizeOfSnaps(4 << 20)
	}
	for i, m := range must[*apiv1.CreateSnapReply](t)(cl.CreateSnap(ctx, all("s2"))).SnapMsgList {
		if m.DaSize != 4<<20 {
			t.Errorf("the snapshot of da%d has %d bytes", i, m.DaSize)
		}
	}
}

// mortal is a portal that dies at the nth of its doings: before it, or after it and before
// it has heard what came of it.
type mortal struct {
	*syncer.Syncer
	store.Store
	mu    sync.Mutex
	left  int                  // 0: it is dead
	moved func(array.HeldSnap) // is called once, with one of them, when all are held
}

var errDead = &vda.Error{Kind: vda.Unavailable, Op: "database", Msg: "does not answer"}

func (m *mortal) alive() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.left == 0 {
		return errDead
	}
	m.left--
	return nil
}

func (m *mortal) doing(f func() error) error {
	if err := m.alive(); err != nil {
		return err
	}
	err := f()
	if dead := m.alive(); dead != nil {
		return dead
	}
	return err
}

func (m *mortal) Update(ctx context.Context, fn func(tx store.Tx) error) error {
	return m.doing(func() error { return m.Store.Update(ctx, fn) })
}

func (m *mortal) Sync(ctx context.Context, n array.Node, scope syncer.Scope) error {
	return m.doing(func() error { return m.Syncer.Sync(ctx, n, scope) })
}

func (m *mortal) HoldSnap(ctx context.Context, h array.HeldSnap, limit time.Duration) error {
	return m.doing(func() error { return m.Syncer.HoldSnap(ctx, h, limit) })
}

func (m *mortal) ReleaseSnap(ctx context.Context, h array.HeldSnap) (held time.Duration, inForce bool, err error) {
	m.mu.Lock()
	moved := m.moved
	m.moved = nil
	m.mu.Unlock()
	if moved != nil {
		moved(h)
	}
	err = m.doing(func() error {
		held, inForce, err = m.Syncer.ReleaseSnap(ctx, h)
		return err
	})
	return held, inForce, err
}

// mortalPortal is the client of a portal that has so many doings to live.
func mortalPortal(c *portaltest.Cluster, m *mortal) *client.Client {
	return c.Client(func(cfg *portal.Config) {
		m.Syncer, m.Store = cfg.Syncer.(*syncer.Syncer), cfg.Store
		cfg.Store, cfg.Syncer = m, m
	})
}

// statesOf are those of all snapshots of both arrays, tombstones too.
func statesOf(t *testing.T, c *portaltest.Cluster) (states []vda.SnapState) {
	t.Helper()
	for i := range 2 {
		states = append(states, snapRows(t, c, fmt.Sprint("da", i))...)
	}
	return states
}

// TestSnapshotsOfSeveralArraysOutliveTheirPortal: wherever it dies, all are there or all go.
func TestSnapshotsOfSeveralArraysOutliveTheirPortal(t *testing.T) {
	t.Parallel()
	var took, dropped int
	c := portaltest.New(t)
	well := c.Client()
	several(t, c, well, 2)
	m := &mortal{}
	cl := mortalPortal(c, m)
	for lives, done := 0, false; !done; lives++ {
		m.live(lives)
		_, err := cl.CreateSnap(ctx, &apiv1.CreateSnapRequest{DaName: "da0,da1", SnapName: "s"})
		done = m.live(1000) > 0
		states := statesOf(t, c)
		// Until its time has passed, it may still record that they are taken.
		c.Change(func(tx store.Tx) error { return array.DropOverdue(tx, time.Now()) })
		if now := statesOf(t, c); fmt.Sprint(now) != fmt.Sprint(states) {
			t.Errorf("dead after %d: %v, and too early %v", lives, states, now)
		}
		c.Change(func(tx store.Tx) error { return array.DropOverdue(tx, time.Now().Add(vda.TogetherTime+time.Second)) })
		states = statesOf(t, c)
		all, none := len(states) == 2, true
		for _, s := range states {
			all = all && s == vda.SnapTaken
			none = none && s == vda.SnapDeleting
		}
		switch {
		case !all && !none:
			t.Errorf("dead after %d: %v", lives, states)
		case err == nil && !all:
			t.Errorf("dead after %d: said to be taken, and are %v", lives, states)
		case err != nil && !none && client.CodeOf(err) != apiv1.CodeDatabase:
			t.Errorf("dead after %d: said not to be taken (%v), and are %v", lives, err, states)
		case done && err != nil:
			t.Fatalf("alive, and %v", err)
		}
		if all {
			took++
		} else {
			dropped++
		}
		m.clear(t, c, well, all)
	}
	if took < 3 || dropped < 8 {
		t.Errorf("%d ended with all and %d with none", took, dropped)
	}
}

// live has it have so many doings left, and returns how many it had.
func (m *mortal) live(n int) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	was := m.left
	m.left = n
	return was
}

// clear leaves no snapshot of either array, as the monitor and a user do.
func (m *mortal) clear(t *testing.T, c *portaltest.Cluster, cl *client.Client, taken bool) {
	t.Helper()
	var cns []vda.CN
	err := c.Store.View(ctx, func(tx store.Reader) (err error) {
		cns, _, err = tx.ListCN(store.NodeFilter{}, store.Page{})
		return err
	})
	for i := range cns {
		err = errors.Join(err, m.Syncer.Sync(ctx, array.Node{Kind: vda.ControllerNode, ID: cns[i].ID}, syncer.Full))
	}
	for i := 0; taken && i < 2; i++ {
		_, err1 := cl.DeleteSnap(ctx, &apiv1.DeleteSnapRequest{DaName: fmt.Sprint("da", i), SnapName: "s"})
		err = errors.Join(err, err1)
	}
	if states := statesOf(t, c); err != nil || len(states) != 0 {
		t.Fatalf("left are %v: %v", states, err)
	}
	if _, snaps := holdsAndSnaps(c); snaps != 0 {
		t.Fatalf("%d are on media that nobody knows of", snaps)
	}
}

// TestOverdueSnapshotsOfSeveralArrays: when the portal has died, and all monitors are of the release
// before, which leave such rows alone, users can delete them, and snapshot the arrays again.
func TestOverdueSnapshotsOfSeveralArrays(t *testing.T) {
	t.Parallel()
	c := portaltest.New(t)
	cl := c.Client()
	several(t, c, cl, 2)
	ask := func(name string, asked time.Time) {
		c.Change(func(tx store.Tx) error {
			var snaps []*vda.Snap
			for i := range 2 {
				da, err := tx.DAByName(fmt.Sprint("da", i))
				if err != nil {
					return err
				}
				snaps = append(snaps, &vda.Snap{ID: store.NewID(), DAID: da.ID, Name: name, State: vda.SnapTogether, Together: name, Asked: asked})
			}
			_, _, err := array.CreateSnaps(tx, snaps)
			return err
		})
	}
	ask("s", time.Now().Add(-vda.TogetherTime))
	must[*apiv1.CreateSnapReply](t)(cl.CreateSnap(ctx, &apiv1.CreateSnapRequest{DaName: "da1", SnapName: "again"}))
	for i := range 2 {
		must[*apiv1.DeleteSnapReply](t)(cl.DeleteSnap(ctx, &apiv1.DeleteSnapRequest{DaName: fmt.Sprint("da", i), SnapName: "s"}))
	}
	if states := statesOf(t, c); fmt.Sprint(states) != "[taken]" {
		t.Errorf("left are %v", states)
	}
	ask("s", time.Now()) // its portal may still record it
	_, err := cl.DeleteSnap(ctx, &apiv1.DeleteSnapRequest{DaName: "da0", SnapName: "s"})
	refusedWith(t, err, apiv1.CodeFailedPrecondition, "snap s of da da0 is being taken, together with those of other das")
}

// TestSnapshotsOfSeveralArraysAndAMove: when another primary serves one of the arrays before
// all are recorded, what was held does not say that nothing was written.
func TestSnapshotsOfSeveralArraysAndAMove(t *testing.T) {
	t.Parallel()
	c := portaltest.New(t)
	several(t, c, c.Client(), 2)
	m := &mortal{left: 1000}
	cl := mortalPortal(c, m)
	m.moved = func(h array.HeldSnap) {
		if err := m.Syncer.FailoverDa(ctx, h.DAID, ""); err != nil {
			t.Error(err)
		}
	}
	_, err := cl.CreateSnap(ctx, &apiv1.CreateSnapRequest{DaName: "da0,da1", SnapName: "s"})
	refusedWith(t, err, apiv1.CodeFailedPrecondition, "the primary of da da", "has moved meanwhile; none is left")
	if states := statesOf(t, c); len(states) != 0 {
		t.Errorf("left are %v", states)
	}
}
