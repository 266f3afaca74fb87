package cn_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/virtual-disk-array/vda/agent/planetest"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
)

// remade returns controller 0 as the primary of another array, whose exporter has
// the same NQN.
func (l *lab) remade(n int) *apiv1.CntlrSpec {
	c := l.cntlr(0, 0)
	c.Id, c.DaId, c.DaName = id("cc", 64+n), id("da", 64+n), fmt.Sprint("anew", n)
	c.Grps = []*apiv1.GrpSpec{{Id: id("e0", 64+n), StripeSizeKb: 64}}
	c.HostNqn = fmt.Sprintf("nqn.2016-06.io.spdk:vda-cntlr-%s-%d", c.DaId, c.Term)
	for i, d := range l.dns {
		vd := id("b1", 16*n+i)
		c.Grps[0].Vds = append(c.Grps[0].Vds, &apiv1.VdTarget{VdId: vd, Listener: at(d.port), Nqn: "nqn.2016-06.io.spdk:vda-vd-" + vd, Uuid: vd})
	}
	c.Exps = []*apiv1.ExpSpec{{Id: id("ee", 64+n), EsId: id("e5", 1024+n), Name: "exp",
		Nqn: expNQN, InitiatorNqn: host0, Serial: fmt.Sprintf("ANEW%d", n), NsUuid: id("f0", 64+n)}}
	return c
}

// serve makes the vds of a controller of remade on the dns.
func (l *lab) serve(c *apiv1.CntlrSpec) {
	l.Helper()
	for i, d := range l.dns {
		d.version++
		v := c.Grps[0].Vds[i]
		req := &apiv1.SyncDnRequest{ClusterId: cluster, NodeId: d.id, Version: d.version, BaseVersion: d.version - 1,
			Vds: []*apiv1.VdSpec{{Id: v.VdId, PdId: id("a0", i), Size: 12 << 20, Nqn: v.Nqn,
				Term: c.Term, HostNqn: c.HostNqn, DaId: c.DaId, Uuid: v.Uuid, Version: d.version}}}
		r, err := d.a.Sync(context.Background(), req)
		if err != nil {
			l.Fatal(err)
		}
		for _, s := range r.States {
			if s.Error {
				l.Fatalf("dn%d: %v", i, s)
			}
		}
	}
}

// delta sends cn0 changes, and fails when the states are not as wanted.
func (l *lab) delta(cs ...*apiv1.CntlrSpec) []*state {
	l.Helper()
	n := l.cns[0]
	req := &apiv1.SyncCnRequest{ClusterId: cluster, NodeId: n.id, Version: n.version + 1, BaseVersion: n.version, Cntlrs: cs}
	n.version++
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	r, err := n.a.Sync(ctx, req)
	if err != nil {
		l.Fatal(err)
	}
	for _, s := range r.States {
		if s.Error {
			l.Fatalf("cn0: %v", s)
		}
	}
	return r.States
}

func tombstone(c *apiv1.CntlrSpec, destroy bool) *apiv1.CntlrSpec {
	c = proto.CloneOf(c)
	c.Deleted, c.DestroyData, c.Create = true, destroy, false
	return c
}

// losses counts what cn0's data plane is told to take away from now on.
func (l *lab) losses() func() []string {
	var mu sync.Mutex
	var lost []string
	l.cns[0].plane.SetHook(func(method string, a map[string]any) error {
		if nqn, _ := a["nqn"].(string); strings.Contains(nqn, "vda-raw-") {
			return nil // of the look at new disks
		}
		if strings.Contains(method, "delete") || strings.Contains(method, "remove") || strings.Contains(method, "detach") {
			mu.Lock()
			defer mu.Unlock()
			lost = append(lost, fmt.Sprint(method, a))
		}
		return nil
	})
	return func() []string {
		mu.Lock()
		defer mu.Unlock()
		return lost
	}
}

// keeps fails unless cn0 exports the exporter with a serial number, and
// nothing is taken away over some checks, nor after a restart of the agent.
func (l *lab) keeps(serial string) {
	l.Helper()
	lost := l.losses()
	for _, when := range []string{"", "after a restart of the agent "} {
		time.Sleep(time.Second) // of fake time: some self-checks
		if s := l.front(0); s == nil || s.SerialNumber != serial || len(s.Namespaces) != 1 || !admits(s, l.hosts(0, 0)...) {
			l.Errorf("%sthe exporter of %s is %+v", when, serial, s)
		}
		l.healthy(0)
		if got := lost(); len(got) > 0 {
			l.Errorf("%s%d things were taken away, first %s", when, len(got), got[0])
		}
		if when == "" {
			l.cns[0].stop(l)
			l.cns[0].start(l)
			planetest.Eventually(l, func() string {
				if r, done := l.cns[0].a.Loop.Last(id("cc", 64)); !done {
					return fmt.Sprint("no pass yet ", r)
				}
				return ""
			})
		}
	}
}

// An array is deleted and made again under its name: its exporter has the same
// NQN, and the old one's tombstone is still in the agent's set.
func TestAnArrayMadeAnewKeepsItsExporter(t *testing.T) {
	t.Parallel()
	for _, swaps := range []bool{false, true} {
		t.Run(fmt.Sprintf("swap %v", swaps), func(t *testing.T) {
			inBubble(t, 1, swaps, func(l *lab) {
				l.up(0)
				l.delta(tombstone(l.cntlr(0, 0), true))
				c := l.remade(0)
				l.serve(c)
				l.delta(c)
				l.keeps("ANEW0")
			})
		})
	}
}

