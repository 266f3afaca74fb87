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
	// is told; one that doesn't answer still admits only the old primary.
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

// SyncDn brings a dn to its desired state and records what it answers. The
// error is about the node as a whole: not reachable, or it refused. An object
// that the node could not make is no error here; its row's health says so.
func (s *Syncer) SyncDn(ctx context.Context, dnID string) error {
	return s.sync(ctx, false, func(base uint64) (*call, error) { return s.buildDn(ctx, dnID, base) })
}

// SyncCn is SyncDn for a cn.
func (s *Syncer) SyncCn(ctx context.Context, cnID string) error {
	return s.sync(ctx, false, func(base uint64) (*call, error) { return s.buildCn(ctx, cnID, base) })
}

// FullDn is SyncDn with all objects, whatever the agent seems to hold.
func (s *Syncer) FullDn(ctx context.Context, dnID string) error {
	return s.sync(ctx, true, func(base uint64) (*call, error) { return s.buildDn(ctx, dnID, base) })
}

// FullCn is SyncCn with all objects.
func (s *Syncer) FullCn(ctx context.Context, cnID string) error {
	return s.sync(ctx, true, func(base uint64) (*call, error) { return s.buildCn(ctx, cnID, base) })
}

// EmptyDn is FullDn that may leave the node without any object, as a user wants
// it: one was added that still has objects of a former life.
func (s *Syncer) EmptyDn(ctx context.Context, dnID string) error {
	return s.sync(ctx, true, func(base uint64) (*call, error) {
		c, err := s.buildDn(ctx, dnID, base)
		if err == nil {
			c.allowEmpty()
		}
		return c, err
	})
}

// EmptyCn is EmptyDn for a cn.
func (s *Syncer) EmptyCn(ctx context.Context, cnID string) error {
	return s.sync(ctx, true, func(base uint64) (*call, error) {
		c, err := s.buildCn(ctx, cnID, base)
		if err == nil {
			c.allowEmpty()
		}
		return c, err
	})
}

// call is one request to one agent.
type call struct {
	at      array.Node
	node    string // dn or cn, and name
	version uint64
	base    uint64
	send    func(context.Context) (*apiv1.SyncReply, error)
	// allowEmpty says in the request that the node may be left without objects.
	allowEmpty func()
	// apply records the reply; again: it changed the desired state.
	apply func(tx store.Tx, reply *apiv1.SyncReply) (again bool, err error)
}

// Bases that are no version.
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
		again := false
		err = s.cfg.Store.Update(ctx, func(tx store.Tx) (err error) {
			again, err = c.apply(tx, reply)
			return err
		})
		if err != nil || !again || round == 2 {
			return err
		}
		base = fromApplied
	}
}

// rivals is how many other senders may overtake one delivery.
const rivals = 5

// deliver sends a request, and builds it again when the node doesn't hold its
// base, or holds a later version because another sender overtook this one. A
// node that is ahead of the database itself has its refusal returned. Errors of
// the node are those for which OfNode is true.
func (s *Syncer) deliver(ctx context.Context, c *call, build func(base uint64) (*call, error)) (*call, *apiv1.SyncReply, error) {
	reply, err := s.send(ctx, c)
	for range rivals {
		held, ok := staleVersion(err)
		if !ok || held <= c.version && c.base == fromNothing {
			break
		}
		base := uint64(fromNothing)
		if held > c.version {
			base = fromApplied
		}
		next, err2 := build(base)
		if err2 != nil {
			return c, nil, err2 // the database's, say; not the node's
		}
		if c = next; held > c.version {
			break
		}
		reply, err = s.send(ctx, c)
	}
	if held, ok := staleVersion(err); ok && held > c.version {
		switch next, err2 := s.resume(ctx, c, held, build); {
		case err2 != nil:
			return c, nil, err2
		case next != nil:
			c = next
			reply, err = s.send(ctx, c)
		}
	}
	if err != nil {
		return c, nil, nodeError(c, err)
	}
	return c, reply, nil
}

