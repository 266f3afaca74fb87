package rpc

import (
	"context"
	"sync/atomic"

	"google.golang.org/grpc/stats"
)

// Sent tells whether a call has been handed to a connection, so that the server
// may have got it. What is false stays false once the call has ended.
type Sent struct{ v atomic.Bool }

// Maybe reports that the server may have got the request.
func (s *Sent) Maybe() bool { return s.v.Load() }

type sentKey struct{}

// WithSent returns a context that notes in the Sent whether a call made with
// it, over a connection of Dial, was sent.
func WithSent(ctx context.Context) (context.Context, *Sent) {
	s := &Sent{}
	return context.WithValue(ctx, sentKey{}, s), s
}

// sentHandler notes the header of each call that goes out. gRPC's errors do not
// tell whether one did: that a connection could not be made comes in the words
// of whichever write or read has failed.
type sentHandler struct{}

func (sentHandler) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context { return ctx }

func (sentHandler) HandleRPC(ctx context.Context, s stats.RPCStats) {
	if _, ok := s.(*stats.OutHeader); ok {
		if sent, ok := ctx.Value(sentKey{}).(*Sent); ok {
			sent.v.Store(true)
		}
	}
}

func (sentHandler) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }

func (sentHandler) HandleConn(context.Context, stats.ConnStats) {}
