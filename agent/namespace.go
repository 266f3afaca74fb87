package agent

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/virtual-disk-array/vda/spdk"
)

// A namespace that changes its bdev. vda_tgt swaps the bdev in one step. SPDK
// can remove a namespace and add one with the same identity, and has two traps:
// removing waits for the I/O in flight, and what arrives meanwhile or while
// there is no namespace is answered with Invalid Namespace and Do Not Retry,
// which a host takes for an I/O error. So, all with the path inaccessible:
//
//  1. what is queued for a backend that is away is failed (Export.Settle);
//  2. Drain waits until nothing is in flight. Hosts repeat what has failed on
//     the same path, and meet the ANA status, which sends them elsewhere;
//  3. AwaitQuiet waits until no host sends anything on the path any more;
//  4. remove and add go out together, so that hosts that look just then find
//     the namespace gone for some microseconds only. They would drop the disk
//     if they found it gone on every path at once.

const (
	// hostNotice is the least time from the ANA change to the removal of the
	// namespace. Hosts are told at once and take a millisecond.
	hostNotice = 50 * time.Millisecond
	// quietFor is how long the target must have answered no I/O.
	quietFor = 20 * time.Millisecond
	// quietMax bounds the wait for that: other subsystems may be busy, and
	// SPDK counts them together.
	quietMax = 150 * time.Millisecond
	// quietStep is the polling interval; SPDK answers every 4 ms at best.
	quietStep = 5 * time.Millisecond
)

// noBdev is a name that no bdev has.
const noBdev = "vda-none"

// ensureNamespace gives a subsystem its namespace; open says that it listens.
func (p *Plane) ensureNamespace(ctx context.Context, inv *Inventory, sub *spdk.NvmfSubsystem, open bool, e Export) error {
	id, err := uuid.Parse(e.UUID)
	if e.Bdev != "" && err != nil {
		return fmt.Errorf("namespace uuid %q: %w", e.UUID, err)
	}
	have := false
	var stale []spdk.NvmfNamespace
	for _, ns := range sub.Namespaces {
		if ns.NSID == 1 && e.Bdev != "" && inv.BdevName(ns.BdevName) == e.Bdev && sameUUID(ns.UUID, id) {
			have = true
		} else {
			stale = append(stale, ns)
		}
	}
	if len(stale) == 0 && (have || e.Bdev == "") {
		return nil
	}
	// Linux shows a namespace that came late only after an ANA change.
	if open {
		if err := p.SetANA(ctx, e.NQN, inaccessibleIf(e.ANAState)); err != nil {
			return err
		}
	}
	ns := spdk.NvmfNamespace{NSID: 1, BdevName: e.Bdev, UUID: id.String(), NGUID: strings.ToUpper(strings.ReplaceAll(id.String(), "-", ""))}
	if e.ANAState != "" {
		ns.ANAGrpID = ANAGroup
	}
	for _, old := range stale {
		same := old.NSID == 1 && e.Bdev != "" && sameUUID(old.UUID, id)
		if same && p.Able().SwapNamespace && p.VdaNvmfSwapNS(ctx, e.NQN, 1, e.Bdev) == nil {
			return nil
		}
		if err := p.Quiesce(ctx, e.NQN, old, e.Settle); err != nil {
			return err
		}
		if old.NSID == 1 && e.Bdev != "" {
			have = true
			err = p.NvmfSubsystemReplaceNS(ctx, e.NQN, 1, ns)
		} else {
			err = p.NvmfSubsystemRemoveNS(ctx, e.NQN, old.NSID)
		}
		if err != nil {
			return err
		}
	}
	if have || e.Bdev == "" {
		return nil
	}
	_, err = p.NvmfSubsystemAddNS(ctx, e.NQN, ns)
	return err
}

// Quiesce returns when a namespace of a path that has been made inaccessible
// can be removed without an error for a host; settle is Export.Settle.
func (p *Plane) Quiesce(ctx context.Context, nqn string, ns spdk.NvmfNamespace, settle func(ctx context.Context, bdev string) error) error {
	if p.Able().KeepsNamespace {
		return nil
	}
	if settle != nil {
		if err := settle(ctx, ns.BdevName); err != nil {
			return err
		}
	}
	if err := p.Drain(ctx, nqn, ns.NSID); err != nil {
		return err
	}
	return p.AwaitQuiet(ctx, nqn)
}

// RemoveNamespace takes a namespace off a path that has been made
// inaccessible; one that is not there is no error.
func (p *Plane) RemoveNamespace(ctx context.Context, nqn string, ns spdk.NvmfNamespace, settle func(ctx context.Context, bdev string) error) error {
	if err := p.Quiesce(ctx, nqn, ns, settle); err != nil {
		return err
	}
	if err := p.NvmfSubsystemRemoveNS(ctx, nqn, ns.NSID); err != nil && !spdk.IsInvalidParams(err) {
		return err
	}
	return nil
}

// Drain returns when what is in flight on a namespace has ended. Of the calls
// that make SPDK wait for that, and then go on with what has arrived
// meanwhile, one is there in all versions and changes nothing: to add a
// namespace under a number that is taken.
func (p *Plane) Drain(ctx context.Context, nqn string, nsid uint32) error {
	_, err := p.NvmfSubsystemAddNS(ctx, nqn, spdk.NvmfNamespace{NSID: nsid, BdevName: noBdev})
	if spdk.IsInvalidParams(err) {
		return nil
	}
	return err
}

// AwaitQuiet returns when hosts have had time to hear that a path is
// inaccessible and none sends I/O any more.
func (p *Plane) AwaitQuiet(ctx context.Context, nqn string) error {
	p.mu.Lock()
	told := p.anaAt[nqn].Add(hostNotice)
	p.mu.Unlock()
	begin := time.Now()
	var count uint64
	changed := begin
	for {
		n, err := p.NvmfCompletedIO(ctx)
		if err != nil {
			return err
		}
		now := time.Now()
		if n != count {
			count, changed = n, now
		}
		if now.After(told) && (now.Sub(changed) >= quietFor || now.Sub(begin) >= quietMax) {
			return nil
		}
		select {
		case <-time.After(quietStep):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func inaccessibleIf(ana string) string {
	if ana == "" {
		return ""
	}
	return spdk.ANAInaccessible
}

func sameUUID(text string, id uuid.UUID) bool {
	have, err := uuid.Parse(text)
	return err == nil && have == id
}
