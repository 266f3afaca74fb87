package client

import (
	"context"
	"errors"
	"io"
	"iter"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	apiv1 "github.com/virtual-disk-array/vda/api/v1"
)

// ListEvent returns one page of what happened, the last first; Events runs over all.
// Errors: CodeInvalid.
func (c *Client) ListEvent(ctx context.Context, req *apiv1.ListEventRequest, opts ...grpc.CallOption) (*apiv1.ListEventReply, error) {
	return c.stubs.ListEvent(ctx, req, opts...)
}

// Events runs over events, as Dns does over disk nodes.
func (c *Client) Events(ctx context.Context, req *apiv1.ListEventRequest) iter.Seq2[*apiv1.EventMsg, error] {
	r := orEmpty(req)
	return pages(&r.Token, func() ([]*apiv1.EventMsg, string, error) {
		reply, err := c.ListEvent(ctx, r)
		return reply.GetEventMsgList(), reply.GetNextToken(), err
	})
}

// Watch runs over events as they happen, until ctx ends or req's limit is reached. When a
// portal is lost it goes on with another one, behind the last event that it has got. The
// error that ends it is one of ListEvent's, or says that no portal can be reached.
func (c *Client) Watch(ctx context.Context, req *apiv1.WatchEventRequest) iter.Seq2[*apiv1.EventMsg, error] {
	return func(yield func(*apiv1.EventMsg, error) bool) {
		r := orEmpty(req)
		what := describe(apiv1.Portal_WatchEvent_FullMethodName, r)
		for ended := false; !ended; {
			err := c.retry(ctx, what, func(p portal) (bool, error) {
				ctx, cancel := context.WithCancel(ctx)
				defer cancel()
				s, err := apiv1.NewPortalClient(p.conn).WatchEvent(ctx, r)
				if err != nil {
					return false, err
				}
				if _, err := s.Header(); err != nil {
					return true, err
				}
				for {
					m, err := s.Recv()
					switch {
					case errors.Is(err, io.EOF):
						ended = true
						return true, nil
					case status.Code(err) == codes.Unavailable && replied(err) == nil:
						return true, nil // it was there: begin with all portals again
					case err != nil:
						return true, err
					}
					id := m.GetEventMsg().GetEventId()
					r.After = &id
					if !yield(m.GetEventMsg(), nil) {
						ended = true
						return true, nil
					}
					if r.Limit > 0 {
						if r.Limit--; r.Limit == 0 {
							ended = true
							return true, nil
						}
					}
				}
			})
			if err != nil {
				yield(nil, err)
				return
			}
			if !ended {
				pause(ctx, minPause)
			}
		}
	}
}

// ListAlert tells what is wrong now, the gravest first. Errors: those that every call may
// have.
func (c *Client) ListAlert(ctx context.Context, req *apiv1.ListAlertRequest, opts ...grpc.CallOption) (*apiv1.ListAlertReply, error) {
	return c.stubs.ListAlert(ctx, req, opts...)
}

// pause waits, or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// WatchEvent is the stream that Watch stands on, of one portal. Errors: CodeInvalid,
// CodeDatabase, and what gRPC says when the portal is gone.
func (c *Client) WatchEvent(ctx context.Context, req *apiv1.WatchEventRequest,
	opts ...grpc.CallOption) (grpc.ServerStreamingClient[apiv1.WatchEventReply], error) {
	return c.stubs.WatchEvent(ctx, req, opts...)
}
