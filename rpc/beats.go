package rpc

import (
	"bytes"
	"context"
	"errors"
	"io"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	apiv1 "github.com/virtual-disk-array/vda/api/v1"
)

// Heartbeats are nearly all that a monitor at rest sends. As calls each of them takes a stream of HTTP/2 with
// headers both ways, which is most of its cost; so they go over one that lasts, Beats of the agents' services. All
// else is as it is with calls: an agent answers a beat with what it answers a call with, checks who sends it, and a
// beat that is not answered in time ends the stream, so that no late answer is taken for that of another beat.

// AnswerBeats answers the beats of a stream, one after the other, as heartbeat does, until one gets an error, the
// program stops, or the sender ends the stream. Callers are checked, and Config.Intercept sees each beat, as those of
// a call are; and the one that is under way when the program stops is answered: what heartbeat finds out must not be that
// it was cut short.
func AnswerBeats(stream grpc.BidiStreamingServer[apiv1.HeartbeatRequest, apiv1.HeartbeatReply],
	heartbeat func(context.Context, *apiv1.HeartbeatRequest) (*apiv1.HeartbeatReply, error)) error {
	ctx := stream.Context()
	handle := func(ctx context.Context, req any) (any, error) { return heartbeat(ctx, req.(*apiv1.HeartbeatRequest)) }
	each, ok := ctx.Value(eachKey{}).(eachMessage)
	if !ok {
		each = eachMessage{ctx, func(ctx context.Context, req any, handle grpc.UnaryHandler) (any, error) { return handle(ctx, req) }}
	}
	answer := answering{stream: stream}
	for beats := receiveBeats(ctx, stream); ; {
		select {
		case <-ctx.Done():
			return status.Error(codes.Unavailable, "the program stops")
		case b := <-beats:
			if errors.Is(b.err, io.EOF) {
				return nil
			}
			if b.err != nil {
				return b.err
			}
			if err := answer.beat(b.req, each, handle); err != nil {
				return err
			}
		}
	}
}

type received struct {
	req *apiv1.HeartbeatRequest
	err error
}

// receiveBeats receives until there is an error, which comes last; the end of the stream's handler is one.
func receiveBeats(ctx context.Context, stream grpc.BidiStreamingServer[apiv1.HeartbeatRequest, apiv1.HeartbeatReply]) <-chan received {
	beats := make(chan received)
	go func() {
		for {
			req, err := stream.Recv()
			select {
			case beats <- received{req, err}:
			case <-ctx.Done():
				return
			}
			if err != nil {
				return
			}
		}
	}()
	return beats
}

// answering is the replies' side of a stream.
type answering struct {
	stream      grpc.BidiStreamingServer[apiv1.HeartbeatRequest, apiv1.HeartbeatReply]
	last, spare []byte // the reply before without what HeartbeatReply.same is not about, encoded; and a buffer
}

// beat answers one beat.
func (a *answering) beat(req *apiv1.HeartbeatRequest, each eachMessage, handle grpc.UnaryHandler) error {
	limit := time.Minute
	if req.WaitMs > 0 {
		limit = min(limit, time.Duration(req.WaitMs)*time.Millisecond)
	}
	ctx, cancel := context.WithTimeout(each.ctx, limit)
	defer cancel()
	resp, err := each.handle(ctx, req, handle)
	if err != nil {
		return err
	}
	reply := resp.(*apiv1.HeartbeatReply)
	refusals, stamp := reply.Refusals, reply.LeaseStamp
	reply.Refusals, reply.LeaseStamp = nil, 0
	now, err := proto.MarshalOptions{Deterministic: true}.MarshalAppend(a.spare[:0], reply)
	if err != nil {
		return status.Error(codes.Internal, "internal error: a reply to a heartbeat cannot be encoded")
	}
	if a.last != nil && bytes.Equal(a.last, now) {
		reply = &apiv1.HeartbeatReply{Same: true}
	}
	a.last, a.spare = now, a.last
	reply.Refusals, reply.LeaseStamp = refusals, stamp
	return a.stream.Send(reply)
}

