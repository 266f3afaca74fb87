package cn

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/agent"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/spdk"
)

// mirrors stand on connections: one for each column. What becomes of a leg is decided in SQL; a mirror is told by the sets of legs that
// come with the controller's spec. While the array serves, later passes bring a
// new set to the data plane, let go of legs that are not in it, and connect to
// those that have come back. A leg that is lost is never a reason to take the
// array down: the mirror holds I/O until the leg is back or is not a member any
// more.
type mirrors struct{ *pass }

func (r mirrors) have() bool {
	return slices.ContainsFunc(mirrorsOf(r.c), func(m *apiv1.MirrorSpec) bool { return r.mirror(m) != nil })
}

func (r mirrors) want() (wrong string) {
	for _, m := range mirrorsOf(r.c) {
		if s := r.mirror(m); s != nil && (s.Term != r.c.Term || s.Size != m.DataSize) {
			wrong = fmt.Sprintf("mirror %s has term %d and %d bytes, not %d and %d", m.Id, s.Term, s.Size, r.c.Term, m.DataSize)
		}
	}
	return wrong
}

// onlineWait is how long a mirror that was just assembled is waited for: it has
// labels written to its legs.
const onlineWait = 2 * time.Second

// make returns when all mirrors are online. Nothing may be read before.
func (r mirrors) make(ctx context.Context) error {
	if err := r.keep(ctx); err != nil {
		return err
	}
	all := mirrorsOf(r.c)
	return agent.Parallel(len(all), func(i int) error { return r.await(ctx, all[i]) })
}

// keep makes mirrors that are not there, and tells the others which legs they
// have now.
func (r mirrors) keep(ctx context.Context) error {
	all := mirrorsOf(r.c)
	return agent.Parallel(len(all), func(i int) error {
		m := all[i]
		s := r.mirror(m)
		if s == nil {
			return r.create(ctx, m)
		}
		bound := r.bound(ctx, m) // before a target is attached, and no reason not to
		switch {
		case s.Gen == m.Gen && r.lacksRoom(m): // until its member has grown
		case s.Gen != m.Gen || r.mayConnect(m, s):
			if err := r.set(ctx, m, nil); err != nil {
				return err
			}
		}
		return bound
	})
}

// copyMB is how much each mirror of the array may copy, in MiB per second; 0: no bound.
func (r mirrors) copyMB() uint32 { return r.c.Limits.Limits().RebuildShare(len(mirrorsOf(r.c))) }

// bound tells a mirror how much it may copy.
func (r mirrors) bound(ctx context.Context, m *apiv1.MirrorSpec) error {
	s, want := *r.mirror(m), r.copyMB()
	if s.CopyMB == want {
		return nil
	}
	if err := r.Plane.VdaMirrorSetOptions(ctx, spdk.MirrorOptions{Name: vda.MirrorPrefix + m.Id, CopyMB: want}); err != nil {
		return fmt.Errorf("mirror %s: rebuild_mbps cannot be set: %w", m.Id, err)
	}
	s.CopyMB = want
	r.noteMirror(m, &s)
	return nil
}

func (r mirrors) create(ctx context.Context, m *apiv1.MirrorSpec) error {
	made, err := r.State.Made(r.c.DaId)
	if err != nil {
		return err
	}
	to := spdk.MirrorCreate{Name: vda.MirrorPrefix + m.Id, DA: r.c.DaId, Mirror: m.Id, Size: m.DataSize,
		Term: r.c.Term, Gen: m.Gen, Legs: r.legsFor(m, nil), Fresh: m.Fresh && (!made || r.joins),
		CopyMB: r.copyMB(), Recovered: m.Recovered}
	s, err := said(&to.Recovered, func() (*spdk.Mirror, error) { return r.Plane.VdaMirrorCreate(ctx, to) })
	if err != nil {
		return fmt.Errorf("mirror %s: %w", m.Id, err)
	}
	r.noteMirror(m, s)
	return nil
}

// said tells a mirror what a user has said of it, and a vda_tgt of before, until it is updated too,
// the rest.
func said(recovered **uint64, tell func() (*spdk.Mirror, error)) (*spdk.Mirror, error) {
	s, err := tell()
	if *recovered != nil && spdk.LacksParameter(err, "recovered") {
		*recovered = nil
		return tell()
	}
	return s, err
}

