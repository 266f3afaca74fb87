package client

import (
	"context"
	"errors"
	"io"
	"iter"

	"google.golang.org/grpc"

	apiv1 "github.com/virtual-disk-array/vda/api/v1"
)

// DumpSupport is the stream that Support stands on. Errors: CodePermissionDenied, and what gRPC says
// when the portal is gone.
func (c *Client) DumpSupport(ctx context.Context, req *apiv1.DumpSupportRequest,
	opts ...grpc.CallOption) (grpc.ServerStreamingClient[apiv1.DumpSupportReply], error) {
	return c.stubs.DumpSupport(ctx, req, opts...)
}

// Support runs over the files of a support bundle, which programs that do not answer make last for
// some 30 s: those of one name stand behind each other. It begins with another portal when one cannot
// be reached; an error ends it. ctx bounds it, Config.Timeout does not.
func (c *Client) Support(ctx context.Context) iter.Seq2[*apiv1.DumpSupportReply, error] {
	return func(yield func(*apiv1.DumpSupportReply, error) bool) {
		what := describe(apiv1.Portal_DumpSupport_FullMethodName, &apiv1.DumpSupportRequest{})
		err := c.retry(ctx, what, func(p portal) (bool, error) {
			ctx, cancel := context.WithCancel(ctx)
			defer cancel()
			s, err := apiv1.NewPortalClient(p.conn).DumpSupport(ctx, &apiv1.DumpSupportRequest{})
			if err != nil {
				return false, err
			}
			for begun := false; ; begun = true {
				m, err := s.Recv()
				switch {
				case errors.Is(err, io.EOF):
					return true, nil
				case err != nil && begun:
					yield(nil, c.failure(ctx, what, p, true, err)) // a half cannot be gone on with
					return true, nil
				case err != nil:
					return false, err
				case !yield(m, nil):
					return true, nil
				}
			}
		})
		if err != nil {
			yield(nil, err)
		}
	}
}
