package cn_test

import (
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/virtual-disk-array/vda/agent/planetest"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/spdk"
)

// holdLegs has attempts to connect to the legs on dn i wait until release is called, as
// if the dn hung, and notes the calls about mirrors.
func (m *mirrorLab) holdLegs(cn, i int) (begun func() int, told func(string) bool, release func()) {
	var mu sync.Mutex
	var calls []string
	attempts, held := 0, make(chan struct{})
	m.cns[cn].plane.SetHook(func(method string, a map[string]any) error {
		name, _ := a["name"].(string)
		mu.Lock()
		calls = append(calls, method+" "+name)
		hold := method == "bdev_nvme_attach_controller" && slices.ContainsFunc(m.mirrors, func(s *apiv1.MirrorSpec) bool {
			return name == "vda-vd-"+s.Legs[i].Vd.VdId
		})
		if hold {
			attempts++
		}
		mu.Unlock()
		if hold {
			<-held
		}
		return nil
	})
	begun = func() int { mu.Lock(); defer mu.Unlock(); return attempts }
	told = func(call string) bool { mu.Lock(); defer mu.Unlock(); return slices.Contains(calls, call) }
	release = sync.OnceFunc(func() { close(held) })
	m.Cleanup(release)
	return begun, told, release
}

// inMirrorBubble runs a test on a mirrored array that is up on models, in fake time.
func inMirrorBubble(t *testing.T, cns int, test func(m *mirrorLab)) {
	inBubble(t, cns, true, func(l *lab) {
		m := newMirrorLab(l)
		m.pdConf = []string{mallocConf, mallocConf}
		m.fence(0)
		m.fence(1)
		m.up(0)
		m.spec.Create = false
		test(m)
	})
}

// soon fails when f takes longer than an attempt to connect to a dn that hangs.
func (m *mirrorLab) soon(what string, f func()) {
	m.Helper()
	begin := time.Now()
	f()
	if took := time.Since(begin); took > 4*time.Second {
		m.Errorf("%s takes %v", what, took)
	}
}

// A leg whose dn hangs while it is connected to holds up no pass: what has changed is
// done meanwhile. The connection that comes to be after all is ended.
func TestAHungLegHoldsUpNoPass(t *testing.T) {
	inMirrorBubble(t, 1, func(m *mirrorLab) {
		m.role(1, apiv1.LegRole_LEG_ROLE_STALE)
		m.good(0, m.cntlr(0, 0))
		begun, told, release := m.holdLegs(0, 1)
		m.fence(1)
		m.role(1, apiv1.LegRole_LEG_ROLE_TARGET)
		m.soon("a pass with a leg that hangs", func() { m.good(0, m.cntlr(0, 0)) })
		m.role(1, apiv1.LegRole_LEG_ROLE_STALE)
		m.spec.Limits = &apiv1.Limits{RebuildMbps: 10}
		m.soon("a change", func() { m.good(0, m.cntlr(0, 0)) })
		for _, spec := range m.mirrors {
			if call := "vda_mirror_set_options vda-mir-" + spec.Id; !told(call) {
				m.Errorf("no %s", call)
			}
		}
		m.stays(0, spdk.ANAOptimized, 10*time.Millisecond)
		release()
		planetest.Eventually(m, func() string {
			for _, spec := range m.mirrors {
				if name := "vda-vd-" + spec.Legs[1].Vd.VdId; !told("bdev_nvme_detach_controller " + name) {
					return name + " stays"
				}
			}
			return ""
		})
		if n := begun(); n != len(m.mirrors) {
			m.Errorf("%d attempts of %d", n, len(m.mirrors))
		}
	})
}

// A primary that takes over assembles what answers, and says at once which legs do not.
func TestAPrimaryComesUpBesideAHungLeg(t *testing.T) {
	inMirrorBubble(t, 2, func(m *mirrorLab) {
		_, _, release := m.holdLegs(1, 1)
		m.term++
		m.fence(0)
		m.fence(1)
		m.sync(0, m.cntlr(0, 1))
		m.soon("that a leg is lost", func() {
			m.sync(1, m.cntlr(1, 1))
			m.reports(1, m.legs(1, "lost", func(s *apiv1.LegState) bool { return s.Lost && !s.Connected }))
		})
		m.role(1, apiv1.LegRole_LEG_ROLE_STALE)
		m.soon("to go on without it", func() { m.good(1, m.cntlr(1, 1)) })
		m.stays(1, spdk.ANAOptimized, 10*time.Millisecond)
		// What is taken down waits for the attempt, and nothing of it is left.
		m.term++
		go release()
		m.sync(1, m.cntlr(1, 0))
		planetest.Eventually(m, func() string {
			for _, o := range m.cns[1].plane.Objects() {
				if strings.HasPrefix(o, "controller vda-vd-") {
					return o + " is left"
				}
			}
			return ""
		})
	})
}
