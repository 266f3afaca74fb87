package host

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/virtual-disk-array/vda/nvme"
)

// listen asks for the events that the controller can send.
func (s *session) listen(ctx context.Context) error {
	mask := s.data.OAES & (nvme.OAESNamespace | nvme.OAESANA | nvme.OAESDiscovery)
	if mask == 0 {
		return nil
	}
	var cmd nvme.Command
	cmd.Init(nvme.AdminSetFeatures, 0)
	cmd.SetFeature(nvme.FeatureAsyncEvents, mask)
	if _, err := s.adminCommand(ctx, &cmd, nil); err != nil {
		return fmt.Errorf("asking for events: %w", err)
	}
	s.background.Go(s.awaitEvents)
	return nil
}

// awaitEvents keeps one Asynchronous Event Request with the controller and
// hands the events to the controller's goroutine.
func (s *session) awaitEvents() {
	for {
		var cmd nvme.Command
		cmd.Init(nvme.AdminAsyncEvent, 0)
		a := s.admin.start(&cmd, nil, false)
		select {
		case <-a.done:
		case <-s.failed:
			return
		}
		if a.cqe.Status != nvme.Success {
			return // the controller sends none, or the session has ended
		}
		select {
		case s.ctl.events <- nvme.DecodeAsyncEvent(a.cqe.DW0):
		case <-s.failed:
			return
		}
	}
}

// supervise starts I/O time-outs.
func (s *session) supervise() {
	cfg := &s.ctl.cfg
	if cfg.IOTimeout > 0 && len(s.io) > 0 {
		s.background.Go(s.watchIO)
	}
}

// keepAlive sends Keep Alive every half KATO and ends the session when one is
// not answered within the other half.
func (s *session) keepAlive() {
	half := s.ctl.cfg.KeepAlive / 2
	tick := time.NewTicker(half)
	defer tick.Stop()
	for {
		select {
		case <-s.failed:
			return
		case <-tick.C:
		}
		ctx, cancel := context.WithTimeoutCause(context.Background(), half, errKeepAlive)
		var cmd nvme.Command
		cmd.Init(nvme.AdminKeepAlive, 0)
		_, err := s.admin.sync(ctx, &cmd, nil, false)
		cancel()
		if err != nil {
			s.fail(fmt.Errorf("keep alive: %w", err))
			return
		}
	}
}

var errKeepAlive = errors.New("not answered in time")

// watchIO aborts I/O older than IOTimeout, and ends the session when that does
// not help in the same time again.
func (s *session) watchIO() {
	limit := s.ctl.cfg.IOTimeout
	tick := time.NewTicker(max(limit/4, time.Millisecond))
	defer tick.Stop()
	for {
		select {
		case <-s.failed:
			return
		case <-tick.C:
		}
		for _, q := range s.io {
			if q.expired(limit, func(cid uint16) { s.abort(q.id, cid) }) {
				s.fail(fmt.Errorf("queue %d: an I/O is not answered %v after it was aborted", q.id, limit))
				return
			}
		}
	}
}

// abort asks the controller to give up a command; the answer to the command
// itself is what counts.
func (s *session) abort(qid, cid uint16) {
	s.ctl.cfg.Log.Warn("nvme I/O timed out, aborting", "subnqn", s.ctl.cfg.SubNQN, "queue", qid, "cid", cid)
	var cmd nvme.Command
	cmd.Init(nvme.AdminAbort, 0)
	cmd.SetCDW(10, uint32(cid)<<16|uint32(qid))
	s.admin.start(&cmd, nil, false)
}
