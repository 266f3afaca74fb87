package portal

import (
	"context"
	"errors"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/virtual-disk-array/vda"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/daemon"
)

// maxRequest is the longest request, in bytes. The longest that makes sense has
// a few KiB.
const maxRequest = 256 << 10

// service is the Portal's service with its requests decoded by us, so that one
// that is refused before a handler sees it gets a reply_info too.
func (s *Server) service() *grpc.ServiceDesc {
	desc := apiv1.Portal_ServiceDesc
	desc.Methods = nil
	for _, m := range apiv1.Portal_ServiceDesc.Methods {
		handle := m.Handler
		m.Handler = func(srv any, ctx context.Context, read func(any) error, intercept grpc.UnaryServerInterceptor) (any, error) {
			return handle(srv, ctx, func(req any) error {
				var raw daemon.Raw
				err := read(&raw)
				if err == nil {
					err = daemon.Decode(ctx, raw.Data, req.(proto.Message))
				}
				if err != nil {
					return s.unreadable(ctx, m.MethodName, refusal(err))
				}
				return nil
			}, intercept)
		}
		desc.Methods = append(desc.Methods, m)
	}
	return &desc
}

// refusal is why a request was not read or not decoded, in our words.
func refusal(err error) error {
	var long *daemon.TooLong
	var undecodable *daemon.Undecodable
	switch {
	case errors.As(err, &long):
		return invalid("%s, and none that makes sense has more than a few KiB", long.Error())
	case errors.As(err, &undecodable) && strings.Contains(undecodable.Err.Error(), "UTF-8"): // reason: it is looked at, not shown
		return invalid("a text in the request is not valid UTF-8")
	case errors.As(err, &undecodable):
		return invalid("%s", undecodable.Error())
	}
	st := status.Convert(err)
	if st.Code() == codes.ResourceExhausted {
		return refuse(codeBusy, vda.Unavailable, "%s", st.Message())
	}
	return vda.Errorf(vda.InvalidArgument, "%s", st.Message())
}

// unreadable is the answer to a request that can't be decoded.
func (s *Server) unreadable(ctx context.Context, method string, err error) error {
	reply := replyInfo(ctx, err)
	reply.ReqId = newRequestID()
	s.record(ctx, method, "", reply, err, 0)
	return statusOf(reply, err)
}
