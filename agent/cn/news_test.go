package cn_test

import (
	"testing"
	"time"

	apiv1 "github.com/virtual-disk-array/vda/api/v1"
)

// A data plane on which nothing happens is asked for news of its mirrors once per
// 10 s, and says at once when a leg is lost.
func TestMirrorsAreNotPolled(t *testing.T) {
	inMirrorBubble(t, 1, func(m *mirrorLab) {
		m.leased()
		m.reports(0, quiet)
		p := m.cns[0].plane
		time.Sleep(20 * time.Second) // until bits are cleared
		p.Asked()
		time.Sleep(time.Minute)
		asked := p.Asked()
		if n := asked["vda_mirror_watch"].Calls; n == 0 || n > 7 || asked["vda_mirror_get_bdevs"].Calls > 0 {
			t.Errorf("within a minute without news: %+v", asked)
		}
		p.Cut(m.dns[1].plane, true)
		m.reports(0, m.legs(1, "lost", isLost))
		if n := p.Asked()["vda_mirror_get_bdevs"].Calls; n > 0 {
			t.Errorf("%d calls list all mirrors", n)
		}
	})
}

// A data plane of before, which cannot be waited for, is looked at.
func TestMirrorsOfAnOldDataPlane(t *testing.T) {
	inMirrorBubble(t, 1, func(m *mirrorLab) {
		m.leased()
		p := m.cns[0].plane
		p.Hide("vda_mirror_watch")
		m.reports(0, quiet)
		p.Cut(m.dns[1].plane, true)
		m.reports(0, m.legs(1, "lost", isLost))
	})
}

func isLost(l *apiv1.LegState) bool { return l.Lost }
