package syncer

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/virtual-disk-array/vda"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/array"
	"github.com/virtual-disk-array/vda/reason"
	"github.com/virtual-disk-array/vda/store"
)

// Config is what a Syncer needs.
type Config struct {
	Store store.Store
	// Dial reaches the agents; usually a Pool.
	Dial Dialer
	// Timeout bounds one Sync call. Default 30 s: it waits for the objects it
	// names, but the agent goes on without it.
	Timeout time.Duration
	// FenceTimeout bounds the wait for the dns of an array before its primary
	// is told; one that does not answer still admits only the old primary.
	// Default 5 s.
	FenceTimeout time.Duration
	// Log gets what is worth a line; default slog.Default().
	Log *slog.Logger
}

// Syncer brings nodes to their desired state. Safe for concurrent use.
type Syncer struct{ cfg Config }

// New returns a Syncer.
func New(cfg Config) (*Syncer, error) {
	if cfg.Store == nil || cfg.Dial == nil {
		return nil, errors.New("syncer: Config needs a Store and a Dialer")
	}
	if cfg.Timeout <= 0 {
		cfg.Timeout = 30 * time.Second
	}
	if cfg.FenceTimeout <= 0 {
		cfg.FenceTimeout = 5 * time.Second
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	return &Syncer{cfg: cfg}, nil
}

// Scope is how much of a node's desired state a Sync sends.
type Scope uint8

// The scopes.
const (
	Changes  Scope = iota // what the agent has not carried out yet
	Full                  // all objects, whatever the agent seems to hold
	Emptying              // Full, and the node may be left without any object: a user wants it so
)

// Sync brings a node to its desired state and records what it answers. The
// error is about the node as a whole: not reachable, or it refused. An object
// that the node could not make is not an error here; its row's health says so.
func (s *Syncer) Sync(ctx context.Context, n array.Node, scope Scope) error {
	return s.sync(ctx, scope != Changes, func(base uint64) (*call, error) {
		c, err := s.build(ctx, n, base)
		if err == nil && scope == Emptying {
			c.allowEmpty()
		}
		return c, err
	})
}

// changes is a Sync of the Changes of nodes of a kind.
func (s *Syncer) changes(k vda.NodeKind) func(ctx context.Context, id string) error {
	return func(ctx context.Context, id string) error { return s.Sync(ctx, array.Node{Kind: k, ID: id}, Changes) }
}

// Bases that are not versions.
const (
	fromApplied = ^uint64(0) // what the agent has carried out
	fromNothing = 0
)

func (s *Syncer) sync(ctx context.Context, full bool, build func(base uint64) (*call, error)) error {
	base := uint64(fromApplied)
	if full {
		base = fromNothing
	}
	// A second round follows when the first changed the desired state, which
	// happens once in an array's life: it has been created.
	for round := 0; ; round++ {
		c, err := build(base)
		if err != nil {
			return err
		}
		c, reply, err := s.deliver(ctx, c, build)
		if err != nil {
			return err
		}
		again, err := s.noteReply(ctx, c, reply)
		if err != nil || !again || round == 2 {
			return err
		}
		base = fromApplied
	}
}

// rivals is how many other senders may overtake one delivery.
const rivals = 5

// deliver sends a request, and builds it again when the node does not hold its
// base, or holds a later version because another sender overtook this one. A
// node that is ahead of the database itself has its refusal returned. Errors of
// the node are those for which OfNode is true.
func (s *Syncer) deliver(ctx context.Context, c *call, build func(base uint64) (*call, error)) (*call, *apiv1.SyncReply, error) {
	reply, err := s.send(ctx, c)
	for range rivals {
		held, ok := staleVersion(err)
		if !ok || held <= c.GetVersion() && c.GetBaseVersion() == fromNothing {
			break
		}
		base := uint64(fromNothing)
		if held > c.GetVersion() {
			base = fromApplied
		}
		next, err2 := build(base)
		if err2 != nil {
			return c, nil, err2 // the database's, say; not the node's
		}
		if c = next; held > c.GetVersion() {
			break
		}
		reply, err = s.send(ctx, c)
	}
	if held, ok := staleVersion(err); ok && held > c.GetVersion() {
		switch next, err2 := s.resume(ctx, c, held, build); {
		case err2 != nil:
			return c, nil, err2
		case next != nil:
			c = next
			reply, err = s.send(ctx, c)
		}
	}
	if err != nil {
		return c, nil, nodeError(c.node, c.GetVersion(), err)
	}
	return c, reply, nil
}

// resume has the versions of a node that is new in the database continue from
// what its agent holds: it was a node of this cluster before, and a portal's
// clock, which gives the first version, may be behind; or the database was
// restored since, which makes versions leap. A node that has objects, or has
// carried anything out, is not one of these: its database is older than the node.
// It returns the call to make then, else nil.
func (s *Syncer) resume(ctx context.Context, c *call, held uint64, build func(base uint64) (*call, error)) (*call, error) {
	if vda.TooFar(held, c.GetVersion(), vda.MaxVersionAhead) {
		return nil, nil
	}
	raised := false
	err := s.cfg.Store.Update(ctx, func(tx store.Tx) (err error) {
		raised, err = array.Resume(tx, c.at, held)
		return err
	})
	if err != nil || !raised {
		return nil, err
	}
	s.cfg.Log.Info("versions continue from what the node holds", "node", c.node, "held", held)
	return build(fromNothing)
}

func (s *Syncer) send(ctx context.Context, c *call) (*apiv1.SyncReply, error) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	defer cancel()
	return c.send(ctx)
}

