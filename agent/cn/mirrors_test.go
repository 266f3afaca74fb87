package cn_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/agent/planetest"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/spdk"
)

// fakeMirrors is a mirrored array that is up on a model of a data plane.
func fakeMirrors(t *testing.T, cns int) *mirrorLab {
	l, c := fakes(t, cns, true)
	for i := range l.dns {
		file := "/dev/mirror" + string(rune('0'+i))
		c.Blank(file)
		l.pdConf = append(l.pdConf, `{"type":"aio","filename":"`+file+`"}`)
	}
	m := newMirrorLab(l)
	m.fence(0)
	m.fence(1)
	m.up(0)
	m.spec.Create = false
	return m
}

// calls returns what gives the calls about legs that a controller node's data plane
// has got since the last time.
func (m *mirrorLab) calls(i int) func() []string {
	var mu sync.Mutex
	var calls []string
	m.cns[i].plane.SetHook(func(method string, a map[string]any) error {
		name, _ := a["name"].(string)
		switch method {
		case "vda_mirror_set", "vda_mirror_create", "vda_mirror_delete", "bdev_nvme_detach_controller", "bdev_nvme_attach_controller",
			"bdev_raid_delete", "nvmf_subsystem_listener_set_ana_state":
			mu.Lock()
			calls = append(calls, strings.TrimSuffix(strings.TrimPrefix(strings.TrimPrefix(method, "bdev_"), "nvme_"), "_controller")+" "+name)
			mu.Unlock()
		}
		return nil
	})
	return func() []string {
		mu.Lock()
		defer mu.Unlock()
		got := calls
		calls = nil
		return got
	}
}

// A leg that is lost closes no path and takes nothing down. The mirror is told that
// the leg is stale before the leg is detached, and that it is a target after it was
// attached in its new epoch.
func TestALegGoesAndComes(t *testing.T) {
	t.Parallel()
	m := fakeMirrors(t, 1)
	m.leased()
	m.cns[0].plane.Cut(m.dns[1].plane, true)
	m.reports(0, m.legs(1, "lost", func(s *apiv1.LegState) bool { return s.Lost && !s.Connected && s.Why != "" }))
	planetest.Eventually(t, func() string {
		if s := m.states(0)[m.cns[0].cntlr]; !strings.Contains(s, "I/O waits until it is back or is not a member of mirror") {
			return "the controller's state: " + s
		}
		return ""
	})
	m.stays(0, spdk.ANAOptimized, 50*time.Millisecond)
	calls := m.calls(0)
	m.role(1, apiv1.LegRole_LEG_ROLE_STALE)
	m.good(0, m.cntlr(0, 0))
	got := calls()
	for _, spec := range m.mirrors {
		told := slices.Index(got, "vda_mirror_set vda-mir-"+spec.Id)
		gone := slices.Index(got, "detach vda-vd-"+spec.Legs[1].Vd.VdId)
		if told < 0 || gone < told || slices.ContainsFunc(got, func(c string) bool { return strings.HasPrefix(c, "raid_delete") }) {
			t.Errorf("calls %q", got)
		}
	}
	m.reports(0, quiet)
	m.healthy(0)

	m.cns[0].plane.Cut(m.dns[1].plane, false)
	m.fence(1)
	m.role(1, apiv1.LegRole_LEG_ROLE_TARGET)
	m.good(0, m.cntlr(0, 0))
	m.reports(0, m.legs(1, "ready", func(s *apiv1.LegState) bool { return s.Ready && s.Role == apiv1.LegRole_LEG_ROLE_TARGET }))
	list, err := m.cns[0].plane.Client().BdevNvmeGetControllers(context.Background())
	if err != nil || !slices.ContainsFunc(list, func(c spdk.NvmeController) bool {
		return c.Name == "vda-vd-"+m.mirrors[0].Legs[1].Vd.VdId && c.Ctrlrs[0].Host.NQN == vda.LegHostNQN(m.hostNQN(), 1)
	}) {
		t.Errorf("it is not attached in its epoch: %+v, %v", list, err)
	}
	m.role(1, apiv1.LegRole_LEG_ROLE_MEMBER)
	m.good(0, m.cntlr(0, 0))
	m.reports(0, quiet)
}

