//go:build e2e

package chaos

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"
	"time"
)

// fault is one thing that goes wrong, and how it is put right.
type fault struct {
	kind   string // the line of the table that it counts in
	what   string // with its targets and times
	hold   time.Duration
	inject func() error
	heal   func() error // nil: it heals by itself, or by the supervisor
	// spared: neither a primary nor a dn is touched, so that the host should
	// hardly notice.
	spared bool
	// mayFail: inject is a request that may be refused when another fault is
	// there already.
	mayFail bool
}

// both is two faults at once, the second a little later.
func both(a, b *fault, delay time.Duration) *fault {
	ended := make(chan error, 2)
	return &fault{kind: "two at once", what: fmt.Sprintf("[%s] and %v later [%s]", a.what, delay.Round(time.Millisecond), b.what),
		hold: max(a.hold, delay+b.hold),
		inject: func() error {
			for i, x := range []*fault{a, b} {
				if i == 1 {
					time.Sleep(delay)
				}
				if err := x.inject(); err != nil && !x.mayFail {
					return err
				}
				go func() {
					time.Sleep(x.hold)
					if x.heal == nil {
						ended <- nil
						return
					}
					ended <- x.heal()
				}()
			}
			return nil
		},
		heal: func() error { return errors.Join(<-ended, <-ended) }}
}

// chooser makes faults from a seed.
type chooser struct {
	c       *cluster
	r       *rand.Rand
	longest time.Duration // of a fault's hold
	kinds   []func() *fault
	weights []int
	only    string // kinds that contain it; "" for all
	losses  int    // how many times as likely losses of disk nodes are, see isLoss
	tables  int    // of packet filters, made so far
	// spares are disk nodes without a leg of the array: faults of theirs say nothing.
	spares []*machine
	// changes: the array is changed while faults come, see withChanges.
	changes bool
	// volumes: a user does something with the array while faults come, see withVolumes.
	volumes *rand.Rand
	deck    []string // of what he does next
	snaps   int      // that were drawn
}

