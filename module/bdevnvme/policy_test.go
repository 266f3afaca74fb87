package bdevnvme

import (
	"errors"
	"fmt"
	"syscall"
	"testing"

	"github.com/virtual-disk-array/vda/nvmf/nvmftgt"
)

// TestMultipathPolicy: which of two paths is taken under each policy, and that
// I/O goes on through changes of it.
func TestMultipathPolicy(t *testing.T) {
	r := newRig(t, 2)
	r.attach(0, nil)
	r.attach(1, nil)
	h := r.open("Nv0n1")
	defer h.Close()
	dev, _ := r.front.Get("Nv0n1")
	d := dev.(*disk)
	picks := func(n int) (s string) {
		for range n {
			io := d.pick()
			for i, x := range d.ioPaths() {
				if x == io {
					s += fmt.Sprint(i)
				}
			}
		}
		return s
	}
	want := func(what, got string, any ...string) {
		t.Helper()
		for _, w := range any {
			if got == w {
				return
			}
		}
		t.Errorf("%s: paths %s, want %v", what, got, any)
	}
	settled := func(what string, f func() bool) { t.Helper(); r.eventually(what, f) }
	state := func(i int, s nvmftgt.ANAState) {
		t.Helper()
		r.ok(r.sub.SetANAState(r.addrs[i], 1, s))
		settled("ANA state", func() bool { return int(d.ioPaths()[i].ns.ANA()) == int(s) })
	}
	want("no policy", picks(6), "000000")
	r.ok(r.m.SetPolicy("Nv0n1", Policy{ActiveActive: true, MinIO: 1}))
	want("in turn", picks(6), "010101", "101010")
	r.ok(r.m.SetPolicy("Nv0n1", Policy{ActiveActive: true, MinIO: 3}))
	d.turn.Store(0)
	want("three each", picks(9), "000111000")
	state(0, nvmftgt.ANANonOptimized)
	want("the optimized one", picks(6), "111111")
	state(1, nvmftgt.ANAInaccessible)
	want("the one that is left", picks(6), "000000")
	state(1, nvmftgt.ANANonOptimized)
	d.turn.Store(0)
	want("both non-optimized", picks(6), "000111")
	state(0, nvmftgt.ANAOptimized)
	state(1, nvmftgt.ANAOptimized)

	r.ok(r.m.SetPolicy("Nv0n1", Policy{ActiveActive: true, QueueDepth: true}))
	a, b := d.ioPaths()[0], d.ioPaths()[1]
	b.busy.Store(3)
	want("the first is idle", picks(2), "00")
	a.busy.Store(4)
	want("the second has less to do", picks(2), "11")
	a.busy.Store(0)
	b.busy.Store(0)

	tr := newTraffic(h)
	for range 3 {
		for _, p := range []Policy{{ActiveActive: true, QueueDepth: true}, {ActiveActive: true, MinIO: 2}, {}} {
			r.ok(r.m.SetPolicy("Nv0n1", p))
			before := tr.ok.Load()
			r.eventually("I/O under the policy", func() bool { return tr.ok.Load() > before+100 })
		}
	}
	tr.end()
	if n := tr.path.Load() + tr.other.Load(); n != 0 {
		t.Errorf("%d errors", n)
	}
	if a.busy.Load() != 0 || b.busy.Load() != 0 {
		t.Errorf("after all, %d and %d requests count as under way", a.busy.Load(), b.busy.Load())
	}
	for name, c := range map[string]struct {
		bdev string
		p    Policy
		want syscall.Errno
	}{
		"unknown bdev":     {"Nv9n1", Policy{}, syscall.ENODEV},
		"no min io":        {"Nv0n1", Policy{ActiveActive: true}, syscall.EINVAL},
		"min io by depth":  {"Nv0n1", Policy{ActiveActive: true, QueueDepth: true, MinIO: 1}, syscall.EINVAL},
		"passive by depth": {"Nv0n1", Policy{QueueDepth: true}, syscall.EINVAL},
	} {
		if err := r.m.SetPolicy(c.bdev, c.p); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

// TestResilienceRules are SPDK's.
func TestResilienceRules(t *testing.T) {
	for _, c := range []struct {
		r  Resilience
		ok bool
	}{
		{Resilience{0, 0, 0}, true}, {Resilience{0, 1, 0}, false}, {Resilience{0, 0, 1}, false},
		{Resilience{-1, 1, 0}, true}, {Resilience{-1, 0, 0}, false}, {Resilience{-1, 2, 1}, false}, {Resilience{-1, 1, 9}, true},
		{Resilience{-2, 1, 0}, false}, {Resilience{5, 0, 0}, false}, {Resilience{5, 6, 0}, false}, {Resilience{5, 1, 5}, true},
		{Resilience{5, 1, 6}, false}, {Resilience{5, 3, 2}, false},
	} {
		if err := c.r.validate(); (err == nil) != c.ok || err != nil && !errors.Is(err, syscall.EINVAL) {
			t.Errorf("%+v: %v", c.r, err)
		}
	}
	m := New(nil, quiet)
	if err := m.SetOptions(Options{Resilience: Resilience{CtrlrLossTimeoutSec: 5}}); !errors.Is(err, syscall.EINVAL) {
		t.Errorf("options that make no sense: %v", err)
	}
}
