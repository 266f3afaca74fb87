package sim

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/agent/planetest"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/client"
	"github.com/virtual-disk-array/vda/store"
)

// Beside the faults an administrator snapshots arrays, deletes snapshots, rolls back to them, and
// has arrays grow. Each host's array has one such order at a time, which is carried on with until
// it is known what has come of it.

// volumes are kinds of that. They are drawn from numbers of their own.
var volumes = []kind{
	{5, "snap create", (*sim).drawSnap},
	{2, "snap delete", (*sim).drawSnapDelete},
	{2, "snap rollback", (*sim).drawRollback},
	{2, "grow", (*sim).drawGrow},
}

// together are kinds of what concerns all arrays, or more disks. They are drawn from numbers of their own,
// too, so that a seed has the same orders with and without them.
var together = []kind{
	{3, "snap create of all", (*sim).drawTogether},
	{2, "grow physically", (*sim).drawPhysical},
}

// volumePlan draws them.
func (s *sim) volumePlan() []fault {
	if !s.cfg.Volumes || !s.swaps { // SPDK refuses most of it
		return nil
	}
	faults := s.rng
	defer func() { s.rng = faults }()
	s.rng = rand.New(rand.NewPCG(s.cfg.Seed, 5))
	plan := s.draw(volumes, time.Duration(3+s.rng.IntN(6))*time.Second)
	s.rng = rand.New(rand.NewPCG(s.cfg.Seed, 6))
	plan = append(plan, s.draw(together, time.Duration(8+s.rng.IntN(12))*time.Second)...)
	plan = append(plan, s.clonePlan()...)
	return append(plan, s.writablePlan()...)
}

// volume is what is known of the array of a host.
type volume struct {
	order chan struct{} // has room while there is no order
	snaps []*snapshot
	made  int    // snapshots that were asked for
	size  uint64 // bytes
	grown []uint64
	next  uint64 // number to be written to what has been added
	// physical is the array's physical size, bytes; paired, that the block is written of which
	// snapshots of several arrays tell whether they are of one instant.
	physical uint64
	paired   bool
}

// snapshot is one that was taken, or may have been. A block of it is at least what had been read or
// acknowledged before it was asked for, and at most what had been sent when it was answered.
type snapshot struct {
	name      string
	low, high map[uint64]uint64
	exact     map[uint64]uint64 // what was read of it
	target    bool              // the array was rolled back to it
	instant   *instant          // of several arrays
}

const (
	firstGrown = 1000 // the blocks of what was added, one of each growth
	growth     = 4 << 20
	roomFor    = 4 // times its size is an array's physical size
)

// diskBytes is the size of disks that have room for it.
func (s *sim) diskBytes() uint64 {
	if s.cfg.Volumes {
		return 2 * roomFor * planetest.DiskBytes
	}
	return planetest.DiskBytes
}

// order has something done about a host's array when nothing else is; the undo waits for its end.
func (s *sim) order(h *host, what string, do func() string) func() func() {
	return func() func() {
		return begin(func() {
			h.vol.order <- struct{}{}
			s.log.printf("admin          %s: %s", what, do())
			<-h.vol.order
		})
	}
}

// call makes a call again and again until it is known what has come of it: it is done, or refused.
func (s *sim) call(what string, call func(ctx context.Context) (*apiv1.ReplyInfo, error)) error {
	for {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		info, err := call(ctx)
		err = replied(info, err)
		cancel()
		if err == nil {
			s.changed.Add(1)
			return nil
		}
		if !unsure(err) {
			return err
		}
		s.log.printf("admin          %s: %v", what, err)
		time.Sleep(2 * time.Second)
	}
}

// granted is what a call that was carried out before answers.
var granted = &apiv1.ReplyInfo{ReplyMsg: "success"}

