package portal

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/virtual-disk-array/vda"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/rpc"
	"github.com/virtual-disk-array/vda/store"
)

// ListEvent shows what happened, the last first.
func (s *Server) ListEvent(ctx context.Context, req *apiv1.ListEventRequest) (*apiv1.ListEventReply, error) {
	p, err := page(req.Limit, "")
	if err != nil {
		return nil, err
	}
	f, err := eventFilter(req.GetFilter())
	if err != nil {
		return nil, err
	}
	if f.Since, err = since(req.Since); err != nil {
		return nil, err
	}
	before := uint64(0)
	if req.Token != "" {
		if before, err = strconv.ParseUint(req.Token, 10, 63); err != nil || before == 0 {
			return nil, invalid("token %q was not returned by a list", vda.Shorten(req.Token, 80))
		}
	}
	reply := &apiv1.ListEventReply{}
	err = s.view(ctx, func(tx store.Reader) error {
		reply.EventMsgList, reply.NextToken = nil, ""
		rows, err := tx.ListEvents(f, store.EventPage{Limit: p.Limit + 1, Before: before, Newest: true})
		if len(rows) > p.Limit {
			rows = rows[:p.Limit]
			reply.NextToken = strconv.FormatUint(rows[p.Limit-1].ID, 10)
		}
		for i := range rows {
			reply.EventMsgList = append(reply.EventMsgList, eventMsg(&rows[i]))
		}
		return err
	})
	return reply, err
}

// WatchEvent tells of events as they happen. It asks the database, so that it hears of
// what any program of the cluster has recorded; while that does not answer nothing is
// told, and all of it afterwards.
func (s *Server) WatchEvent(req *apiv1.WatchEventRequest, stream grpc.ServerStreamingServer[apiv1.WatchEventReply]) error {
	err := s.watchEvent(req, stream)
	switch {
	case err == nil:
		return nil
	case stream.Context().Err() != nil: // the caller has ended it, or this portal stops and another one can go on
		return status.Error(codes.Unavailable, "the portal stops")
	}
	reply := replyInfo(stream.Context(), err)
	reply.ReqId = rpc.RequestID(stream.Context())
	return statusOf(reply, err)
}

// watchPage bounds how many events are read at once.
const watchPage = 1000

func (s *Server) watchEvent(req *apiv1.WatchEventRequest, stream grpc.ServerStreamingServer[apiv1.WatchEventReply]) error {
	ctx := stream.Context()
	f, err := eventFilter(req.GetFilter())
	if err != nil {
		return err
	}
	after := req.GetAfter()
	if req.After == nil {
		err := s.view(ctx, func(tx store.Reader) error {
			last, err := tx.ListEvents(store.EventFilter{}, store.EventPage{Limit: 1, Newest: true})
			if len(last) > 0 {
				after = last[0].ID
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	if err := stream.SendHeader(nil); err != nil { // what happens from here on is told
		return err
	}
	tail := store.NewEventTail(after)
	tick := time.NewTicker(s.cfg.WatchPeriod)
	defer tick.Stop()
	for sent := uint32(0); ; {
		var rows []vda.Event
		err := s.view(ctx, func(tx store.Reader) error {
			rows = nil
			for from := tail.After(); ; { // all of one moment
				more, err := tx.ListEvents(store.EventFilter{}, store.EventPage{Limit: watchPage, After: from})
				rows = append(rows, more...)
				if err != nil || len(more) < watchPage {
					return err
				}
				from = more[len(more)-1].ID
			}
		})
		if err != nil {
			rows = nil // the next look finds them
			if ctx.Err() != nil {
				return ctx.Err()
			}
		}
		fresh := tail.Pass(rows, time.Now())
		for i := range fresh {
			if !matches(&f, &fresh[i]) {
				continue
			}
			if err := stream.Send(&apiv1.WatchEventReply{EventMsg: eventMsg(&fresh[i])}); err != nil {
				return err
			}
			if sent++; sent == req.Limit {
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// since reads a moment: RFC 3339, or how long before now.
func since(text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if t, err := time.Parse(time.RFC3339, text); err == nil {
		return t, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil || d <= 0 {
		return time.Time{}, invalid("since is %q; it must be a time like 2026-03-01T08:00:00Z, or how long before now, like 24h",
			vda.Shorten(text, 80))
	}
	return time.Now().Add(-d), nil
}

// eventObjects are the kinds of objects that events tell of.
var eventObjects = []string{"dn", "pd", "vd", "cn", "da", "snap", "exp", "orphan"}

func eventFilter(m *apiv1.EventFilter) (f store.EventFilter, err error) {
	var kinds []vda.EventKind
	for _, k := range m.GetKindList() {
		if !vda.EventKind(k).Known() {
			return f, invalid("kind_list has %q, which is not a kind of events; docs/events.md lists them", vda.Shorten(k, 80))
		}
		kinds = append(kinds, vda.EventKind(k))
	}
	least := vda.Severity(m.GetSeverity())
	switch least {
	case "", vda.SeverityInfo, vda.SeverityWarning, vda.SeverityError:
	default:
		return f, invalid("severity is %q; it must be info, warning or error", vda.Shorten(m.GetSeverity(), 80))
	}
	if o := m.GetObject(); o != "" && !slices.Contains(eventObjects, o) {
		return f, invalid("object is %q; it must be one of %s", vda.Shorten(o, 80), strings.Join(eventObjects, ", "))
	}
	for _, k := range vda.EventKinds {
		audited := k.Kind == vda.EventChange || k.Kind == vda.EventRefused
		if k.Severity.AtLeast(least) && (audited || !m.GetAudit()) && (len(kinds) == 0 || slices.Contains(kinds, k.Kind)) {
			f.Kinds = append(f.Kinds, k.Kind)
		}
	}
	if len(f.Kinds) == 0 {
		return f, invalid("no event can be one of kind_list and have severity and audit too")
	}
	if len(f.Kinds) == len(vda.EventKinds) {
		f.Kinds = nil
	}
	f.Object, f.ReqID = m.GetObject(), m.GetReqId()
	if parent, name, both := strings.Cut(m.GetName(), "/"); both {
		f.Parent, f.Name = parent, name
	} else {
		f.Under = m.GetName()
	}
	return f, nil
}

// matches is what ListEvents does with a filter.
func matches(f *store.EventFilter, e *vda.Event) bool {
	is := func(want, got string) bool { return want == "" || want == got }
	return (len(f.Kinds) == 0 || slices.Contains(f.Kinds, e.Kind)) && is(f.Object, e.Object) && is(f.Name, e.Name) && is(f.Parent, e.Parent) &&
		is(f.ReqID, e.ReqID) && (f.Under == "" || f.Under == e.Name || f.Under == e.Parent)
}

func eventMsg(e *vda.Event) *apiv1.EventMsg {
	return &apiv1.EventMsg{EventId: e.ID, Time: rfc3339(e.At), Kind: string(e.Kind), Severity: string(e.Kind.Severity()), Object: e.Object,
		Name: e.FullName(), Text: e.Text, TookMs: uint64(e.Took.Milliseconds()), Method: e.Method, User: e.User, Peer: e.Peer, ReqId: e.ReqID,
		Code: e.Code}
}
