package portal

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/virtual-disk-array/vda"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/array"
	"github.com/virtual-disk-array/vda/store"
)

// origin is what a new array is a clone of.
type origin struct {
	daName, snapName string
	fresh            bool     // the snapshot is to be taken for it
	exp              *vda.Exp // of the snapshot, to the clone alone; nil before it is known
}

// newOrigin reads what a request says of it; nil for an array that begins with zeros.
func newOrigin(req *apiv1.CreateDaRequest, id string) (*origin, error) {
	switch {
	case req.FromSnap != "" && req.FromDa != "":
		return nil, invalid("from_snap and from_da are both given; give one of them")
	case req.FromSnap != "":
		da, snap, err := vda.ParseSnapPath("from_snap", req.FromSnap)
		return &origin{daName: da, snapName: snap}, err
	case req.FromDa != "":
		if err := vda.CheckName("from_da", req.FromDa); err != nil {
			return nil, err
		}
		return &origin{daName: req.FromDa, snapName: vda.ClonePrefix + id, fresh: true}, nil
	}
	return nil, nil
}

// find looks for the array, and the snapshot unless it is still to be taken. size is of what
// the clone will begin with.
func (o *origin) find(tx store.Reader) (da *vda.DA, size uint64, err error) {
	if da, err = findDA(tx, o.daName); err != nil {
		return nil, 0, err
	}
	if err := notCopying(da, "cloned"); err != nil {
		return nil, 0, err
	}
	if o.fresh {
		return da, da.Size, notRolling(tx, da)
	}
	snap, err := findSnapOf(tx, da, o.snapName)
	if err != nil {
		return nil, 0, err
	}
	if snap.Writable() {
		return nil, 0, vda.Errorf(vda.FailedPrecondition, "snap %s of da %s is writable, and a clone is copied from what does not change: give "+
			"a snapshot that takes no writes", snap.Name, da.Name)
	}
	if snap.State != vda.SnapTaken {
		return nil, 0, vda.Errorf(vda.FailedPrecondition, "snap %s of da %s is not taken yet: snap get says when it is", snap.Name, da.Name)
	}
	return da, snap.Size, nil
}

// notCopying refuses what an array that is not without its source yet must not have done to
// it: the copy goes on below its volume alone.
func notCopying(da *vda.DA, what string) error {
	if !da.Source.Copying() {
		return nil
	}
	return vda.Errorf(vda.FailedPrecondition, "da %s is still being copied from snap %s, and is not %s until all is there: da get shows "+
		"copied_size of copy_size", da.Name, da.Source.Name, what)
}

// originOf fills in what a request leaves to the source of the array: its size.
func (s *Server) originOf(ctx context.Context, req *apiv1.CreateDaRequest, o *origin) error {
	return s.view(ctx, func(tx store.Reader) error {
		_, size, err := o.find(tx)
		switch {
		case err != nil:
			return err
		case req.DaSize == 0:
			req.DaSize = size
		case req.DaSize < size:
			return invalid("da_size is %d bytes, and what the array is made of has %d: a clone has as much, or more", req.DaSize, size)
		}
		return nil
	})
}

// become makes the array a clone, and takes the snapshot that is still to be taken.
func (s *Server) become(ctx context.Context, da *vda.DA, o *origin) error {
	var size uint64
	if o.fresh {
		snap := &vda.Snap{ID: store.NewID(), Name: o.snapName, State: vda.SnapAsked, Asked: time.Now().UTC()}
		now, err := s.takeSnap(ctx, o.daName, snap, "", vda.Tags{})
		if err != nil {
			return err
		}
		size = now.Size
	} else if err := s.view(ctx, func(tx store.Reader) (err error) {
		_, size, err = o.find(tx)
		return err
	}); err != nil {
		return err
	}
	if size > da.Size { // it has grown since
		return vda.Errorf(vda.Conflict, "da %s has grown to %d bytes meanwhile; da_size is %d", o.daName, size, da.Size)
	}
	if size%da.ClusterSize != 0 {
		da.ClusterSize = 1 << 20
	}
	ns := uuid.New()
	name := vda.ClonePrefix + da.ID
	o.exp = &vda.Exp{ID: store.NewID(), Name: name, NQN: vda.ExpNQN(o.daName, name), InitiatorNQN: vda.CloneHostNQN(da.ID),
		SnapName: o.snapName, Serial: cloneSerial(ns.String()), NSUUID: ns.String()}
	da.Source = vda.CloneSource{ExpID: o.exp.ID, Name: o.daName + "/" + o.snapName, NQN: o.exp.NQN, UUID: o.exp.NSUUID, Size: size}
	return vda.CheckNQN("the NQN that the clone reads by", o.exp.NQN)
}

