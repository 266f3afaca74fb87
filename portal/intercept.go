package portal

import (
	"context"
	"encoding/hex"
	"fmt"
	"log/slog"
	"runtime/debug"
	"strings"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/peer"
	"google.golang.org/protobuf/proto"

	"github.com/virtual-disk-array/vda"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
)

// intercept gives every request its id, deadline, reply_info and log record,
// and contains panics.
func (s *Server) intercept(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	method, ours := strings.CutPrefix(info.FullMethod, "/"+apiv1.Portal_ServiceDesc.ServiceName+"/")
	if !ours {
		return handler(ctx, req)
	}
	reqID, start := newRequestID(), time.Now()
	ctx, cancel := context.WithTimeout(ctx, s.requestTime(ctx))
	defer cancel()

	resp, err := s.contain(ctx, req, handler, reqID)
	reply := replyInfo(ctx, err)
	reply.ReqId = reqID
	if err == nil {
		reply = setReplyInfo(resp.(proto.Message), reply)
	}
	s.record(ctx, method, req, reply, err, time.Since(start))
	if err != nil {
		return nil, statusOf(reply, err)
	}
	return resp, nil
}

// requestTime is how long a request may take: a little less than its caller
// waits, so that the caller gets a reply that says why it was not enough.
func (s *Server) requestTime(ctx context.Context) time.Duration {
	deadline, ok := ctx.Deadline()
	if !ok {
		return s.cfg.RequestTimeout
	}
	left := time.Until(deadline)
	return min(s.cfg.RequestTimeout, left-min(left/10, time.Second))
}

// newRequestID makes 32 random hex digits.
func newRequestID() string {
	id := uuid.New()
	return hex.EncodeToString(id[:])
}

// contain runs the handler and turns a panic into an error.
func (s *Server) contain(ctx context.Context, req any, handler grpc.UnaryHandler, reqID string) (resp any, err error) {
	defer func() {
		if p := recover(); p != nil {
			s.log.Error("a request handler panicked", "req_id", reqID, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			resp, err = nil, fmt.Errorf("panic: %v", p)
		}
	}()
	return handler(ctx, req)
}

// setReplyInfo puts reply into the message's reply_info. A handler that had
// more to say than "success" has left its own text there, which stays.
func setReplyInfo(m proto.Message, reply *apiv1.ReplyInfo) *apiv1.ReplyInfo {
	r := m.ProtoReflect()
	field := r.Descriptor().Fields().ByName("reply_info")
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

func (s *Server) record(ctx context.Context, method string, req any, reply *apiv1.ReplyInfo, err error, took time.Duration) {
	level := slog.LevelInfo
	switch {
	case err != nil && reply.ReplyCode == int32(codeInternal):
		level = slog.LevelError
	case err != nil:
		level = slog.LevelWarn
	}
	attrs := []slog.Attr{slog.String("req_id", reply.ReqId), slog.String("method", method), slog.Duration("took", took),
		slog.Int("reply_code", int(reply.ReplyCode)), slog.String("reply_msg", reply.ReplyMsg)}
	if p, ok := peer.FromContext(ctx); ok {
		attrs = append(attrs, slog.String("peer", p.Addr.String()))
	}
	if err != nil && reply.ReplyCode == int32(codeInternal) {
		attrs = append(attrs, slog.Any("err", err))
	}
	attrs = append(attrs, slog.String("request", vda.Shorten(fmt.Sprint(req), 400)))
	s.log.LogAttrs(ctx, level, "request", attrs...)
}
