package agent

import (
	"context"
	"errors"
	"maps"
	"sync"
	"time"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/reason"
	"github.com/virtual-disk-array/vda/spdk"
)

// Inventory is what the data plane held, as its lists said, or as it said of
// the names it was asked for. Its maps are shared: read only. Where a name is
// looked up that was not asked for, the lists are asked for now, so that nothing
// is taken for absent that may be there; the pass ends with the error if they
// do not come.
type Inventory struct {
	At        time.Time                // when it was asked for
	size      int                      // how many things the lists have; 0 of one by name
	Lvstores  map[string]*spdk.Lvstore // dn only: see plane.Setup
	LvstoreOn map[string]*spdk.Lvstore // dn only, by base bdev

	asked       map[string]bool            // kind and name; nil: all there is
	lists       func() (*Inventory, error) // of all there is; nil where asked is
	bdevs       map[string]*spdk.Bdev      // by name and by alias
	mirrors     *sync.Map                  // *spdk.Mirror by *spdk.Bdev, of those that were asked for
	controllers map[string]*spdk.NvmeController
	closed      map[string]bool       // see plane.Initiator
	raids       map[string]*spdk.Raid // cn only
	subsystems  map[string]*spdk.NvmfSubsystem
}

// Kinds of names.
const (
	bdevKind  = "bdev "
	ctrlrKind = "controller "
	pathKind  = "path of "
	raidKind  = "raid "
	nqnKind   = "subsystem "
)

func newInventory() *Inventory {
	return &Inventory{
		Lvstores: map[string]*spdk.Lvstore{}, LvstoreOn: map[string]*spdk.Lvstore{},
		bdevs: map[string]*spdk.Bdev{}, controllers: map[string]*spdk.NvmeController{}, raids: map[string]*spdk.Raid{},
		subsystems: map[string]*spdk.NvmfSubsystem{}, mirrors: new(sync.Map),
	}
}

// of returns the inventory that knows whether there is something of a name.
func (i *Inventory) of(kind, name string) *Inventory {
	if i.asked[kind+name] {
		return i
	}
	return i.all()
}

// all returns the inventory of all there is. It must not be called outside of
// Guard.
func (i *Inventory) all() *Inventory {
	if i.asked == nil {
		return i
	}
	inv, err := i.lists()
	if err != nil {
		panic(unlooked{err})
	}
	return inv
}

// Bdev returns a bdev by name or alias, nil when there is none.
func (i *Inventory) Bdev(nameOrAlias string) *spdk.Bdev {
	return i.of(bdevKind, nameOrAlias).bdevs[nameOrAlias]
}

// Mirror returns what a bdev says as a mirror, nil when there is no such bdev, or it is none.
// A pass asks for each of its mirrors many times: what a bdev says is read once.
func (i *Inventory) Mirror(name string) *spdk.Mirror {
	in := i.of(bdevKind, name)
	b := in.bdevs[name]
	if b == nil {
		return nil
	}
	m, known := in.mirrors.Load(b)
	if !known {
		m, _ = in.mirrors.LoadOrStore(b, b.Mirror())
	}
	return m.(*spdk.Mirror)
}

// AllBdevs returns every bdev by name and by alias.
func (i *Inventory) AllBdevs() map[string]*spdk.Bdev { return i.all().bdevs }

// Controller returns an NVMe controller, nil when there is none.
func (i *Inventory) Controller(name string) *spdk.NvmeController {
	return i.of(ctrlrKind, name).controllers[name]
}

// AllControllers returns every NVMe controller by name.
func (i *Inventory) AllControllers() map[string]*spdk.NvmeController { return i.all().controllers }

// Closed reports that plane.Initiator.ClosedPaths names the bdev.
func (i *Inventory) Closed(bdev string) bool {
	return i.of(pathKind, bdev).closed[bdev]
}

// Raid returns a raid, nil when there is none.
func (i *Inventory) Raid(name string) *spdk.Raid {
	return i.of(raidKind, name).raids[name]
}

// AllRaids returns every raid by name.
func (i *Inventory) AllRaids() map[string]*spdk.Raid { return i.all().raids }

// Subsystem returns a subsystem by NQN, nil when there is none.
func (i *Inventory) Subsystem(nqn string) *spdk.NvmfSubsystem {
	return i.of(nqnKind, nqn).subsystems[nqn]
}

// AllSubsystems returns every subsystem by NQN.
func (i *Inventory) AllSubsystems() map[string]*spdk.NvmfSubsystem { return i.all().subsystems }

// BdevName returns the name of a bdev that may be given by alias, "" when
// there is none.
func (i *Inventory) BdevName(nameOrAlias string) string {
	if b := i.Bdev(nameOrAlias); b != nil {
		return b.Name
	}
	return ""
}

// isBdev reports that nameOrAlias is bdev name, which the caller has from this
// inventory or from what was made since. A bdev that was found is known by all
// its names, so that the one given need not have been asked for.
func (i *Inventory) isBdev(nameOrAlias, name string) bool {
	b := i.bdevs[nameOrAlias]
	return b != nil && b.Name == name
}

// Inventory returns lists that were asked for at notBefore or later. All who
// ask at about the same time share one set of lists, so that a wave of passes
// costs a few calls, however many units there are. The next lists begin when as
// much time has passed as the last took, or maxListPause: who asks meanwhile shares them.
func (p *Plane) Inventory(ctx context.Context, notBefore time.Time) (*Inventory, error) {
	return p.lister.get(ctx, notBefore)
}

type lister struct {
	list func(context.Context) (*Inventory, error)

	mu     sync.Mutex
	last   *Inventory
	flight *flight
	ended  time.Time     // when the last lists had come
	length time.Duration // how long they took
}

