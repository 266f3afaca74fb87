package sim

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/virtual-disk-array/vda"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/array"
	"github.com/virtual-disk-array/vda/client"
	"github.com/virtual-disk-array/vda/store"
)

// Arrays are also cloned, by a snapshot or as they are, and clones are deleted, copied or not. Each
// has a host, which reads all of it when it is there and then writes to a part of it: whatever
// happens to the clone, its source and what lies between, each block is what it was in the first
// moment until the host writes it.

// cloning are kinds of orders about that. They are drawn from numbers of their own.
var cloning = []kind{
	{3, "clone", (*sim).drawClone},
	{1, "clone delete", (*sim).drawCloneDelete},
}

// mostClones is how many clones there are at a time.
const mostClones = 3

// clone is an array that was made of another.
type clone struct {
	name  string
	h     *host // which uses it
	state cloneState
	of    *host // whose array has it: it is a writable snapshot of that; nil for an array of its own
}

// cloneState says who has to do with a clone. It is guarded by the run's mutex.
type cloneState int

const (
	making cloneState = iota
	inUse
	going // or gone
)

// clonesThat returns the clones in a state.
func (s *sim) clonesThat(are cloneState) []*clone {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(s.clones), func(c *clone) bool { return c.state != are })
}

// newClone is one that is about to be made, nil when there are enough.
func (s *sim) newClone() *clone {
	s.mu.Lock()
	defer s.mu.Unlock()
	there := 0
	for _, c := range s.clones {
		if c.state != going {
			there++
		}
	}
	if there == mostClones {
		return nil
	}
	c := &clone{name: fmt.Sprint("clone", len(s.clones))}
	c.h = s.newHost(500 + len(s.clones))
	c.h.array, c.h.few, c.h.first = c.name, true, uint64(len(s.clones)+1)<<48
	s.clones = append(s.clones, c)
	return c
}

// becomes has a clone be in another state; false when somebody else was faster.
func (s *sim) becomes(c *clone, from, to cloneState) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.state != from {
		return false
	}
	c.state = to
	return true
}

func (s *sim) drawClone() (string, func() func()) {
	h, nth, whole, own := pick(s.rng, s.hosts), s.rng.IntN(64), s.rng.IntN(2) == 0, s.rng.IntN(2) == 0
	req := &apiv1.CreateDaRequest{CntlrCnt: uint32(1 + s.rng.IntN(len(s.of("cn")))), RebuildMbps: uint64(s.rng.IntN(3))}
	if own { // not as its source is
		req.DaConf = fmt.Sprintf(`{"stripe_count":%d,"stripe_size_kb":128}`, 1+s.rng.IntN(len(s.of("dn"))))
	} else {
		req.Redundancy = s.redundancy
	}
	return h.array, s.order(h, "clone", func() string {
		var from *snapshot
		if n := len(h.vol.snaps); n > 0 && !whole {
			from = h.vol.snaps[nth%n]
		}
		return s.takeClone(h, from, req)
	})
}

// takeClone makes an array of a host's array, or of a snapshot of that, and has it used.
func (s *sim) takeClone(h *host, from *snapshot, req *apiv1.CreateDaRequest) string {
	c := s.newClone()
	if c == nil {
		return "there are enough"
	}
	by := c.h
	h.mu.Lock()
	for b, at := range h.places {
		by.places[b] = at
	}
	h.mu.Unlock()
	by.vol.grown, by.vol.paired = slices.Clone(h.vol.grown), h.vol.paired
	is := from
	if from == nil {
		is = &snapshot{name: c.name, low: map[uint64]uint64{}}
		for _, b := range h.blocks() {
			is.low[b] = s.ledger.Floor(h.array, b)
		}
		req.FromDa = h.array
	} else {
		req.FromSnap = h.array + "/" + from.name
	}
	req.DaName = c.name
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	r, err := s.admin.CreateDa(ctx, req)
	cancel()
	if is.high == nil {
		is.high = h.sentSoFar()
	}
	if err == nil { // some of its nodes may be away
		s.log.printf("admin          da create %s: %s", c.name, r.ReplyInfo.ReplyMsg)
		err = s.exportClone(c)
	}
	if err != nil { // it may be there all the same
		s.dropClone(c)
		return fmt.Sprintf("%s: %v", c.name, err)
	}
	for s.lookUp(by) != nil {
		time.Sleep(time.Second)
	}
	s.changed.Add(1)
	if from != nil {
		s.mayNotGo(h, from, c)
	}
	s.compare(h, is, by, "in "+c.name+", which is made of it")
	for b, v := range is.exact {
		by.sends(b, v)
		s.ledger.Reset(c.name, b, v)
	}
	if s.cfg.story == nil {
		by.run()
	}
	s.becomes(c, making, inUse)
	return c.name + " is there"
}

