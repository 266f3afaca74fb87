package client

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/virtual-disk-array/vda"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/reason"
)

// Error is why a call failed. It wraps a *vda.Error with the kind, what was
// being done ("create da"), on what ("da0", "192.168.0.14:9720/pd0") and the
// portal's message.
type Error struct {
	// Code says what happened: the portal's reply_code, or CodeUnreachable when
	// no portal replied.
	Code apiv1.ReplyCode
	// Field is the field of the request that the message is about, as in
	// portal.proto; "" when it is about none.
	Field string
	// ReqID finds the request in the portal's log; "" when no portal replied.
	ReqID string
	// Portal is the address of the portal that replied, or was tried last.
	Portal string
	// Undecided: the change may have been carried out, or may still be. Get the
	// object to see how far it came. Never set for calls that only ask.
	Undecided bool
	// NotSent: the request cannot have reached a portal.
	NotSent bool

	err    *vda.Error
	status *status.Status
}

// Error says what was being done and why it failed, in one line.
func (e *Error) Error() string { return e.err.Error() } // reason: made of words by failure

// Unwrap returns the *vda.Error.
func (e *Error) Unwrap() error { return e.err }

// Message is what a portal said, or why none did: the error without what was
// being done.
func (e *Error) Message() string { return e.err.Msg }

// GRPCStatus is the status that gRPC's package status finds, with the portal's
// ReplyInfo in its details when there is one.
func (e *Error) GRPCStatus() *status.Status { return e.status }

// Is makes errors.Is find out that the time was up, or that the caller gave up.
func (e *Error) Is(target error) bool {
	switch target {
	case context.DeadlineExceeded:
		return e.status.Code() == codes.DeadlineExceeded
	case context.Canceled:
		return e.status.Code() == codes.Canceled
	}
	return false
}

// CodeOf is the code of an error of a call: CodeSuccess for nil, and
// CodeInternal for an error that is not a call's.
func CodeOf(err error) apiv1.ReplyCode {
	var e *Error
	switch {
	case err == nil:
		return apiv1.CodeSuccess
	case errors.As(err, &e):
		return e.Code
	}
	return apiv1.CodeInternal
}

// kinds are those of the codes.
var kinds = map[apiv1.ReplyCode]vda.Kind{
	apiv1.CodeInternal:           vda.Internal,
	apiv1.CodeInvalid:            vda.InvalidArgument,
	apiv1.CodeNotFound:           vda.NotFound,
	apiv1.CodeNameTaken:          vda.AlreadyExists,
	apiv1.CodeIdentical:          vda.AlreadyExists,
	apiv1.CodeNQNTaken:           vda.AlreadyExists,
	apiv1.CodeAddressTaken:       vda.AlreadyExists,
	apiv1.CodeFailedPrecondition: vda.FailedPrecondition,
	apiv1.CodeInUse:              vda.FailedPrecondition,
	apiv1.CodeNoRoom:             vda.ResourceExhausted,
	apiv1.CodeDatabase:           vda.Unavailable,
	apiv1.CodeBusy:               vda.Conflict,
	apiv1.CodeDeadline:           vda.Unavailable,
	apiv1.CodeCancelled:          vda.Unavailable,
	apiv1.CodeUnimplemented:      vda.FailedPrecondition,
	apiv1.CodeUnreachable:        vda.Unavailable,
	apiv1.CodeUnauthenticated:    vda.PermissionDenied,
	apiv1.CodePermissionDenied:   vda.PermissionDenied,
}

// open are the codes after which a change may have been made all the same: its
// commit was under way.
var open = []apiv1.ReplyCode{apiv1.CodeInternal, apiv1.CodeDatabase, apiv1.CodeDeadline, apiv1.CodeCancelled}

// replied is the portal's own word in an error, nil when it has none.
func replied(err error) *apiv1.ReplyInfo {
	for _, d := range status.Convert(err).Details() {
		if info, ok := d.(*apiv1.ReplyInfo); ok {
			return info
		}
	}
	return nil
}

// failure is the error of a call that ended with err at p; sent says that the
// portal may have got it.
func (c *Client) failure(ctx context.Context, what call, p portal, sent bool, err error) *Error {
	e := &Error{Portal: p.addr, status: status.Convert(err)}
	kind, msg := vda.Unavailable, ""
	if info := replied(err); info != nil {
		e.Code, e.ReqID, msg = apiv1.ReplyCode(info.ReplyCode), info.ReqId, info.ReplyMsg
		kind = kinds[e.Code] // Internal for one that a newer portal made
		e.Field = fieldOf(what.fields, msg)
		e.Undecided = !what.repeatable && (slices.Contains(open, e.Code) || kinds[e.Code] == vda.Internal)
	} else {
		e.Code, e.Undecided = apiv1.CodeUnreachable, !what.repeatable
		why := reason.Of(err)
		switch e.status.Code() {
		case codes.Unavailable:
			if msg = fmt.Sprintf("the portal at %s was lost before it replied: %s", p.addr, why); !sent {
				e.Undecided, e.NotSent = false, true
				msg = fmt.Sprintf("cannot reach the portal at %s: %s", c.tried(p), why)
			}
		case codes.DeadlineExceeded:
			msg = fmt.Sprintf("no reply from the portal at %s%s", p.addr, c.within(ctx))
		case codes.ResourceExhausted: // before it was read: it is too long, or too many are under way
			e.Code, e.Undecided, kind = apiv1.CodeNoRoom, false, vda.ResourceExhausted
			msg = fmt.Sprintf("the portal at %s does not take the request: %s", p.addr, why)
		case codes.Canceled:
			msg = "interrupted"
		default:
			msg = fmt.Sprintf("%s answers, but not as a VDA portal does: %s", p.addr, why)
		}
		if e.Undecided {
			msg += "; get or list the object to see how far it came"
		}
	}
	e.err = &vda.Error{Kind: kind, Op: what.op, Object: what.object, Msg: msg}
	return e
}

// tried is the portal that the error is about, with the others.
func (c *Client) tried(p portal) string {
	others := slices.DeleteFunc(slices.Clone(c.cfg.Portals), func(a string) bool { return a == p.addr })
	if len(others) == 0 {
		return p.addr
	}
	return fmt.Sprintf("%s, nor those at %s", p.addr, strings.Join(others, ", "))
}

// within says how long a reply was waited for, when that was the client's own
// time and not the caller's.
func (c *Client) within(ctx context.Context) string {
	if context.Cause(ctx) == errTimeout {
		return fmt.Sprintf(" within %v", c.cfg.Timeout)
	}
	return " in time"
}

// errTimeout is the cause of a context that Config.Timeout has ended.
var errTimeout = errors.New("the client's timeout is over")

// withTimeout is ctx within Config.Timeout.
func withTimeout(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, d, errTimeout)
}

var word = regexp.MustCompile(`[a-z0-9_]+`)

// fieldOf is the first field of a request that a message names; one without an
// underscore, which may be a word like others, only at its beginning.
func fieldOf(fields []string, msg string) string {
	for _, at := range word.FindAllStringIndex(msg, -1) {
		w := msg[at[0]:at[1]]
		if (at[0] == 0 || strings.Contains(w, "_")) && slices.Contains(fields, w) {
			return w
		}
	}
	return ""
}
