package cn_test

import (
	"testing"

	apiv1 "github.com/virtual-disk-array/vda/api/v1"
)

// TestRealRecover: the last leg with all data is lost, and a user has the array go on
// with one that was dropped before: it serves what it had then, and the lost one, when
// it turns up after all, becomes equal to it, with nothing left of what only it had.
func TestRealRecover(t *testing.T) {
	t.Parallel()
	l, dnTgts, _ := reals(t, 1, true, false, false)
	m := made(l)
	write(t, m.disk(0), 3)
	m.reports(0, quiet)

	dnTgts[1].stop()
	m.reports(0, m.legs(1, "lost", func(s *apiv1.LegState) bool { return s.Lost }))
	m.role(1, apiv1.LegRole_LEG_ROLE_STALE)
	m.good(0, m.cntlr(0, 0))
	write(t, m.disk(0), 4) // which is lost below
	dnTgts[0].stop()
	m.reports(0, m.legs(0, "lost", func(s *apiv1.LegState) bool { return s.Lost }))

	dnTgts[1].start()
	m.ready(1)
	for _, spec := range m.mirrors { // array.Recover
		spec.Gen++
		spec.Legs[0].Role, spec.Legs[1].Role = apiv1.LegRole_LEG_ROLE_STALE, apiv1.LegRole_LEG_ROLE_MEMBER
		spec.Legs[0].Vd.Epoch++
		spec.Legs[1].Vd.Epoch++
	}
	m.fence(1)
	m.good(0, m.cntlr(0, 0))
	m.healthy(0)
	verify(t, m.disk(0), 3)

	dnTgts[0].start()
	m.ready(0)
	m.fence(0)
	m.role(0, apiv1.LegRole_LEG_ROLE_TARGET)
	m.good(0, m.cntlr(0, 0))
	m.reports(0, m.legs(0, "ready", func(s *apiv1.LegState) bool { return s.Ready }))
	m.role(0, apiv1.LegRole_LEG_ROLE_MEMBER)
	m.good(0, m.cntlr(0, 0))
	m.reports(0, quiet)
	verify(t, m.disk(0), 3)
	m.delete(0)
	m.equal()
}
