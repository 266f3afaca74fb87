package agent

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/spdk"
)

// A pass over an object that a request, a watch, a lease or an error has named, or that
// follows another of its unit, asks the data plane for that object's names only, so that
// its cost does not grow with what else is on the node. Those that begin together, after
// a restart of either side or for a check, take lists, which they share.

// Names are those of all that a unit's pass looks at.
type Names struct {
	Bdevs       []string // or aliases
	Controllers []string
	Paths       []string // bdevs of controllers: see plane.Initiator
	Raids       []string
	NQNs        []string
}

const (
	// maxNames is how many questions one inventory may cost; for more, lists
	// are cheaper.
	maxNames = 64
	// maxNamed is how many inventories by name may be under way at once. Others wait for
	// their turn while that costs less than lists.
	maxNamed = 4
	// perQuestion is how many things in lists cost as much as a question by name: a
	// call has a cost of its own, on both sides.
	perQuestion = 3
)

func (n *Names) count() int {
	return len(n.Bdevs) + len(n.Controllers) + len(n.Paths) + 2*len(n.Raids) + len(n.NQNs)
}

type byNameKey struct{}

// ByName returns the context of a pass that asks for names.
func ByName(ctx context.Context) context.Context { return context.WithValue(ctx, byNameKey{}, true) }

func byName(ctx context.Context) bool { return ctx.Value(byNameKey{}) != nil }

// InventoryOf is Inventory for a pass that looks at some names only, and goes by
// name: see ByName. It may hold more than those. Where the data plane refuses a
// question in another way than by saying that there is no such thing, it is asked
// for lists, as one that does not know how to be asked for a name.
func (n *Node) InventoryOf(ctx context.Context, names Names) (*Inventory, error) {
	if err := n.Plane.Ready(); err != nil {
		return nil, err
	}
	if !byName(ctx) || names.count() > maxNames {
		return n.Inventory(ctx)
	}
	// After a restart of the data plane the last lists are short, and the next need not be.
	things := max(n.Plane.lister.size(), n.Loop.Len()*names.count())
	leave, mine, err := n.Plane.asking.enter(ctx, names.count(), things)
	if err != nil {
		return nil, err
	}
	if !mine {
		return n.Inventory(ctx)
	}
	defer leave()
	inv, err := n.Plane.listNamed(ctx, names)
	if refused := (*spdk.RPCError)(nil); errors.As(err, &refused) {
		n.Log.Debug("the data plane is asked for lists", "err", err)
		return n.Inventory(ctx)
	}
	return inv, err
}

// asking has inventories by name wait for their turn, unless so many wait that lists,
// which all of these share, cost less: then many units have been put to work together.
type asking struct {
	turns chan struct{}

	mu      sync.Mutex
	waiting int // questions of those that wait
}

// enter waits for a turn, which leave gives back; mine is false when lists of so many
// things are to be taken.
func (a *asking) enter(ctx context.Context, questions, things int) (leave func(), mine bool, err error) {
	leave = func() { <-a.turns }
	select {
	case a.turns <- struct{}{}:
		return leave, true, nil
	default:
	}
	a.mu.Lock()
	if (a.waiting+questions)*perQuestion > things {
		a.mu.Unlock()
		return nil, false, nil
	}
	a.waiting += questions
	a.mu.Unlock()
	defer func() {
		a.mu.Lock()
		a.waiting -= questions
		a.mu.Unlock()
	}()
	select {
	case a.turns <- struct{}{}:
		return leave, true, nil
	case <-ctx.Done():
		return nil, false, context.Cause(ctx)
	}
}

// listNamed asks for names, in one piece. What is not there is not in the inventory;
// any other error is one.
func (p *Plane) listNamed(ctx context.Context, names Names) (*Inventory, error) {
	inv := newInventory()
	inv.asked, inv.closed = map[string]bool{}, map[string]bool{}
	inv.lists = sync.OnceValues(func() (*Inventory, error) { return p.Inventory(ctx, time.Now()) })
	once := func(kind string, names []string, ask func(name string)) {
		for _, name := range names {
			if !inv.asked[kind+name] {
				inv.asked[kind+name] = true
				ask(name)
			}
		}
	}
	var q spdk.Questions
	once(bdevKind, slices.Concat(names.Bdevs, names.Raids), func(name string) { q.Bdev(name, inv.addBdev) })
	once(nqnKind, slices.Concat([]string{vda.OwnerNQN}, names.NQNs), func(nqn string) {
		q.Subsystem(nqn, func(s *spdk.NvmfSubsystem) { inv.subsystems[nqn] = s })
	})
	once(ctrlrKind, names.Controllers, func(name string) {
		q.Controller(name, func(c *spdk.NvmeController) { inv.controllers[c.Name] = c })
	})
	asks := []func() error{func() error { return q.Ask(ctx, p.together) }}
	var mu sync.Mutex
	once(pathKind, names.Paths, func(name string) {
		asks = append(asks, func() error {
			closed, err := p.Driver().ClosedPaths(ctx, name)
			mu.Lock()
			defer mu.Unlock()
			maps.Copy(inv.closed, closed)
			return Drop(err)
		})
	})
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
			categories = []string{"all"} // it does not say
		}
	}
	if categories[0] == "all" {
		clear(inv.raids)
	}
	var q spdk.Questions
	for _, c := range categories {
		q.Raids(c, func(r *spdk.Raid) { inv.raids[r.Name] = r })
	}
	return q.Ask(ctx, p.together)
}
