package agent

import (
	"context"
	"fmt"
	"strings"

	"github.com/google/uuid"

	"github.com/virtual-disk-array/vda/agent/plane"
	"github.com/virtual-disk-array/vda/spdk"
)

// ensureNamespace gives a subsystem its namespace; open says that it listens. How
// a namespace changes its bdev is in the comment of package plane.
func (p *Plane) ensureNamespace(ctx context.Context, inv *Inventory, sub *spdk.NvmfSubsystem, open bool, e Export) error {
	id, err := uuid.Parse(e.UUID)
	if e.Bdev != "" && err != nil {
		return fmt.Errorf("namespace uuid %q: %w", e.UUID, err)
	}
	have := false
	var stale []spdk.NvmfNamespace
	for _, ns := range sub.Namespaces {
		if e.has(inv, ns) {
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
		if same && p.Driver().Swap(ctx, e.NQN, 1, e.Bdev) {
			return nil
		}
		if err := p.Driver().Quiesce(ctx, plane.Namespace{NQN: e.NQN, NSID: old.NSID, Bdev: old.BdevName, Settle: e.Settle}); err != nil {
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

// has reports that ns is the namespace that e says.
func (e *Export) has(inv *Inventory, ns spdk.NvmfNamespace) bool {
	id, err := uuid.Parse(e.UUID)
	return err == nil && ns.NSID == 1 && e.Bdev != "" && inv.isBdev(ns.BdevName, e.Bdev) && sameUUID(ns.UUID, id)
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
