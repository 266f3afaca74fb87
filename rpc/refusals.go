package rpc

import (
	"context"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/virtual-disk-array/vda"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/pki"
)

// Refusals are the calls and connections that a program has refused since it does not know who makes
// them, or since that one may not, for the cluster's audit. Who asks often is counted: the same
// refusal of the same address is handed out once per minute, and of more than maxRefusals
// kinds at once the others are counted together. Safe for concurrent use.
type Refusals struct {
	mu   sync.Mutex
	next uint64
	all  map[refusalKey]*refusal
	now  func() time.Time
}

const (
	maxRefusals   = 64
	refusalPeriod = time.Minute
	// refusalLost is after what time one that was handed out, and of which nothing was heard, is handed
	// out again.
	refusalLost = time.Minute
)

type refusalKey struct {
	host, caller, method, msg string
	code                      codes.Code
}

type refusal struct {
	peer  string // the last one, with its port
	count uint32 // since they were last taken
	first time.Time
	ready time.Time // not before

	seq    uint64 // it was handed out as; 0: it was not
	handed uint32 // how many of count that says
	at     time.Time
}

// NewRefusals returns none. Numbers go on rising when a program starts again, as far as clocks do.
func NewRefusals() *Refusals {
	return &Refusals{next: uint64(time.Now().UnixMicro()), all: map[refusalKey]*refusal{}, now: time.Now}
}

// note counts a call that has ended, when it was refused for who made it. A nil r counts nothing.
func (r *Refusals) note(call Call, err error) {
	code := status.Code(err)
	if r == nil || code != codes.Unauthenticated && code != codes.PermissionDenied {
		return
	}
	host, _, split := net.SplitHostPort(call.Peer)
	if split != nil {
		host = call.Peer
	}
	k := refusalKey{host: host, method: vda.Shorten(call.Method, 100), msg: vda.Shorten(status.Convert(err).Message(), 400), code: code}
	if call.Caller.Kind != "" {
		k.caller = call.Caller.String()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.now()
	if r.all[k] == nil && len(r.all) >= maxRefusals {
		for old, f := range r.all {
			if f.count == 0 && !now.Before(f.ready) {
				delete(r.all, old)
			}
		}
		if len(r.all) >= maxRefusals {
			k, call.Peer = refusalKey{msg: "calls of many addresses or kinds were refused, which are not told apart", code: code}, ""
		}
	}
	f := r.all[k]
	if f == nil {
		f = &refusal{}
		r.all[k] = f
	}
	if f.count == 0 {
		f.first = now
	}
	f.count++
	f.peer = call.Peer
}

// Hand returns those that nobody has been handed, or nobody has taken within a minute of that, at
// most maxRefusals and some.
func (r *Refusals) Hand() []*apiv1.Refusal {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.now()
	var out []*apiv1.Refusal
	for k, f := range r.all {
		if f.count == 0 || now.Before(f.ready) || f.seq != 0 && now.Sub(f.at) < refusalLost {
			continue
		}
		r.next++
		f.seq, f.handed, f.at = r.next, f.count, now
		code := apiv1.CodePermissionDenied
		if k.code == codes.Unauthenticated {
			code = apiv1.CodeUnauthenticated
		}
		out = append(out, &apiv1.Refusal{Seq: f.seq, Method: k.method, Peer: f.peer, Caller: k.caller, ReplyCode: uint32(code), Msg: k.msg,
			Count: f.count, FirstUs: f.first.UnixMicro()})
	}
	slices.SortFunc(out, func(a, b *apiv1.Refusal) int { return int(a.FirstUs - b.FirstUs) })
	return out
}

// Taken says that some that were handed out are in the audit.
func (r *Refusals) Taken(seqs []uint64) {
	if len(seqs) == 0 {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.now()
	for _, f := range r.all {
		if f.seq == 0 || !slices.Contains(seqs, f.seq) {
			continue
		}
		f.count -= f.handed
		f.seq, f.handed, f.first, f.ready = 0, 0, now, now.Add(refusalPeriod)
	}
}

// Beats has the replies to monitors' heartbeats hand out refusals.
func (r *Refusals) Beats(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
	resp, err := handle(ctx, req)
	beat, is := req.(*apiv1.HeartbeatRequest)
	reply, ok := resp.(*apiv1.HeartbeatReply)
	if err == nil && is && ok && beat.TakesRefusals && CallerOf(ctx).Kind == pki.Monitor {
		r.Taken(beat.RefusalsTaken)
		reply.Refusals = r.Hand()
	}
	return resp, err
}

// RefusalEvent is a refusal as the audit has it; at is the program that has refused, "" for one
// that the event's object names.
func RefusalEvent(f *apiv1.Refusal, at string) vda.Event {
	text := f.Msg
	if f.Count > 1 {
		text = fmt.Sprintf("%s (%d times since %s)", text, f.Count, time.UnixMicro(f.FirstUs).UTC().Format(time.RFC3339))
	}
	if at != "" {
		text = at + " has refused: " + text
	}
	return vda.Event{Kind: vda.EventRefused, Code: f.ReplyCode, Text: text, Caller: vda.Caller{Method: f.Method, User: f.Caller, Peer: f.Peer}}
}
