package cn

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/agent"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/spdk"
)

// snapshots lie beside the volume in the lvstore, as lvols vda-snap-<snap>. SQL
// says of each whether it is to be taken, is there, or is to go; what SQL does not
// name stays on media. Whether it is there, the lvstore alone says: a primary that
// is new finds what the one before took, and takes what it does not find only while
// nobody has been told that it is taken.
type snapshots struct{ *pass }

// snapNote is what a pass has found of a snapshot that is on media.
type snapNote struct {
	held   uint64 // bytes
	size   uint64 // bytes
	rolled apiv1.SnapRollback
}

// waits is why a snapshot stays until its user has deleted others. Trying again is of no use, and the
// node has done all that it was told: what else it is told does not wait.
type waits struct{ error }

// keep makes the array's snapshots so. The volume is up. What is wrong with one is
// that snapshot's error.
func (r snapshots) keep(ctx context.Context) {
	dropped, busy := false, r.ready(ctx)
	// The newest first: one that others stand on can go when they have gone.
	for _, s := range slices.Backward(r.c.Snaps) {
		if s.State != apiv1.SnapState_SNAP_STATE_DELETING {
			continue
		}
		if err := r.drop(ctx, s, busy); err != nil {
			note := r.fail
			if errors.As(err, new(waits)) {
				note = r.ail
			}
			note(s.Id, fmt.Errorf("snapshot %s of disk array %s is not deleted yet: %w", s.Name, r.c.DaName, err))
			continue
		}
		r.noteSnap(s.Id, nil)
		r.gone(s.Id)
		dropped = true
	}
	for _, s := range r.c.Snaps {
		switch s.State {
		case apiv1.SnapState_SNAP_STATE_DELETING, apiv1.SnapState_SNAP_STATE_TOGETHER:
			continue
		case apiv1.SnapState_SNAP_STATE_UNSPECIFIED:
			// A portal or monitor of the release before says so of one that is to be taken with
			// others. Told that it is there, it would record that it is taken, whatever of them.
			continue
		}
		b, err := r.have(ctx, s, busy)
		if err == nil && dropped { // what stood on others has their clusters now
			b, err = r.Plane.BdevGet(ctx, b.Name, 0)
		}
		if err != nil {
			r.fail(s.Id, err)
			continue
		}
		note := &snapNote{rolled: s.Rollback, size: b.Bytes()}
		if err := r.rolled(ctx, s, busy); err != nil {
			note.rolled = apiv1.SnapRollback_SNAP_ROLLBACK_UNSPECIFIED
			r.fail(s.Id, err)
		}
		if l := b.Lvol(); l != nil {
			note.held = l.NumAllocatedClusters * r.c.ClusterSize
		}
		r.noteSnap(s.Id, note)
	}
}

// rolled carries out what SQL says of a rollback. Where there is none, what one has left
// that SQL does not know of, as it was restored, goes: it would be taken for a sign that
// the next one has been carried out.
func (r snapshots) rolled(ctx context.Context, s *apiv1.SnapSpec, busy error) error {
	if s.Rollback == apiv1.SnapRollback_SNAP_ROLLBACK_UNSPECIFIED {
		if busy != nil || r.inv.Bdev(r.oldAlias(s)) == nil {
			return nil
		}
		if err := r.deleteLvol(ctx, r.oldAlias(s)); err != nil {
			return fmt.Errorf("what disk array %s was before a rollback to snapshot %s is not deleted yet: %w", r.c.DaName, s.Name, err)
		}
		return nil
	}
	err := busy
	if err == nil {
		err = r.rollBack(ctx, s)
	}
	if err != nil {
		return fmt.Errorf("disk array %s is not rolled back to snapshot %s yet: %w", r.c.DaName, s.Name, err)
	}
	return nil
}

// have returns a snapshot's bdev, which it makes when the snapshot is asked for and
// nothing stands in the way.
func (r snapshots) have(ctx context.Context, s *apiv1.SnapSpec, busy error) (*spdk.Bdev, error) {
	if busy != nil && s.State == apiv1.SnapState_SNAP_STATE_ASKED {
		return nil, fmt.Errorf("snapshot %s of disk array %s is not taken: %w", s.Name, r.c.DaName, busy)
	}
	b, err := r.find(ctx, s.Id)
	if err != nil || b != nil {
		return b, err
	}
	if s.State != apiv1.SnapState_SNAP_STATE_ASKED {
		return nil, fmt.Errorf("snapshot %s of disk array %s is not found in its lvstore; it is not taken again", s.Name, r.c.DaName)
	}
	if err := r.take(ctx, s); err != nil {
		return nil, fmt.Errorf("snapshot %s of disk array %s is not taken: %w", s.Name, r.c.DaName, err)
	}
	if b, err = r.find(ctx, s.Id); err == nil && b == nil {
		err = fmt.Errorf("snapshot %s of disk array %s has just been taken and is not listed", s.Name, r.c.DaName)
	}
	return b, err
}

// find returns the bdev of a snapshot, nil when there is none.
func (r snapshots) find(ctx context.Context, id string) (*spdk.Bdev, error) {
	if b := r.inv.Bdev(r.snapAlias(id)); b != nil {
		return b, nil
	}
	// The inventory may be older than the volume, or than a call of this pass.
	b, err := r.Plane.BdevGet(ctx, r.snapAlias(id), 0)
	return b, agent.Drop(err)
}

