package host

import (
	"context"
	"fmt"

	"github.com/virtual-disk-array/vda/bdev"
	"github.com/virtual-disk-array/vda/nvme"
)

// adminOp is a command that someone waits for.
type adminOp struct {
	done  chan struct{}
	cqe   nvme.Completion
	moved uint32
	iov   [1][]byte
}

func (a *adminOp) finish(cqe nvme.Completion, moved uint32) {
	a.cqe, a.moved = cqe, moved
	close(a.done)
}

// start sends cmd with data, to the controller if write is set.
func (q *queue) start(cmd *nvme.Command, data []byte, write bool) *adminOp {
	a := &adminOp{done: make(chan struct{})}
	a.iov[0] = data
	c := command{sqe: *cmd, iov: a.iov[:], size: uint32(len(data)), write: write && len(data) > 0, admin: a}
	var b bdev.Batch
	q.submit(&c, &b)
	b.Flush()
	return a
}

// sync sends cmd and waits. A status other than success is the error. When
// ctx ends first data belongs to the command until the session ends.
func (q *queue) sync(ctx context.Context, cmd *nvme.Command, data []byte, write bool) (nvme.Completion, error) {
	a := q.start(cmd, data, write)
	select {
	case <-a.done:
	case <-ctx.Done():
		return nvme.Completion{}, context.Cause(ctx)
	}
	if a.cqe.Status == nvme.Success {
		return a.cqe, nil
	}
	if q.down.Load() {
		return a.cqe, fmt.Errorf("%w (%w)", a.cqe.Status, q.ses.cause())
	}
	return a.cqe, a.cqe.Status
}

func (s *session) cause() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// adminCommand runs a command whose data, if any, comes from the controller.
// data is written to on success only.
func (s *session) adminCommand(ctx context.Context, cmd *nvme.Command, data []byte) (nvme.Completion, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, s.ctl.cfg.AdminTimeout, fmt.Errorf("no answer within %v", s.ctl.cfg.AdminTimeout))
	defer cancel()
	var own []byte
	if len(data) > 0 {
		own = make([]byte, len(data))
	}
	cqe, err := s.admin.sync(ctx, cmd, own, false)
	if err == nil {
		copy(data, own)
	}
	return cqe, err
}

func (s *session) identifyInto(ctx context.Context, b []byte, nsid uint32, id nvme.Identify) error {
	var cmd nvme.Command
	cmd.Init(nvme.AdminIdentify, nsid)
	cmd.SetIdentify(id)
	_, err := s.adminCommand(ctx, &cmd, b[:nvme.IdentifyLen])
	return err
}

// readLog reads length bytes of a log page, in pieces that the controller can
// send. The event that announced the page is cleared.
func (s *session) readLog(ctx context.Context, lid nvme.LID, length int) ([]byte, error) {
	b := make([]byte, (length+3)&^3)
	for at := 0; at < len(b); {
		n := min(len(b)-at, s.maxXfer, 64<<10)
		var cmd nvme.Command
		cmd.Init(nvme.AdminGetLogPage, nvme.NSIDAll)
		cmd.SetGetLogPage(nvme.GetLogPage{LID: lid, Length: uint32(n), Offset: uint64(at), RetainE: at+n < len(b)})
		if _, err := s.adminCommand(ctx, &cmd, b[at:at+n]); err != nil {
			return nil, fmt.Errorf("log page 0x%02x: %w", uint8(lid), err)
		}
		at += n
	}
	return b, nil
}
