package portal

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/virtual-disk-array/vda"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/rpc"
)

// intercept gives every reply its reply_info, and tells the log what it says.
func (s *Server) intercept(ctx context.Context, req any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
	ctx, audit := beginAudit(ctx, path.Base(info.FullMethod), req)
	resp, err := handle(ctx, req)
	if unread := (*rpc.Unread)(nil); errors.As(err, &unread) {
		err = refusal(unread.Err)
	}
	reply := replyInfo(ctx, err)
	reply.ReqId = rpc.RequestID(ctx)
	if err == nil {
		reply = setReplyInfo(resp.(proto.Message), reply)
	}
	annotate(ctx, req, reply, err)
	s.audit(ctx, audit, reply)
	if err != nil {
		return nil, statusOf(reply, err)
	}
	return resp, nil
}

// setReplyInfo puts reply into the message's reply_info. A handler that had
// more to say than "success" has left its own text there, which stays.
func setReplyInfo(m proto.Message, reply *apiv1.ReplyInfo) *apiv1.ReplyInfo {
	r := m.ProtoReflect()
	field := r.Descriptor().Fields().ByName("reply_info")
	if field == nil {
		return reply
	}
	if r.Has(field) {
		own := r.Get(field).Message().Interface().(*apiv1.ReplyInfo)
		own.ReqId = reply.ReqId
		if own.ReplyMsg == "" {
			own.ReplyMsg = reply.ReplyMsg
		}
		return own
	}
	r.Set(field, protoValue(reply))
	return reply
}

// loggable is a request as the log has it: without what is secret.
func loggable(req any) string {
	m, ok := req.(proto.Message)
	if !ok {
		return fmt.Sprint(req)
	}
	if marked(m.ProtoReflect(), func(protoreflect.Message, protoreflect.FieldDescriptor) {}) {
		m = proto.Clone(m)
		marked(m.ProtoReflect(), func(in protoreflect.Message, f protoreflect.FieldDescriptor) { in.Clear(f) })
	}
	return fmt.Sprint(m)
}

// marked calls found for each field in a message that is marked debug_redact, and reports
// whether there is one.
func marked(m protoreflect.Message, found func(protoreflect.Message, protoreflect.FieldDescriptor)) (any bool) {
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch o, _ := f.Options().(*descriptorpb.FieldOptions); {
		case o.GetDebugRedact():
			any = true
			found(m, f)
		case f.IsMap() && f.MapValue().Message() != nil:
			v.Map().Range(func(_ protoreflect.MapKey, e protoreflect.Value) bool {
				any = marked(e.Message(), found) || any
				return true
			})
		case f.Message() == nil || f.IsMap():
		case f.IsList():
			for i := range v.List().Len() {
				any = marked(v.List().Get(i).Message(), found) || any
			}
		default:
			any = marked(v.Message(), found) || any
		}
		return true
	})
	return any
}

// annotate adds to the record of a call in the log.
func annotate(ctx context.Context, req any, reply *apiv1.ReplyInfo, err error) {
	attrs := []slog.Attr{slog.Int("reply_code", int(reply.ReplyCode)), slog.String("reply_msg", reply.ReplyMsg)}
	if err != nil && reply.ReplyCode == int32(codeInternal) {
		attrs = append(attrs, slog.Any("err", err))
	}
	rpc.Annotate(ctx, append(attrs, slog.String("request", vda.Shorten(loggable(req), 400)))...)
}