// take takes a snapshot. All writes that were acknowledged before are in it, and
// none that is sent after it returns: the data plane holds I/O meanwhile, or paths
// are closed.
func (r snapshots) take(ctx context.Context, s *apiv1.SnapSpec) error {
	head, err := r.Plane.BdevGet(ctx, r.vol, 0)
	if err != nil {
		return err
	}
	if l := head.Lvol(); l != nil {
		if err := r.Plane.Driver().MaySnapshot(l); err != nil {
			return err
		}
	}
	if err := r.room(ctx); err != nil {
		return err
	}
	if err := r.hold(ctx); err != nil {
		return err
	}
	r.Log.Info("taking a snapshot", "da", r.c.DaName, "snap", s.Name)
	return r.do(ctx, func(ctx context.Context) error {
		_, err := r.Plane.BdevLvolSnapshot(ctx, r.vol, vda.SnapPrefix+s.Id)
		return err
	})
}

// room refuses a snapshot after which an array that is not thin could not be
// written to its full size any more: each block needs a cluster again, as the one
// that it has is the snapshot's.
func (r snapshots) room(ctx context.Context) error {
	lvs, err := r.Plane.BdevLvolGetLvstore(ctx, daPrefix+r.c.DaId)
	if err != nil {
		return err
	}
	free, needs := lvs.FreeClusters*r.c.ClusterSize, r.c.Size
	if r.c.Thin {
		needs = r.c.ClusterSize
	}
	if free >= needs {
		return nil
	}
	if r.c.Thin {
		return fmt.Errorf("the disk array has used up its physical size; %w", errNoRoom)
	}
	return fmt.Errorf("%d bytes of the disk array's physical size are free, and writes after the snapshot may need %d; %w",
		free, needs, errNoRoom)
}

// errNoRoom says what helps.
var errNoRoom = vda.Errorf(vda.ResourceExhausted, "delete a snapshot, or give the array a larger physical_size")

// hold closes the volume's paths and returns when no I/O is under way, where the data
// plane needs that for a snapshot. The exporters open them again.
func (r snapshots) hold(ctx context.Context) error {
	if !r.Plane.Driver().SnapshotNeedsQuiet() {
		return nil
	}
	if gone, lost := r.backends(); gone != nil {
		return lost // what is under way would not end
	}
	// Of a chain the last one first. One that is to go has hosts that write until it has gone.
	for _, e := range slices.Backward(r.chain()) {
		if e.SnapName != "" || r.inv.Subsystem(e.Nqn) == nil {
			continue
		}
		if err := r.closePath(ctx, snapshotTaken, e); err != nil {
			return err
		}
		if err := r.Plane.Driver().Drain(ctx, e.Nqn, 1); err != nil {
			return err
		}
	}
	return nil
}

// drop carries out a snapshot's tombstone, after those of exporters that stand on
// it.
func (r snapshots) drop(ctx context.Context, s *apiv1.SnapSpec, busy error) error {
	if busy != nil {
		return busy
	}
	if err := r.unroll(ctx, s); err != nil {
		return err
	}
	// The inventory may show what has just gone as standing on it.
	b, err := r.lvolAt(ctx, r.snapAlias(s.Id))
	if err != nil || b == nil {
		return err
	}
	if l := b.Lvol(); l != nil {
		if len(l.Clones) > 1 {
			return waits{fmt.Errorf("%d others stand on it; it goes when all but one of them have gone", len(l.Clones))}
		}
		if err := r.Plane.Driver().MayDeleteSnapshot(l); err != nil {
			return err
		}
	}
	for _, e := range r.c.Exps {
		if e.Deleted && e.SnapId == s.Id {
			if err := r.dropExp(ctx, e); err != nil {
				return err
			}
		}
	}
	r.Log.Info("deleting a snapshot", "da", r.c.DaName, "snap", s.Name)
	return r.do(ctx, func(ctx context.Context) error { return agent.Drop(r.Plane.BdevLvolDelete(ctx, b.Name)) })
}

func (p *pass) snapAlias(id string) string { return daPrefix + p.c.DaId + "/" + vda.SnapPrefix + id }

// snapBdev is the bdev that an exporter of a snapshot shows.
func (p *pass) snapBdev(ctx context.Context, e *apiv1.ExpSpec) (string, error) {
	if e.SnapId == "" {
		return "", fmt.Errorf("snapshot %q of disk array %s does not exist", e.SnapName, p.c.DaName)
	}
	b, err := snapshots{p}.find(ctx, e.SnapId)
	switch {
	case err != nil:
		return "", err
	case b == nil:
		return "", fmt.Errorf("snapshot %q of disk array %s is not found in its lvstore", e.SnapName, p.c.DaName)
	}
	return b.Name, nil
}

// noteSnap notes what a pass has found of a snapshot; nil: it is gone.
func (a *Agent) noteSnap(id string, n *snapNote) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if n == nil {
		delete(a.snaps, id)
	} else {
		a.snaps[id] = *n
	}
}

// showSnaps adds to states of snapshots what is known of them. A state without an
// error does not say that a snapshot was looked for.
func (a *Agent) showSnaps(states []*apiv1.ObjectState) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, s := range states {
		if n, found := a.snaps[s.Id]; found && !s.Error && !s.Gone {
			s.Found, s.HeldBytes, s.SizeBytes, s.Rolled = true, n.held, n.size, n.rolled
		}
	}
}