// resume has the versions of a node that is new in the database continue from
// what its agent holds: it was a node of this cluster before, and a portal's
// clock, which gives the first version, may be behind; or the database was
// restored since, which makes versions leap. A node that has objects, or has
// carried anything out, is none of these: its database is older than the node.
// It returns the call to make then, else nil.
func (s *Syncer) resume(ctx context.Context, c *call, held uint64, build func(base uint64) (*call, error)) (*call, error) {
	if vda.TooFar(held, c.version, vda.MaxVersionAhead) {
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

// nodeError says which node failed how, in a vda.Error.
func nodeError(c *call, err error) error {
	st, _ := status.FromError(err)
	e := &vda.Error{Kind: vda.Internal, Op: opSync, Object: c.node, Msg: Reason(err)}
	switch st.Code() {
	case codes.Unavailable, codes.DeadlineExceeded, codes.Canceled:
		e.Kind = vda.Unavailable
	case codes.FailedPrecondition:
		e.Kind = vda.FailedPrecondition
		if held, ok := staleVersion(err); ok && held > c.version {
			if !vda.TooFar(held, c.version, vda.MaxVersionAhead) {
				e.Msg += "; the database is older than what the node has seen, as after restoring a backup: see vda_db --action restored"
			}
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

func (s *Syncer) buildDn(ctx context.Context, dnID string, base uint64) (*call, error) {
	var req *apiv1.SyncDnRequest
	err := s.cfg.Store.View(ctx, func(tx store.Reader) error {
		dn, err := tx.DN(dnID)
		if err != nil {
			return err
		}
		from := base
		if base == fromApplied {
			from = dn.Applied
		}
		req, err = BuildDn(tx, dnID, from)
		return err
	})
	if err != nil {
		return nil, err
	}
	client, err := s.cfg.Dial.Dn(req.NodeName)
	if err != nil {
		return nil, err
	}
	return &call{
		at: array.Node{Kind: vda.DiskNode, ID: dnID}, node: "dn " + req.NodeName, version: req.Version, base: req.BaseVersion,
		allowEmpty: func() { req.AllowEmpty = true },
		send:       func(ctx context.Context) (*apiv1.SyncReply, error) { return client.Sync(ctx, req) },
		apply:      func(tx store.Tx, r *apiv1.SyncReply) (bool, error) { return false, ApplyDn(tx, req, r) },
	}, nil
}

func (s *Syncer) buildCn(ctx context.Context, cnID string, base uint64) (*call, error) {
	var req *apiv1.SyncCnRequest
	var unfenced []string
	err := s.cfg.Store.View(ctx, func(tx store.Reader) error {
		cn, err := tx.CN(cnID)
		if err != nil {
			return err
		}
		from := base
		if base == fromApplied {
			from = cn.Applied
		}
		req, unfenced, err = buildCn(tx, cnID, from)
		return err
	})
	if err != nil {
		return nil, err
	}
	client, err := s.cfg.Dial.Cn(req.NodeName)
	if err != nil {
		return nil, err
	}
	return &call{
		at: array.Node{Kind: vda.ControllerNode, ID: cnID}, node: "cn " + req.NodeName, version: req.Version, base: req.BaseVersion,
		allowEmpty: func() { req.AllowEmpty = true },
		send: func(ctx context.Context) (*apiv1.SyncReply, error) {
			s.fence(ctx, unfenced)
			return client.Sync(ctx, req)
		},
		apply: func(tx store.Tx, r *apiv1.SyncReply) (bool, error) { return ApplyCn(tx, req, r) },
	}, nil
}

// Refusal is why an agent did not carry out a Sync that it got, from the error
// of SyncDn or SyncCn; "" when it did, or when the agent or the database was
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

// OfNode reports that an error of SyncDn or SyncCn is about the node: it was
// not reached, or refused. Others are about the database, or say that the
// object is gone.
func OfNode(err error) bool {
	var e *vda.Error
	return errors.As(err, &e) && e.Op == opSync
}
