package portal

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/virtual-disk-array/vda"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/reason"
	"github.com/virtual-disk-array/vda/rpc"
	"github.com/virtual-disk-array/vda/store"
)

// Every request for a change leaves an event: of the kind "change" in the first
// transaction that it commits, so that neither is there without the other, and of the kind
// "change_refused" when it fails.

// audit is what becomes of a request. A nil one records nothing.
type audit struct {
	event vda.Event
	reads bool // the request changes nothing: it is recorded when its caller may not make it

	mu   sync.Mutex
	done bool // the change is recorded
}

type auditKey struct{}

func auditOf(ctx context.Context) *audit {
	a, _ := ctx.Value(auditKey{}).(*audit)
	return a
}

// changes reports that a method is for changes.
func changes(method string) bool {
	return !strings.HasPrefix(method, "Get") && !strings.HasPrefix(method, "List") && !strings.HasPrefix(method, "Watch")
}

// beginAudit has the events of a request say who caused them.
func beginAudit(ctx context.Context, method string, req any) (context.Context, *audit) {
	m, ok := req.(proto.Message)
	if !ok {
		return ctx, nil
	}
	a := &audit{reads: !changes(method), event: vda.Event{Kind: vda.EventChange, Text: requestText(m),
		Caller: vda.Caller{Method: method, Peer: rpc.CallOf(ctx).Peer, ReqID: rpc.RequestID(ctx)}}}
	a.event.Object, a.event.Parent, a.event.Name = objectOf(method, m)
	if a.reads { // it causes no event but that it was refused
		return context.WithValue(ctx, auditKey{}, a), a
	}
	return context.WithValue(store.WithCaller(ctx, &a.event.Caller), auditKey{}, a), a
}

// by notes who makes the request, once that is known.
func (a *audit) by(who rpc.Caller) {
	switch {
	case a == nil:
	case who.Kind == rpc.User:
		a.event.User = who.Name
	default:
		a.event.User = who.String()
	}
}

// record writes the event in a transaction of the request, unless one has it already.
func (a *audit) record(tx store.Tx) error {
	if a == nil || a.recorded() {
		return nil
	}
	return tx.Record(a.event)
}

func (a *audit) recorded() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.done
}

// wrote notes how a transaction ended in which record was called.
func (a *audit) wrote(err error) {
	if a != nil && err == nil {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.done = true
	}
}

// auditTime bounds the recording of a request that has ended.
const auditTime = 2 * time.Second

// audit records a request that has ended, as far as its transactions have not.
func (s *Server) audit(ctx context.Context, a *audit, reply *apiv1.ReplyInfo) {
	if a == nil {
		return
	}
	e := a.event
	switch code := replyCode(reply.ReplyCode); {
	case a.reads && code != codeForbidden && code != codeUnknownCaller, code == codeIdentical:
		return // nothing was changed
	case code == codeSuccess && a.recorded():
		s.cfg.AuditLog.Write(&e)
		return
	case code == codeDatabase: // nothing can be recorded
		e.Kind, e.Code, e.Text = vda.EventRefused, uint32(code), reply.ReplyMsg+" ("+e.Text+")"
		s.cfg.AuditLog.Write(&e)
		return
	case code != codeSuccess:
		e.Kind, e.Code = vda.EventRefused, uint32(code)
		e.Text = reply.ReplyMsg + " (" + e.Text + ")"
		if !s.refusals.news(&e, time.Now()) {
			return
		}
	}
	s.write(ctx, &e)
}

// auditRefused is rpc.Config's Audit: it records the refusals of what intercept does not see,
// which are streams, other services than the portal's own, and requests over HTTP.
func (s *Server) auditRefused(ctx context.Context, call rpc.Call, err error) {
	code := codeForbidden
	switch status.Code(err) {
	case codes.Unauthenticated:
		code = codeUnknownCaller
	case codes.PermissionDenied:
	default:
		return
	}
	method := strings.TrimPrefix(call.Method, "/")
	for _, d := range []*grpc.ServiceDesc{&apiv1.Portal_ServiceDesc, &apiv1.Security_ServiceDesc} {
		name, ours := strings.CutPrefix(method, d.ServiceName+"/")
		if ours && slices.ContainsFunc(d.Methods, func(m grpc.MethodDesc) bool { return m.MethodName == name }) {
			return
		}
		if ours {
			method = name
		}
	}
	a := audit{event: vda.Event{Kind: vda.EventRefused, Code: uint32(code), Text: status.Convert(err).Message(),
		Caller: vda.Caller{Method: method, Peer: call.Peer, ReqID: call.ID}}}
	a.by(call.Caller)
	if s.refusals.news(&a.event, time.Now()) {
		s.write(ctx, &a.event)
	}
}

// strangersPeriod is how often connections that were refused are looked for.
const strangersPeriod = time.Second

