package syncer

import (
	"context"
	"fmt"

	"google.golang.org/grpc"

	"github.com/virtual-disk-array/vda"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/array"
	"github.com/virtual-disk-array/vda/rpc"
	"github.com/virtual-disk-array/vda/store"
)

// What differs between a dn and a cn, when either is brought to its desired
// state, is in this file and in build.go and apply.go.

// request is what is sent to a node of one kind, and how the answer is recorded.
type request interface {
	GetVersion() uint64
	GetBaseVersion() uint64
	// allowEmpty says in the request that the node may be left without objects.
	allowEmpty()
	dial(d Dialer, at vda.At) error
	send(context.Context) (*apiv1.SyncReply, error)
	// objects is how many vds or controllers it names.
	objects() int
	// look has p know how far the node has come.
	look(p *progress)
	// news returns the request with only the objects of which an answer changes something, and
	// whether there are any.
	news(tx store.Reader, reply *apiv1.SyncReply, p *progress) (left request, any bool, err error)
	// apply records a part of the reply; again: it changed the desired state.
	apply(tx store.Tx, reply *apiv1.SyncReply, p *progress, at part) (again bool, err error)
}

type dnRequest struct {
	*apiv1.SyncDnRequest
	client apiv1.DnAgentClient
}

func (r *dnRequest) allowEmpty() { r.AllowEmpty = true }

func (r *dnRequest) dial(d Dialer, at vda.At) (err error) {
	r.client, err = d.Dn(at)
	return err
}

func (r *dnRequest) send(ctx context.Context) (*apiv1.SyncReply, error) {
	return r.client.Sync(ctx, r.SyncDnRequest)
}

func (r *dnRequest) objects() int { return len(r.Vds) }

func (r *dnRequest) apply(tx store.Tx, reply *apiv1.SyncReply, p *progress, at part) (bool, error) {
	return false, applyDn(tx, r.SyncDnRequest, reply, p, at)
}

type cnRequest struct {
	*apiv1.SyncCnRequest
	client apiv1.CnAgentClient
	fences fences
	fence  func(context.Context, fences)
}

func (r *cnRequest) allowEmpty() { r.AllowEmpty = true }

func (r *cnRequest) dial(d Dialer, at vda.At) (err error) {
	r.client, err = d.Cn(at)
	return err
}

func (r *cnRequest) send(ctx context.Context) (*apiv1.SyncReply, error) {
	r.fence(ctx, r.fences)
	return r.client.Sync(ctx, r.SyncCnRequest)
}

func (r *cnRequest) objects() int { return len(r.Cntlrs) }

func (r *cnRequest) apply(tx store.Tx, _ *apiv1.SyncReply, p *progress, at part) (bool, error) {
	return applyCn(tx, r.SyncCnRequest, p, at)
}

// call is one request to one agent.
type call struct {
	at   array.Node
	node string // its kind and name
	request
}

// build makes the request that brings a node from version base, or from
// fromApplied, to the present one.
func (s *Syncer) build(ctx context.Context, n array.Node, base uint64) (*call, error) {
	c, at := &call{at: n}, vda.At{}
	err := s.cfg.Store.View(ctx, func(tx store.Reader) error {
		row, err := tx.Node(n.Kind, n.ID)
		if err != nil {
			return err
		}
		from := base
		if base == fromApplied {
			from = row.Applied
		}
		at, c.node = row.At(n.Kind), n.Kind.Title(row.Name)
		if n.Kind == vda.DiskNode {
			req, err := BuildDn(tx, n.ID, from)
			c.request = &dnRequest{SyncDnRequest: req}
			return err
		}
		req, fences, err := buildCn(tx, n.ID, from)
		c.request = &cnRequest{SyncCnRequest: req, fences: fences, fence: s.fenceFirst}
		return err
	})
	if err != nil {
		return nil, err
	}
	return c, c.dial(s.cfg.Dial, at)
}

// Agent is what the agents of both kinds of nodes can be asked.
type Agent interface {
	rpc.Beating
	Orphans(ctx context.Context, in *apiv1.OrphansRequest, opts ...grpc.CallOption) (*apiv1.OrphansReply, error)
}

// DialAgent reaches the agent of a node.
func DialAgent(d Dialer, at vda.At) (Agent, error) {
	switch vda.NodeKind(at.Kind) {
	case vda.DiskNode:
		return d.Dn(at)
	case vda.ControllerNode:
		return d.Cn(at)
	}
	return nil, fmt.Errorf("%q is not a kind of node", at.Kind)
}
