package syncer

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/virtual-disk-array/vda"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/array"
	"github.com/virtual-disk-array/vda/store"
)

// A move of an array's primary goes through these stages:
//
//  1. record (array.MovePrimary): one transaction gives the array a new term,
//     makes another controller primary, and raises the version of every node
//     involved;
//  2. stand by and retire, only in a planned switch: the other controllers
//     close their paths, so that hosts do not go there when the old primary closes
//     its own and detaches; nothing is in flight when the fence falls;
//  3. fence: every dn of the array admits the new term's host only, and
//     answers when the old one's connections are closed and its writes settled;
//  4. promote: the new primary attaches, loads the lvstore and exports;
//  5. follow: the other controllers proxy to the new primary; the old one, when
//     it can be reached, detaches.
//
// After stage 1 everything stands in SQL as versions that nodes have not
// applied. Any program that syncs a node then, a portal, this monitor or the one
// that takes over, keeps the order: a Sync of a cn fences the dns of a primary before it
// tells the primary. So a move that was cut off anywhere is finished by the
// ordinary work of a monitor, and there is no other state to resume.

// retireTimeout bounds stage 2: an old primary that does not answer is fenced.
const retireTimeout = 3 * time.Second

// standByTimeout bounds the first half of stage 2, without which hosts may wait
// for a second longer; standByHold is for how long the paths stay closed when
// nothing comes of the move.
const (
	standByTimeout = time.Second
	standByHold    = 5 * time.Second
)

// recording bounds the transactions of transitions under way at once.
const recording = 8

// FailoverDa moves an array's primary on purpose. toCN is the id of the cn to
// move to, "" for the healthy one with the fewest primaries.
func (s *Syncer) FailoverDa(ctx context.Context, daID, toCN string) error {
	var m array.Move
	err := s.cfg.Store.View(ctx, func(tx store.Reader) (err error) {
		m, err = array.PlannedMove(tx, daID, toCN)
		return err
	})
	if err != nil {
		return err
	}
	return s.Move(ctx, []array.Move{m})[0]
}

// Move moves primaries, many at once: one transaction per array, then one call
// per node and stage. The error of a move says that it was not recorded, or that its
// new primary could not be told; the latter is tried again by the monitors.
func (s *Syncer) Move(ctx context.Context, moves []array.Move) []error {
	transitions := make([]Transition, len(moves))
	for i, m := range moves {
		transitions[i] = func(tx store.Tx) (array.Plan, error) { return array.MovePrimary(tx, m) }
	}
	plans, errs := s.record(ctx, transitions) // stage 1
	var told map[string]error                 // the new primaries
	for _, stage := range array.Join(plans...) {
		switch stage.Role {
		case array.StandBy:
			s.standBy(ctx, &stage)
		case array.Retire:
			s.retire(ctx, stage.IDs())
		case array.Disks:
			s.fence(ctx, stage.IDs())
		case array.Primary:
			told = s.each(ctx, stage.IDs(), s.changes(vda.ControllerNode))
		case array.Secondaries:
			s.follow(ctx, slices.DeleteFunc(stage.IDs(), func(id string) bool { _, done := told[id]; return done }))
		}
	}
	for i, p := range plans {
		for _, n := range p.Of(array.Primary) {
			errs[i] = errors.Join(errs[i], told[n.ID])
		}
	}
	return errs
}

// Transition is a change of an array, in a transaction.
type Transition func(tx store.Tx) (array.Plan, error)

// record carries out transitions. One that is not recorded has no plan.
func (s *Syncer) record(ctx context.Context, transitions []Transition) ([]array.Plan, []error) {
	plans, errs := make([]array.Plan, len(transitions)), make([]error, len(transitions))
	limit := make(chan struct{}, recording)
	var wg sync.WaitGroup
	for i, change := range transitions {
		wg.Go(func() {
			limit <- struct{}{}
			defer func() { <-limit }()
			errs[i] = s.cfg.Store.Update(ctx, func(tx store.Tx) (err error) {
				plans[i], err = change(tx)
				return err
			})
			if errs[i] != nil {
				plans[i] = nil
			}
		})
	}
	wg.Wait()
	return plans, errs
}

// standBy is the first half of stage 2.
func (s *Syncer) standBy(ctx context.Context, stage *array.Stage) {
	ctx, cancel := context.WithTimeout(ctx, standByTimeout)
	defer cancel()
	tell := func(ctx context.Context, id string) error {
		return s.tellStandBy(ctx, id, stage.Arrays[array.Node{Kind: vda.ControllerNode, ID: id}])
	}
	for id, err := range s.each(ctx, stage.IDs(), tell) {
		if err != nil {
			s.cfg.Log.Warn("secondaries do not stand by; hosts may wait a second longer", "cn", id, "err", err)
		}
	}
}

func (s *Syncer) tellStandBy(ctx context.Context, cnID string, daIDs []string) error {
	req := &apiv1.StandByRequest{NodeId: cnID, DaIds: daIDs, HoldMs: uint32(standByHold.Milliseconds())}
	var at vda.At
	err := s.cfg.Store.View(ctx, func(tx store.Reader) (err error) {
		if req.ClusterId, err = tx.ClusterID(); err != nil {
			return err
		}
		cn, err := tx.CN(cnID)
		if err == nil {
			at = cn.At(vda.ControllerNode)
		}
		return err
	})
	if err != nil {
		return err
	}
	client, err := s.cfg.Dial.Cn(at)
	if err != nil {
		return err
	}
	_, err = client.StandBy(ctx, req)
	return err
}