// What no member can read keeps a leg from being made a member, and the controller says so
// as long as that holds, while it serves.
func TestWhyALegIsNoMemberIsShown(t *testing.T) {
	inMirrorBubble(t, 1, func(m *mirrorLab) {
		m.role(1, apiv1.LegRole_LEG_ROLE_STALE)
		m.good(0, m.cntlr(0, 0))
		const why = "no member can read all of 1 regions"
		m.cns[0].plane.Unread(why)
		m.fence(1)
		m.role(1, apiv1.LegRole_LEG_ROLE_TARGET)
		m.sync(0, m.cntlr(0, 0))
		planetest.Eventually(m, func() string {
			s := m.states(0)[m.cns[0].cntlr]
			for _, spec := range m.mirrors {
				if want := "vd " + spec.Legs[1].Vd.VdId + " of mirror " + spec.Id + " is not made a member: " + why; !strings.Contains(s, want) {
					return "the controller's state lacks " + want + ": " + s
				}
			}
			return ""
		})
		m.stays(0, spdk.ANAOptimized, 50*time.Millisecond)
		m.cns[0].plane.Unread("")
		planetest.Eventually(m, func() string { return m.states(0)[m.cns[0].cntlr] })
	})
}

// The connection to a leg that stays has I/O wait for it, or not, as suits how many legs
// there are.
func TestFailAtOnceFollowsTheLegs(t *testing.T) {
	inMirrorBubble(t, 1, func(m *mirrorLab) {
		atOnce := func(when string, want bool) {
			t.Helper()
			list, err := m.cns[0].plane.Client().BdevNvmeGetControllers(context.Background())
			for _, c := range list {
				if strings.HasPrefix(c.Name, vda.VDPrefix) && c.Ctrlrs[0].FailAtOnce != want {
					err = errors.Join(err, fmt.Errorf("%s has %v", c.Name, c.Ctrlrs[0].FailAtOnce))
				}
			}
			if err != nil || len(list) == 0 {
				t.Errorf("%s: of %d controllers: %v", when, len(list), err)
			}
		}
		atOnce("with two legs", true)
		both := [][]*apiv1.LegSpec{m.mirrors[0].Legs, m.mirrors[1].Legs}
		for _, spec := range m.mirrors {
			spec.Legs, spec.Gen = spec.Legs[:1], spec.Gen+1
		}
		m.good(0, m.cntlr(0, 0))
		atOnce("with one", false)
		for i, spec := range m.mirrors {
			spec.Legs = both[i]
			spec.Legs[1].Role = apiv1.LegRole_LEG_ROLE_TARGET
		}
		m.good(0, m.cntlr(0, 0))
		atOnce("with another", true)
	})
}

// A leg that the spec names no more is detached.
func TestALegThatIsNamedNoMore(t *testing.T) {
	t.Parallel()
	m := fakeMirrors(t, 1)
	gone := m.mirrors[0].Legs[1].Vd.VdId
	m.mirrors[0].Legs, m.mirrors[0].Gen = m.mirrors[0].Legs[:1], 2
	m.good(0, m.cntlr(0, 0))
	planetest.Eventually(t, func() string {
		if o := m.cns[0].plane.Objects(); slices.Contains(o, "controller vda-vd-"+gone) {
			return "it is attached"
		}
		return ""
	})
	m.stays(0, spdk.ANAOptimized, 10*time.Millisecond)
}

// A database that has gone back in time changes nothing, and is told so.
func TestMirrorsOfAnEarlierGen(t *testing.T) {
	t.Parallel()
	m := fakeMirrors(t, 1)
	m.role(1, apiv1.LegRole_LEG_ROLE_STALE)
	m.good(0, m.cntlr(0, 0))
	for _, spec := range m.mirrors {
		spec.Gen--
	}
	calls := m.calls(0)
	states := m.sync(0, m.cntlr(0, 0)).States
	if !slices.ContainsFunc(states, func(s *state) bool { return s.Error && strings.Contains(s.ErrorMsg, "gone back in time") }) {
		t.Errorf("states %v", states)
	}
	if got := calls(); len(got) > 0 {
		t.Errorf("calls %q", got)
	}
}