func newChooser(c *cluster, seed uint64, longest time.Duration, only string) *chooser {
	f := &chooser{c: c, r: rand.New(rand.NewPCG(seed, 4)), longest: longest, only: only, losses: 1}
	if c.cfg.Redundancy.Mirrored() {
		if all, err := c.legs(context.Background()); err == nil {
			f.spares = slices.DeleteFunc(f.machines("dn"), func(m *machine) bool {
				return slices.ContainsFunc(all, func(l leg) bool { return l.at == m })
			})
		}
	}
	add := func(weight int, kind func() *fault) {
		f.kinds, f.weights = append(f.kinds, kind), append(f.weights, weight)
	}
	add(4, f.planned)
	add(1, f.drain)
	add(4, func() *fault { return f.kill("kill primary's data plane", f.primary(), true) })
	add(2, func() *fault { return f.kill("kill primary's agent", f.primary(), false) })
	add(2, func() *fault { return f.killAll("kill primary's node", f.primary()) })
	add(1, func() *fault { return f.killAll("kill dn's node", f.any("dn")) })
	add(1, func() *fault { return f.killAll("kill all cns' data planes and agents", f.machines("cn")...) })
	add(1, func() *fault {
		return f.killAll("kill everything", f.machines("db", "portal", "monitor", "dn", "cn")...)
	})
	add(2, func() *fault { return f.spare(f.kill("kill secondary's data plane", f.secondary(), true)) })
	add(1, func() *fault { return f.spare(f.kill("kill secondary's agent", f.secondary(), false)) })
	add(2, func() *fault { return f.kill("kill dn's data plane", f.any("dn"), true) })
	add(1, func() *fault { return f.spare(f.kill("kill dn's agent", f.any("dn"), false)) })
	add(1, func() *fault { return f.spare(f.kill("kill portal", f.any("portal"), false)) })
	add(1, func() *fault { return f.spare(f.kill("kill monitor", f.any("monitor"), false)) })
	add(1, func() *fault { return f.spare(f.kill("kill database", f.any("db"), false)) })
	add(4, func() *fault { return f.freeze("hang primary's data plane", f.primary().plane) })
	add(1, func() *fault { return f.freeze("hang primary's agent", f.primary().daemon) })
	add(3, func() *fault { return f.freeze("hang primary's node", f.primary().processes()...) })
	add(1, func() *fault { return f.spare(f.freeze("hang secondary's data plane", f.secondary().plane)) })
	add(1, func() *fault { return f.spare(f.freeze("hang secondary's node", f.secondary().processes()...)) })
	add(1, func() *fault { return f.spare(f.freeze("hang secondary's agent", f.secondary().daemon)) })
	add(1, func() *fault { return f.freeze("hang dn's node", f.any("dn").processes()...) })
	add(1, func() *fault { return f.spare(f.freeze("hang all monitors", f.daemons("monitor")...)) })
	add(2, func() *fault { return f.freeze("hang dn's data plane", f.any("dn").plane) })
	add(1, func() *fault { return f.spare(f.freeze("hang dn's agent", f.any("dn").daemon)) })
	add(1, func() *fault { return f.spare(f.freeze("hang portal", f.any("portal").daemon)) })
	add(1, func() *fault { return f.spare(f.freeze("hang monitor", f.any("monitor").daemon)) })
	add(1, func() *fault { return f.spare(f.freeze("hang database", f.any("db").daemon)) })
	add(3, func() *fault { return f.isolate("cut primary's cn off from all", f.primary()) })
	add(1, func() *fault { return f.spare(f.isolate("cut secondary's cn off from all", f.secondary())) })
	add(1, func() *fault { return f.isolate("cut a dn off from all", f.any("dn")) })
	add(2, func() *fault { return f.cut("cut host from primary", f.c.machines["host0"], f.primary()) })
	add(1, func() *fault { return f.spare(f.cut("cut host from secondary", f.c.machines["host0"], f.secondary())) })
	add(2, func() *fault { return f.cut("cut primary from a dn", f.primary(), f.any("dn")) })
	add(2, func() *fault { return f.spare(f.cut("cut primary from secondary", f.primary(), f.secondary())) })
	add(2, f.cutMonitors)
	add(2, f.cutMonitorsAndDN)
	add(1, func() *fault { return f.spare(f.cut("cut a monitor from the database", f.any("monitor"), f.any("db"))) })
	add(1, func() *fault { return f.spare(f.cut("cut a monitor from the primary", f.any("monitor"), f.primary())) })
	add(3, f.oneWay)
	add(2, f.loss)
	if c.cfg.Redundancy.Mirrored() {
		add(5, func() *fault { return f.kill("kill dn's data plane", f.any("dn"), true) })
		add(2, func() *fault { return f.killAll("kill dn's node", f.any("dn")) })
		add(3, func() *fault { return f.down("dn's node is down", f.any("dn")) })
		add(2, func() *fault { return f.restart("restart dn's data plane", f.any("dn").plane) })
		add(3, func() *fault { return f.freeze("hang dn's data plane", f.any("dn").plane) })
		add(2, func() *fault { return f.freeze("hang dn's node", f.any("dn").processes()...) })
		add(3, func() *fault { return f.isolate("cut a dn off from all", f.any("dn")) })
	}
	if c.faultyDisks() {
		f.addDisks(add)
	}
	return f
}

// next is the next fault; two at once from time to time are the caller's.
func (f *chooser) next() *fault {
	total := 0
	for _, w := range f.weights {
		total += w
	}
	for {
		n := f.r.IntN(total)
		for i, w := range f.weights {
			if n -= w; n < 0 {
				x := f.kinds[i]()
				if rare := f.losses > 1 && !isLoss(x.kind) && f.r.IntN(f.losses) > 0; !rare && strings.Contains(x.kind, f.only) {
					return x
				}
				break
			}
		}
	}
}

func (f *chooser) spare(x *fault) *fault {
	x.spared = true
	return x
}

// primary is the machine of the path that the host sees optimized; a random
// one when there is none now.
func (f *chooser) primary() *machine {
	var all []*machine
	for addr, state := range f.c.host.now().Paths {
		m := f.c.at(addr)
		if state == "optimized" {
			return m
		}
		all = append(all, m)
	}
	return all[f.r.IntN(len(all))]
}

// secondary is a machine of a controller that is not primary.
func (f *chooser) secondary() *machine {
	primary := f.primary()
	var all []*machine
	for addr := range f.c.host.now().Paths {
		if m := f.c.at(addr); m != primary {
			all = append(all, m)
		}
	}
	slices.SortFunc(all, func(a, b *machine) int { return strings.Compare(a.name, b.name) })
	return all[f.r.IntN(len(all))]
}

func (f *chooser) any(kind string) *machine {
	all := f.machines(kind)
	return all[f.r.IntN(len(all))]
}

func (f *chooser) machines(kinds ...string) []*machine {
	var all []*machine
	for _, m := range f.c.order {
		if slices.Contains(kinds, m.kind) && !slices.Contains(f.spares, m) {
			all = append(all, m)
		}
	}
	return all
}

func (f *chooser) daemons(kind string) []*process {
	var all []*process
	for _, m := range f.machines(kind) {
		all = append(all, m.daemon)
	}
	return all
}

