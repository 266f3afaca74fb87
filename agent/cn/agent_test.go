package cn_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/virtual-disk-array/vda/agent/planetest"
	"github.com/virtual-disk-array/vda/spdk"
)

// front returns the exporter's subsystem on controller node i.
func (l *lab) front(i int) *spdk.NvmfSubsystem {
	l.Helper()
	subs, err := l.cns[i].plane.Client().NvmfGetSubsystems(context.Background())
	if err != nil {
		l.Fatal(err)
	}
	for _, s := range subs {
		if s.NQN == expNQN {
			return &s
		}
	}
	return nil
}

func TestPathsShowOneDisk(t *testing.T) { inBubble(t, 3, false, pathsShowOneDisk) }

func pathsShowOneDisk(l *lab) {
	t := l.T
	l.up(0)
	for i := range l.cns {
		s := l.front(i)
		if s == nil {
			t.Fatalf("cn%d exports nothing", i)
		}
		if s.SerialNumber != "00000000000000000001" || s.ModelNumber != "VDA_CONTROLLER" || s.AllowAnyHost ||
			!admits(s, l.hosts(i, 0)...) || len(s.Namespaces) != 1 ||
			s.MinCntlid != uint16(i*1000+1) || s.MaxCntlid != uint16(i*1000+1000) {
			t.Errorf("cn%d: %+v", i, s)
		}
		if a, b := s.Namespaces[0], l.front(0).Namespaces[0]; a.NSID != 1 || a.UUID != b.UUID || a.NGUID != b.NGUID || a.ANAGrpID != 1 {
			t.Errorf("cn%d: namespace %+v, cn0 has %+v", i, a, b)
		}
		want := spdk.ANANonOptimized
		if i == 0 {
			want = spdk.ANAOptimized
		}
		if got := l.cns[i].plane.ANA(expNQN); got != want {
			t.Errorf("cn%d: ANA %s, want %s", i, got, want)
		}
	}
}

func admits(s *spdk.NvmfSubsystem, want ...string) bool {
	var have []string
	for _, h := range s.Hosts {
		have = append(have, h.NQN)
	}
	slices.Sort(have)
	slices.Sort(want)
	return slices.Equal(have, want)
}

// hosts are who controller node i admits while primary is primary.
func (l *lab) hosts(i, primary int) []string {
	hosts := []string{host0}
	for j, o := range l.cns {
		if i == primary && j != i {
			hosts = append(hosts, "nqn.2016-06.io.spdk:vda-px-"+o.cntlr)
		}
	}
	return hosts
}

// TestNobodyComesInBeforeThePathIsRight: hosts try to come back all the time
// while an agent puts a subsystem together. Neither may one get in before the
// namespace is there and the path has its state, nor, where the data plane can
// do that, may it be refused by a subsystem that listens already.
func TestNobodyComesInBeforeThePathIsRight(t *testing.T) {
	t.Parallel()
	for _, plane := range []struct {
		name    string
		vda     bool
		version [2]int
	}{{"vda_tgt", true, [2]int{}}, {"SPDK 26.05", false, [2]int{26, 5}}, {"SPDK 23.09", false, [2]int{23, 9}}} {
		t.Run(plane.name, func(t *testing.T) {
			inBubble(t, 2, plane.vda, func(l *lab) {
				t := l.T
				p := l.cns[1].plane
				if !plane.vda {
					l.cns[1].stop(l)
					p.SetVersion(plane.version[0], plane.version[1])
					l.cns[1].start(l)
				}
				oneStep := plane.version != [2]int{23, 9}
				p.SetHook(func(method string, a map[string]any) error {
					if a["nqn"] != expNQN || method != "nvmf_subsystem_add_host" && method != "nvmf_subsystem_add_listener" {
						return nil
					}
					sub := l.front(1)
					listens, ana := len(sub.ListenAddresses) > 0, p.ANA(expNQN)
					if len(sub.Namespaces) == 0 {
						t.Errorf("%s before the namespace is there", method)
					}
					switch {
					case method == "nvmf_subsystem_add_host" && listens && ana != spdk.ANANonOptimized:
						t.Errorf("a host is admitted while ANA is %s", ana)
					case method == "nvmf_subsystem_add_listener" && oneStep && (!admits(sub, l.hosts(1, 0)...) || a["ana_state"] != spdk.ANANonOptimized):
						t.Errorf("it listens in state %v while it admits %v", a["ana_state"], sub.Hosts)
					case method == "nvmf_subsystem_add_listener" && !oneStep && len(sub.Hosts) > 0:
						t.Errorf("it listens in the optimized state and admits %v", sub.Hosts)
					}
					return nil
				})
				l.up(0)
				p.Stop()
				p.Start()
				planetest.Eventually(t, func() string {
					if s := l.front(1); s == nil || len(s.ListenAddresses) == 0 || !admits(s, l.hosts(1, 0)...) || p.ANA(expNQN) != spdk.ANANonOptimized {
						return "after a restart the path is not back"
					}
					return ""
				})
			})
		})
	}
}