// The successor comes with the tombstone, or before it: what is there is the
// old exporter's.
func TestAnArrayMadeAnewDisplacesTheOldOne(t *testing.T) {
	inBubble(t, 1, false, anArrayMadeAnewDisplacesTheOldOne)
}

func anArrayMadeAnewDisplacesTheOldOne(l *lab) {
	t := l.T
	l.up(0)
	c := l.remade(0)
	l.serve(c)
	l.delta(tombstone(l.cntlr(0, 0), true), c)
	l.keeps("ANEW0")
	for _, o := range l.cns[0].plane.Objects() {
		for _, old := range []string{id("b0", 0), id("b0", 1), daID, grpID} {
			if strings.Contains(o, old) {
				t.Errorf("%s of the old array is left", o)
			}
		}
	}
}

// An exporter's tombstone stays in the set of a controller that lives on:
// exporter c of a-b is deleted, exporter b-c of a is made; or an array is
// renamed, and another one gets its name.
func TestAnExporterTombstoneLeavesTheNextOwnerAlone(t *testing.T) {
	t.Parallel()
	for _, swaps := range []bool{false, true} {
		t.Run(fmt.Sprintf("swap %v", swaps), func(t *testing.T) {
			inBubble(t, 1, swaps, func(l *lab) {
				t := l.T
				l.up(0)
				old := l.cntlr(0, 0)
				old.Exps[0].Deleted = true
				gone := false
				for _, s := range l.delta(old) {
					gone = gone || s.Id == old.Exps[0].EsId && s.Gone
				}
				if !gone {
					t.Error("the tombstone is not reported as gone")
				}
				c := l.remade(0)
				l.serve(c)
				l.delta(c)
				l.keeps("ANEW0")
			})
		})
	}
}

// Of two exporters that live, the one that was there first has the NQN.
func TestTwoExportersOfOneNQN(t *testing.T) { inBubble(t, 1, false, twoExportersOfOneNQN) }

func twoExportersOfOneNQN(l *lab) {
	t := l.T
	l.up(0)
	c := l.remade(0)
	l.serve(c)
	n := l.cns[0]
	r, err := n.a.Sync(context.Background(), request(n, n.version+1, n.version, c))
	if err != nil {
		t.Fatal(err)
	}
	said := ""
	for _, s := range r.States {
		if s.Id == c.Exps[0].EsId {
			said = s.ErrorMsg
		}
	}
	for _, w := range []string{expNQN, "exporter exp0 of disk array da0"} {
		if !strings.Contains(said, w) {
			t.Errorf("%q does not say %q", said, w)
		}
	}
	if s := l.front(0); s == nil || s.SerialNumber != "00000000000000000001" || len(s.Namespaces) != 1 {
		t.Errorf("the first one is %+v", s)
	}
}

// A controller leaves a node and another one of the same array comes: they
// have everything in common but their ids.
func TestAControllerThatComesBack(t *testing.T) {
	t.Parallel()
	for _, primary := range []bool{true, false} {
		t.Run(fmt.Sprintf("primary %v", primary), func(t *testing.T) {
			inBubble(t, 2, false, func(l *lab) {
				t := l.T
				l.up(0)
				l.spec.Create = false
				old, who := l.cntlr(0, 0), 0
				l.cns[0].cntlr = id("cc", 64)
				if !primary {
					who = 1
					l.term++
					l.fence(false)
					l.good(1, l.cntlr(1, 1))
				}
				c := l.cntlr(0, who)
				c.Exps[0].EsId = id("e5", 64)
				l.delta(tombstone(old, false), c)
				l.healthy(0)
				lost := l.losses()
				time.Sleep(time.Second) // of fake time: some self-checks
				if s := l.front(0); s == nil || len(s.Namespaces) != 1 {
					t.Errorf("the exporter is %+v", s)
				}
				if got := lost(); len(got) > 0 {
					t.Errorf("%d things were taken away, first %s", len(got), got[0])
				}
				for _, o := range l.cns[0].plane.Objects() {
					if !primary && (strings.Contains(o, grpID) || strings.Contains(o, "controller vda-vd-")) {
						t.Errorf("%s of the primary that left is still there", o)
					}
				}
			})
		})
	}
}

// Nothing of a deleted array stays in the agents' state, whichever controller
// was primary before or at the end.
func TestDeletedArraysLeaveNoState(t *testing.T) { inBubble(t, 2, true, deletedArraysLeaveNoState) }

func deletedArraysLeaveNoState(l *lab) {
	t := l.T
	l.up(0)
	l.term++
	l.spec.Create = false
	l.up(1)
	l.good(1, tombstone(l.cntlr(1, 1), true))
	l.good(0, tombstone(l.cntlr(0, 1), false))
	for i, n := range l.cns {
		made, err := os.ReadDir(filepath.Join(n.config.StateDir, "made"))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
		for _, f := range made {
			t.Errorf("cn%d keeps made/%s", i, f.Name())
		}
	}
}
