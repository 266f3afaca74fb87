package monitor

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/virtual-disk-array/vda"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/array"
	"github.com/virtual-disk-array/vda/rpc"
	"github.com/virtual-disk-array/vda/store"
	"github.com/virtual-disk-array/vda/syncer"
)

// A mirror that has lost a member holds all its I/O until the database says that
// the leg is not a member any more. The primary's agent says so in its beat, which
// it has come at once, and the monitor that watches the cn decides.

// lackPeriod is how often the database learns how much is to be copied still, and
// urgentLackPeriod while a decision is due for which I/O waits. That something is to be
// copied at all it learns at once: a member that catches up may not be left alone.
const (
	lackPeriod       = 3 * time.Second
	urgentLackPeriod = 4 * lackPeriod
)

// legsReports are what a reply says of mirrors, by array.
func legsReports(mirrors []*apiv1.MirrorState) []*array.LegsReport {
	type ofTerm struct {
		daID string
		term uint64
	}
	var all []*array.LegsReport
	known := map[ofTerm]*array.LegsReport{}
	for _, m := range mirrors {
		report := known[ofTerm{m.DaId, m.Term}]
		if report == nil {
			report = &array.LegsReport{DAID: m.DaId, Term: m.Term}
			known[ofTerm{m.DaId, m.Term}] = report
			all = append(all, report)
		}
		r := array.MirrorReport{ID: m.MirrorId, Gen: m.Gen}
		if s := m.Scrub; s != nil {
			r.Scrub = vda.Scrub{ID: s.ScrubId, State: vda.ScrubState(s.State), Done: s.DoneBytes, Mismatches: s.Mismatches, Repaired: s.Repaired,
				First: s.FirstOffset}
		}
		for _, l := range m.Legs {
			r.Legs = append(r.Legs, array.LegReport{VDID: l.VdId, Connected: l.Connected, Lost: l.Lost, Ready: l.Ready, Lack: l.LackBytes,
				Rate: l.CopyBytesPerSec})
		}
		report.Mirrors = append(report.Mirrors, r)
	}
	return all
}

// urgent reports that I/O waits for a decision, or that a leg can become a
// member.
func urgent(r *array.LegsReport) bool {
	return slices.ContainsFunc(r.Mirrors, func(m array.MirrorReport) bool {
		return slices.ContainsFunc(m.Legs, func(l array.LegReport) bool { return l.Lost || l.Ready })
	})
}

// hasLost reports that the last reply had a mirror in it with a lost member, and another that I/O can go on with.
func (n *node) hasLost() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.ContainsFunc(n.legs, func(r *array.LegsReport) bool {
		return slices.ContainsFunc(r.Mirrors, func(m array.MirrorReport) bool {
			return slices.ContainsFunc(m.Legs, func(l array.LegReport) bool { return l.Lost }) &&
				slices.ContainsFunc(m.Legs, func(l array.LegReport) bool { return l.Connected && !l.Lost })
		})
	})
}

// settleLegs decides on what the last reply said of mirrors. One call of a node is
// under way at a time; what it comes too late for, the next beat says again.
func (n *node) settleLegs(ctx context.Context) {
	n.mu.Lock()
	reports := n.legs
	period := lackPeriod
	if slices.ContainsFunc(reports, urgent) {
		period = urgentLackPeriod
	}
	now := behindIn(reports)
	sooner := n.behind != nil && slices.ContainsFunc(slices.Collect(maps.Keys(now)), func(id string) bool { return now.more(n.behind, id) })
	note := sooner || time.Since(n.lackNoted) >= period && n.hasLacksLocked()
	if note {
		n.lackNoted = time.Now()
	}
	n.mu.Unlock()
	ctx = rpc.WithRequestID(ctx, rpc.NewRequestID())
	var changes []array.LegChange
	for _, r := range reports {
		if urgent(r) {
			changes = append(changes, array.Reported(r))
		}
	}
	ok := n.m.changeManyLegs(ctx, changes)
	if !note {
		return
	}
	changes = nil
	var scrubs []syncer.Transition
	noted := map[string]string{}
	for _, r := range reports {
		noted[r.DAID] = fmt.Sprint(*r)
		if n.noted[r.DAID] == noted[r.DAID] {
			continue
		}
		if slices.ContainsFunc(r.Mirrors, func(m array.MirrorReport) bool {
			return slices.ContainsFunc(m.Legs, func(l array.LegReport) bool { return !l.Unsure() })
		}) {
			changes = append(changes, array.Lacking(r))
		}
		if slices.ContainsFunc(r.Mirrors, func(m array.MirrorReport) bool { return m.Scrub.State != "" }) {
			scrubs = append(scrubs, func(tx store.Tx) (array.Plan, error) { return nil, array.NoteScrub(tx, r) })
		}
	}
	was, err := n.behindBefore(ctx)
	unsure := unsureOf(reports)
	for id := range was {
		switch {
		case noted[id] == "":
			changes = append(changes, array.CaughtUp(id, n.id))
		case unsure[id]: // as of a data plane that has started again
			for vd := range was[id] {
				now.add(id, vd)
			}
		}
	}
	ok = n.m.changeManyLegs(ctx, changes) && ok
	if n.m.changeLegs(ctx, scrubs) && ok && err == nil {
		n.noted = noted
		n.mu.Lock()
		n.behind = now
		n.mu.Unlock()
	}
}