// TestHalfASubsystemIsNoObstacle: a pass that ended after it had made a subsystem,
// and before that listened, leaves one that has no path to close. The next pass
// goes on, whichever role it is for.
func TestHalfASubsystemIsNoObstacle(t *testing.T) {
	t.Parallel()
	for _, swaps := range []bool{false, true} {
		for _, primary := range []int{0, 1} {
			t.Run(fmt.Sprintf("swap %v, primary %d", swaps, primary), func(t *testing.T) {
				inBubble(t, 2, swaps, func(l *lab) {
					t := l.T
					l.cns[0].plane.SetHook(func(method string, a map[string]any) error {
						if method == "nvmf_subsystem_add_ns" && a["nqn"] == expNQN {
							return planetest.Refuse(5)
						}
						return nil
					})
					l.fence(false)
					l.sync(0, l.cntlr(0, 0))
					if s := l.front(0); s == nil || len(s.ListenAddresses) > 0 {
						t.Fatalf("subsystem %+v, want one that does not listen", s)
					}
					l.cns[0].plane.SetHook(nil)
					if primary == 1 {
						l.term++
						l.fence(false)
					}
					l.spec.Create = false
					l.good(primary, l.cntlr(primary, primary))
					l.good(1-primary, l.cntlr(1-primary, primary))
					for i := range l.cns {
						if s := l.front(i); s == nil || len(s.ListenAddresses) == 0 || !admits(s, l.hosts(i, primary)...) {
							t.Errorf("cn%d: %+v", i, s)
						}
					}
				})
			})
		}
	}
}

// TestDeletedExporterIsRetired: hosts of an exporter that is deleted are told
// not to come back, those of one that is missing after a restart are not, and
// one that is made again takes them.
func TestDeletedExporterIsRetired(t *testing.T) { inBubble(t, 1, true, deletedExporterIsRetired) }

func deletedExporterIsRetired(l *lab) {
	t := l.T
	p := l.cns[0].plane
	l.up(0)
	p.Stop()
	p.Start()
	planetest.Eventually(t, func() string {
		if s := l.front(0); s == nil || len(s.ListenAddresses) == 0 {
			return "after a restart the path is not back"
		}
		return ""
	})
	l.healthy(0)
	if p.Retired(expNQN) {
		t.Error("a restart retires")
	}
	c := l.cntlr(0, 0)
	c.Exps[0] = proto.CloneOf(c.Exps[0])
	c.Exps[0].Deleted = true
	l.sync(0, c)
	if !p.Retired(expNQN) {
		t.Error("the deleted exporter is not retired")
	}
	p.Changes()
	l.sync(0, c)
	if n := p.Changes(); n != 0 {
		t.Errorf("%d changes by a tombstone that has been carried out", n)
	}
	// It is wanted again and cannot be made yet, by an agent that has not
	// retired it itself.
	l.cns[0].stop(l)
	l.cns[0].start(l)
	p.SetHook(func(method string, a map[string]any) error {
		if method == "nvmf_create_subsystem" && a["nqn"] == expNQN {
			return planetest.Refuse(12)
		}
		return nil
	})
	l.sync(0, l.cntlr(0, 0))
	if p.Retired(expNQN) {
		t.Error("the exporter is wanted again, and its hosts are told not to come back")
	}
	p.SetHook(nil)
	l.good(0, l.cntlr(0, 0))
	if s := l.front(0); p.Retired(expNQN) || s == nil || len(s.ListenAddresses) == 0 {
		t.Errorf("made again: retired %v, subsystem %+v", p.Retired(expNQN), s)
	}
}