// retire is the second half. A cn whose new role comes with fences to wait for is
// told of all of it here, which is right as well.
func (s *Syncer) retire(ctx context.Context, cns []string) {
	ctx, cancel := context.WithTimeout(ctx, retireTimeout)
	defer cancel()
	for id, err := range s.each(ctx, cns, s.changes(vda.ControllerNode)) {
		if err != nil {
			s.cfg.Log.Warn("the old primary does not retire; it is fenced", "cn", id, "err", err)
		}
	}
}

// fence is stage 3: it brings dns to their versions and returns when each has
// answered or its time is up: FenceTimeout for each call, without what the database takes
// before and after. It says when the last of them may have let go of the old primary, as far
// as is known.
// answered are the dns that have, some of them perhaps that they have yet to carry it out.
func (s *Syncer) fence(ctx context.Context, dns []string) (last time.Time, answered map[string]bool) {
	answered = map[string]bool{}
	if len(dns) == 0 {
		return last, answered
	}
	caller := &Syncer{s.cfg}
	caller.cfg.Timeout = min(s.cfg.FenceTimeout, s.cfg.Timeout)
	var mu sync.Mutex
	for id, err := range s.each(ctx, dns, func(ctx context.Context, id string) error {
		begin := time.Now()
		err := caller.Sync(ctx, array.DN(id), Changes)
		// A dn that was heard of last may have been fenced as late as now, also when its answer is lost.
		if !silent(err) || time.Since(begin) < caller.cfg.Timeout {
			mu.Lock()
			defer mu.Unlock()
			last = time.Now()
		}
		return err
	}) {
		if answered[id] = err == nil; err != nil {
			s.cfg.Log.Warn("a dn does not know the new term yet; it admits the old primary only", "dn", id, "err", err)
		}
	}
	return last, answered
}

// silent reports that an error of Sync says that the node did not answer in time.
func silent(err error) bool {
	var e *vda.Error
	return errors.As(err, &e) && e.Op == opSync && e.Kind == vda.Unavailable
}

// fences are the dns that primaries in a request write to and that have not
// carried out yet what SQL says about those vds.
type fences struct {
	dns map[string]bool
	// legs are those of these vds that are legs of mirrors, by id.
	legs map[string]fencedLeg
	// mirrors are those of primaries that are not the first of their array.
	mirrors []fencedMirror
}

// fencedLeg is fenced when its dn has carried out that version of it.
type fencedLeg struct {
	dn      string
	version uint64
}

// fencedMirror is a mirror of a request, with the vds that are its members.
type fencedMirror struct {
	spec    *apiv1.MirrorSpec
	members []string
}

// mark says in a request which mirrors have no member whose dn is known to be fenced.
func (f *fences) mark(known func(vd string) bool) {
	for _, m := range f.mirrors {
		m.spec.Unfenced = !slices.ContainsFunc(m.members, known)
	}
}

// firstTerm is the term of an array that has had one primary only.
const firstTerm = 1

// fenceFirst fences what a request needs. An array without mirrors does not come up
// before all its vds are fenced. One with mirrors comes up when one leg of each is,
// and its old primary, which cannot write any more, may go on for a while to answer
// reads from a leg that is not: it stops when it has not heard for 3 s of the one that
// is (module/mirror). So the new one is told FenceTimeout later than that one was fenced; and
// when none is known to be, as that may come to pass at any time, that it has to wait itself
// (MirrorSpec.unfenced).
func (s *Syncer) fenceFirst(ctx context.Context, f fences) {
	begin := time.Now()
	last, answered := s.fence(ctx, slices.Sorted(maps.Keys(f.dns)))
	if last.After(begin) {
		begin = last
	}
	behind := s.behind(ctx, f.legs)
	f.mark(func(vd string) bool {
		l, is := f.legs[vd]
		return !is || answered[l.dn] && !behind[vd]
	})
	if len(behind) == 0 {
		return
	}
	select {
	case <-time.After(time.Until(begin.Add(s.cfg.FenceTimeout))):
	case <-ctx.Done():
	}
}

// behind are the legs whose dns have not carried out what is desired of them, as SQL has it: all when
// it does not say.
func (s *Syncer) behind(ctx context.Context, legs map[string]fencedLeg) map[string]bool {
	behind := map[string]bool{}
	if len(legs) == 0 {
		return behind
	}
	err := s.cfg.Store.View(ctx, func(tx store.Reader) error {
		clear(behind)
		vds, err := tx.VDsByID(slices.Collect(maps.Keys(legs)))
		if err != nil {
			return err
		}
		come := map[string]uint64{} // of vds
		for i := range vds {
			come[vds[i].ID] = vds[i].Applied
		}
		dns := map[string]*vda.DN{}
		for _, id := range slices.Sorted(maps.Keys(legs)) {
			l := legs[id]
			if dns[l.dn] == nil {
				if dns[l.dn], err = tx.DN(l.dn); err != nil {
					return err
				}
			}
			if max(dns[l.dn].Applied, come[id]) < l.version {
				behind[id] = true
			}
		}
		return nil
	})
	if err != nil {
		for id := range legs {
			behind[id] = true
		}
	}
	return behind
}

// follow is stage 5.
func (s *Syncer) follow(ctx context.Context, cns []string) {
	for id, err := range s.each(ctx, cns, s.changes(vda.ControllerNode)) {
		if err != nil {
			s.cfg.Log.Warn("a controller does not know its new primary yet", "cn", id, "err", err)
		}
	}
}

// each calls fn for all nodes at once.
func (s *Syncer) each(ctx context.Context, ids []string, fn func(context.Context, string) error) map[string]error {
	var mu sync.Mutex
	errs := make(map[string]error, len(ids))
	var wg sync.WaitGroup
	for _, id := range ids {
		wg.Go(func() {
			err := fn(ctx, id)
			mu.Lock()
			defer mu.Unlock()
			errs[id] = err
		})
	}
	wg.Wait()
	return errs
}