// cloneSerial is the serial number of the exporter of a namespace.
func cloneSerial(nsUUID string) string {
	return "VDA" + strings.ToUpper(strings.ReplaceAll(nsUUID, "-", ""))[:17]
}

// createRows writes the rows of a new array, and with it the exporter that it is copied from.
func (o *origin) createRows(tx store.Tx, da *vda.DA, p *plan) (array.Plan, error) {
	if o == nil {
		return array.Create(tx, da, p.columns, p.cntlrs)
	}
	from, _, err := o.find(tx)
	if err != nil {
		return nil, err
	}
	o.exp.DAID = from.ID
	return array.CreateClone(tx, da, o.exp, p.columns, p.cntlrs)
}

// dropSnap has a snapshot go that was taken for a clone that was not made.
func (s *Server) dropSnap(ctx context.Context, o *origin) {
	if o == nil || !o.fresh {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cancelTime)
	defer cancel()
	var steps [][]node
	err := s.update(ctx, func(tx store.Tx) error {
		da, err := findDA(tx, o.daName)
		if err != nil {
			return err
		}
		snap, err := tx.SnapByName(da.ID, o.snapName)
		if err != nil {
			return err
		}
		plan, err := array.DeleteSnap(tx, snap)
		if err != nil {
			return err
		}
		steps, err = stepsOf(tx, plan)
		return err
	})
	if err == nil {
		s.syncAll(ctx, steps...)
	}
}

// unlessSpent carries out a deletion that only what clones were copied from may stand in the
// way of. What no clone needs any more goes first then, rather than when monitors look next,
// and for SettleTime it is waited for that nodes let go of it.
func (s *Server) unlessSpent(ctx context.Context, daName string, deletion func() error) error {
	return unlessSpent(ctx, s.cfg.SettleTime, deletion, func() (bool, error) { return s.sweepSources(ctx, daName) })
}

// unlessSpent: sweep reports that something went. A deletion is refused for good only when it is so
// twice for the same reason: what was in its way may have gone by a monitor's hand between it and sweep.
func unlessSpent(ctx context.Context, settle time.Duration, deletion func() error, sweep func() (went bool, err error)) error {
	last := ""
	for begin := time.Now(); ; {
		err := deletion()
		own := coded{}
		if !errors.As(err, &own) || own.code != codeInUse && own.code != codeBusy {
			return err
		}
		went, sweepErr := sweep()
		if sweepErr != nil || !went && own.code != codeBusy && own.Error() == last || time.Since(begin) >= settle {
			return err
		}
		last = own.Error()
		select {
		case <-ctx.Done():
			return err
		case <-time.After(spentPause):
		}
	}
}

// spentPause is how long to wait before the next look at what nodes let go of.
const spentPause = 50 * time.Millisecond

// letGo refuses to delete an array while nodes have not let go yet of exporters that are
// deleted and showed the last of its snapshots, which were taken for clones.
func letGo(da string, exps []vda.Exp, snaps []string) error {
	for _, snap := range snaps {
		if !strings.HasPrefix(snap, vda.ClonePrefix) ||
			!slices.ContainsFunc(exps, func(e vda.Exp) bool { return e.Deleted && e.SnapName == snap }) {
			return nil
		}
	}
	return refuse(codeBusy, vda.Unavailable, "da %s is what a clone was copied from that is deleted, and nodes have not let go of it yet; "+
		"try again in a few seconds", da)
}