// Beating is an agent that takes heartbeats.
type Beating interface {
	Heartbeat(ctx context.Context, in *apiv1.HeartbeatRequest, opts ...grpc.CallOption) (*apiv1.HeartbeatReply, error)
	Beats(ctx context.Context, opts ...grpc.CallOption) (grpc.BidiStreamingClient[apiv1.HeartbeatRequest, apiv1.HeartbeatReply], error)
}

// Beats sends the heartbeats of one node: over a stream, or as calls to an agent that has no such stream. The zero
// value is ready. It is not safe for concurrent use, and must be closed.
type Beats struct {
	stream grpc.BidiStreamingClient[apiv1.HeartbeatRequest, apiv1.HeartbeatReply] // nil: none is open
	end    context.CancelFunc
	last   *apiv1.HeartbeatReply // of the stream

	plain bool   // the agent has no stream
	start string // then: what run of it has not, as its replies say
}

// Beat sends one heartbeat and returns its reply, which is the caller's until the next one, or the error that a call
// of Heartbeat returns. It ends with ctx, whose deadline the agent is told.
func (b *Beats) Beat(ctx context.Context, to Beating, req *apiv1.HeartbeatRequest) (*apiv1.HeartbeatReply, error) {
	if !b.plain {
		used := b.stream != nil
		reply, err := b.send(ctx, to, req)
		if err != nil && used && ctx.Err() == nil {
			// A stream that was good may have ended at any time, as with its connection: that says nothing of now.
			reply, err = b.send(ctx, to, req)
		}
		switch status.Code(err) {
		case codes.Unimplemented: // an agent of before
			b.plain, b.start = true, ""
		case codes.ResourceExhausted: // too many streams; calls of Heartbeat come first at agents
		default:
			return reply, err
		}
	}
	reply, err := to.Heartbeat(ctx, req)
	if b.plain && err == nil {
		if b.start != "" && b.start != reply.AgentStartId {
			b.plain = false // it may have been updated
		}
		b.start = reply.AgentStartId
	}
	return reply, err
}

// send sends a heartbeat over the stream, which it opens when there is none. After an error there is none.
func (b *Beats) send(ctx context.Context, to Beating, req *apiv1.HeartbeatRequest) (*apiv1.HeartbeatReply, error) {
	if b.stream == nil {
		if err := b.open(ctx, to); err != nil {
			return nil, orEnded(ctx, err)
		}
	}
	stop := context.AfterFunc(ctx, b.end)
	defer stop()
	reply, err := b.exchange(ctx, req)
	if err != nil {
		b.Close()
		return nil, orEnded(ctx, err)
	}
	return reply, nil
}

// open opens a stream, which outlives ctx.
func (b *Beats) open(ctx context.Context, to Beating) error {
	own, end := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, end)
	defer stop()
	stream, err := to.Beats(own)
	if err != nil {
		end()
		return err
	}
	b.stream, b.end, b.last = stream, end, nil
	return nil
}

// exchange sends a request and receives its reply.
func (b *Beats) exchange(ctx context.Context, req *apiv1.HeartbeatRequest) (*apiv1.HeartbeatReply, error) {
	if at, ok := ctx.Deadline(); ok {
		req.WaitMs = uint32(max(time.Until(at).Milliseconds(), 1))
	}
	if err := b.stream.Send(req); err != nil && !errors.Is(err, io.EOF) { // with EOF, Recv says why
		return nil, err
	}
	reply, err := b.stream.Recv()
	switch {
	case errors.Is(err, io.EOF):
		return nil, status.Error(codes.Unavailable, "the agent has ended the stream of heartbeats")
	case err != nil:
		return nil, err
	case !reply.Same:
		b.last = reply
	case b.last == nil:
		return nil, status.Error(codes.Internal, "the agent's first reply says that it is as the one before")
	default:
		b.last.LeaseStamp, b.last.Refusals = reply.LeaseStamp, reply.Refusals
	}
	return b.last, nil
}

// orEnded is the error of a call whose ctx may have ended.
func orEnded(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return status.FromContextError(ctx.Err()).Err()
	}
	return err
}

// Close ends the stream, if there is one; another beat would open one again.
func (b *Beats) Close() {
	if b.stream != nil {
		b.end()
	}
	b.stream, b.last = nil, nil
}