func TestRepeatedSyncChangesNothing(t *testing.T) { inBubble(t, 2, false, repeatedSyncChangesNothing) }

func repeatedSyncChangesNothing(l *lab) {
	t := l.T
	l.up(0)
	for i, n := range l.cns {
		n.plane.Changes()
		l.good(i, l.cntlr(i, 0))
		time.Sleep(time.Second) // of fake time: some self-checks
		if c := n.plane.Changes(); c != 0 {
			t.Errorf("cn%d: %d changes", i, c)
		}
	}
}

func TestSwitchOfPrimaryKeepsTheDataAndTheIdentity(t *testing.T) {
	t.Parallel()
	for _, swaps := range []bool{false, true} {
		t.Run(fmt.Sprintf("swap %v", swaps), func(t *testing.T) {
			inBubble(t, 3, swaps, func(l *lab) {
				t := l.T
				l.up(0)
				before := l.front(1).Namespaces[0]
				for _, n := range l.cns {
					n.plane.SetHook(func(method string, _ map[string]any) error {
						if method == "bdev_lvol_create_lvstore" || method == "bdev_lvol_delete" ||
							method == "bdev_lvol_delete_lvstore" || method == "bdev_lvol_create" {
							t.Error(method)
						}
						return nil
					})
				}
				l.spec.Create = false
				order := []int{1, 2, 0, 1}
				if !swaps {
					order = order[:2] // each takes the time in which queued I/O fails
				}
				for round, primary := range order {
					l.term++
					l.up(primary)
					for i, n := range l.cns {
						want := spdk.ANANonOptimized
						if i == primary {
							want = spdk.ANAOptimized
						}
						if got := n.plane.ANA(expNQN); got != want {
							t.Errorf("round %d cn%d: ANA %s, want %s", round, i, got, want)
						}
						if s := l.front(i); !admits(s, l.hosts(i, primary)...) {
							t.Errorf("round %d cn%d: admits %v", round, i, s.Hosts)
						}
						if ns := l.front(i).Namespaces; len(ns) != 1 || ns[0].UUID != before.UUID || ns[0].NGUID != before.NGUID {
							t.Errorf("round %d cn%d: namespaces %+v", round, i, ns)
						}
						for _, o := range n.plane.Objects() {
							if i != primary && strings.Contains(o, "vda-vd-") || i == primary && strings.HasPrefix(o, "controller vda-px-") {
								t.Errorf("round %d cn%d still has %s", round, i, o)
							}
						}
					}
				}
			})
		})
	}
}

func TestDemotionDeletesNothingFromMedia(t *testing.T) {
	inBubble(t, 2, false, demotionDeletesNothingFromMedia)
}

func demotionDeletesNothingFromMedia(l *lab) {
	t := l.T
	l.up(0)
	l.term++
	l.fence(false)
	// The old primary hears of it while it is cut off.
	p := l.cns[0].plane
	p.SetHook(func(method string, _ map[string]any) error {
		if strings.Contains(method, "lvol_delete") || strings.Contains(method, "lvstore") && strings.Contains(method, "delete") {
			t.Error(method)
		}
		return nil
	})
	l.sync(0, l.cntlr(0, 1))
	l.spec.Create = false
	l.good(1, l.cntlr(1, 1))
	l.healthy(0)
}

func TestStalePrimaryStaysDown(t *testing.T) { inBubble(t, 2, false, stalePrimaryStaysDown) }

func stalePrimaryStaysDown(l *lab) {
	t := l.T
	l.up(0)
	l.cns[0].stop(l)
	l.cns[0].plane.Stop()
	l.term++
	l.fence(false)
	l.spec.Create = false
	l.good(1, l.cntlr(1, 1))
	l.cns[0].plane.Start()
	l.cns[0].start(l) // still believes that it is primary
	planetest.Eventually(t, func() string {
		if s := l.states(0); s[l.cns[0].cntlr] == "" || s[id("e5", 0)] == "" {
			return fmt.Sprintf("states %v", s)
		}
		return ""
	})
	if s := l.front(0); s != nil {
		t.Errorf("it exports %+v", s)
	}
	l.good(0, l.cntlr(0, 1))
}