// maxListPause bounds the pause after lists that took long: the data plane may have hung.
const maxListPause = 500 * time.Millisecond

// took returns how long the last lists took, 0 before there were any.
func (l *lister) took() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.length
}

// size returns how much there was of everything when it was last listed, 0 before.
func (l *lister) size() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.last == nil {
		return 0
	}
	return l.last.size
}

type flight struct {
	at   time.Time // valid once done is closed
	done chan struct{}
	inv  *Inventory
	err  error
}

func (l *lister) get(ctx context.Context, notBefore time.Time) (*Inventory, error) {
	for {
		l.mu.Lock()
		if l.last != nil && !l.last.At.Before(notBefore) {
			defer l.mu.Unlock()
			return l.last, nil
		}
		f := l.flight
		if f == nil {
			f = &flight{done: make(chan struct{})}
			l.flight = f
			pause := time.Duration(0)
			if !l.ended.IsZero() {
				pause = min(l.length, maxListPause) - time.Since(l.ended)
			}
			go l.fly(context.WithoutCancel(ctx), f, pause)
		}
		l.mu.Unlock()
		select {
		case <-f.done:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
		if !f.at.Before(notBefore) {
			return f.inv, f.err
		}
	}
}

func (l *lister) fly(ctx context.Context, f *flight, pause time.Duration) {
	if pause > 0 {
		time.Sleep(pause)
	}
	f.at = time.Now()
	f.err = Guard(func() (err error) {
		f.inv, err = l.list(ctx)
		return err
	})
	l.mu.Lock()
	if f.err == nil {
		l.ended, l.length = time.Now(), time.Since(f.at)
		f.inv.At = f.at
		l.last = f.inv
	}
	l.flight = nil
	l.mu.Unlock()
	close(f.done)
}

// list asks for all lists at once.
func (p *Plane) list(ctx context.Context) (*Inventory, error) {
	inv := newInventory()
	asks := []func() error{
		func() error {
			l, err := p.BdevGetBdevs(ctx)
			for i := range l {
				inv.addBdev(&l[i])
			}
			return err
		},
		func() error {
			l, err := p.NvmfGetSubsystems(ctx)
			for i := range l {
				inv.subsystems[l[i].NQN] = &l[i]
			}
			return err
		},
	}
	asks = append(asks, func() error {
		l, err := p.Driver().Controllers(ctx)
		for i := range l {
			inv.controllers[l[i].Name] = &l[i]
		}
		return err
	})
	if p.agent == "dn" {
		asks = append(asks, func() error { return p.listLvstores(ctx, inv) })
	}
	if p.agent == "cn" {
		asks = append(asks, func() error {
			var err error
			inv.closed, err = p.Driver().ClosedPaths(ctx)
			return err
		}, func() error {
			l, err := p.BdevRaidGetBdevs(ctx, "all")
			for i := range l {
				inv.raids[l[i].Name] = &l[i]
			}
			return err
		})
	}
	if err := Parallel(len(asks), func(i int) error { return asks[i]() }); err != nil {
		return nil, err
	}
	inv.size = len(inv.bdevs) + len(inv.subsystems) + len(inv.controllers) + len(inv.raids)
	return inv, p.ownStill(ctx, inv)
}

func (i *Inventory) addBdev(b *spdk.Bdev) {
	i.bdevs[b.Name] = b
	for _, a := range b.Aliases {
		i.bdevs[a] = b
	}
}

func (p *Plane) listLvstores(ctx context.Context, inv *Inventory) error {
	l, err := p.BdevLvolGetLvstores(ctx)
	for i := range l {
		inv.Lvstores[l[i].Name], inv.LvstoreOn[l[i].BaseBdev] = &l[i], &l[i]
	}
	return err
}

// ownStill is own for the owner's mark in an inventory.
func (p *Plane) ownStill(ctx context.Context, inv *Inventory) error {
	err := p.own(ctx, inv.Subsystem(vda.OwnerNQN))
	if foreign := (*ForeignError)(nil); errors.As(err, &foreign) {
		p.log.Error("data plane is not ready", "why", err)
		s := p.Status()
		s.Ready, s.Why = false, reason.Full(err)
		p.set(s) // Watch looks again
	}
	return err
}

// Parallel runs f for 0 to n-1 at once and returns the error of the lowest.
func Parallel(n int, f func(i int) error) error {
	errs := make([]error, n)
	var wg Group
	for i := range n {
		wg.Go(func() { errs[i] = f(i) })
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// With returns the inventory with one subsystem replaced.
func (i *Inventory) With(sub *spdk.NvmfSubsystem) *Inventory {
	c := *i
	c.note(nqnKind, sub.NQN)
	c.subsystems = maps.Clone(i.subsystems)
	c.subsystems[sub.NQN] = sub
	return &c
}

// WithoutController returns the inventory with one controller left out.
func (i *Inventory) WithoutController(name string) *Inventory {
	c := *i
	c.note(ctrlrKind, name)
	c.controllers = maps.Clone(i.controllers)
	delete(c.controllers, name)
	return &c
}

// WithoutSubsystem returns the inventory with one subsystem left out.
func (i *Inventory) WithoutSubsystem(nqn string) *Inventory {
	c := *i
	c.note(nqnKind, nqn)
	c.subsystems = maps.Clone(i.subsystems)
	delete(c.subsystems, nqn)
	return &c
}

// note has a name count as asked for: what is there of it is known otherwise.
func (i *Inventory) note(kind, name string) {
	if i.asked != nil {
		i.asked = maps.Clone(i.asked)
		i.asked[kind+name] = true
	}
}
