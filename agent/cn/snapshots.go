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

// snapshots lie beside the volume in the lvstore, as lvols vda-snap-<snap>, and
// vda-wsnap-<snap> where hosts may write to them. SQL
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
		if s.Stage() != apiv1.SnapState_SNAP_STATE_DELETING {
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
		switch s.Stage() {
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
	obtain, done := r.take, "taken"
	if s.Clone != nil {
		obtain, done = r.clone, "made"
	}
	if busy != nil && s.Stage() == apiv1.SnapState_SNAP_STATE_ASKED {
		return nil, fmt.Errorf("snapshot %s of disk array %s is not %s: %w", s.Name, r.c.DaName, done, busy)
	}
	b, err := r.find(ctx, s.Id)
	if err != nil || b != nil {
		return b, err
	}
	if s.Stage() != apiv1.SnapState_SNAP_STATE_ASKED {
		return nil, fmt.Errorf("snapshot %s of disk array %s is not found in its lvstore; it is not %s again", s.Name, r.c.DaName, done)
	}
	if err := obtain(ctx, s); err != nil {
		return nil, fmt.Errorf("snapshot %s of disk array %s is not %s: %w", s.Name, r.c.DaName, done, err)
	}
	if b, err = r.find(ctx, s.Id); err == nil && b == nil {
		err = fmt.Errorf("snapshot %s of disk array %s has just been %s and is not listed", s.Name, r.c.DaName, done)
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
		_, err := r.Plane.BdevLvolSnapshot(ctx, r.vol, lvolName(s))
		return err
	})
}

// clone makes a writable snapshot: a clone of another snapshot of the array, in its lvstore.
func (r snapshots) clone(ctx context.Context, s *apiv1.SnapSpec) error {
	origin, err := r.find(ctx, s.Clone.Of)
	if err != nil {
		return err
	}
	if origin == nil {
		return errors.New("the snapshot that it is to be a clone of is not found in its lvstore")
	}
	head, err := r.Plane.BdevGet(ctx, r.vol, 0)
	if err != nil {
		return err
	}
	if err := r.roomFor(ctx, "it", origin.Bytes(), unwritten(head, r.c)); err != nil {
		return err
	}
	// Hosts write to the array meanwhile. A call that changes which blobs there are is one that
	// SPDK's lvstore is not trusted with under writes.
	if err := r.hold(ctx); err != nil {
		return err
	}
	r.Log.Info("making a writable snapshot", "da", r.c.DaName, "snap", s.Name)
	return r.do(ctx, func(ctx context.Context) error {
		_, err := r.Plane.BdevLvolClone(ctx, origin.Name, lvolName(s))
		return err
	})
}

// room refuses a snapshot after which an array that is not thin could not be
// written to its full size any more: each block needs a cluster again, as the one
// that it has is the snapshot's.
func (r snapshots) room(ctx context.Context) error {
	return r.roomFor(ctx, "the snapshot", r.c.Size, 0)
}

// roomFor refuses what makes needs bytes more that hosts may write clusters for, where all of them
// have been promised: besides those of the volume, volume, and those of writable snapshots.
func (r snapshots) roomFor(ctx context.Context, what string, needs, volume uint64) error {
	lvs, err := r.Plane.BdevLvolGetLvstore(ctx, daPrefix+r.c.DaId)
	if err != nil {
		return err
	}
	free := lvs.FreeClusters * r.c.ClusterSize
	if r.c.Thin {
		if free >= r.c.ClusterSize {
			return nil
		}
		return fmt.Errorf("the disk array has used up its physical size; %w", errNoRoom)
	}
	others, err := r.claimed(ctx)
	if err != nil {
		return err
	}
	if needs += volume + others; free < needs {
		return fmt.Errorf("%d bytes of the disk array's physical size are free, and writes after %s may need %d; %w", free, what, needs,
			errNoRoom)
	}
	return nil
}

// claimed is how many bytes of its physical size an array that is not thin keeps for what hosts may
// still write to its writable snapshots.
func (p *pass) claimed(ctx context.Context) (bytes uint64, err error) {
	for _, s := range p.c.Snaps {
		if s.Clone == nil {
			continue
		}
		b, err := snapshots{p}.lvolAt(ctx, p.snapAlias(s.Id)) // the inventory may be older
		if err != nil {
			return 0, err
		}
		if b != nil {
			bytes += unwritten(b, p.c)
		}
	}
	return bytes, nil
}

// unwritten is how many bytes of an lvol have no clusters of its own.
func unwritten(b *spdk.Bdev, c *apiv1.CntlrSpec) uint64 {
	if l := b.Lvol(); l != nil {
		return b.Bytes() - min(b.Bytes(), l.NumAllocatedClusters*c.ClusterSize)
	}
	return 0
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
	// Of a chain the last one first. One that is to go has hosts that write until it has gone; the
	// snapshot that it shows may have another name by now, or be a tombstone.
	for _, e := range slices.Backward(r.chain()) {
		if e.SnapName != "" && !e.Deleted && !r.writable(e.SnapId) || r.inv.Subsystem(e.Nqn) == nil {
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

func (p *pass) snapAlias(id string) string {
	prefix := vda.SnapPrefix
	if p.writable(id) {
		prefix = vda.WSnapPrefix
	}
	return daPrefix + p.c.DaId + "/" + prefix + id
}

// writable reports that a snapshot is one. A secondary is told of none, and looks for none.
func (p *pass) writable(id string) bool {
	return slices.ContainsFunc(p.c.Snaps, func(s *apiv1.SnapSpec) bool { return s.Id == id && s.Clone != nil })
}

// lvolName is the lvol of a snapshot in the array's lvstore.
func lvolName(s *apiv1.SnapSpec) string {
	if s.Clone != nil {
		return vda.WSnapPrefix + s.Id
	}
	return vda.SnapPrefix + s.Id
}

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