// staleVersion reads the version that an agent holds from its refusal of a
// delta.
func staleVersion(err error) (held uint64, ok bool) {
	st, _ := status.FromError(err)
	if st.Code() != codes.FailedPrecondition {
		return 0, false
	}
	for _, d := range st.Details() {
		if r, is := d.(*apiv1.SyncReply); is {
			return r.Version, true
		}
	}
	return 0, false
}

// nodeError says which node failed how, in a vda.Error. sent is the version that
// it was told.
func nodeError(node string, sent uint64, err error) error {
	st, _ := status.FromError(err)
	e := &vda.Error{Kind: vda.Internal, Op: opSync, Object: node, Msg: Reason(err)}
	switch st.Code() {
	case codes.Unavailable, codes.DeadlineExceeded, codes.Canceled:
		e.Kind = vda.Unavailable
	case codes.FailedPrecondition:
		e.Kind = vda.FailedPrecondition
		if held, ok := staleVersion(err); ok && held > sent && !vda.TooFar(held, sent, vda.MaxVersionAhead) {
			e.Msg += "; the database is older than what the node has seen, as after restoring a backup: see vda_db --action restored"
		}
	case codes.InvalidArgument:
		e.Kind = vda.InvalidArgument
	}
	return e
}

const notReachable = "agent not reachable: "

// Reason is an RPC's error as an operator should read it.
func Reason(err error) string {
	switch status.Code(err) {
	case codes.Unavailable:
		return notReachable + reason.Of(err)
	}
	return reason.Of(err)
}

// Refusal is why an agent did not carry out a Sync that it got, from the error
// of Sync; "" when it did, or when the agent or the database was
// not reached.
func Refusal(err error) string {
	var e *vda.Error
	switch {
	case !errors.As(err, &e), e.Op != opSync, strings.HasPrefix(e.Msg, notReachable):
		return ""
	case e.Kind == vda.Unavailable:
		return "sync: " + e.Msg
	}
	return "sync refused: " + e.Msg
}

const opSync = "sync"

// OfNode reports that an error of Sync is about the node: it was
// not reached, or refused. Others are about the database, or say that the
// object is gone.
func OfNode(err error) bool {
	var e *vda.Error
	return errors.As(err, &e) && e.Op == opSync
}
