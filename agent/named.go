package agent

import (
	"context"
	"sync"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/spdk"
)

// A pass that the desired set's change of one object has brought about asks the
// data plane for that object's names only, so that its cost does not grow with
// what else is on the node. Whoever looks at all units asks for lists.

// Names are those of all that a unit's pass looks at.
type Names struct {
	Bdevs       []string // or aliases
	Controllers []string
	Paths       []string // bdevs of controllers: see ClosedPaths
	Raids       []string
	NQNs        []string
}

const (
	// maxNames is how many questions one inventory may cost; for more, lists
	// are cheaper.
	maxNames = 64
	// maxNamed is how many inventories by name may be under way at once. The
	// others share lists: many units have been put to work together.
	maxNamed = 4
)

func (n *Names) count() int {
	return len(n.Bdevs) + len(n.Controllers) + len(n.Paths) + 2*len(n.Raids) + len(n.NQNs)
}

// listsKey is a context's key: the pass is one of many, see Loop.KickAll.
type listsKey struct{}

// InventoryOf is Inventory for a pass that looks at some names only. It may
// hold more than those.
func (n *Node) InventoryOf(ctx context.Context, names Names) (*Inventory, error) {
	if err := n.Plane.Ready(); err != nil {
		return nil, err
	}
	if ctx.Value(listsKey{}) != nil || names.count() > maxNames {
		return n.Inventory(ctx)
	}
	select {
	case n.Plane.named <- struct{}{}:
		defer func() { <-n.Plane.named }()
		return n.Plane.listNamed(ctx, names)
	default:
		return n.Inventory(ctx)
	}
}

// listNamed asks for names at once. What is not there is not in the inventory;
// any other error is one.
func (p *Plane) listNamed(ctx context.Context, names Names) (*Inventory, error) {
	names.NQNs = append([]string{vda.OwnerNQN}, names.NQNs...)
	inv := newInventory()
	inv.asked, inv.closed = map[string]bool{}, map[string]bool{}
	var mu sync.Mutex
	var asks []func() error
	ask := func(kind string, names []string, f func(name string) (found func(), err error)) {
		for _, name := range names {
			if inv.asked[kind+name] {
				continue
			}
			inv.asked[kind+name] = true
			asks = append(asks, func() error {
				found, err := f(name)
				if err != nil {
					return Drop(err)
				}
				mu.Lock()
				defer mu.Unlock()
				found()
				return nil
			})
		}
	}
	bdev := func(name string) (func(), error) {
		b, err := p.BdevGet(ctx, name, 0)
		return func() { inv.addBdev(b) }, err
	}
	ask(bdevKind, names.Bdevs, bdev)
	ask(bdevKind, names.Raids, bdev)
	ask(nqnKind, names.NQNs, func(nqn string) (func(), error) {
		s, err := p.NvmfGetSubsystem(ctx, nqn)
		return func() { inv.subsystems[nqn] = s }, err
	})
	if p.Able().NVMe {
		ask(ctrlrKind, names.Controllers, func(name string) (func(), error) {
			c, err := p.BdevNvmeGetController(ctx, name)
			return func() { inv.controllers[name] = c }, err
		})
	}
	if p.Able().CutNVMe {
		ask(pathKind, names.Paths, func(name string) (func(), error) {
			l, err := p.BdevNvmeGetIOPathsOf(ctx, name)
			return func() { addClosed(inv.closed, l) }, err
		})
	} else {
		for _, name := range names.Paths {
			inv.asked[pathKind+name] = true // none is closed
		}
	}
	if p.agent == "dn" { // as many as disks, and a copy's counts
		asks = append(asks, func() error { return p.listLvstores(ctx, inv) })
	}
	if err := Parallel(len(asks), func(i int) error { return asks[i]() }); err != nil {
		return nil, err
	}
	if err := p.namedRaids(ctx, inv, names.Raids); err != nil {
		return nil, err
	}
	return inv, p.ownStill(ctx, inv)
}

// namedRaids finds raids by name. One that is online is a bdev, which says what
// it is made of. One that has lost a member, or never had it, may have none: of
// these there are few, and they are listed, after the bdevs, so that one which
// fails meanwhile is found.
func (p *Plane) namedRaids(ctx context.Context, inv *Inventory, names []string) error {
	if len(names) == 0 {
		return nil
	}
	categories := []string{"configuring", "offline"}
	for _, name := range names {
		inv.asked[raidKind+name] = true
		b := inv.Bdev(name)
		if b == nil {
			continue
		}
		if inv.raids[name] = b.Raid(); inv.raids[name] == nil {
			categories = []string{"all"} // it doesn't say
		}
	}
	lists := make([][]spdk.Raid, len(categories))
	if err := Parallel(len(categories), func(i int) (err error) {
		lists[i], err = p.BdevRaidGetBdevs(ctx, categories[i])
		return err
	}); err != nil {
		return err
	}
	if categories[0] == "all" {
		clear(inv.raids)
	}
	for _, l := range lists {
		for i := range l {
			inv.raids[l[i].Name] = &l[i]
		}
	}
	return nil
}
