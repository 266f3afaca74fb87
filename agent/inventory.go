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

// Inventory is what the data plane held, as its lists said. Its maps are
// shared: read only.
type Inventory struct {
	At          time.Time                // when the lists were asked for
	Bdevs       map[string]*spdk.Bdev    // by name and by alias
	Lvstores    map[string]*spdk.Lvstore // dn only: see plane.Setup
	LvstoreOn   map[string]*spdk.Lvstore // dn only, by base bdev
	Controllers map[string]*spdk.NvmeController
	Closed      map[string]bool       // see plane.Initiator
	Raids       map[string]*spdk.Raid // cn only
	Subsystems  map[string]*spdk.NvmfSubsystem
}

// BdevName returns the name of a bdev that may be given by alias, "" when
// there is none.
func (i *Inventory) BdevName(nameOrAlias string) string {
	if b := i.Bdevs[nameOrAlias]; b != nil {
		return b.Name
	}
	return ""
}

// Inventory returns lists that were asked for at notBefore or later. All who
// ask at about the same time share one set of lists, so that a wave of passes
// costs a few calls, however many units there are.
func (p *Plane) Inventory(ctx context.Context, notBefore time.Time) (*Inventory, error) {
	return p.lister.get(ctx, notBefore)
}

type lister struct {
	list func(context.Context) (*Inventory, error)

	mu     sync.Mutex
	last   *Inventory
	flight *flight
}

type flight struct {
	at   time.Time
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
			f = &flight{at: time.Now(), done: make(chan struct{})}
			l.flight = f
			go l.fly(context.WithoutCancel(ctx), f)
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

func (l *lister) fly(ctx context.Context, f *flight) {
	f.err = Guard(func() (err error) {
		f.inv, err = l.list(ctx)
		return err
	})
	l.mu.Lock()
	if f.err == nil {
		f.inv.At = f.at
		l.last = f.inv
	}
	l.flight = nil
	l.mu.Unlock()
	close(f.done)
}

// list asks for all lists at once.
func (p *Plane) list(ctx context.Context) (*Inventory, error) {
	inv := &Inventory{
		Bdevs: map[string]*spdk.Bdev{}, Lvstores: map[string]*spdk.Lvstore{}, LvstoreOn: map[string]*spdk.Lvstore{},
		Controllers: map[string]*spdk.NvmeController{}, Raids: map[string]*spdk.Raid{}, Subsystems: map[string]*spdk.NvmfSubsystem{},
	}
	asks := []func() error{
		func() error {
			l, err := p.BdevGetBdevs(ctx)
			for i := range l {
				inv.Bdevs[l[i].Name] = &l[i]
				for _, a := range l[i].Aliases {
					inv.Bdevs[a] = &l[i]
				}
			}
			return err
		},
		func() error {
			l, err := p.NvmfGetSubsystems(ctx)
			for i := range l {
				inv.Subsystems[l[i].NQN] = &l[i]
			}
			return err
		},
	}
	asks = append(asks, func() error {
		l, err := p.Driver().Controllers(ctx)
		for i := range l {
			inv.Controllers[l[i].Name] = &l[i]
		}
		return err
	})
	if p.agent == "dn" {
		asks = append(asks, func() error {
			l, err := p.BdevLvolGetLvstores(ctx)
			for i := range l {
				inv.Lvstores[l[i].Name], inv.LvstoreOn[l[i].BaseBdev] = &l[i], &l[i]
			}
			return err
		})
	}
	if p.agent == "cn" {
		asks = append(asks, func() error {
			var err error
			inv.Closed, err = p.Driver().ClosedPaths(ctx)
			return err
		}, func() error {
			l, err := p.BdevRaidGetBdevs(ctx, "all")
			for i := range l {
				inv.Raids[l[i].Name] = &l[i]
			}
			return err
		})
	}
	if err := Parallel(len(asks), func(i int) error { return asks[i]() }); err != nil {
		return nil, err
	}
	if err := p.own(ctx, inv.Subsystems[vda.OwnerNQN]); err != nil {
		if foreign := (*ForeignError)(nil); errors.As(err, &foreign) {
			p.log.Error("data plane is not ready", "why", err)
			s := p.Status()
			s.Ready, s.Why = false, reason.Full(err)
			p.set(s) // who watches looks again
		}
		return nil, err
	}
	return inv, nil
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
	c.Subsystems = maps.Clone(i.Subsystems)
	c.Subsystems[sub.NQN] = sub
	return &c
}

// WithoutController returns the inventory with one controller left out.
func (i *Inventory) WithoutController(name string) *Inventory {
	c := *i
	c.Controllers = maps.Clone(i.Controllers)
	delete(c.Controllers, name)
	return &c
}

// WithoutSubsystem returns the inventory with one subsystem left out.
func (i *Inventory) WithoutSubsystem(nqn string) *Inventory {
	c := *i
	c.Subsystems = maps.Clone(i.Subsystems)
	delete(c.Subsystems, nqn)
	return &c
}