func (c *cluster) at(addr string) *machine {
	for _, m := range c.order {
		if m.addr == addr {
			return m
		}
	}
	return nil
}

// planned moves the primary with vda_cli.
func (f *chooser) planned() *fault {
	to := f.secondary()
	return &fault{kind: "planned switch", what: "da failover to " + to.name, hold: time.Second, mayFail: true, inject: func() error {
		ctx, cancel := context.WithTimeout(context.Background(), 40*time.Second)
		defer cancel()
		_, err := f.c.cli(ctx, "da failover --da-name da0 --to-cn "+to.agent())
		return err
	}}
}

// drain takes the primary's cn out of service, and back.
func (f *chooser) drain() *fault {
	m := f.primary()
	set := func(online bool) error {
		ctx, cancel := context.WithTimeout(context.Background(), 40*time.Second)
		defer cancel()
		_, err := f.c.cli(ctx, fmt.Sprintf("cn modify --cn-name %s --new-online %t", m.agent(), online))
		return err
	}
	return &fault{kind: "drain primary's cn", what: "cn modify --new-online false for " + m.name, hold: 4 * time.Second, mayFail: true,
		inject: func() error { return set(false) },
		heal: func() error {
			var err error
			for range 20 { // the portal or the database may be away
				if err = set(true); err == nil {
					break
				}
				time.Sleep(time.Second)
			}
			return err
		}}
}

func (f *chooser) kill(kind string, m *machine, plane bool) *fault {
	p := m.daemon
	if plane {
		p = m.plane
	}
	pause := between(f.r, time.Second, 3*time.Second)
	return &fault{kind: kind, what: fmt.Sprintf("kill -9 %s, started again after %v", p.name, pause.Round(time.Millisecond)),
		hold: pause, inject: func() error {
			p.kill(pause)
			return nil
		}}
}

// down kills all processes of a machine, which stays away for a while.
func (f *chooser) down(kind string, m *machine) *fault {
	hold := f.span()
	return &fault{kind: kind, what: fmt.Sprintf("kill -9 all of %s, started again after %v", m.name, hold.Round(time.Millisecond)),
		hold: hold, inject: func() error {
			for _, p := range m.processes() {
				p.kill(hold)
			}
			return nil
		}}
}

// restart asks a process to end; it is started again at once.
func (f *chooser) restart(kind string, p *process) *fault {
	return &fault{kind: kind, what: "SIGTERM for " + p.name + ", started again at once", hold: time.Second, inject: func() error {
		p.mu.Lock()
		argv := p.argv
		p.mu.Unlock()
		p.become(argv, syscall.SIGTERM)
		return nil
	}}
}

// killAll kills all processes of some machines at once; each comes back in its
// own time.
func (f *chooser) killAll(kind string, ms ...*machine) *fault {
	var names []string
	var ps []*process
	for _, m := range ms {
		names = append(names, m.name)
		ps = append(ps, m.processes()...)
	}
	pauses := make([]time.Duration, len(ps))
	for i := range ps {
		pauses[i] = between(f.r, time.Second, 3*time.Second)
	}
	return &fault{kind: kind, what: fmt.Sprintf("kill -9 all of %s, started again after 1 to 3 s", strings.Join(names, ", ")),
		hold: 3 * time.Second, inject: func() error {
			for i, p := range ps {
				p.kill(pauses[i])
			}
			return nil
		}}
}

// span is how long a fault is held: short ones mostly.
func (f *chooser) span() time.Duration {
	if f.r.IntN(8) == 0 {
		return between(f.r, f.longest/2, f.longest)
	}
	return between(f.r, f.longest/60, f.longest/6)
}

func (f *chooser) freeze(kind string, ps ...*process) *fault {
	hold := f.span()
	var names []string
	for _, p := range ps {
		names = append(names, p.name)
	}
	var thaw []func()
	return &fault{kind: kind, what: fmt.Sprintf("SIGSTOP %s for %v", strings.Join(names, " and "), hold.Round(time.Millisecond)), hold: hold,
		inject: func() error {
			for _, p := range ps {
				thaw = append(thaw, p.freeze())
			}
			return nil
		},
		heal: func() error {
			for _, fn := range thaw {
				fn()
			}
			return nil
		}}
}

// filter is packet filters of one fault.
type filter struct {
	c     *cluster
	table string
	on    []*machine
}

func (f *chooser) filter() *filter {
	f.tables++
	return &filter{c: f.c, table: fmt.Sprintf("chaos%d", f.tables)}
}

