package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/spdk"
)

// A data plane has one owner, for two agents that make it match two desired
// sets remove each other's objects for ever. Two things keep a second one away:
//
//   - a lock on the file SOCKET.vda-agent, held while the agent runs. It ends
//     with the process, so a successor never finds it taken by the dead;
//   - a mark in the data plane while it holds something of the node's, a
//     subsystem that listens nowhere and admits nobody: its serial number is the
//     first 16 digits of the cluster's id, its model number the kind and id of the
//     node. It keeps an agent away that comes by another path to the socket, or
//     while the owner is down. It ends with the data plane's run, and the owner
//     makes it again.

// holder is what the lock file says of who holds it.
type holder struct {
	Agent    string `json:"agent"` // "dn" or "cn"
	PID      int    `json:"pid"`
	StateDir string `json:"state_dir"`
	Cluster  string `json:"cluster_id,omitempty"`
	Node     string `json:"node_id,omitempty"`
}

func (h holder) String() string {
	s := fmt.Sprintf("vda_%s_agent, process %d, state directory %s", h.Agent, h.PID, h.StateDir)
	if h.Node != "" {
		s += fmt.Sprintf(", node %s of cluster %s", h.Node, h.Cluster)
	}
	return s
}

// lockSocket locks the data plane's socket for this agent. What cannot be locked
// for want of permissions is left to the mark.
func (p *Plane) lockSocket() error {
	path, err := filepath.EvalSymlinks(p.cfg.Socket)
	if err != nil {
		return fmt.Errorf("sock-path: %w", err)
	}
	path += ".vda-agent"
	f, err := openLock(path)
	if err != nil {
		p.log.Warn("the data plane cannot be locked against a second agent; give this agent write access to the directory of its socket",
			"err", err)
		return nil
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return errors.Join(&ForeignError{fmt.Sprintf("sock-path %s: the data plane is another agent's (%s); give each agent the socket of "+
			"its own data plane",
			p.cfg.Socket, lockedBy(f))}, f.Close())
	}
	p.lock = f
	p.signLock()
	return nil
}

// openLock opens a lock file, which it makes when it is not there. In a
// directory like /tmp root may open other users' files but not with O_CREAT.
func openLock(path string) (*os.File, error) {
	for {
		f, err := os.OpenFile(path, os.O_RDWR|syscall.O_NOFOLLOW|syscall.O_CLOEXEC, 0)
		if !errors.Is(err, os.ErrNotExist) {
			return f, err
		}
		f, err = os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL|syscall.O_CLOEXEC, 0o600)
		if !errors.Is(err, os.ErrExist) {
			return f, err
		}
	}
}

func lockedBy(f *os.File) string {
	raw, err := io.ReadAll(io.NewSectionReader(f, 0, 4096))
	var h holder
	if err != nil || json.Unmarshal(raw, &h) != nil {
		return "it does not say which"
	}
	return h.String()
}

// signLock writes into the lock file who holds it.
func (p *Plane) signLock() {
	cluster, node, _ := p.identity()
	h := holder{p.agent, os.Getpid(), p.cfg.StateDir, cluster, node}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.lock == nil || p.signed == h {
		return
	}
	raw, err := json.Marshal(h)
	if err == nil {
		raw = append(raw, '\n')
		_, err = p.lock.WriteAt(raw, 0)
	}
	if err == nil {
		err = p.lock.Truncate(int64(len(raw)))
	}
	if err != nil {
		p.log.Warn("the lock of the data plane does not say whose it is", "err", err)
	}
	p.signed = h
}

func (p *Plane) identity() (cluster, node, former string) {
	if p.State == nil {
		return "", "", ""
	}
	return p.State.owner()
}

// holds reports that the node has objects.
func (p *Plane) holds() bool {
	switch {
	case p.Holds != nil:
		return p.Holds()
	case p.State == nil:
		return false
	}
	return p.State.holds()
}

// mark is what an owner's mark says.
type mark struct{ cluster, node string }

func (p *Plane) markOf(cluster, node string) mark {
	return mark{clusterDigits(cluster), p.agent + " " + node}
}

// clusterDigits is how much of a cluster's id stands in the names of things.
func clusterDigits(cluster string) string {
	digits := strings.ReplaceAll(cluster, "-", "")
	return digits[:min(16, len(digits))]
}

func (m mark) String() string { return fmt.Sprintf("%s of cluster %s", m.node, m.cluster) }