// hasLacksLocked reports that there is something to be noted of what legs lack. n.mu is held.
func (n *node) hasLacksLocked() bool {
	return len(n.legs) > 0 || n.kind == vda.ControllerNode && (n.behind == nil || len(n.behind) > 0)
}

// behindBefore are the arrays of this node's primaries that have, as far as the database knows,
// members which lack something.
func (n *node) behindBefore(ctx context.Context) (was lacking, err error) {
	n.mu.Lock()
	was = n.behind
	n.mu.Unlock()
	if was != nil {
		return was, nil
	}
	err = n.m.cfg.Store.View(ctx, func(tx store.Reader) error {
		vds, err := tx.BehindOnCN(n.id)
		was = lacking{}
		for i := range vds {
			was.add(vds[i].DAID, vds[i].ID)
		}
		return err
	})
	return was, err
}

// lacking are the legs that lack something, by array.
type lacking map[string]map[string]bool

func (l lacking) add(daID, vdID string) {
	if l[daID] == nil {
		l[daID] = map[string]bool{}
	}
	l[daID][vdID] = true
}

// more reports that a leg of an array lacks something that did not before.
func (l lacking) more(before lacking, daID string) bool {
	for vd := range l[daID] {
		if !before[daID][vd] {
			return true
		}
	}
	return false
}

// behindIn are the legs that lack something.
func behindIn(reports []*array.LegsReport) lacking {
	behind := lacking{}
	for _, r := range reports {
		for i := range r.Mirrors {
			for _, l := range r.Mirrors[i].Legs {
				if l.Lack > 0 {
					behind.add(r.DAID, l.VDID)
				}
			}
		}
	}
	return behind
}

// unsureOf are the arrays of some of whose legs it is not known what they lack.
func unsureOf(reports []*array.LegsReport) map[string]bool {
	unsure := map[string]bool{}
	for _, r := range reports {
		for i := range r.Mirrors {
			for j := range r.Mirrors[i].Legs {
				unsure[r.DAID] = unsure[r.DAID] || r.Mirrors[i].Legs[j].Unsure()
			}
		}
	}
	return unsure
}

// changeLegs carries out transitions of legs, on a picture that is not stale, and
// reports whether that is what it is, and none has failed.
func (m *Monitor) changeLegs(ctx context.Context, changes []syncer.Transition) (ok bool) {
	if len(changes) == 0 || !m.Ready() {
		return len(changes) == 0
	}
	return m.settled(ctx, m.syncer.ChangeLegs(ctx, changes))
}

// changeManyLegs is changeLegs for changes that are made many per transaction.
func (m *Monitor) changeManyLegs(ctx context.Context, changes []array.LegChange) (ok bool) {
	if len(changes) == 0 || !m.Ready() {
		return len(changes) == 0
	}
	return m.settled(ctx, m.syncer.ChangeManyLegs(ctx, changes))
}

func (m *Monitor) settled(ctx context.Context, errs []error) (ok bool) {
	ok = true
	for _, err := range errs {
		if err != nil && ctx.Err() == nil {
			m.log.Warn("the legs of an array are not settled", "req_id", rpc.RequestID(ctx), "err", err)
		}
		ok = ok && err == nil
	}
	return ok
}