// add has machine m drop some of the packets of a hook, "input" or "output".
func (x *filter) add(m *machine, hook, match string) error {
	_, err := x.c.output(context.Background(), m, fmt.Sprintf(
		"nft 'add table inet %[1]s; add chain inet %[1]s %[2]s { type filter hook %[2]s priority 0; }; add rule inet %[1]s %[2]s %[3]s "+
			"drop'", x.table, hook, match))
	x.on = append(x.on, m)
	return err
}

// deaf has machine m drop a percentage of what comes in from addresses; from
// everybody when there are none.
func (x *filter) deaf(m *machine, percent int, from ...string) error {
	match := "iif eth0"
	if len(from) > 0 {
		match += " ip saddr { " + strings.Join(from, ", ") + " }"
	}
	if percent < 100 {
		match += fmt.Sprintf(" numgen random mod 100 < %d", percent)
	}
	return x.add(m, "input", match)
}

// remove heals.
func (x *filter) remove() error {
	var errs []error
	for i, m := range x.on {
		if slices.Contains(x.on[:i], m) {
			continue
		}
		_, err := x.c.output(context.Background(), m, "nft delete table inet "+x.table)
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func (f *chooser) isolate(kind string, m *machine) *fault {
	hold, x := f.span(), f.filter()
	return &fault{kind: kind, what: fmt.Sprintf("%s cut off for %v", m.name, hold.Round(time.Millisecond)), hold: hold,
		inject: func() error { return errors.Join(x.deaf(m, 100), x.add(m, "output", "oif eth0")) },
		heal:   x.remove}
}

func (f *chooser) cut(kind string, a, b *machine) *fault {
	hold, x := f.span(), f.filter()
	return &fault{kind: kind, what: fmt.Sprintf("%s and %s cut for %v", a.name, b.name, hold.Round(time.Millisecond)), hold: hold,
		inject: func() error { return errors.Join(x.deaf(a, 100, b.addr), x.deaf(b, 100, a.addr)) },
		heal:   x.remove}
}

// cutMonitors hides the primary's cn from the control plane while hosts and
// dns reach it: it is alive, and must lose its writers all the same.
func (f *chooser) cutMonitors() *fault {
	m := f.primary()
	hold, x := f.span(), f.filter()
	return &fault{kind: "cut primary from the control plane", what: fmt.Sprintf("%s cut from both monitors and the portal for %v", m.name,
		hold.Round(time.Millisecond)), hold: hold,
		inject: func() error {
			return x.deaf(m, 100, portalAddr, f.c.machines["monitor0"].addr, f.c.machines["monitor1"].addr)
		},
		heal: x.remove}
}

// cutMonitorsAndDN hides the primary's cn from the control plane and from a
// dn, not from hosts and the other dn: it has to let its hosts go by itself.
func (f *chooser) cutMonitorsAndDN() *fault {
	m, dn := f.primary(), f.any("dn")
	hold, x := f.span(), f.filter()
	return &fault{kind: "cut primary from the control plane and a dn", what: fmt.Sprintf("%s cut from both monitors, the portal and %s for %v",
		m.name, dn.name, hold.Round(time.Millisecond)), hold: hold,
		inject: func() error {
			return errors.Join(x.deaf(m, 100, portalAddr, f.c.machines["monitor0"].addr, f.c.machines["monitor1"].addr,
				dn.addr), x.deaf(dn, 100, m.addr))
		},
		heal: x.remove}
}

// oneWay drops the packets in one direction between two machines of the data
// path.
func (f *chooser) oneWay() *fault {
	pairs := [][2]*machine{{f.primary(), f.any("dn")}, {f.any("dn"), f.primary()}, {f.c.machines["host0"], f.primary()},
		{f.primary(), f.c.machines["host0"]},
		{f.primary(), f.secondary()}, {f.secondary(), f.primary()}, {f.any("monitor"), f.primary()}, {f.primary(), f.any("monitor")}}
	p := pairs[f.r.IntN(len(pairs))]
	hold, x := f.span(), f.filter()
	return &fault{kind: "one-way cut", what: fmt.Sprintf("%s does not hear %s for %v", p[0].name, p[1].name, hold.Round(time.Millisecond)),
		hold:   hold,
		inject: func() error { return x.deaf(p[0], 100, p[1].addr) },
		heal:   x.remove}
}

func (f *chooser) loss() *fault {
	ms := []*machine{f.primary(), f.any("dn"), f.secondary(), f.c.machines["host0"]}
	m := ms[f.r.IntN(len(ms))]
	percent := 1 + f.r.IntN(15)
	hold, x := f.span(), f.filter()
	return &fault{kind: "packet loss", what: fmt.Sprintf("%s loses %d%% of what comes in for %v", m.name, percent,
		hold.Round(time.Millisecond)), hold: hold,
		inject: func() error { return x.deaf(m, percent) },
		heal:   x.remove}
}
