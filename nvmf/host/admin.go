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
	var b bdev.Batch
	a := q.put(cmd, data, write, &b)
	b.Flush()
	return a
}

// put is start for a command that goes out with the others of a batch.
func (q *queue) put(cmd *nvme.Command, data []byte, write bool, b *bdev.Batch) *adminOp {
	a := &adminOp{done: make(chan struct{})}
	a.iov[0] = data
	c := command{sqe: *cmd, iov: a.iov[:], size: uint32(len(data)), write: write && len(data) > 0, admin: a}
	q.submit(&c, b)
	return a
}

// sync sends cmd and waits. A status other than success is the error. When
// ctx ends first data belongs to the command until the session ends.
func (q *queue) sync(ctx context.Context, cmd *nvme.Command, data []byte, write bool) (nvme.Completion, error) {
	return q.await(ctx, q.start(cmd, data, write))
}

func (q *queue) await(ctx context.Context, a *adminOp) (nvme.Completion, error) {
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

// exchange is an admin command, and what became of it.
type exchange struct {
	cmd  nvme.Command
	size int // of the data that comes from the controller
	data []byte
	cqe  nvme.Completion
	err  error
}

// together runs commands of which none depends on another: they go out in one piece, and who
// serves a queue finds them together.
func (s *session) together(ctx context.Context, all ...*exchange) {
	var b bdev.Batch
	ops, data := make([]*adminOp, len(all)), make([][]byte, len(all))
	for i, e := range all {
		if e.size > 0 {
			data[i] = make([]byte, e.size)
		}
		ops[i] = s.admin.put(&e.cmd, data[i], false, &b)
	}
	b.Flush()
	for i, e := range all {
		if e.cqe, e.err = s.admin.await(ctx, ops[i]); e.err == nil {
			e.data = data[i]
		}
	}
}

func (s *session) cause() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// answered bounds ctx by the time in which a command has to be answered.
func (s *session) answered(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, s.ctl.cfg.AdminTimeout, fmt.Errorf("no answer within %v", s.ctl.cfg.AdminTimeout))
}

// adminCommand runs a command whose data, if any, comes from the controller.
// data is written to on success only.
func (s *session) adminCommand(ctx context.Context, cmd *nvme.Command, data []byte) (nvme.Completion, error) {
	ctx, cancel := s.answered(ctx)
	defer cancel()
	e := exchange{cmd: *cmd, size: len(data)}
	s.together(ctx, &e)
	copy(data, e.data)
	return e.cqe, e.err
}

// identification is a command for nvme.IdentifyLen bytes.
func identification(nsid uint32, id nvme.Identify) *exchange {
	e := &exchange{size: nvme.IdentifyLen}
	e.cmd.Init(nvme.AdminIdentify, nsid)
	e.cmd.SetIdentify(id)
	return e
}

// identifyAll runs identifications, see together.
func (s *session) identifyAll(ctx context.Context, all ...*exchange) {
	ctx, cancel := s.answered(ctx)
	defer cancel()
	s.together(ctx, all...)
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
