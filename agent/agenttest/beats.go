package agenttest

import (
	"context"
	"io"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	apiv1 "github.com/virtual-disk-array/vda/api/v1"
)

// pipe is a stream of heartbeats without a network.
type pipe struct {
	grpc.ServerStream
	ctx     context.Context
	reqs    chan *apiv1.HeartbeatRequest
	replies chan *apiv1.HeartbeatReply
	ended   chan error
}

// Context implements grpc.ServerStream.
func (p *pipe) Context() context.Context { return p.ctx }

// Recv implements grpc.BidiStreamingServer.
func (p *pipe) Recv() (*apiv1.HeartbeatRequest, error) {
	select {
	case req, ok := <-p.reqs:
		if !ok {
			return nil, io.EOF
		}
		return req, nil
	case <-p.ctx.Done():
		return nil, p.ctx.Err()
	}
}

// Send implements grpc.BidiStreamingServer.
func (p *pipe) Send(r *apiv1.HeartbeatReply) error {
	p.replies <- r
	return nil
}

// stream opens a stream to the agent.
func (s *subject) stream() (p *pipe, end func()) {
	ctx, end := context.WithCancel(s.Context())
	p = &pipe{ctx: ctx, reqs: make(chan *apiv1.HeartbeatRequest), replies: make(chan *apiv1.HeartbeatReply, 1), ended: make(chan error, 1)}
	go func() {
		p.ended <- s.a.Beats(p)
		end()
	}()
	return p, end
}

// over sends a beat over a stream.
func (p *pipe) over(cluster, node string) (*apiv1.HeartbeatReply, error) {
	select {
	case p.reqs <- &apiv1.HeartbeatRequest{ClusterId: cluster, NodeId: node, WaitMs: 60_000}:
	case err := <-p.ended:
		return nil, err
	}
	select {
	case r := <-p.replies:
		return r, nil
	case err := <-p.ended:
		return nil, err
	}
}

// beats: a stream of heartbeats says what Heartbeat says, and leaves out what it has said; it ends with what
// Heartbeat refuses.
func beats(s *subject) {
	p, end := s.stream()
	defer end()
	beat := func(what string, same bool) *apiv1.HeartbeatReply {
		s.Helper()
		r, err := p.over(cluster, node)
		if err != nil {
			s.Fatalf("%s: %v", what, err)
		}
		if r.Same != same || same == (r.AgentStartId != "") {
			s.Errorf("%s: same is %v in %v", what, r.Same, r)
		}
		return r
	}
	beat("the first", false)
	beat("the second", true)
	s.takes("a set", set(7, live(one, 1)))
	// What else is told may change by itself for a while.
	told := beat("after a set", false)
	for {
		r, err := p.over(cluster, node)
		if err != nil {
			s.Fatal(err)
		}
		if r.Same {
			break
		}
		told = r
	}
	plain, err := s.beat(cluster, node)
	if err != nil {
		s.Fatal(err)
	}
	if told.Version != 7 || told.ClusterId != plain.ClusterId || told.Version != plain.Version || told.AgentStartId != plain.AgentStartId ||
		told.DataPlaneStartId != plain.DataPlaneStartId || told.DataPlaneOk != plain.DataPlaneOk || len(told.States) != len(plain.States) {
		s.Errorf("over a stream: %v; by a call: %v", told, plain)
	}
	if r, err := p.over(other, node); status.Code(err) != codes.FailedPrecondition {
		s.Errorf("of another cluster: %v, %v", r, err)
	}
	p, end = s.stream()
	defer end()
	beat("the first of another stream", false)
	close(p.reqs)
	if err := <-p.ended; err != nil {
		s.Errorf("a stream that its sender ends: %v", err)
	}
	p, end = s.stream()
	beat("the first of one that is cut", false)
	end()
	if err := <-p.ended; err == nil {
		s.Error("a stream that was cut has ended well")
	}
}