func TestLostMetadataIsNotMadeAnew(t *testing.T) { inBubble(t, 1, false, lostMetadataIsNotMadeAnew) }

func lostMetadataIsNotMadeAnew(l *lab) {
	t := l.T
	l.up(0)
	l.cns[0].plane.Stop()
	l.cns[0].plane.SetHook(func(method string, _ map[string]any) error {
		switch method {
		case "bdev_examine":
			return planetest.Refuse(5)
		case "bdev_lvol_create_lvstore":
			t.Error("made again, although it was asked for once only")
		}
		return nil
	})
	l.cns[0].plane.Start()
	planetest.Eventually(t, func() string {
		if msg := l.states(0)[l.cns[0].cntlr]; !strings.Contains(msg, "not made again") {
			return "state: " + msg
		}
		return ""
	})
	l.cns[0].plane.SetHook(nil)
	l.healthy(0)
}

func TestNewArrayNeedsBlankDisks(t *testing.T) { inBubble(t, 2, false, newArrayNeedsBlankDisks) }

func newArrayNeedsBlankDisks(l *lab) {
	t := l.T
	l.up(0)
	// Another controller that is told to make the array finds it instead.
	l.term++
	l.fence(false)
	l.good(1, l.cntlr(1, 1))
	// And it does not make it when the volume is there under another name.
	l.spec.DaId = "da000000000000000000000000000002"
	l.spec.Exps = nil
	msg := ""
	for _, s := range l.sync(1, l.cntlr(1, 1)).States {
		msg += s.ErrorMsg
	}
	if !strings.Contains(msg, "carry lvstore vda-da-"+daID) {
		t.Errorf("got %q", msg)
	}
}

func TestRestartedDataPlanesComeBack(t *testing.T) {
	t.Parallel()
	l, _ := fakes(t, 2, false)
	l.up(0)
	for i, n := range l.cns {
		n.plane.Stop()
		n.plane.Start()
		planetest.Eventually(t, func() string {
			if s := l.front(i); s == nil || len(s.Hosts) == 0 {
				return fmt.Sprintf("cn%d does not export", i)
			}
			return ""
		})
		l.healthy(i)
	}
	l.healthy(1)
}

func TestSecondaryClosesItsPathWhileThePrimaryIsAway(t *testing.T) {
	inBubble(t, 2, false, secondaryClosesItsPathWhileThePrimaryIsAway)
}

func secondaryClosesItsPathWhileThePrimaryIsAway(l *lab) {
	t := l.T
	l.up(0)
	l.cns[0].stop(l)
	l.cns[0].plane.Stop()
	planetest.Eventually(t, func() string {
		if got := l.cns[1].plane.ANA(expNQN); got != spdk.ANAInaccessible {
			return "ANA is " + got
		}
		return ""
	})
	planetest.Eventually(t, func() string {
		if msg := l.states(1)[id("e5", 1)]; !strings.Contains(msg, "primary at 127.0.0.1 port 4430") {
			return fmt.Sprintf("state: %q", msg)
		}
		return ""
	})
	l.cns[0].plane.Start()
	l.cns[0].start(l)
	l.healthy(0)
	l.healthy(1)
	if got := l.cns[1].plane.ANA(expNQN); got != spdk.ANANonOptimized {
		t.Errorf("ANA is %s", got)
	}
}

func TestLostPrimaryIsNoticedBeforeIOFails(t *testing.T) {
	inBubble(t, 2, false, lostPrimaryIsNoticedBeforeIOFails)
}