// Without a lease a primary goes on while all members are connected, whatever
// becomes of targets, and stops when one is not, though the array could be used.
func TestLeaseOfAMirroredArray(t *testing.T) {
	t.Parallel()
	m := fakeMirrors(t, 1)
	m.role(1, apiv1.LegRole_LEG_ROLE_STALE)
	m.good(0, m.cntlr(0, 0))
	m.cns[0].plane.Cut(m.dns[1].plane, true)
	m.stays(0, spdk.ANAOptimized, time.Second)
	m.cns[0].plane.Cut(m.dns[1].plane, false)
	m.fence(1)
	m.role(1, apiv1.LegRole_LEG_ROLE_TARGET)
	m.good(0, m.cntlr(0, 0))
	m.reports(0, m.legs(1, "ready", func(s *apiv1.LegState) bool { return s.Ready }))
	m.role(1, apiv1.LegRole_LEG_ROLE_MEMBER)
	m.good(0, m.cntlr(0, 0))
	m.ana(0, spdk.ANAOptimized)
	m.cns[0].plane.Cut(m.dns[1].plane, true)
	m.ana(0, spdk.ANAInaccessible)
	r, err := m.cns[0].a.Heartbeat(context.Background(), &apiv1.HeartbeatRequest{ClusterId: cluster, NodeId: m.cns[0].id})
	if err != nil || len(r.Unreached) > 0 || !r.CanMirror {
		t.Errorf("each mirror has a member left: %v, %v", r, err)
	}
}

// TestRebuildBound: each mirror has its part of what the array may copy, from when it is
// made, live, and behind another controller.
func TestRebuildBound(t *testing.T) {
	t.Parallel()
	m := fakeMirrors(t, 2)
	options := 0
	var mu sync.Mutex
	m.cns[0].plane.SetHook(func(method string, _ map[string]any) error {
		mu.Lock()
		defer mu.Unlock()
		if method == "vda_mirror_set_options" {
			options++
		}
		return nil
	})
	called := func() int {
		mu.Lock()
		defer mu.Unlock()
		defer func() { options = 0 }()
		return options
	}
	is := func(i int, when string, want uint32) {
		t.Helper()
		l, err := m.cns[i].plane.Client().VdaMirrorGetBdevs(context.Background(), "")
		if err != nil || len(l) != len(m.mirrors) || len(l) != 2 {
			t.Fatalf("mirrors %v, %v", l, err)
		}
		for _, s := range l {
			if s.CopyMB != want {
				t.Errorf("%s mirror %s copies %d MiB per second, want %d", when, s.Name, s.CopyMB, want)
			}
		}
	}
	is(0, "without a bound", 0)
	m.spec.Limits = &apiv1.Limits{RebuildMbps: 11}
	m.good(0, m.cntlr(0, 0))
	is(0, "with a bound of 11", 5)
	if n := called(); n != 2 {
		t.Errorf("%d calls, want one per mirror", n)
	}
	m.good(0, m.cntlr(0, 0))
	if n := called(); n != 0 {
		t.Errorf("%d calls when nothing has changed", n)
	}
	m.term++
	m.sync(0, m.cntlr(0, 1))
	m.fence(0)
	m.fence(1)
	m.up(1)
	is(1, "after a failover", 5)
	m.spec.Limits = nil
	m.good(1, m.cntlr(1, 1))
	is(1, "without the bound", 0)
}

// TestMembersThatCatchUpAreReported: monitors hear of a member that lacks something as of a leg
// that is copied to, until it lacks nothing.
func TestMembersThatCatchUpAreReported(t *testing.T) {
	inMirrorBubble(t, 1, func(m *mirrorLab) {
		vd := m.mirrors[0].Legs[1].Vd.VdId
		for _, step := range []struct {
			bytes uint64
			want  string
		}{{0, ""}, {1 << 22, "LEG_ROLE_MEMBER false false 4194304"}, {0, ""}} {
			m.cns[0].plane.CatchUp("vda-vd-"+vd+"n1", step.bytes)
			m.reports(0, func(all []*apiv1.MirrorState) string {
				said := ""
				for _, s := range all {
					for _, l := range s.Legs {
						if l.VdId == vd {
							said = fmt.Sprint(l.Role, " ", l.Connected, l.Lost, l.LackBytes)
						}
					}
				}
				if said != step.want {
					return fmt.Sprintf("lacking %d bytes: %q, want %q", step.bytes, said, step.want)
				}
				return ""
			})
		}
	})
}