// set tells a mirror its legs, but says that some are absent.
func (r mirrors) set(ctx context.Context, m *apiv1.MirrorSpec, absent []*apiv1.VdTarget) error {
	had := r.mirror(m)
	if s := had; s.Gen > m.Gen {
		return fmt.Errorf("mirror %s has its legs of gen %d, and the database says gen %d: it has gone back in time, and nothing is changed",
			m.Id, s.Gen, m.Gen)
	}
	to := spdk.MirrorSet{Name: vda.MirrorPrefix + m.Id, Term: r.c.Term, Gen: m.Gen, Legs: r.legsFor(m, absent), Recovered: m.Recovered}
	s, err := said(&to.Recovered, func() (*spdk.Mirror, error) { return r.Plane.VdaMirrorSet(ctx, to) })
	switch {
	case spdk.Code(err) == -int(syscall.EINVAL) && (slices.ContainsFunc(legsIn(m, isMember), r.connected) || r.unrelated(m, had)):
		return fmt.Errorf("mirror %s: %w: %w", m.Id, errOtherLegs, err)
	case err != nil:
		return fmt.Errorf("mirror %s: %w", m.Id, err)
	}
	r.noteMirror(m, s)
	return nil
}

// unrelated reports that none of the members that a mirror is told has all data as far
// as it knows: a user has the array go on with a leg that was dropped, or that catches up and
// has another epoch for that. Such a leg is not connected before the mirror has let go of the others.
func (r mirrors) unrelated(m *apiv1.MirrorSpec, had *spdk.Mirror) bool {
	return !slices.ContainsFunc(legsIn(m, isMember), func(v *apiv1.VdTarget) bool {
		l := legState(had, v.VdId)
		return l != nil && (l.Role == spdk.MirrorMember || l.Role == spdk.MirrorJoining) && !(l.CatchingUp && !r.mayStay(v))
	})
}

// errAgain says that an array cannot go on from what there is and has to be taken
// down and assembled once more.
var errAgain = errors.New("it has to be assembled again")

// errOtherLegs is errAgain of a mirror that cannot go on with the legs that it is
// told: the labels of the legs decide whether that may be.
var errOtherLegs = fmt.Errorf("%w: its legs do not follow from those that it had", errAgain)

// lacksRoom reports that the one member of a mirror that is to have several has no room
// for a label yet: its dn is about to make it. Others are not copied to before, as a
// failover would have to begin the copy again.
func (r mirrors) lacksRoom(m *apiv1.MirrorSpec) bool {
	if to, err := vda.ParseRedundancy("", r.c.Redundancy); err != nil || !to.Mirrored() {
		return false
	}
	return slices.ContainsFunc(m.Legs, func(l *apiv1.LegSpec) bool {
		b := r.inv.Bdev(vdPrefix + l.Vd.VdId + "n1")
		return l.Bare && (b == nil || b.Bytes() < m.DataSize+vda.LegTail)
	})
}

// legsFor are a mirror's legs as the data plane is told.
func (r mirrors) legsFor(m *apiv1.MirrorSpec, absent []*apiv1.VdTarget) (legs []spdk.MirrorLeg) {
	if r.lacksRoom(m) {
		absent = append(slices.Clone(absent), legsIn(m, func(role apiv1.LegRole) bool { return !isMember(role) })...)
	}
	for _, l := range m.Legs {
		role := spdk.MirrorAbsent
		switch {
		case slices.Contains(absent, l.Vd):
		case l.Role == apiv1.LegRole_LEG_ROLE_MEMBER:
			role = spdk.MirrorMember
		case l.Role == apiv1.LegRole_LEG_ROLE_TARGET:
			role = spdk.MirrorTarget
		}
		legs = append(legs, spdk.MirrorLeg{VD: l.Vd.VdId, Bdev: vdPrefix + l.Vd.VdId + "n1", Role: role, Bare: l.Bare})
	}
	return legs
}

// mayConnect reports that a leg that a mirror lacks is there.
func (r mirrors) mayConnect(m *apiv1.MirrorSpec, s *spdk.Mirror) bool {
	return slices.ContainsFunc(legsIn(m, connects), func(v *apiv1.VdTarget) bool { return lacks(s, v) && r.connected(v) })
}

// lacks reports that a mirror waits for a leg, or has not attached it.
func lacks(s *spdk.Mirror, v *apiv1.VdTarget) bool {
	l := legState(s, v.VdId)
	return l == nil || l.Lost || l.Role == spdk.MirrorAbsent
}

func legState(s *spdk.Mirror, vd string) *spdk.MirrorLegState {
	if s == nil {
		return nil
	}
	if i := slices.IndexFunc(s.Legs, func(l spdk.MirrorLegState) bool { return l.VD == vd }); i >= 0 {
		return &s.Legs[i]
	}
	return nil
}

// await waits until a mirror is online; not when a leg that it needs is lost.
func (r mirrors) await(ctx context.Context, m *apiv1.MirrorSpec) error {
	for end := time.Now().Add(onlineWait); ; {
		s := r.mirror(m)
		if s.Online {
			return nil
		}
		var lost []string
		for _, l := range s.Legs {
			if l.Lost {
				lost = append(lost, fmt.Sprintf("vd %s (%s)", l.VD, l.Why))
			}
		}
		left := time.Until(end)
		switch {
		case lost != nil:
			return fmt.Errorf("mirror %s waits for %s", m.Id, strings.Join(lost, ", "))
		case left <= 0:
			return fmt.Errorf("mirror %s is not online within %v", m.Id, onlineWait)
		}
		s, err := r.Plane.VdaMirrorWait(ctx, vda.MirrorPrefix+m.Id, s.Changes, max(left, time.Millisecond))
		if err != nil {
			return fmt.Errorf("mirror %s: %w", m.Id, err)
		}
		r.noteMirror(m, s)
	}
}

