package cn

import (
	"context"
	"slices"
	"time"

	"github.com/virtual-disk-array/vda/agent"
	"github.com/virtual-disk-array/vda/agent/plane"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/spdk"
)

// why is a reason for which paths are closed. It decides what else ends with the
// paths; everything that closes a path calls closePaths and gives one.
type why int

const (
	notUp         why = iota // a primary's volume cannot be had
	takingOver               // a primary's volume is about to be brought up
	takenDown                // what is below a primary's volume is about to go
	vdLost                   // what hosts send would be held for a vd
	ioHeld                   // something may be held since a vd was lost
	noLease                  // a primary must not go on without a lease
	primaryMoves             // a secondary stands by while its primary moves
	primaryAway              // a secondary does not reach its primary
	rewired                  // the connection behind one path is replaced
	snapshotTaken            // nothing may be written while a snapshot is taken
	unreserved               // hosts' reservations do not hold here
)

// closings says of each reason what it is in the log, and what ends beside the
// paths.
var closings = map[why]struct {
	words string
	links bool // I/O in flight on links (chain.go) ends before closePaths returns
	quiet bool // hosts have taken notice when closePaths returns
	hosts bool // the hosts' connections are closed, all at once
}{
	notUp:        {words: "the volume is not there", links: true},
	takingOver:   {words: "the disk array is being brought up", links: true},
	takenDown:    {words: "the disk array is being taken down", links: true},
	vdLost:       {words: "a vd is lost"},
	ioHeld:       {words: "I/O may be held since a vd was lost"},
	noLease:      {words: "the lease ran out and a vd is not connected", hosts: true},
	primaryMoves: {words: "the primary is about to move", quiet: true},
	primaryAway:  {words: "the primary is out of reach"},
	rewired:      {words: "the connection behind the path is replaced"},

	snapshotTaken: {words: "a snapshot is taken", links: true},
	unreserved:    {words: "reservations of its hosts do not hold here", links: true},
}

// closePaths makes the paths of exporters inaccessible, those of all when none
// is given: hosts wait, or go elsewhere, and do not fail. Paths that are not
// there, or closed, are left as they are. A pass without an inventory closes what
// there may be.
//
// Of a chain the last exporter comes first, and what is in flight on it has ended
// before the one it stands on is closed: it would be queued there for 10 s. Where
// a lost vd keeps it from ending, links are cut when all paths are closed; the
// connections to the vd are cutLost's.
func (p *pass) closePaths(ctx context.Context, why why, exps ...*apiv1.ExpSpec) error {
	how := closings[why]
	if how.hosts {
		return agent.Parallel(len(p.c.Exps), func(i int) error { return p.closeToHosts(ctx, why, p.c.Exps[i]) })
	}
	if exps == nil {
		exps = p.chain()
		slices.Reverse(exps)
	}
	end := plane.Drained
	if why == takenDown {
		gone, _ := p.backends()
		end = p.Plane.Driver().EndOfLinks(gone != nil)
	}
	for _, e := range exps {
		if e.Deleted || p.inv.Subsystem(e.Nqn) == nil {
			continue
		}
		if err := p.closePath(ctx, why, e); err != nil {
			return err
		}
		if how.links && end == plane.Drained && p.inv.Controller(linkPrefix+e.Id) != nil {
			if err := p.Plane.Driver().Drain(ctx, e.Nqn, 1); err != nil {
				return err
			}
		}
		if how.quiet {
			if err := p.Plane.Driver().AwaitQuiet(ctx, e.Nqn); err != nil {
				return err
			}
		}
	}
	if how.links && end == plane.Cut {
		for _, e := range p.c.Exps {
			if err := p.settle(ctx, linkPrefix+e.Id+"n1"); err != nil {
				return err
			}
		}
	}
	return nil
}

// closePath makes one path inaccessible.
func (p *pass) closePath(ctx context.Context, why why, e *apiv1.ExpSpec) error {
	if p.Plane.ANA(e.Nqn) == spdk.ANAInaccessible {
		return nil
	}
	err := p.Plane.SetANA(ctx, e.Nqn, spdk.ANAInaccessible)
	if err == nil {
		p.Log.Info("path is closed", "da", p.c.DaName, "exp", e.Name, "why", closings[why].words)
	}
	return err
}

// closeToHosts makes one path inaccessible and closes the connections of its
// hosts. They may come back, and find the path inaccessible until it is opened.
func (p *pass) closeToHosts(ctx context.Context, why why, e *apiv1.ExpSpec) error {
	if _, others := p.elsewhere(nqnName+e.Nqn, e.EsId); e.Deleted || others {
		return nil
	}
	if err := p.closePath(ctx, why, e); err != nil {
		if spdk.IsInvalidParams(err) {
			return nil // not exported
		}
		return err
	}
	sub, err := p.Plane.NvmfGetSubsystem(ctx, e.Nqn) // hosts come back to prove what they had to before
	if spdk.IsNoSuchDevice(err) {
		return nil
	}
	if err != nil {
		return err
	}
	hosts := append(p.secondaries(e), e.Hosts()...)
	listed := slices.DeleteFunc(sub.Hosts, func(h spdk.NvmfHost) bool { return !slices.Contains(hosts, h.NQN) })
	return agent.Parallel(len(listed), func(i int) error {
		return p.disconnect(ctx, e.Nqn, listed[i])
	})
}

// disconnect closes a host's connections and admits the host again at once: Linux
// gives a path up for good when it comes back and is refused. To remove a host
// takes as long as its I/O, which may wait for a dn, but the data plane strikes
// the host off its list first.
func (p *pass) disconnect(ctx context.Context, nqn string, host spdk.NvmfHost) error {
	removed := make(chan error, 1)
	go func() {
		removed <- agent.Guard(func() error { return p.Plane.NvmfSubsystemRemoveHost(ctx, nqn, host.NQN) })
	}()
	for gone := false; !gone; {
		select {
		case err := <-removed:
			if spdk.IsInvalidParams(err) {
				return nil // it was not admitted
			}
			if err != nil {
				return err
			}
			gone = true
		case <-time.After(readmitInterval):
		}
		// Before it has been struck off, adding it is an error.
		switch err := p.Plane.NvmfSubsystemAddHost(ctx, nqn, host.NQN, host.Keys); {
		case err == nil:
			if err := p.Plane.Readmitted(ctx, nqn, host); err != nil {
				return err
			}
		case gone:
			return p.Plane.Readmit(ctx, nqn, host)
		}
	}
	return nil
}

// readmitInterval is how often a host that is being removed is added again.
const readmitInterval = 10 * time.Millisecond