// TestRecoveredWhileItCatchesUp: the leg with all data is lost while the other one catches up, and
// a user has the array go on with that one, which takes another epoch.
func TestRecoveredWhileItCatchesUp(t *testing.T) {
	t.Parallel()
	m := fakeMirrors(t, 1)
	m.leased()
	for _, spec := range m.mirrors {
		m.cns[0].plane.CatchUp("vda-vd-"+spec.Legs[1].Vd.VdId+"n1", 1<<22)
	}
	m.reports(0, m.legs(1, "catching up", func(s *apiv1.LegState) bool { return s.LackBytes == 1<<22 }))
	m.cns[0].plane.Cut(m.dns[0].plane, true)
	m.reports(0, m.legs(0, "lost", func(s *apiv1.LegState) bool { return s.Lost }))
	for _, spec := range m.mirrors { // array.Recover
		spec.Gen++
		spec.Legs[0].Role = apiv1.LegRole_LEG_ROLE_STALE
		spec.Legs[0].Vd.Epoch++
		spec.Legs[1].Vd.Epoch++
	}
	m.fence(1)
	m.reports(0, m.legs(1, "shut out", func(s *apiv1.LegState) bool { return s.Lost }))
	m.good(0, m.cntlr(0, 0))
	m.healthy(0)
	m.reports(0, quiet)
	m.ana(0, spdk.ANAOptimized)
}

// TestMirrorsThatAreNotThereAreReported: that nothing is said of an array's mirrors says that no
// member lacks anything, which nobody knows before they are assembled.
func TestMirrorsThatAreNotThereAreReported(t *testing.T) {
	t.Parallel()
	m := fakeMirrors(t, 1)
	m.leased()
	m.reports(0, quiet)
	m.cns[0].plane.Stop()
	m.reports(0, m.legs(1, "unknown", func(s *apiv1.LegState) bool { return !s.Connected && !s.Lost && s.LackBytes == 0 }))
}

// TestTheNodesOwnBound: what a node may copy for all arrays together is said to a data plane
// whenever it has started, also after one call that failed, and taken back by an agent that is
// started without it. A data plane that cannot mirror is told nothing.
func TestTheNodesOwnBound(t *testing.T) {
	t.Run("vda_tgt", func(t *testing.T) { inBubble(t, 1, true, nodesOwnBound) })
	t.Run("SPDK", func(t *testing.T) { inBubble(t, 1, false, noBoundWithoutMirrors) })
}

func nodesOwnBound(l *lab) {
	n := l.cns[0]
	is := func(when string, want uint32) {
		l.Helper()
		planetest.Eventually(l, func() string {
			if got := n.plane.CopyMB(); got != want {
				return fmt.Sprintf("%s: all mirrors may copy %d MiB per second, want %d", when, got, want)
			}
			return ""
		})
	}
	again := func(mb uint32) {
		n.stop(l)
		n.config.RebuildMB = mb
		n.start(l)
	}
	is("without the flag", 0)
	again(200)
	is("with it", 200)
	var failed atomic.Bool
	n.plane.SetHook(func(method string, a map[string]any) error {
		if method != "vda_mirror_set_options" || failed.Swap(true) {
			return nil
		}
		return errors.New("no memory")
	})
	n.plane.Kill()
	n.plane.Boot()
	is("when the data plane has started again", 200)
	if !failed.Load() {
		l.Error("no call failed")
	}
	again(0)
	is("without it again", 0)
}

func noBoundWithoutMirrors(l *lab) {
	n := l.cns[0]
	n.plane.SetHook(func(method string, _ map[string]any) error {
		if method == "vda_mirror_set_options" {
			l.Error("a data plane that cannot mirror is told what mirrors may copy")
		}
		return nil
	})
	n.stop(l)
	n.config.RebuildMB = 200
	n.start(l)
}

// TestOldReadsEndBeforeALegIsLost: a primary whose mirrors have no member that is known to be fenced
// does not say that one is lost, with which the others could serve alone, before the primary
// of before has stopped to answer reads from that one. A leg's fence is known otherwise.
func TestOldReadsEndBeforeALegIsLost(t *testing.T) {
	for _, unfenced := range []bool{true, false} {
		t.Run(fmt.Sprintf("unfenced %t", unfenced), func(t *testing.T) {
			inMirrorBubble(t, 2, func(m *mirrorLab) {
				m.term++
				m.fence(0) // dn1 admits the old term still
				for _, spec := range m.mirrors {
					spec.Unfenced = unfenced
				}
				m.sync(1, m.cntlr(1, 1))
				m.reports(1, m.legs(0, "attached", func(s *apiv1.LegState) bool { return s.Connected }))
				attached := time.Now()
				m.reports(1, m.legs(1, "lost", func(s *apiv1.LegState) bool { return s.Lost }))
				if waited := time.Since(attached); unfenced && waited < 3*time.Second || !unfenced && waited > 2*time.Second {
					t.Errorf("a leg is lost %v after the other was attached", waited)
				}
			})
		})
	}
}
