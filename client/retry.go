package client

import (
	"context"
	"math"
	"regexp"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/virtual-disk-array/vda/reason"
	"github.com/virtual-disk-array/vda/rpc"
)

// A call is made again as long as its deadline allows, where that is safe: when
// the request cannot have reached a portal, or no portal has looked at it because it had
// too much to do, and when it only asks. A portal that
// is restarted, or a proxy before it, refuses or resets a connection for a
// moment.
const (
	minPause = 50 * time.Millisecond
	maxPause = time.Second
	// refusedFor is how long addresses are tried where nobody listens: after
	// that they are more likely to be wrong than the portals to come back.
	refusedFor = 3 * time.Second
	// hungUpFor is how long connections are made again that end before they are of use, as
	// those to a proxy do whose portal is restarted, or in the clear to a port with TLS.
	hungUpFor = 6 * time.Second
)

// call is what the errors of a call say about it.
type call struct {
	op, object string   // "create da", "da0"
	fields     []string // of the request
	repeatable bool     // may be carried out twice
}

// verbs are the first words of methods; those that change no object, so that
// they may be called twice, are true.
var verbs = map[string]bool{
	"Create": false, "Delete": false, "Undelete": false,
	"Modify": false, "Failover": false, "Adopt": false, "List": true, "Get": true, "Syncup": true,
	"Recover": false, "Drain": true, "Undrain": true, "Move": false, "Scrub": false, "Rollback": false,
	"Watch": true, "Dump": true,
}

// names are the fields that say which object a request is about.
var names = []protoreflect.Name{"dn_name", "cn_name", "da_name", "pd_name", "exp_name", "orphan_id", "vd_id", "user_name"}

// describe takes a method's name and a request apart.
func describe(method string, req any) call {
	method = method[strings.LastIndexByte(method, '/')+1:]
	c := call{op: method}
	list := false
	for verb, twice := range verbs {
		if noun, ok := strings.CutPrefix(method, verb); ok {
			c.op, c.repeatable = strings.ToLower(verb)+" "+strings.ToLower(noun), twice
			list = verb == "List"
		}
	}
	m, ok := req.(proto.Message)
	if !ok {
		return c
	}
	r := m.ProtoReflect()
	all := r.Descriptor().Fields()
	var object []string
	for i := range all.Len() {
		f := all.Get(i)
		c.fields = append(c.fields, string(f.Name()))
		if !list && slices.Contains(names, f.Name()) && r.Get(f).String() != "" {
			object = append(object, r.Get(f).String())
		}
	}
	c.object = strings.Join(object, "/")
	return c
}

// retry makes a call until a portal has answered it, ctx ends, or another
// attempt would not be safe: it has been sent.
func (c *Client) retry(ctx context.Context, what call, try func(portal) (sent bool, err error)) *Error {
	pause := minPause
	since, patience := time.Now(), time.Duration(0) // since when rounds fail so, and for how long they may
	for failed := 1; ; failed++ {
		at := c.current.Load()
		p := c.portals[at]
		sent, err := try(p)
		if err == nil {
			return nil
		}
		after, busy := rpc.RetryAfter(err) // busy: no portal has looked at it
		if replied(err) != nil || !busy && (status.Code(err) != codes.Unavailable || !what.repeatable && sent) {
			return c.failure(ctx, what, p, sent, err)
		}
		if busy {
			patience, pause = forever, max(pause, after)
		} else {
			patience = max(patience, patienceWith(sent, err))
		}
		c.current.CompareAndSwap(at, (at+1)%uint32(len(c.portals)))
		if failed%len(c.portals) != 0 {
			continue
		}
		switch {
		case patience == forever:
			since = time.Now()
		case time.Since(since) >= patience:
			return c.failure(ctx, what, p, sent, err)
		}
		patience = 0
		if end, limited := ctx.Deadline(); busy && limited && time.Until(end) < pause {
			return c.failure(ctx, what, p, sent, err)
		}
		wait := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			wait.Stop()
			return c.failure(ctx, what, p, sent, err) // it says more than that the time is up
		case <-wait.C:
		}
		pause = min(2*pause, maxPause)
	}
}

// forever is as long as the call's deadline allows.
const forever time.Duration = math.MaxInt64

// patienceWith is how long a call is made again that ended with err, while nothing better comes.
func patienceWith(sent bool, err error) time.Duration {
	msg := status.Convert(err).Message()
	words := reason.Of(err)
	switch {
	case sent:
		return forever // the portal was there
	case strings.Contains(words, reason.InTheClear), strings.Contains(words, reason.NoTLS):
		return 0 // TLS where there is none, or the reverse, stays so
	case strings.Contains(msg, "authentication handshake failed") && !hungUp.MatchString(words) && !strings.Contains(words, reason.NoAnswer):
		return 0 // the one that answers is not who it must be
	case strings.Contains(msg, "refused"):
		return refusedFor
	case hungUp.MatchString(words):
		return hungUpFor
	}
	return forever
}

// hungUp is what is said of a server that takes a connection and ends it.
var hungUp = regexp.MustCompile(`the connection was (?:closed|lost)|connection reset by peer|broken pipe`)