// unsure reports that a call may have been carried out, or may be once more.
func unsure(err error) bool {
	switch client.CodeOf(err) {
	case apiv1.CodeInternal, apiv1.CodeDatabase, apiv1.CodeBusy, apiv1.CodeDeadline, apiv1.CodeCancelled, apiv1.CodeUnreachable:
		return true
	}
	return errors.Is(err, context.DeadlineExceeded)
}

// blocks are all that a host has written to.
func (h *host) blocks() []uint64 {
	all := slices.Clone(h.vol.grown)
	if h.own {
		return all
	}
	for b := range uint64(workers * blocksPerWorker) {
		all = append(all, b)
	}
	if h.vol.paired {
		all = append(all, pairBlock)
	}
	return all
}

func (s *sim) drawSnap() (string, func() func()) {
	h := pick(s.rng, s.hosts)
	return h.array, s.order(h, "snap create", func() string { return s.takeSnap(h) })
}

// takeSnap takes a snapshot.
func (s *sim) takeSnap(h *host) string {
	snap := &snapshot{name: fmt.Sprint("s", h.vol.made), low: map[uint64]uint64{}}
	h.vol.made++
	for _, b := range h.blocks() {
		snap.low[b] = s.ledger.Floor(h.array, b)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	r, err := s.admin.CreateSnap(ctx, &apiv1.CreateSnapRequest{DaName: h.array, SnapName: snap.name})
	cancel()
	if err = replied(r.GetReplyInfo(), err); err != nil {
		refused := err
		for taken := false; !taken; { // what has come of it
			state, err := s.stateOf(h, snap.name)
			switch {
			case err == nil && state == "taken" && !unsure(refused):
				s.ledger.Wrong("snap %s of %s is taken, and was answered with %v", snap.name, h.array, refused)
				return refused.Error()
			case err == nil && state == "":
				return refused.Error()
			}
			if taken = err == nil && state == "taken"; !taken {
				time.Sleep(time.Second)
			}
		}
	}
	snap.high = h.sentSoFar()
	h.vol.snaps = append(h.vol.snaps, snap)
	s.changed.Add(1)
	return snap.name + " is taken"
}

// stateOf is a snapshot's, "" when there is none.
func (s *sim) stateOf(h *host, name string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	r, err := s.admin.GetSnap(ctx, &apiv1.GetSnapRequest{DaName: h.array, SnapName: name})
	switch {
	case client.CodeOf(err) == apiv1.CodeNotFound:
		return "", nil
	case err != nil:
		return "", err
	}
	return r.SnapMsg.State, nil
}

func (s *sim) drawSnapDelete() (string, func() func()) {
	h, nth := pick(s.rng, s.hosts), s.rng.IntN(64)
	return h.array, s.order(h, "snap delete", func() string {
		// One that the array was rolled back to may have two that stand on it, and stay for them.
		some := slices.DeleteFunc(slices.Clone(h.vol.snaps), func(p *snapshot) bool { return p.target })
		if len(some) == 0 {
			return "there is none"
		}
		return s.deleteSnap(h, some[nth%len(some)])
	})
}

func (s *sim) deleteSnap(h *host, snap *snapshot) string {
	err := s.call("snap delete", func(ctx context.Context) (*apiv1.ReplyInfo, error) {
		r, err := s.admin.DeleteSnap(ctx, &apiv1.DeleteSnapRequest{DaName: h.array, SnapName: snap.name})
		if client.CodeOf(err) == apiv1.CodeNotFound { // by an answer that was lost
			return granted, nil
		}
		return r.GetReplyInfo(), err
	})
	if err != nil {
		return fmt.Sprintf("%s: %v", snap.name, err)
	}
	h.vol.snaps = slices.DeleteFunc(h.vol.snaps, func(p *snapshot) bool { return p == snap })
	return snap.name + " is deleted"
}

func (s *sim) drawGrow() (string, func() func()) {
	h := pick(s.rng, s.hosts)
	return h.array, s.order(h, "grow", func() string { return s.grow(h) })
}

// grow makes an array larger. The host finds zeros in what is added, and writes to it.
func (s *sim) grow(h *host) string {
	was, size := h.vol.size, h.vol.size+growth
	err := s.call("da modify --da-size", func(ctx context.Context) (*apiv1.ReplyInfo, error) {
		r, err := s.admin.ModifyDa(ctx, &apiv1.ModifyDaRequest{DaName: h.array, DaSize: &size})
		if err != nil && !unsure(err) { // the answer to the one before may have been lost
			if g, e := s.admin.GetDa(ctx, &apiv1.GetDaRequest{DaName: h.array}); e == nil && g.DaMsg.DaSize == size {
				return granted, nil
			} else if e != nil {
				return nil, e
			}
		}
		return r.GetReplyInfo(), err
	})
	if err != nil {
		return err.Error()
	}
	h.vol.size = size
	block := uint64(firstGrown + len(h.vol.grown))
	h.mu.Lock()
	h.places[block] = was
	h.mu.Unlock()
	if value, n := h.do(h.command(block)); n > 0 && value != 0 {
		s.ledger.Wrong("old data: what was added to %s reads %d", h.array, value)
	}
	h.vol.grown = append(h.vol.grown, block)
	h.vol.next++
	h.writeAs(block, h.vol.next<<32)
	return fmt.Sprintf("it has %d MiB", size>>20)
}

func (s *sim) drawRollback() (string, func() func()) {
	h, nth := pick(s.rng, s.hosts), s.rng.IntN(64)
	return h.array, s.order(h, "snap rollback", func() string {
		if len(h.vol.snaps) == 0 {
			return "there is none"
		}
		return s.rollBack(h, h.vol.snaps[nth%len(h.vol.snaps)])
	})
}

// rollBack has a host let go of its array, makes that what a snapshot shows, and looks at it.
func (s *sim) rollBack(h *host, snap *snapshot) string {
	h.pause(true)
	defer h.pause(false)
	exp := func(ctx context.Context) (*apiv1.ReplyInfo, error) {
		r, err := s.admin.DeleteExp(ctx, &apiv1.DeleteExpRequest{DaName: h.array, ExpName: "exp0", Fence: true})
		switch client.CodeOf(err) {
		case apiv1.CodeNotFound:
			return granted, nil
		case apiv1.CodeFailedPrecondition: // a node has not answered yet
			return nil, context.DeadlineExceeded
		}
		return r.GetReplyInfo(), err
	}
	if err := s.call("exp delete --fence", exp); err != nil {
		s.ledger.Wrong("exp delete --fence of %s: %v", h.array, err)
		return err.Error()
	}
	snap.target = true
	if err := s.call("snap rollback", func(ctx context.Context) (*apiv1.ReplyInfo, error) {
		r, err := s.admin.RollbackSnap(ctx, &apiv1.RollbackSnapRequest{DaName: h.array, SnapName: snap.name})
		if client.CodeOf(err) == apiv1.CodeFailedPrecondition { // it is not done yet
			return nil, context.DeadlineExceeded
		}
		return r.GetReplyInfo(), err
	}); err != nil {
		s.ledger.Wrong("snap rollback of %s to %s: %v", h.array, snap.name, err)
		return err.Error()
	}
	if err := s.call("exp create", func(ctx context.Context) (*apiv1.ReplyInfo, error) {
		r, err := s.admin.CreateExp(ctx, h.exporter(h.array))
		switch client.CodeOf(err) {
		case apiv1.CodeIdentical:
			return granted, nil
		case apiv1.CodeFailedPrecondition:
			return nil, context.DeadlineExceeded
		}
		return r.GetReplyInfo(), err
	}); err != nil {
		s.ledger.Wrong("exp create of %s after a rollback: %v", h.array, err)
		return err.Error()
	}
	h.follow(nil) // what it had of the exporter of before
	for s.lookUp(h) != nil {
		time.Sleep(time.Second)
	}
	s.compare(h, snap, h, "after the rollback to it")
	for b, v := range snap.exact {
		h.sends(b, v)
		s.ledger.Reset(h.array, b, v)
	}
	return snap.name
}

// compare reads all blocks by a host and holds them against what a snapshot may hold.
func (s *sim) compare(h *host, snap *snapshot, by *host, where string) {
	exact := map[uint64]uint64{}
	for _, b := range h.blocks() {
		v, n := by.do(by.command(b))
		if n == 0 {
			s.ledger.Wrong("snap %s of %s cannot be read, %s", snap.name, h.array, where)
			return
		}
		exact[b] = v
		is, seen := snap.exact[b]
		_, there := snap.low[b]
		switch {
		case seen && v != is:
			s.ledger.Wrong("a snapshot changes: block %d of snap %s of %s reads %d, %s, and was %d", b, snap.name, h.array, v, where, is)
		case !there && v != 0:
			s.ledger.Wrong("old data: block %d of snap %s of %s, taken before there was one, reads %d, %s", b, snap.name, h.array, v, where)
		case there && v < snap.low[b]:
			s.ledger.Wrong("not in the snapshot: block %d of snap %s of %s reads %d, %s; %d was there before", b, snap.name, h.array, v, where,
				snap.low[b])
		case there && v > snap.high[b]:
			s.ledger.Wrong("too late for the snapshot: block %d of snap %s of %s reads %d, %s; %d was the last that had been sent", b, snap.name,
				h.array, v, where, snap.high[b])
		}
	}
	snap.exact = exact
	s.ledger.Snapshot()
	if snap.instant != nil {
		snap.instant.shows(s, h.array, exact[pairBlock])
	}
}

// lookAtSnaps exports each snapshot of a host's array to a host of its own, when all is well, and
// reads it.
func (s *sim) lookAtSnaps(h *host) {
	for _, snap := range h.vol.snaps {
		s.looks++
		by := s.newHost(100 + s.looks)
		by.array, by.places = h.array, h.places
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		req := by.exporter(h.array)
		req.ExpName, req.SnapName = "look-"+snap.name, snap.name
		r, err := s.admin.CreateExp(ctx, req)
		cancel()
		if err := replied(r.GetReplyInfo(), err); err != nil {
			s.ledger.Wrong("exp create of snap %s of %s: %v", snap.name, h.array, err)
			continue
		}
		by.sub = r.ExpMsg.ExpNqn
		if err := s.lookUp(by); err != nil {
			s.ledger.Wrong("snap %s of %s: %v", snap.name, h.array, err)
		}
		late := time.AfterFunc(2*time.Minute, by.giveUp)
		s.compare(h, snap, by, "exported")
		late.Stop()
		by.end()
	}
}

// unwellSnaps looks for snapshots, rollbacks and what they have left that have not come to their end.
func (s *sim) unwellSnaps(tx store.Reader, das []vda.DA) (string, error) {
	known := map[string]bool{}
	for i := range das {
		snaps, err := tx.SnapsOfDA(das[i].ID)
		if err != nil {
			return "", err
		}
		for _, p := range snaps {
			known[vda.SnapPrefix+p.ID], known[vda.WSnapPrefix+p.ID] = !p.Writable(), p.Writable()
			if p.State != vda.SnapTaken || p.Health.Error || p.Rollback != vda.RollbackNone {
				return fmt.Sprintf("snap %s of %s is %v, rollback %v, error %q", p.Name, das[i].Name, p.State, p.Rollback, p.Health.Msg), nil
			}
		}
	}
	for _, n := range s.of("cn") {
		for _, name := range n.model.ArrayLvols() {
			if !known[name] && !strings.HasPrefix(name, vda.VolPrefix) {
				return fmt.Sprintf("lvol %s, up on %s, belongs to nobody", name, n.name), nil
			}
		}
	}
	return "", nil
}
