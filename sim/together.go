package sim

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/virtual-disk-array/vda"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
)

// pairBlock is a block of each array into which a program that uses all writes numbers: the next one
// into the first array, then into the second, and so on, each when the one before has been
// acknowledged. So at any instant no array has a higher number than the one before it, nor one that
// is more than one below the first's.
const pairBlock = workers * blocksPerWorker

// endless is longer than anything takes that an administrator has asked for.
const endless = time.Hour

// instant is a snapshot of all arrays at once.
type instant struct {
	name   string
	arrays []string // in the order in which they are written

	mu    sync.Mutex
	shown map[string]uint64
}

// shows is told what a snapshot has of its array's pairBlock.
func (i *instant) shows(s *sim, array string, value uint64) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.shown[array] = value
	first, all := i.shown[i.arrays[0]]
	for n, a := range i.arrays[1:] {
		before, have := i.shown[i.arrays[n]]
		v, has := i.shown[a]
		all = all && has
		switch {
		case have && has && v > before:
			s.ledger.Wrong("not of one instant: snap %s of %s has number %d, and that of %s, where it was written before, %d", i.name, a, v,
				i.arrays[n], before)
		case all && v+1 < first:
			s.ledger.Wrong("not of one instant: snap %s of %s has number %d, and that of %s %d already", i.name, a, v, i.arrays[0], first)
		}
	}
}

func (s *sim) drawTogether() (string, func() func()) {
	return "all arrays", func() func() {
		return begin(func() {
			for _, h := range s.hosts { // always in this order
				h.vol.order <- struct{}{}
			}
			s.log.printf("admin          snap create of all: %s", s.takeTogether())
			for _, h := range s.hosts {
				<-h.vol.order
			}
		})
	}
}

// takeTogether takes snapshots of all arrays at one instant, while they are written in turn. All are
// taken, or none is left.
func (s *sim) takeTogether() string {
	if len(s.hosts) < 2 {
		return "there is one array"
	}
	s.groups++
	group := &instant{name: fmt.Sprint("t", s.groups), shown: map[string]uint64{}}
	names, snaps := "", map[*host]*snapshot{}
	for i, h := range s.hosts {
		if i > 0 {
			names += ","
		}
		names += h.array
		group.arrays = append(group.arrays, h.array)
	}
	number := uint64(s.groups) << 32 // above what is there
	pair := func() bool {
		number++
		for _, h := range s.hosts {
			if !h.writeAs(pairBlock, number) {
				return false
			}
		}
		return true
	}
	for _, h := range s.hosts {
		h.vol.paired = true
	}
	if !pair() {
		return "the run is over"
	}
	for _, h := range s.hosts {
		snap := &snapshot{name: group.name, low: map[uint64]uint64{}, instant: group}
		for _, b := range h.blocks() {
			snap.low[b] = s.ledger.Floor(h.array, b)
		}
		snaps[h] = snap
	}
	over, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case <-over:
				return
			default:
			}
			if !pair() {
				return
			}
		}
	}()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	r, err := s.admin.CreateSnap(ctx, &apiv1.CreateSnapRequest{DaName: names, SnapName: group.name})
	cancel()
	err = replied(r.GetReplyInfo(), err)
	taken := err == nil || s.cameOf(group, err)
	for h, snap := range snaps {
		snap.high = h.sentSoFar()
	}
	close(over)
	<-ended
	if !taken {
		return fmt.Sprintf("%s: %v", group.name, err)
	}
	for h, snap := range snaps {
		h.vol.snaps = append(h.vol.snaps, snap)
	}
	s.changed.Add(1)
	return group.name + " is taken"
}

// cameOf waits until it is known what has come of an order that was answered with an error, and
// reports that all are taken.
func (s *sim) cameOf(group *instant, refused error) bool {
	for begun := time.Now(); ; {
		taken, gone, known := 0, 0, true
		for _, name := range group.arrays {
			state, err := s.stateOf(&host{array: name}, group.name)
			switch {
			case err != nil:
				known = false
			case state == vda.SnapTaken.String():
				taken++
			case state == "", state == vda.SnapDeleting.String():
				gone++
			}
		}
		switch n := len(group.arrays); {
		case taken > 0 && gone > 0:
			s.ledger.Wrong("not all or none: snap %s is taken of %d of %d arrays, and gone of %d", group.name, taken, n, gone)
			return false
		case known && taken == n:
			if !unsure(refused) {
				s.ledger.Wrong("snap %s of %v is taken, and was answered with %v", group.name, group.arrays, refused)
			}
			return true
		case known && gone == n:
			return false
		case time.Since(begun) > endless:
			s.ledger.Wrong("snap %s: %d of %d are taken and %d gone, and nothing else comes of it", group.name, taken, n, gone)
			return false
		}
		time.Sleep(time.Second)
	}
}

func (s *sim) drawPhysical() (string, func() func()) {
	h := pick(s.rng, s.hosts)
	return h.array, s.order(h, "grow physically", func() string { return s.growPhysically(h) })
}

// growPhysically has an array get more vds, and then makes use of them: it grows beyond what it had.
func (s *sim) growPhysically(h *host) string {
	size := h.vol.physical + h.vol.size/2
	err := s.call("da modify --physical-size", func(ctx context.Context) (*apiv1.ReplyInfo, error) {
		r, err := s.admin.ModifyDa(ctx, &apiv1.ModifyDaRequest{DaName: h.array, PhysicalSize: &size})
		if err != nil && !unsure(err) { // the answer to the one before may have been lost
			g, e := s.admin.GetDa(ctx, &apiv1.GetDaRequest{DaName: h.array})
			switch {
			case e != nil:
				return nil, e
			case g.DaMsg.PhysicalSize >= size:
				return granted, nil
			case slices.ContainsFunc(g.DaMsg.GrpMsgList, func(m *apiv1.GrpMsg) bool { return m.Joining }):
				return nil, context.DeadlineExceeded // it is under way
			}
		}
		return r.GetReplyInfo(), err
	})
	if err != nil {
		return err.Error()
	}
	for begun := time.Now(); ; { // it has joined
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		g, err := s.admin.GetDa(ctx, &apiv1.GetDaRequest{DaName: h.array})
		cancel()
		if err == nil && g.DaMsg.PhysicalSize >= size {
			h.vol.physical = g.DaMsg.PhysicalSize
			break
		}
		if time.Since(begun) > endless {
			s.ledger.Wrong("%s does not get its disks: %v, %v", h.array, g, err)
			return "it does not get them"
		}
		time.Sleep(time.Second)
	}
	return fmt.Sprintf("it has %d MiB of disks; %s", h.vol.physical>>20, s.grow(h))
}
