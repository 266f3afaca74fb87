package cn

import (
	"context"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/virtual-disk-array/vda"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/spdk"
)

// How long a call waits for news of mirrors: what bytes are moved is not news, and
// what legs are not connected for may become something else without any.
const (
	newsWait   = 10 * time.Second
	movingWait = time.Second
)

// reportInterval is how long nothing is asked when there is nothing to ask, or no
// answer.
const reportInterval = 50 * time.Millisecond

// watchMirrors has monitors hear at once of what becomes of the mirrors of this node's
// primaries, until ctx ends: I/O of a mirror waits from the loss of a leg until a
// monitor that was told has decided. It asks the data plane to answer when there is
// something new, so nothing is lost to an interval, and nothing is asked while nothing
// happens. Of many mirrors it judges no more than a tenth of the time, with pauses up to
// maxWatchPause.
func (a *Agent) watchMirrors(ctx context.Context) {
	news := make(chan []spdk.Mirror)
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { a.followMirrors(ctx, news) })
	for {
		var l []spdk.Mirror
		told := false
		select {
		case <-ctx.Done():
			return
		case l = <-news:
			told = true
		case <-a.otherSet:
		}
		begin := time.Now()
		if told {
			a.keepMirrorStates(l)
		}
		if a.judgeMirrors() {
			a.Tell()
		}
		if sleep(ctx, min(10*time.Since(begin), maxWatchPause)) != nil {
			return
		}
	}
}

// followMirrors asks the data plane for what becomes of mirrors, and sends all that it
// knows of them each time that it answers.
func (a *Agent) followMirrors(ctx context.Context, news chan<- []spdk.Mirror) {
	known, changes := map[string]spdk.Mirror{}, uint64(0)
	for pause := time.Duration(0); sleep(ctx, pause) == nil; {
		pause = reportInterval
		if a.Plane.Ready() != nil || !a.Plane.Driver().Mirrors() || !a.hasMirrors() {
			if changes = 0; len(known) == 0 {
				continue
			}
			clear(known)
		} else {
			wait := newsWait
			if moving(known) {
				wait = movingWait
			}
			n, err := a.Plane.WatchMirrors(ctx, changes, wait)
			switch {
			case spdk.IsMethodNotFound(err): // a vda_tgt of before, until it is updated too
				l, err := a.Plane.VdaMirrorGetBdevs(ctx, "")
				if err != nil {
					continue
				}
				n = &spdk.MirrorNews{All: true, Mirrors: l}
			case err != nil:
				continue // the heartbeat says so
			default:
				pause = 0
			}
			changes = n.Changes
			if n.All {
				clear(known)
			}
			for _, m := range n.Mirrors {
				known[m.Name] = m
			}
		}
		select {
		case news <- slices.Collect(maps.Values(known)):
		case <-ctx.Done():
		}
	}
}

// moving reports that what is known of mirrors may become another without news.
func moving(known map[string]spdk.Mirror) bool {
	for _, m := range known {
		if m.Repair > 0 || m.Scrub.State == "running" ||
			slices.ContainsFunc(m.Legs, func(l spdk.MirrorLegState) bool { return l.Lost || l.Lack > 0 || l.Why != "" }) {
			return true
		}
	}
	return false
}

// hasMirrors reports that a primary of this node has mirrors.
func (a *Agent) hasMirrors() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	for id := range a.standings {
		if mirrored(a.set.cntlrs[id]) {
			return true
		}
	}
	return false
}

// keepMirrorStates keeps what the data plane says of its mirrors.
func (a *Agent) keepMirrorStates(l []spdk.Mirror) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.mirrors = make(map[string]*spdk.Mirror, len(l))
	attached := map[string]attachment{}
	for i := range l {
		m := &l[i]
		a.mirrors[m.Name] = m
		if was, known := a.attached[m.Name]; known && was.term == m.Term {
			attached[m.Name] = was
		} else if slices.ContainsFunc(m.Legs, func(l spdk.MirrorLegState) bool { return l.Connected && l.Role != spdk.MirrorTarget }) {
			attached[m.Name] = attachment{m.Term, time.Now()}
		}
	}
	a.attached = attached
	a.copying.note(time.Now(), l)
}

// attachment is when a mirror was first seen with a member, in a term.
type attachment struct {
	term uint64
	at   time.Time
}

// oldReads is for how long after the dn of a leg has let go of the primary before that one may answer reads
// from another leg, at most: 3 s in which it hears nothing of the leg (module/mirror), and some more.
const oldReads = 4 * time.Second

// mayStillRead reports that the primary before may answer reads from a leg that a mirror has not
// attached, so that the mirror must not serve without that one yet. a.mu is held.
func (a *Agent) mayStillRead(m *apiv1.MirrorSpec, state *apiv1.MirrorState) bool {
	if !m.Unfenced || state.Online {
		return false
	}
	first, attached := a.attached[vda.MirrorPrefix+m.Id]
	return !attached || first.term != state.Term || time.Since(first.at) < oldReads
}