// noteStrangers has the connections in the audit that the portal, which serves at an address, refuses
// until ctx ends, and in the end those of the last moment.
func (s *Server) noteStrangers(ctx context.Context, at string) {
	tick := time.NewTicker(strangersPeriod)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			s.noteStrange(context.WithoutCancel(ctx), at)
			return
		case <-tick.C:
			s.noteStrange(ctx, at)
		}
	}
}

// noteStrange writes those that were refused lately. While the database is away they are
// handed out again each minute, and AuditLog has them as often.
func (s *Server) noteStrange(ctx context.Context, at string) {
	all := s.strange.Hand()
	if len(all) == 0 {
		return
	}
	var seqs []uint64
	var events []vda.Event
	for _, r := range all {
		e := rpc.RefusalEvent(r, "portal "+at)
		seqs, events = append(seqs, r.Seq), append(events, e)
		s.cfg.AuditLog.Write(&e)
	}
	ctx, cancel := context.WithTimeout(ctx, auditTime)
	defer cancel()
	err := s.cfg.Store.Update(ctx, func(tx store.Tx) error {
		for _, e := range events {
			if err := tx.Record(e); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		s.log.Warn("connections that were refused are not in the audit yet", "err", reason.Of(err))
		return
	}
	s.strange.Taken(seqs)
}

// write records an event that no transaction of its request has.
func (s *Server) write(ctx context.Context, e *vda.Event) {
	s.cfg.AuditLog.Write(e)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), auditTime)
	defer cancel()
	if err := s.cfg.Store.Update(ctx, func(tx store.Tx) error { return tx.Record(*e) }); err != nil {
		s.log.Warn("a request is not in the audit", "req_id", e.ReqID, "err", reason.Of(err))
	}
}

// Refusals are recorded once per minute each, and so many per minute, lest a client that
// tries for ever drives everything else out of the table.
const (
	refusalPeriod = time.Minute
	maxRefusals   = 60
)

// refusals are those of the last minute.
type refusals struct {
	mu    sync.Mutex
	begun time.Time
	seen  map[string]bool
}

// news reports that a refusal is to be recorded.
func (r *refusals) news(e *vda.Event, now time.Time) bool {
	host, _, err := net.SplitHostPort(e.Peer)
	if err != nil {
		host = e.Peer
	}
	key := fmt.Sprint(host, " ", e.User, " ", e.Method, " ", e.Code, " ", e.Text)
	r.mu.Lock()
	defer r.mu.Unlock()
	if now.Sub(r.begun) >= refusalPeriod {
		r.begun, r.seen = now, map[string]bool{}
	}
	if r.seen[key] || len(r.seen) >= maxRefusals {
		return false
	}
	r.seen[key] = true
	return true
}

// objectOf is what a request is about.
func objectOf(method string, m proto.Message) (object, parent, name string) {
	field := func(name string) string {
		f := m.ProtoReflect().Descriptor().Fields().ByName(protoreflect.Name(name))
		if f == nil || f.Kind() != protoreflect.StringKind || f.IsList() {
			return ""
		}
		return m.ProtoReflect().Get(f).String()
	}
	for _, o := range []struct{ suffix, parent, name string }{
		{"Dn", "", "dn_name"}, {"Pd", "dn_name", "pd_name"}, {"Vd", "", "vd_id"}, {"Cn", "", "cn_name"}, {"Da", "", "da_name"},
		{"Snap", "da_name", "snap_name"}, {"Exp", "da_name", "exp_name"}, {"Orphan", "", "orphan_id"},
	} {
		if strings.HasSuffix(method, o.suffix) {
			return strings.ToLower(o.suffix), field(o.parent), field(o.name)
		}
	}
	return "", "", ""
}

// secret are the parts of names of fields whose values nobody may read.
var secret = []string{"secret", "password", "private", "psk", "token"}

// redacted reports that a field is marked debug_redact.
func redacted(f protoreflect.FieldDescriptor) bool {
	o, _ := f.Options().(*descriptorpb.FieldOptions)
	return o.GetDebugRedact()
}

// requestText is what a request says, field by field, without secrets.
func requestText(m proto.Message) string {
	var words []string
	fields := m.ProtoReflect().Descriptor().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		if !m.ProtoReflect().Has(f) {
			continue
		}
		v, name := m.ProtoReflect().Get(f), string(f.Name())
		text := ""
		switch {
		case redacted(f) || slices.ContainsFunc(secret, func(s string) bool { return strings.Contains(name, s) }):
			text = "(not shown)"
		case f.IsList() && f.Kind() != protoreflect.MessageKind:
			var all []string
			for j := range v.List().Len() {
				all = append(all, v.List().Get(j).String())
			}
			text = strings.Join(all, ",")
		case f.Kind() == protoreflect.MessageKind:
			text = "(...)"
		case f.Kind() == protoreflect.BytesKind:
			text = fmt.Sprintf("(%d bytes)", len(v.Bytes()))
		default:
			text = v.String()
		}
		words = append(words, name+"="+text)
	}
	return vda.Shorten(strings.Join(words, " "), 400)
}
