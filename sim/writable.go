package sim

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/virtual-disk-array/vda"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/client"
)

// Snapshots are also made writable: clones within their arrays, each with a host that reads all of it
// and then writes to a part of it. Neither the array nor the snapshot changes by that, nor is anything
// in it but what its host has written, whatever happens beside. They go as clones do (drawCloneDelete).

// writablePlan draws them, from numbers of their own.
func (s *sim) writablePlan() []fault {
	s.rng = rand.New(rand.NewPCG(s.cfg.Seed, 9))
	return s.draw([]kind{{1, "writable snapshot", (*sim).drawWritable}}, time.Duration(6+s.rng.IntN(10))*time.Second)
}

func (s *sim) drawWritable() (string, func() func()) {
	h, nth := pick(s.rng, s.hosts), s.rng.IntN(64)
	return h.array, s.order(h, "snap create --from-snap", func() string {
		if len(h.vol.snaps) == 0 {
			return "there is no snapshot"
		}
		return s.makeWritable(h, h.vol.snaps[nth%len(h.vol.snaps)])
	})
}

// makeWritable makes a writable snapshot of another one, and has it used.
func (s *sim) makeWritable(h *host, from *snapshot) string {
	c := s.newClone()
	if c == nil {
		return "there are enough"
	}
	by := c.h
	c.of, by.array = h, h.array+"/"+c.name
	h.mu.Lock()
	for b, at := range h.places {
		by.places[b] = at
	}
	h.mu.Unlock()
	_, by.vol.paired = from.low[pairBlock]
	by.vol.grown = slices.DeleteFunc(slices.Clone(h.vol.grown), func(b uint64) bool { _, there := from.low[b]; return !there })
	err := s.call("snap create --from-snap", func(ctx context.Context) (*apiv1.ReplyInfo, error) {
		r, err := s.admin.CreateSnap(ctx, &apiv1.CreateSnapRequest{DaName: h.array, SnapName: c.name, FromSnap: from.name})
		if client.CodeOf(err) != apiv1.CodeNameTaken { // by an answer that was lost
			return r.GetReplyInfo(), err
		}
		if state, err := s.stateOf(h, c.name); err != nil || state != vda.SnapTaken.String() {
			return nil, context.DeadlineExceeded
		}
		return granted, nil
	})
	if err == nil {
		err = s.exportWritable(c)
	}
	if err != nil {
		s.dropClone(c)
		return fmt.Sprintf("%s: %v", c.name, err)
	}
	for s.lookUp(by) != nil {
		time.Sleep(time.Second)
	}
	s.changed.Add(1)
	s.compare(h, from, by, "in "+c.name+", which is made of it")
	for b, v := range from.exact {
		by.sends(b, v)
		s.ledger.Reset(by.array, b, v)
	}
	if s.cfg.story == nil {
		by.run()
	}
	s.becomes(c, making, inUse)
	return c.name + " is there"
}

func (s *sim) exportWritable(c *clone) error {
	req := c.h.exporter(c.of.array)
	req.ExpName, req.SnapName = "of-"+c.name, c.name
	return s.exportTo(c, "exp create of a writable snapshot", req)
}

// dropWritable has a writable snapshot go, if it is there.
func (s *sim) dropWritable(c *clone) {
	again := func(info *apiv1.ReplyInfo, err error) (*apiv1.ReplyInfo, error) {
		switch client.CodeOf(err) {
		case apiv1.CodeNotFound:
			return granted, nil
		case apiv1.CodeFailedPrecondition: // the array is being rolled back
			return nil, context.DeadlineExceeded
		}
		return info, err
	}
	err := s.call("exp delete", func(ctx context.Context) (*apiv1.ReplyInfo, error) {
		r, err := s.admin.DeleteExp(ctx, &apiv1.DeleteExpRequest{DaName: c.of.array, ExpName: "of-" + c.name})
		return again(r.GetReplyInfo(), err)
	})
	if err == nil {
		err = s.call("snap delete", func(ctx context.Context) (*apiv1.ReplyInfo, error) {
			r, err := s.admin.DeleteSnap(ctx, &apiv1.DeleteSnapRequest{DaName: c.of.array, SnapName: c.name})
			return again(r.GetReplyInfo(), err)
		})
	}
	if err != nil {
		s.ledger.Wrong("writable snapshot %s of %s is not deleted: %v", c.name, c.of.array, err)
	}
}