// judgeMirrors reports that there is something new for monitors.
func (a *Agent) judgeMirrors() (news bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := a.report()
	news = !slices.EqualFunc(a.told, now, func(x, y *apiv1.MirrorState) bool { return proto.Equal(x, y) })
	a.told = now
	if news {
		a.kickLost()
	}
	a.kickUnreadable()
	return news
}

// kickUnreadable has the primaries say which legs cannot become members, when that has
// changed. a.mu is held.
func (a *Agent) kickUnreadable() {
	now := map[string]string{}
	for id := range a.standings {
		c := a.set.cntlrs[id]
		if why := unreadable(c, func(m *apiv1.MirrorSpec) *spdk.Mirror { return a.mirrors[vda.MirrorPrefix+m.Id] }); why != "" {
			now[id] = why
		}
		if now[id] != a.unread[id] {
			a.Loop.KickNamed(id, false)
		}
	}
	a.unread = now
}

// kickLost has the primaries that have lost legs look at them: their passes have
// such a leg resume as soon as it is there again. a.mu is held.
func (a *Agent) kickLost() {
	for id := range a.standings {
		if slices.ContainsFunc(mirrorsOf(a.set.cntlrs[id]), func(m *apiv1.MirrorSpec) bool {
			s := a.mirrors[vda.MirrorPrefix+m.Id]
			return s != nil && slices.ContainsFunc(s.Legs, func(l spdk.MirrorLegState) bool { return l.Lost })
		}) {
			a.Loop.KickNamed(id, false)
		}
	}
}

// report is what monitors hear at once: all but numbers of bytes. a.mu is held.
func (a *Agent) report() []*apiv1.MirrorState {
	all := a.mirrorStates()
	for _, s := range all {
		for _, l := range s.Legs {
			l.LackBytes, l.CopyBytesPerSec, l.Why = 0, 0, ""
		}
		if s.Scrub != nil {
			s.Scrub.DoneBytes, s.Scrub.Mismatches, s.Scrub.Repaired = 0, 0, 0
		}
	}
	return all
}

// reported is what a heartbeat says of mirrors.
func (a *Agent) reported() []*apiv1.MirrorState {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.mirrorStates()
}

// mirrorStates describes all mirrors of each array whose primary is here and of
// which there is anything to say. To say nothing is to say that no leg lacks anything, so
// those that are not there yet, or not known, are described too. a.mu is held.
func (a *Agent) mirrorStates() (all []*apiv1.MirrorState) {
	if !a.Plane.Driver().Mirrors() {
		return nil
	}
	for id := range a.standings {
		c := a.set.cntlrs[id]
		var states []*apiv1.MirrorState
		say := false
		for _, m := range mirrorsOf(c) {
			s := a.mirrors[vda.MirrorPrefix+m.Id]
			state := mirrorState(c, m, s)
			waits := a.mayStillRead(m, state)
			for _, l := range state.Legs {
				l.Lost = l.Lost && !waits
				if l.LackBytes > 0 {
					l.CopyBytesPerSec = a.copying.rate(m.Id, l.VdId)
				}
			}
			states = append(states, state)
			state.Scrub = a.scrubState(c, m, s)
			say = say || !state.Online || state.Scrub != nil || slices.ContainsFunc(state.Legs, func(l *apiv1.LegState) bool {
				return !l.Connected || l.Lost || l.Ready || l.LackBytes > 0
			})
		}
		if say {
			all = append(all, states...)
		}
	}
	slices.SortFunc(all, func(x, y *apiv1.MirrorState) int { return strings.Compare(x.MirrorId, y.MirrorId) })
	return all
}

// mirrorState is what the data plane says of a mirror, which may be nothing, in
// the words of a heartbeat. Its legs are those that the spec has connected.
func mirrorState(c *apiv1.CntlrSpec, m *apiv1.MirrorSpec, s *spdk.Mirror) *apiv1.MirrorState {
	state := &apiv1.MirrorState{MirrorId: m.Id, DaId: c.DaId, Term: c.Term}
	if s != nil {
		state.Term, state.Gen, state.Online = s.Term, s.Gen, s.Assembled
	}
	for _, l := range m.Legs {
		if l.Vd == nil || !connects(l.Role) {
			continue
		}
		out := &apiv1.LegState{VdId: l.Vd.VdId, Role: l.Role}
		switch have := legState(s, l.Vd.VdId); {
		case have == nil:
			out.Why = "the data plane does not have it"
		default:
			out.Connected = have.Connected || !have.Lost && (have.Role == spdk.MirrorTarget || have.Role == spdk.MirrorJoining)
			out.Lost, out.Ready, out.LackBytes, out.Why = have.Lost, have.Ready, have.Lack, have.Why
			if have.CatchingUp { // what legs may differ in is copied to it
				out.LackBytes = max(s.Repair, 1)
			}
			switch have.Role {
			case spdk.MirrorMember:
				out.Role = apiv1.LegRole_LEG_ROLE_MEMBER
			case spdk.MirrorTarget, spdk.MirrorJoining:
				out.Role = apiv1.LegRole_LEG_ROLE_TARGET
			}
		}
		state.Legs = append(state.Legs, out)
	}
	return state
}
