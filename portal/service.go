package portal

import (
	"context"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding"
	_ "google.golang.org/grpc/encoding/proto" // the codec "proto"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"

	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/reason"
)

// Limits of a request, bytes. The longest that makes sense has a few KiB. One
// above maxRequest is refused with a reply_info; one above maxMessage is
// refused by gRPC, before it has been read.
const (
	maxRequest = 256 << 10
	maxMessage = 1 << 20
)

// service is the Portal's service with its requests decoded by us: gRPC refuses
// one that is no message, or whose texts are not UTF-8, in words of its own and
// without a reply_info.
func (s *Server) service() *grpc.ServiceDesc {
	desc := apiv1.Portal_ServiceDesc
	desc.Methods = nil
	for _, m := range apiv1.Portal_ServiceDesc.Methods {
		handle := m.Handler
		m.Handler = func(srv any, ctx context.Context, read func(any) error, intercept grpc.UnaryServerInterceptor) (any, error) {
			return handle(srv, ctx, func(req any) error {
				var f frame
				if err := read(&f); err != nil {
					return err
				}
				if err := f.decode(req.(proto.Message)); err != nil {
					return s.unreadable(ctx, m.MethodName, err)
				}
				return nil
			}, intercept)
		}
		desc.Methods = append(desc.Methods, m)
	}
	return &desc
}

// frame is a request as it came.
type frame struct{ data []byte }

func (f *frame) decode(req proto.Message) error {
	if len(f.data) > maxRequest {
		return invalid("the request is %d bytes long; it must be at most %d, and none that makes sense has more than a few KiB", len(f.data), maxRequest)
	}
	switch err := proto.Unmarshal(f.data, req); {
	case err == nil:
		return nil
	case strings.Contains(err.Error(), "UTF-8"): // reason: it is looked at, not shown
		return invalid("a text in the request is not valid UTF-8")
	default:
		return invalid("the request can't be decoded: %s", reason.Of(err))
	}
}

// unreadable is the answer to a request that can't be decoded.
func (s *Server) unreadable(ctx context.Context, method string, err error) error {
	reply := replyInfo(ctx, err)
	reply.ReqId = newRequestID()
	s.record(ctx, method, "", reply, err, 0)
	return statusOf(reply, err)
}

// frameCodec is gRPC's own codec, which leaves frames alone.
type frameCodec struct{ encoding.CodecV2 }

func newFrameCodec() frameCodec { return frameCodec{encoding.GetCodecV2("proto")} }

func (c frameCodec) Unmarshal(data mem.BufferSlice, v any) error {
	if f, ok := v.(*frame); ok {
		f.data = data.Materialize()
		return nil
	}
	return c.CodecV2.Unmarshal(data, v)
}