// own makes sure that the data plane is this agent's, and marks it while the
// node has objects. An agent that does not know yet who it is marks nothing.
// sub is the mark as lists had it that may be old by now.
func (p *Plane) own(ctx context.Context, sub *spdk.NvmfSubsystem) error {
	cluster, node, _ := p.identity()
	if cluster == "" {
		return nil
	}
	p.signLock()
	if marked := sub != nil && markIn(sub) == p.markOf(cluster, node); marked || sub == nil {
		if marked == p.holds() {
			return nil
		}
	}
	return p.ownNow(ctx)
}

func markIn(s *spdk.NvmfSubsystem) mark { return mark{s.SerialNumber, s.ModelNumber} }

// setMark is own for the mark as the data plane has it now; p.marking is held.
func (p *Plane) setMark(ctx context.Context, sub *spdk.NvmfSubsystem) error {
	cluster, node, former := p.identity()
	if cluster == "" {
		return nil
	}
	p.signLock()
	want := p.markOf(cluster, node)
	holds := p.holds()
	if sub != nil {
		have := markIn(sub)
		switch {
		case have != want && have != p.markOf(cluster, former):
			return p.foreign(have, want)
		case have == want && holds:
			return nil
		}
		if err := p.DropSubsystem(ctx, vda.OwnerNQN); err != nil {
			return err
		}
	}
	if !holds {
		return nil
	}
	err := p.probes.NvmfCreateSubsystem(ctx, spdk.NvmfSubsystemCreate{
		NQN: vda.OwnerNQN, SerialNumber: want.cluster, ModelNumber: want.node, MaxNamespaces: 1,
	})
	if err == nil {
		p.log.Info("the data plane is marked as this node's", "cluster", cluster, "node", node)
		return nil
	}
	subs, listErr := p.probes.NvmfGetSubsystems(ctx)
	if listErr != nil {
		return listErr
	}
	for _, s := range subs {
		if have := (mark{s.SerialNumber, s.ModelNumber}); s.NQN == vda.OwnerNQN && have != want {
			return p.foreign(have, want)
		} else if s.NQN == vda.OwnerNQN {
			return nil // somebody else of this agent was faster
		}
	}
	return fmt.Errorf("the data plane cannot be marked as this node's: %w", err)
}

// ForeignError says that the data plane is another agent's.
type ForeignError struct{ msg string }

func (e *ForeignError) Error() string { return e.msg }

func (p *Plane) foreign(have, want mark) error {
	return &ForeignError{fmt.Sprintf("the data plane at %s is that of node %s; this agent is %s, state directory %s; give each agent the "+
		"socket of its own data plane (restarting a data plane takes its mark off)",
		p.cfg.Socket, have, want, p.cfg.StateDir)}
}

// ownNow is own with a question to the data plane. One at a time asks and acts
// on the answer: a mark that one is about to make, or is taking off, is neither
// there nor gone for the other.
func (p *Plane) ownNow(ctx context.Context) error {
	select {
	case p.marking <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	defer func() { <-p.marking }()
	subs, err := p.probes.NvmfGetSubsystems(ctx)
	if err != nil {
		return err
	}
	for i := range subs {
		if subs[i].NQN == vda.OwnerNQN {
			return p.setMark(ctx, &subs[i])
		}
	}
	return p.setMark(ctx, nil)
}

// releaseTimeout bounds Release.
const releaseTimeout = 5 * time.Second

// Release takes the mark off when the node has no object left. A caller that is
// told that the last one is gone finds nothing of ours: a pass that is cut short,
// which knows by then that it is gone, does this all the same. What fails here
// the next look at the data plane does.
func (p *Plane) Release(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), releaseTimeout)
	defer cancel()
	if err := p.ownNow(ctx); err != nil {
		p.log.Warn("the data plane keeps its owner's mark for now", "err", err)
	}
}

// MayServe refuses to let an agent that does not know who it is become a node
// while the data plane is another's.
func (n *Node) MayServe(ctx context.Context, cluster, node string) error {
	if have, _, _ := n.State.Identity(); have != "" || cluster == "" || node == "" {
		return nil // passes look
	}
	subs, err := n.Plane.probes.NvmfGetSubsystems(ctx)
	if err != nil {
		return nil // as they do when it is back
	}
	for _, s := range subs {
		have, want := mark{s.SerialNumber, s.ModelNumber}, n.Plane.markOf(cluster, node)
		if s.NQN == vda.OwnerNQN && have != want {
			return vda.Errorf(vda.FailedPrecondition, "%v", n.Plane.foreign(have, want))
		}
	}
	return nil
}