func lostPrimaryIsNoticedBeforeIOFails(l *lab) {
	t := l.T
	l.cns[1].stop(l)
	l.cns[1].config.CheckInterval = time.Hour
	l.cns[1].start(l)
	l.up(0)
	l.cns[0].stop(l)
	l.cns[0].plane.Stop()
	begin := time.Now()
	planetest.Eventually(t, func() string {
		if got := l.cns[1].plane.ANA(expNQN); got != spdk.ANAInaccessible {
			return "ANA is " + got
		}
		return ""
	})
	t.Logf("path closed after %v", time.Since(begin))
	l.cns[0].plane.Start()
	l.cns[0].start(l)
	l.healthy(0)
	planetest.Eventually(t, func() string {
		if got := l.cns[1].plane.ANA(expNQN); got != spdk.ANANonOptimized {
			return "ANA is " + got
		}
		return ""
	})
}

func TestUnreachableVdHoldsUpNoOtherArray(t *testing.T) {
	inBubble(t, 1, false, func(l *lab) {
		t := l.T
		l.up(0)
		bad := l.cntlr(0, 0)
		bad.Id, bad.DaId = id("cc", 9), "da000000000000000000000000000009"
		bad.Grps[0].Id, bad.Grps[0].Vds, bad.Grps[0].Columns = id("e0", 9), bad.Grps[0].Vds[:1], nil
		bad.Grps[0].Vds[0].VdId = id("b0", 9)
		bad.Exps = nil
		release := make(chan struct{})
		defer close(release)
		l.cns[0].plane.SetHook(func(method string, a map[string]any) error {
			if method == "bdev_nvme_attach_controller" && a["name"] == "vda-vd-"+id("b0", 9) {
				<-release
			}
			return nil
		})
		n := l.cns[0]
		n.version++
		go func() {
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			defer cancel()
			_, _ = n.a.Sync(ctx, request(n, n.version, n.version-1, bad))
		}()
		time.Sleep(50 * time.Millisecond) // of fake time: it waits
		begin := time.Now()
		if s := l.states(0); len(s) > 0 {
			t.Errorf("heartbeat: %v", s)
		}
		n.version++
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		r, err := n.a.Sync(ctx, request(n, n.version, n.version-1, l.cntlr(0, 0)))
		if err != nil || slices.ContainsFunc(r.States, func(s *state) bool { return s.Error }) {
			t.Errorf("%v, %v", r, err)
		}
		if d := time.Since(begin); d > 100*time.Millisecond {
			t.Errorf("took %v", d)
		}
	})
}

func TestExporterThatIsDeletedGoes(t *testing.T) { inBubble(t, 2, false, exporterThatIsDeletedGoes) }

func exporterThatIsDeletedGoes(l *lab) {
	t := l.T
	l.up(0)
	l.spec.Exps[0].Deleted = true
	for i, n := range l.cns {
		for _, s := range l.sync(i, l.cntlr(i, 0)).States {
			if s.Id == id("e5", i) && (!s.Gone || s.Error) {
				t.Errorf("cn%d: %v", i, s)
			}
		}
		for _, o := range n.plane.Objects() {
			if strings.Contains(o, "vda-exp") || strings.Contains(o, "vda-px") {
				t.Errorf("cn%d still has %s", i, o)
			}
		}
	}
}

func TestDeletedArrayLeavesNothing(t *testing.T) { inBubble(t, 2, false, deletedArrayLeavesNothing) }

func deletedArrayLeavesNothing(l *lab) {
	t := l.T
	l.up(0)
	for _, i := range []int{1, 0} {
		c := l.cntlr(i, 0)
		c.Deleted, c.DestroyData = true, i == 0
		l.good(i, c)
		l.good(i, c)
		if o := l.cns[i].plane.Objects(); len(o) > 0 {
			t.Errorf("cn%d: %v", i, o)
		}
	}
	l.fence(true)
}

func TestSnapshotThatDoesNotExistIsNotTheLiveVolume(t *testing.T) {
	inBubble(t, 1, false, snapshotThatDoesNotExistIsNotTheLiveVolume)
}

func snapshotThatDoesNotExistIsNotTheLiveVolume(l *lab) {
	t := l.T
	l.spec.Exps[0].SnapName = "snap0"
	l.fence(false)
	msg := ""
	for _, s := range l.sync(0, l.cntlr(0, 0)).States {
		msg += s.ErrorMsg
	}
	if !strings.Contains(msg, `snapshot "snap0"`) || l.front(0) != nil {
		t.Errorf("%q, %+v", msg, l.front(0))
	}
}