// sweepSources has exporters go from which no clone is copied any more, and, when nothing else
// keeps the array, snapshots that were taken for clones; true when some went.
func (s *Server) sweepSources(ctx context.Context, daName string) (went bool, err error) {
	var exps, snaps []string // ids
	if err := s.view(ctx, func(tx store.Reader) error {
		exps, snaps = nil, nil
		da, err := findDA(tx, daName)
		if err != nil {
			return err
		}
		allExps, err1 := tx.ExpsOfDA(da.ID)
		allSnaps, err2 := tx.SnapsOfDA(da.ID)
		others := false
		for i := range allExps {
			switch e := &allExps[i]; {
			case e.Deleted:
			case strings.HasPrefix(e.Name, vda.ClonePrefix):
				exps = append(exps, e.ID)
			default:
				others = true
			}
		}
		for i := range allSnaps {
			switch s := &allSnaps[i]; {
			case !s.Live():
			case strings.HasPrefix(s.Name, vda.ClonePrefix):
				snaps = append(snaps, s.ID)
			default:
				others = true
			}
		}
		if others { // the array stays anyway, and a clone may be about to be made
			snaps = nil
		}
		return errors.Join(err1, err2)
	}); err != nil {
		return false, err
	}
	for _, id := range exps {
		one, err := s.drop(ctx, func(tx store.Tx) (array.Plan, error) { return array.DropSource(tx, id) })
		if went = went || one; err != nil {
			return went, err
		}
	}
	for _, id := range snaps {
		one, err := s.drop(ctx, dropCloneSnap(id))
		if went = went || one; err != nil {
			return went, err
		}
	}
	return went, nil
}

// dropCloneSnap has a snapshot go that was taken for a clone, though that may be about to be
// made: it loses against a deletion.
func dropCloneSnap(id string) func(tx store.Tx) (array.Plan, error) {
	return func(tx store.Tx) (array.Plan, error) {
		return array.DropCloneSnap(tx, id, time.Now().Add(array.CloneSnapGrace))
	}
}

// drop carries out that something goes, if it does; true when it did.
func (s *Server) drop(ctx context.Context, transition func(tx store.Tx) (array.Plan, error)) (went bool, err error) {
	var steps [][]node
	err = s.cfg.Store.Update(ctx, func(tx store.Tx) error {
		steps = nil
		plan, err := transition(tx)
		if err != nil || plan == nil {
			return err
		}
		steps, err = stepsOf(tx, plan)
		return err
	})
	if err == nil && steps != nil {
		went = true
		s.syncAll(ctx, steps...)
	}
	return went, err
}

// dropOrigin has go what an array was copied from that has been deleted, as far as it was
// made for it. What fails is the monitors'.
func (s *Server) dropOrigin(ctx context.Context, da *vda.DA) {
	if !da.Source.Copying() {
		return
	}
	var fresh string // id of the snapshot that was taken for it
	err := s.view(ctx, func(tx store.Reader) error {
		exp, err := tx.Exp(da.Source.ExpID)
		if err != nil || !strings.HasPrefix(exp.SnapName, vda.ClonePrefix) {
			return err
		}
		snap, err := tx.SnapByName(exp.DAID, exp.SnapName)
		if err == nil {
			fresh = snap.ID
		}
		return err
	})
	if err == nil {
		_, err = s.drop(ctx, func(tx store.Tx) (array.Plan, error) { return array.DropSource(tx, da.Source.ExpID) })
	}
	if err == nil && fresh != "" {
		_, _ = s.drop(ctx, dropCloneSnap(fresh))
	}
}

// withoutClones returns the names of exporters that are users', and refuses what clones that
// are not copied yet stand in the way of, with the clones' names.
func withoutClones(tx store.Reader, kind, name string, exps []string) ([]string, error) {
	var users, clones []string
	for _, e := range exps {
		id, isClone := strings.CutPrefix(e, vda.ClonePrefix)
		if !isClone {
			users = append(users, e)
			continue
		}
		da, err := tx.Unlocked().DA(id)
		if err != nil && !isKind(err, vda.NotFound) {
			return nil, err
		}
		if err == nil && !da.Deleted {
			clones = append(clones, da.Name)
		} else {
			clones = append(clones, "one that is deleted, in a few seconds")
		}
	}
	if clones == nil {
		return users, nil
	}
	return users, refuse(codeInUse, vda.FailedPrecondition, "%s %s is what das are still copied from: %s; da get of each shows copied_size "+
		"of copy_size, and it can go when they are copied, or deleted", kind, name, strings.Join(clones, ", "))
}

// notACloneSource refuses to change an exporter that a clone is copied from.
func notACloneSource(exp *vda.Exp) error {
	if !strings.HasPrefix(exp.Name, vda.ClonePrefix) {
		return nil
	}
	return vda.Errorf(vda.FailedPrecondition, "exp %s is what a clone is copied from, and goes by itself when all is copied or the clone is "+
		"deleted", exp.Name)
}
