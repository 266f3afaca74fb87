package sim

import (
	"context"
	"fmt"
	"time"

	"github.com/virtual-disk-array/vda"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/store"
)

// Beside the arrays of the other hosts there is a thin one that grows by itself, and a host that
// writes to one cluster of it after the other, slowly, through all faults. The room that its data
// plane says it has, it has; it has grown by the time all is well; and when the host then goes on
// writing, not at once and without a pause, it never runs full below the limit, and has no more
// than that in the end.

const (
	fillingName  = "filling"
	fillSize     = 64 << 20
	fillPhysical = 8 << 20
	fillLimit    = 24 << 20
	fillBelow    = 50 // percent
	fillCluster  = 1 << 20
	fillBlock    = 10_000 // the first of its blocks
	fillReserve  = 2      // clusters that the host leaves free while there are faults
)

// filling is that array, and its host.
type filling struct {
	h    *host
	next uint64        // cluster
	done chan struct{} // closed when the host goes no further by itself
}

// createFilling makes it.
func (s *sim) createFilling(ctx context.Context) error {
	if !s.cfg.Volumes || !s.swaps || s.cfg.story != nil && !s.cfg.story.fills {
		return nil
	}
	if err := s.awaitMirrors(ctx); err != nil {
		return err
	}
	physical := uint64(fillPhysical)
	r, err := s.admin.CreateDa(ctx, &apiv1.CreateDaRequest{DaName: fillingName, CntlrCnt: 2, DaSize: fillSize, PhysicalSize: &physical,
		Redundancy: s.redundancy, AutoGrow: fillLimit, AutoGrowBelow: fillBelow})
	if err := replied(r.GetReplyInfo(), err); err != nil {
		return fmt.Errorf("da create: %w", err)
	}
	h := s.newHost(400)
	h.array, h.own = fillingName, true
	e, err := s.admin.CreateExp(ctx, h.exporter(fillingName))
	if err := replied(e.GetReplyInfo(), err); err != nil {
		return fmt.Errorf("exp create: %w", err)
	}
	h.sub = e.ExpMsg.ExpNqn
	s.filled = &filling{h: h, done: make(chan struct{})}
	return s.lookUp(h)
}

// fill writes while there are faults, a cluster at a time, as long as the array is known to have room.
func (s *sim) fill() {
	f := s.filled
	defer close(f.done)
	for !f.h.stopped() && f.next < fillSize/fillCluster {
		time.Sleep(2 * time.Second)
		total, known := s.roomOf(fillingName)
		if !known || f.next+fillReserve >= total {
			continue
		}
		if !s.fillNext() && !f.h.stopped() {
			s.ledger.Wrong("capacity exceeded below what there is: %s has %d clusters of %d", fillingName, f.next, total)
			return
		}
	}
}

// fillNext writes to the next cluster; false when the array has no room for it, or the run is over.
func (s *sim) fillNext() bool {
	f := s.filled
	block := fillBlock + f.next
	f.h.mu.Lock()
	f.h.places[block] = f.next*fillCluster + fillCluster/2
	f.h.mu.Unlock()
	if !f.h.writeAs(block, 1+f.next) {
		return false
	}
	f.h.vol.grown = append(f.h.vol.grown, block)
	f.next++
	return true
}

// roomOf is how many clusters an array has, as its primary said last.
func (s *sim) roomOf(array string) (clusters uint64, known bool) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	r, err := s.admin.GetDa(ctx, &apiv1.GetDaRequest{DaName: array})
	if err != nil || r.DaMsg.UsedSize+r.DaMsg.FreeSize == 0 {
		return 0, false
	}
	return (r.DaMsg.UsedSize + r.DaMsg.FreeSize) / fillCluster, true
}

// fillUp goes on when all is well, until the array is full.
func (s *sim) fillUp() {
	f := s.filled
	f.h.mu.Lock()
	f.h.stop = true
	f.h.mu.Unlock()
	<-f.done
	f.h.mu.Lock()
	f.h.stop = false
	f.h.mu.Unlock()
	late := time.AfterFunc(endless, f.h.giveUp)
	defer late.Stop()
	full := false
	for !full && f.next < fillSize/fillCluster && !f.h.ended() {
		full = !s.fillNext()
		size := s.physicalOf(fillingName)
		switch {
		case full && f.next < fillLimit/fillCluster && !f.h.ended():
			s.ledger.Wrong("capacity exceeded below the limit: %s has %d clusters in use, %d bytes, and grows to %d by itself", fillingName, f.next,
				size, fillLimit)
			return
		case size > fillLimit:
			s.ledger.Wrong("beyond the limit: %s has got %d bytes by itself, and grows to %d", fillingName, size, fillLimit)
			return
		}
		time.Sleep(5 * time.Second)
	}
	s.log.printf("%s is full: %t, with %d clusters", fillingName, full, f.next)
	if !full {
		s.ledger.Wrong("%s has taken %d clusters, and more than its limit of %d bytes has room for", fillingName, f.next, fillLimit)
	}
}

// physicalOf is an array's physical size, as the database says.
func (s *sim) physicalOf(array string) (size uint64) {
	_ = s.db.Store.View(context.Background(), func(tx store.Reader) error {
		da, err := tx.DAByName(array)
		if err == nil {
			size = da.PhysicalSize
		}
		return err
	})
	return size
}

// unwellFilling: an array that runs low below its limit has not grown yet.
func (s *sim) unwellFilling(da *vda.DA) string {
	if s.filled == nil || da.Name != fillingName {
		return ""
	}
	total, known := s.roomOf(fillingName)
	if !known || da.PhysicalSize < fillLimit && (total-min(total, s.filled.next))*100 < total*fillBelow {
		return fmt.Sprintf("da %s has %d clusters of %d in use, and does not grow", da.Name, s.filled.next, total)
	}
	return ""
}