// letGo has mirrors let go of legs that they must not be connected to any more:
// those that are stale or not named, and targets whose connection is to be made
// again.
func (r mirrors) letGo(ctx context.Context) error {
	all := mirrorsOf(r.c)
	return agent.Parallel(len(all), func(i int) error {
		m := all[i]
		s := r.mirror(m)
		if s == nil {
			return nil
		}
		again := slices.DeleteFunc(legsIn(m, func(role apiv1.LegRole) bool { return connects(role) && !isMember(role) }), r.mayStay)
		if s.Gen == m.Gen && !slices.ContainsFunc(s.Legs, func(l spdk.MirrorLegState) bool {
			return l.Role != spdk.MirrorAbsent && (!named(m, l.VD) ||
				slices.ContainsFunc(again, func(v *apiv1.VdTarget) bool { return v.VdId == l.VD }))
		}) {
			return nil
		}
		err := r.set(ctx, m, again)
		if !s.Assembled && spdk.Code(err) == -int(syscall.EIO) { // it has let go of all; keep sets it when they are connected
			return nil
		}
		return err
	})
}

// named reports that a mirror is to be connected to a vd.
func named(m *apiv1.MirrorSpec, vd string) bool {
	return slices.ContainsFunc(legsIn(m, connects), func(v *apiv1.VdTarget) bool { return v.VdId == vd })
}

// unmake: the labels on the legs say afterwards that these are equal, if they
// are.
func (r mirrors) unmake(ctx context.Context) error {
	all := mirrorsOf(r.c)
	return agent.Parallel(len(all), func(i int) error {
		if r.mirror(all[i]) == nil {
			return nil
		}
		return agent.Drop(r.Plane.VdaMirrorDelete(ctx, vda.MirrorPrefix+all[i].Id))
	})
}

// mirror returns the last that the pass has seen of a mirror, nil when there is
// none.
func (p *pass) mirror(m *apiv1.MirrorSpec) *spdk.Mirror {
	p.mu.Lock()
	defer p.mu.Unlock()
	if s := p.seen[m.Id]; s != nil {
		return s
	}
	return p.inv.Mirror(vda.MirrorPrefix + m.Id)
}

func (p *pass) noteMirror(m *apiv1.MirrorSpec, s *spdk.Mirror) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.seen == nil {
		p.seen = map[string]*spdk.Mirror{}
	}
	p.seen[m.Id] = s
}

// keepMirrors keeps the mirrors of an array that serves as its spec says. It
// reports that the array has to be assembled again.
func (p *pass) keepMirrors(ctx context.Context) (again bool) {
	if !mirrored(p.c) {
		return false
	}
	err := (connections{p}).make(ctx)
	if err == nil {
		err = (mirrors{p}).keep(ctx)
	}
	switch {
	case errors.Is(err, errAgain):
		p.Log.Warn("disk array is taken down and brought up again", "da", p.c.DaName, "term", p.c.Term, "why", err)
		return true
	case err != nil:
		p.fail(p.c.Id, err)
	}
	if why := unreadable(p.c, p.mirror); why != "" {
		p.ail(p.c.Id, errors.New(why))
	}
	for _, m := range mirrorsOf(p.c) {
		s := p.mirror(m)
		for _, v := range legsIn(m, connects) {
			if l := legState(s, v.VdId); lacks(s, v) && (l == nil || !l.Lost || p.connected(v)) {
				p.later(fmt.Errorf("leg %s of mirror %s is not there", v.VdId, m.Id))
			}
		}
	}
	return false
}

// unreadable says which legs of an array cannot be made members, as no member can read what
// they lack; "" when there are none.
func unreadable(c *apiv1.CntlrSpec, of func(*apiv1.MirrorSpec) *spdk.Mirror) string {
	var all []string
	for _, m := range mirrorsOf(c) {
		for _, v := range legsIn(m, connects) {
			if l := legState(of(m), v.VdId); l != nil && l.Role == spdk.MirrorTarget && !l.Lost && l.Why != "" {
				all = append(all, fmt.Sprintf("vd %s of mirror %s is not made a member: %s", v.VdId, m.Id, l.Why))
			}
		}
	}
	return strings.Join(all, "; ")
}

// later has the loop make another pass soon: something is missing that is not an
// error of the controller.
func (p *pass) later(err error) { p.fail("legs of "+p.c.Id, err) }
