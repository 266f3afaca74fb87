package cn_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/virtual-disk-array/vda"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/spdk"
)

// reserves are what the subsystems of cn i have to do with reservations, by the ends of their NQNs.
func (l *lab) reserves(i int) map[string]spdk.NvmfReservations {
	l.Helper()
	all := map[string]spdk.NvmfReservations{}
	for _, s := range l.cns[i].subsystems(l) {
		if s.Reservations != nil {
			_, name, _ := strings.Cut(s.NQN, "vda-")
			all[name] = *s.Reservations
		}
	}
	return all
}

// TestReservations: all controllers offer those of an exporter by one name, the primary takes the word
// of the others for the hosts they pass on, and snapshots have none.
func TestReservations(t *testing.T) {
	inBubble(t, 2, true, func(l *lab) {
		id0, e1 := uuid.MustParse(l.spec.Exps[0].NsUuid).String(), l.exporter(1)
		id1 := uuid.MustParse(e1.NsUuid).String()
		l.small()
		is := func(what string, primary int, hop bool) {
			t.Helper()
			for i := range l.cns {
				proxies := []string{vda.ProxyHostNQN(l.cns[1-i].cntlr)}
				if i != primary {
					proxies = nil
				}
				want := map[string]spdk.NvmfReservations{}
				for name, id := range map[string]string{"exp-da0-exp0": id0, "exp-da0-exp0-b": id1} {
					want[name] = spdk.NvmfReservations{ID: id, Offered: true, Forwarders: proxies}
					if hop {
						want[name] = spdk.NvmfReservations{ID: id, Offered: true}
					}
				}
				if hop {
					want["hop-"+l.spec.Exps[0].Id] = spdk.NvmfReservations{ID: id0, Offered: true, Forwarders: proxies}
					want["hop-"+e1.Id] = spdk.NvmfReservations{ID: id1, Offered: true, Forwarders: proxies}
				}
				if got := l.reserves(i); fmt.Sprint(got) != fmt.Sprint(want) {
					t.Errorf("%s: cn%d has %v, want %v", what, i, got, want)
				}
			}
		}
		l.up(0)
		l.spec.Create = false
		if !l.canReserve(0) || !l.canReserve(1) {
			t.Error("a cn on vda_tgt says that it cannot")
		}
		if got := append(slices.Collect(maps.Keys(l.reserves(0))), slices.Collect(maps.Keys(l.reserves(1)))...); got != nil {
			t.Errorf("an array without reservations has some of %q", got)
		}
		l.spec.Reservations = true
		l.all(0)
		is("turned on", 0, false)
		l.term++
		l.sync(0, l.cntlr(0, 1))
		l.up(1)
		is("after a move", 1, false)
		for i := range l.cns {
			l.cns[i].plane.Kill()
			l.cns[i].plane.Start()
		}
		l.up(1)
		is("after the data planes have died", 1, false)
		l.apart(0, 1)
		l.all(1)
		is("by hops", 1, true)
		s := l.shot(1)
		l.show(2, s)
		l.all(1)
		is("beside the exporter of a snapshot", 1, true)
		l.spec.Reservations = false
		l.all(1)
		if got := append(slices.Collect(maps.Keys(l.reserves(0))), slices.Collect(maps.Keys(l.reserves(1)))...); got != nil {
			t.Errorf("when they have ended, there are some of %q", got)
		}
	})
}

// TestReservationIsForgotten: when an exporter is deleted, its primary has the array forget what was
// reserved by it, once its subsystem is gone; other controllers cannot.
func TestReservationIsForgotten(t *testing.T) {
	inBubble(t, 2, true, func(l *lab) {
		l.spec.Reservations = true
		e := l.exporter(1)
		l.up(0)
		l.spec.Create = false
		var forgotten []string
		for i := range l.cns {
			l.cns[i].plane.SetHook(func(method string, a map[string]any) error {
				if method == "vda_nvmf_forget_reservation" {
					forgotten = append(forgotten, fmt.Sprint("cn", i, " ", a["id"]))
					for nqn := range l.reserves(i) {
						if strings.HasSuffix(e.Nqn, nqn) {
							t.Errorf("the subsystem %s is there still", nqn)
						}
					}
				}
				return nil
			})
		}
		l.all(0)
		if forgotten != nil {
			t.Errorf("forgotten %q, and no exporter is gone", forgotten)
		}
		e.Deleted = true
		l.settled(1, l.cntlr(1, 0))
		l.settled(0, l.cntlr(0, 0))
		if want := "cn0 " + uuid.MustParse(e.NsUuid).String(); !slices.Equal(forgotten, []string{want}) {
			t.Errorf("forgotten %q, want %q", forgotten, want)
		}
	})
}

// TestReservationsKeepOut: a node by whose data plane reservations would not hold closes the paths of an
// array that has some, as primary and as secondary, opens none, says why and what to do, and lets go of
// exporters.
func TestReservationsKeepOut(t *testing.T) {
	for name, swaps := range map[string]bool{"SPDK": false, "a vda_tgt of before": true} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, 2, swaps, func(l *lab) {
				for i := range l.cns {
					l.cns[i].plane.Hide("vda_nvmf_set_reservations")
					l.cns[i].plane.Kill()
					l.cns[i].plane.Start()
				}
				l.up(0)
				l.spec.Create, l.spec.Reservations = false, true
				check := func(what string, open func(i int) bool) {
					t.Helper()
					for i := range l.cns {
						states := l.settled(i, l.cntlr(i, 0))
						for _, s := range states {
							if !s.Error || !strings.Contains(s.ErrorMsg, "run vda_tgt") || !strings.Contains(s.ErrorMsg, "--reservations=false") {
								t.Errorf("%s: cn%d: %v", what, i, s)
							}
						}
						if len(states) < 2 || open(i) {
							t.Errorf("%s: cn%d serves the array: %v", what, i, states)
						}
						if l.canReserve(i) {
							t.Errorf("%s: cn%d on %s says it can", what, i, name)
						}
					}
				}
				check("turned on", func(i int) bool { return l.cns[i].plane.ANA(expNQN) != spdk.ANAInaccessible })
				for i := range l.cns {
					l.cns[i].plane.Kill()
					l.cns[i].plane.Start()
				}
				check("after the data planes have died", func(i int) bool { return len(l.cns[i].subsystems(t)) > 0 })
				e := l.spec.Exps[0]
				e.Deleted = true
				for _, i := range []int{1, 0} {
					states, es := l.settled(i, l.cntlr(i, 0)), id("e5", i)
					if !slices.ContainsFunc(states, func(s *apiv1.ObjectState) bool { return s.Id == es && s.Gone && !s.Error }) {
						t.Errorf("cn%d keeps a deleted exporter: %v", i, states)
					}
				}
				e.Deleted, l.spec.Reservations = false, false
				l.up(0)
			})
		})
	}
}

// canReserve is what the heartbeat of cn i says.
func (l *lab) canReserve(i int) bool {
	l.Helper()
	r, err := l.cns[i].a.Heartbeat(context.Background(), &apiv1.HeartbeatRequest{ClusterId: cluster, NodeId: l.cns[i].id})
	if err != nil {
		l.Fatal(err)
	}
	return r.CanReserve
}
