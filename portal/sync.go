package portal

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/virtual-disk-array/vda"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/array"
	"github.com/virtual-disk-array/vda/reason"
	"github.com/virtual-disk-array/vda/store"
	"github.com/virtual-disk-array/vda/syncer"
)

// node is a node to be brought to its desired state.
type node struct {
	array.Node
	name  string
	scope syncer.Scope
}

func nodeOf(k vda.NodeKind, n *vda.Node) node {
	return node{Node: array.Node{Kind: k, ID: n.ID}, name: n.Name}
}

func (n node) String() string { return n.Kind.Title(n.name) }

// whole asks for everything on the node; empty: it may be left with nothing.
func (n node) whole(empty bool) node {
	n.scope = syncer.Full
	if empty {
		n.scope = syncer.Emptying
	}
	return n
}

// whole asks for everything on the nodes.
func whole(nodes []node) {
	for i := range nodes {
		nodes[i].scope = syncer.Full
	}
}

// stepsOf are the nodes of each stage of a plan.
func stepsOf(tx store.Reader, plan array.Plan) ([][]node, error) {
	var ids []string
	for _, n := range plan.Nodes() {
		ids = append(ids, n.ID)
	}
	names, err := tx.NodeNames(ids)
	if err != nil {
		return nil, err
	}
	steps := make([][]node, len(plan))
	for i, stage := range plan {
		for _, n := range stage.Nodes {
			steps[i] = append(steps[i], node{Node: n, name: names[n.ID]})
		}
	}
	return steps, nil
}

// blameTime bounds the recording of a node's error.
const blameTime = 2 * time.Second

// syncTime bounds what a reply waits for nodes: the rest of the request's
// time, less a second to write the reply.
func (s *Server) syncTime(ctx context.Context) (context.Context, context.CancelFunc) {
	limit := s.cfg.SyncTimeout
	if deadline, ok := ctx.Deadline(); ok {
		limit = min(limit, max(time.Until(deadline)-time.Second, time.Until(deadline)/2))
	}
	return context.WithTimeout(ctx, limit)
}

// sync brings nodes to their desired state, at once, and returns one sentence
// for each that did not get there. Only what is the node's own fault is shown
// as its error.
func (s *Server) sync(ctx context.Context, nodes []node) []string {
	notes := make([]string, len(nodes))
	var wg sync.WaitGroup
	for i, n := range nodes {
		wg.Go(func() {
			err := s.cfg.Syncer.Sync(ctx, n.Node, n.scope)
			switch late := timeUp(ctx); {
			case err == nil:
			case reason.Database(err) != nil:
				notes[i] = fmt.Sprintf("it is not known whether %s is up to date (%s)", n, reason.Of(err))
			default:
				notes[i] = fmt.Sprintf("%s could not be brought up to date (%s)", n, because(err))
				if !late && syncer.OfNode(err) { // slow is not dead
					s.blame(n, because(err))
				}
			}
		})
	}
	wg.Wait()
	var failed []string
	for _, n := range notes {
		if n != "" {
			failed = append(failed, n)
		}
	}
	return failed
}

// timeUp reports that a call failed because ctx ended. The node's clock may
// have been the first to see it, by a moment.
func timeUp(ctx context.Context) bool {
	deadline, ok := ctx.Deadline()
	return ctx.Err() != nil || ok && time.Until(deadline) < 100*time.Millisecond
}

// because is why a node could not be synced, without its name.
func because(err error) string {
	var e *vda.Error
	if syncer.OfNode(err) && errors.As(err, &e) && e.Msg != "" {
		return e.Msg
	}
	return reason.Of(err)
}

// blame shows a node as in error from now on, rather than from the monitor's
// next heartbeat. It outlives the request, which the node's silence may have
// used up.
func (s *Server) blame(n node, why string) {
	ctx, cancel := context.WithTimeout(context.Background(), blameTime)
	defer cancel()
	err := s.cfg.Store.Update(ctx, func(tx store.Tx) error {
		return array.SetNodeHealth(tx, n.Node, vda.Health{Error: true, Msg: why, Since: time.Now().UTC()})
	})
	if err != nil && !isKind(err, vda.NotFound) {
		s.log.Warn("cannot record that a node is in error", "node", n.name, "err", err)
	}
}

// syncSteps runs groups of nodes one after the other and stops after one that
// failed: what follows would build on it.
func (s *Server) syncSteps(ctx context.Context, steps ...[]node) []string {
	ctx, cancel := s.syncTime(ctx)
	defer cancel()
	for _, nodes := range steps {
		if notes := s.sync(ctx, nodes); notes != nil {
			return notes
		}
	}
	return nil
}

// syncAll runs groups of nodes one after the other, whatever fails.
func (s *Server) syncAll(ctx context.Context, steps ...[]node) []string {
	ctx, cancel := s.syncTime(ctx)
	defer cancel()
	var notes []string
	for _, nodes := range steps {
		notes = append(notes, s.sync(ctx, nodes)...)
	}
	return notes
}

// done is the reply_info of a request that is in the database, but that not
// every node has carried out; nil when all have. remarks are of no
// concern to vda_monitor.
func done(what string, notes []string, remarks ...string) *apiv1.ReplyInfo {
	if len(notes)+len(remarks) == 0 {
		return nil
	}
	msg := what
	if len(notes) > 0 {
		msg += ", but " + strings.Join(notes, "; ") + "; vda_monitor keeps trying"
	}
	for _, r := range remarks {
		msg += "; " + r
	}
	return &apiv1.ReplyInfo{ReplyMsg: reason.Words(msg)}
}

// shown is what a request has made or changed, as it is by now, or else as it
// was made. The request is carried out: that it cannot be read any more, since
// another one has deleted it or the database does not answer, is a remark.
func shown[T any](now T, err error, made T) (T, []string) {
	switch {
	case err == nil:
		return now, nil
	case isKind(err, vda.NotFound):
		return made, []string{"another request has deleted it since"}
	}
	return made, []string{"it is shown as it was made, as what it is now cannot be read (" + reason.Of(err) + ")"}
}

// update runs fn in a transaction. A name that another portal took at the same
// moment is looked at once more, so that an identical request is told apart.
func (s *Server) update(ctx context.Context, fn func(tx store.Tx) error) error {
	a := auditOf(ctx)
	record := func(tx store.Tx) error {
		if err := fn(tx); err != nil {
			return err
		}
		return a.record(tx)
	}
	err := s.cfg.Store.Update(ctx, record)
	if _, ours := err.(coded); err != nil && !ours && isKind(err, vda.AlreadyExists) {
		err = s.cfg.Store.Update(ctx, record)
	}
	a.wrote(err)
	return err
}

func (s *Server) view(ctx context.Context, fn func(tx store.Reader) error) error {
	return s.cfg.Store.View(ctx, fn)
}