func (s *sim) exportClone(c *clone) error {
	return s.exportTo(c, "exp create of a clone", c.h.exporter(c.name))
}

// exportTo lets the host of a clone in.
func (s *sim) exportTo(c *clone, what string, req *apiv1.CreateExpRequest) error {
	return s.call(what, func(ctx context.Context) (*apiv1.ReplyInfo, error) {
		r, err := s.admin.CreateExp(ctx, req)
		if err == nil { // some of its nodes may be away
			c.h.sub = r.ExpMsg.ExpNqn
			return granted, nil
		}
		if client.CodeOf(err) != apiv1.CodeIdentical {
			return nil, err
		}
		g, err := s.admin.GetExp(ctx, &apiv1.GetExpRequest{DaName: req.DaName, ExpName: req.ExpName})
		if err != nil {
			return nil, context.DeadlineExceeded
		}
		c.h.sub = g.ExpMsg.ExpNqn
		return granted, nil
	})
}

// copying reports that an array is copied still, as the database says.
func (s *sim) copying(name string) (is bool) {
	_ = s.db.Store.View(context.Background(), func(tx store.Reader) error {
		da, err := tx.DAByName(name)
		is = err == nil && da.Source.Copying()
		return vda.IgnoreNotFound(err)
	})
	return is
}

// mayNotGo has an administrator delete a snapshot from which a clone is copied. One that is
// copied meanwhile goes, so it must not be one that would stay for others, see drawSnapDelete.
func (s *sim) mayNotGo(h *host, snap *snapshot, c *clone) {
	before := s.copying(c.name)
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if !before || snap.target {
		return
	}
	var err error
	if s.cfg.Unguarded {
		err = s.db.Store.Update(ctx, func(tx store.Tx) error {
			da, err := tx.DAByName(h.array)
			if err != nil {
				return err
			}
			row, err := tx.SnapByName(da.ID, snap.name)
			if err != nil {
				return err
			}
			_, err = array.DeleteSnap(tx, row)
			return err
		})
	} else {
		r, callErr := s.admin.DeleteSnap(ctx, &apiv1.DeleteSnapRequest{DaName: h.array, SnapName: snap.name})
		err = replied(r.GetReplyInfo(), callErr)
	}
	switch state, lookErr := s.stateOf(h, snap.name); {
	case s.copying(c.name) && (err == nil || lookErr == nil && state != vda.SnapTaken.String()):
		s.ledger.Wrong("a source goes: snap %s of %s is %q, answered with %v, while %s is copied from it", snap.name, h.array, state, err, c.name)
	case err == nil || unsure(err): // it was copied meanwhile
		s.deleteSnap(h, snap)
	}
}

func (s *sim) drawCloneDelete() (string, func() func()) {
	nth := s.rng.IntN(64)
	return "a clone", func() func() {
		return begin(func() {
			if some := s.clonesThat(inUse); len(some) > 0 {
				s.deleteClone(some[nth%len(some)])
			}
		})
	}
}

// deleteClone has a host let go of a clone, which then goes, copied or not.
func (s *sim) deleteClone(c *clone) {
	if !s.becomes(c, inUse, going) {
		return
	}
	copying := s.copying(c.name)
	s.dropClone(c)
	s.log.printf("admin          clone delete: %s is deleted, copied before: %t", c.name, !copying)
}

func (s *sim) dropClone(c *clone) {
	s.mu.Lock()
	c.state = going
	s.mu.Unlock()
	c.h.end()
	if c.of != nil {
		s.dropWritable(c)
		return
	}
	for !s.remove(c.name, "exp0") {
		time.Sleep(2 * time.Second)
	}
}

// cloneRate is Live.CloneRate. Most clones are copied for a while, as faults come and go.
func (s *sim) cloneRate() uint64 {
	if s.cfg.story != nil || rand.New(rand.NewPCG(s.cfg.Seed, 8)).IntN(4) == 0 {
		return s.cfg.CloneRate
	}
	return 512 << 10
}

// clonePlan draws what is done about clones.
func (s *sim) clonePlan() []fault {
	s.rng = rand.New(rand.NewPCG(s.cfg.Seed, 7))
	return s.draw(cloning, time.Duration(5+s.rng.IntN(8))*time.Second)
}

// unwellClone looks for what a clone that has all, or has gone, has left of its source.
func unwellClone(da *vda.DA, exps []vda.Exp) string {
	if da.Source.Copying() {
		return fmt.Sprintf("da %s is copied from %s still: %d of %d bytes", da.Name, da.Source.Name, da.Source.Done, da.Source.Total)
	}
	for i := range exps {
		if strings.HasPrefix(exps[i].Name, vda.ClonePrefix) {
			return fmt.Sprintf("exporter %s, from which a clone was copied, is there still", exps[i].NQN)
		}
	}
	return ""
}
