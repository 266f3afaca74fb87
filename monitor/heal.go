package monitor

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/array"
	"github.com/virtual-disk-array/vda/rpc"
	"github.com/virtual-disk-array/vda/store"
)

const (
	// healPeriod is how often the legs that are not members are looked at.
	healPeriod = time.Second
	// targetsPerDN is how many legs of one dn are copied to at once.
	targetsPerDN = 2
	// replaceBatch is for how many legs places are chosen at once: what is chosen then is of one
	// look at all disks.
	replaceBatch = 128
	// decisionsMost is for how long legs are not replaced while I/O waits for decisions.
	decisionsMost = 30 * time.Second
	// targetDelay is how long a target may be without a connection before what was
	// copied to it counts as an attempt that has failed.
	targetDelay = 10 * time.Second
	// flaps is how many losses of a leg within flapTime make it wait, Timing.FlapWait at
	// first and twice as long with each further one, flapMost times that at most.
	flaps    = 3
	flapTime = 10 * time.Minute
	flapMost = 16
)

// LegView is a leg that is not a member, or is to leave, or whose disk is not well, of
// an array whose primary is on a node of this monitor's.
type LegView struct {
	DAID string
	vda.VD
	// Fenced: its dn is known to let in its present epoch alone.
	Fenced bool
	// DNUp: its dn answers.
	DNUp bool
	// Apart is for how long its primary has had no connection to it.
	Apart time.Duration
	// Wait is for how long it has to wait because it was lost too often.
	Wait time.Duration
}

// HealPlan is what is to be done for legs.
type HealPlan struct {
	Admit   []LegView // stale ones that become targets
	Expel   []LegView // targets that are not reached
	Replace []LegView // stale ones that are away for too long
	Trim    []string  // arrays some of whose legs may be to go
}

// PlanHeal chooses. It lets the legs that lack least begin, a few per dn at once, so
// that each rebuild that has begun comes to an end. A leg that is away is replaced
// after a while, or at once when its data is lost, and is taken back as long as its
// successor is not ready. So is a member whose disk has not been well for as long
// though its node is: it has all data until its successor has. Pure.
func PlanHeal(t *Timing, now time.Time, legs []LegView) HealPlan {
	var p HealPlan
	targets := map[string]int{}
	replacing := map[string]bool{} // mirrors that have a leg which is to take another's place
	for i := range legs {
		v := &legs[i]
		if v.Role == vda.Target {
			targets[v.DNID]++
		}
		if v.Role != vda.Member && !v.Leaving && !v.away(t, now) {
			replacing[v.MirrorID] = true
		}
	}
	sorted := slices.SortedStableFunc(slices.Values(legs), func(a, b LegView) int { return cmp.Compare(a.Lack, b.Lack) })
	trimmed := map[string]bool{}
	for _, v := range sorted {
		if (v.Leaving || v.Role == vda.Target || v.DNUp && v.Fenced) && !trimmed[v.DAID] {
			trimmed[v.DAID] = true
			p.Trim = append(p.Trim, v.DAID)
		}
		switch {
		case v.Role == vda.Target && v.Apart >= targetDelay:
			p.Expel = append(p.Expel, v)
		case v.Role != vda.Stale:
		case v.DNUp && v.Fenced && !v.Health.Error:
			if v.Wait <= 0 && targets[v.DNID] < targetsPerDN {
				targets[v.DNID]++
				p.Admit = append(p.Admit, v)
			}
		case v.away(t, now) && !v.Leaving && !replacing[v.MirrorID]:
			replacing[v.MirrorID] = true
			p.Replace = append(p.Replace, v)
		}
	}
	// A member has all data, so its place is taken when all that are missing have one.
	for _, v := range sorted {
		if v.Role == vda.Member && !v.Leaving && v.DNUp && v.away(t, now) && !replacing[v.MirrorID] {
			replacing[v.MirrorID] = true
			p.Replace = append(p.Replace, v)
		}
	}
	return p
}

// away reports that a leg has not been well for so long that it is replaced, or that
// it never will be.
func (v *LegView) away(t *Timing, now time.Time) bool {
	lost := v.Role != vda.Member && strings.HasPrefix(v.Health.Msg, vda.DataLost)
	return v.Health.Error && (lost || now.Sub(v.Health.Since) >= t.ReplaceAfter)
}

// legMemory is what a monitor remembers of a leg that is not a member.
type legMemory struct {
	epoch uint64
	lost  []time.Time // when it became stale, the last few
	apart time.Time   // since when its primary says that it is not connected; zero: it is
	seen  time.Time
}

// noteEpoch remembers that a leg was lost when it has another epoch.
func (l *legMemory) noteEpoch(now time.Time, epoch uint64) {
	l.seen = now
	if epoch == l.epoch {
		return
	}
	l.epoch, l.apart = epoch, time.Time{}
	l.lost = append(slices.DeleteFunc(l.lost, func(at time.Time) bool { return now.Sub(at) > 2*flapTime }), now)
}

// wait is for how long the leg has to wait still.
func (l *legMemory) wait(t *Timing, now time.Time) time.Duration {
	recent := 0
	for _, at := range l.lost {
		if now.Sub(at) <= flapTime {
			recent++
		}
	}
	if recent < flaps {
		return 0
	}
	hold := t.FlapWait * time.Duration(min(1<<min(recent-flaps, 10), flapMost))
	return l.lost[len(l.lost)-1].Add(hold).Sub(now)
}

// watchHeal brings mirrors back to all their members, and vds off what is being
// drained, until ctx ends.
func (m *Monitor) watchHeal(ctx context.Context) {
	tick := time.NewTicker(healPeriod)
	defer tick.Stop()
	memory := map[string]*legMemory{}
	unplaced := map[string]stuck{}
	var first decisionsFirst
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if !m.Ready() {
			continue
		}
		if err := errors.Join(m.heal(ctx, memory, first.wait(time.Now(), m.ioWaits())), m.drain(ctx, unplaced)); err != nil && ctx.Err() == nil {
			m.metrics.storeErrors.Inc()
			m.log.Warn("legs of mirrors have to wait", "err", err)
		}
	}
}

// decisionsFirst has the legs of a node that has died dropped before new ones are made: I/O waits
// for the one, and both take the same nodes and database.
type decisionsFirst struct {
	since time.Time // since when I/O waits; zero: it does not
}

// wait returns whether legs are not to be replaced yet, and is told whether I/O waits for a
// decision. Where it waits for long something keeps that from being made.
func (d *decisionsFirst) wait(now time.Time, ioWaits bool) bool {
	switch {
	case !ioWaits:
		d.since = time.Time{}
	case d.since.IsZero():
		d.since = now
	}
	return ioWaits && now.Sub(d.since) < decisionsMost
}

// ioWaits reports that a primary on a node of this monitor's has lost a member, and can do without.
func (m *Monitor) ioWaits() bool {
	m.mu.Lock()
	nodes := slices.Collect(maps.Values(m.nodes))
	m.mu.Unlock()
	return slices.ContainsFunc(nodes, (*node).hasLost)
}

func (m *Monitor) heal(ctx context.Context, memory map[string]*legMemory, decisionsFirst bool) error {
	ctx = rpc.WithRequestID(ctx, rpc.NewRequestID())
	legs, behind, err := m.legViews(ctx, memory)
	if err != nil || len(legs) == 0 {
		return err
	}
	p := PlanHeal(&m.cfg.Timing, time.Now(), legs)
	var changes []array.LegChange
	for _, id := range p.Trim {
		changes = append(changes, array.Trimmed(id, behind[id]...))
	}
	m.changeManyLegs(ctx, changes)
	if decisionsFirst {
		p.Replace = nil
	}
	changes = nil
	for _, v := range p.Expel {
		changes = append(changes, array.Expelled(v.DAID, v.ID, v.Epoch))
	}
	for _, v := range p.Admit {
		changes = append(changes, array.Admitted(v.DAID, v.ID, v.Epoch))
	}
	m.changeManyLegs(ctx, changes)
	for some := range slices.Chunk(p.Replace, replaceBatch) {
		if err := m.replaceLegs(ctx, some); err != nil {
			return err
		}
	}
	return nil
}

// replaceLegs gives mirrors a leg each in the place of one that is away. That there is
// no room is for the operator to know, and is tried again.
func (m *Monitor) replaceLegs(ctx context.Context, away []LegView) error {
	legs := make([]array.NewLeg, len(away))
	for i := range away {
		legs[i] = array.NewLeg{DAID: away[i].DAID, InsteadOf: away[i].ID}
	}
	var errs []error
	err := m.cfg.Store.View(ctx, func(tx store.Reader) (err error) {
		legs, errs, err = array.PlaceLegs(tx, legs)
		return err
	})
	if err != nil {
		return err
	}
	var placed []array.NewLeg
	for i, leg := range legs {
		switch err := errs[i]; {
		case err == nil:
			placed = append(placed, leg)
			m.log.Info("a leg of a mirror is replaced", "req_id", rpc.RequestID(ctx), "da", leg.DAID, "vd", leg.InsteadOf, "dn", leg.At.DNID)
		case !errors.Is(err, array.ErrStale):
			m.log.Warn("a leg of a mirror is not replaced", "req_id", rpc.RequestID(ctx), "da", leg.DAID, "vd", leg.InsteadOf, "err", err)
		}
	}
	if len(placed) > 0 && m.Ready() {
		m.settled(ctx, m.syncer.AddLegs(ctx, placed))
	}
	return nil
}

// legViews are the legs that this monitor has to look after, and by array the vds of which
// its primary does not say that they have all.
func (m *Monitor) legViews(ctx context.Context, memory map[string]*legMemory) (legs []LegView, behind map[string][]string, err error) {
	ctx, cancel := context.WithTimeout(ctx, m.cfg.Timing.StaleAfter)
	defer cancel()
	err = m.cfg.Store.View(ctx, func(tx store.Reader) error {
		legs, behind = nil, map[string][]string{}
		rows, err := tx.UnsettledLegs()
		if err != nil {
			return err
		}
		if len(rows) == 0 {
			return nil
		}
		var das []string
		for i := range rows {
			das = append(das, rows[i].DAID)
		}
		cntlrs, err := tx.CntlrsOf(das)
		if err != nil {
			return err
		}
		primaries, dns, says := map[string]string{}, map[string]*vda.DN{}, map[*node]map[string]array.LegReport{}
		for i := range cntlrs {
			if c := &cntlrs[i]; c.Primary && !c.Deleted {
				primaries[c.DAID] = c.CNID
			}
		}
		for _, v := range rows {
			n := m.mine(primaries[v.DAID])
			if n == nil {
				continue
			}
			if says[n] == nil {
				says[n] = n.saysOfLegs(behind)
			}
			if dns[v.DNID] == nil {
				if dns[v.DNID], err = tx.DN(v.DNID); err != nil {
					return err
				}
			}
			legs = append(legs, m.legView(says[n], v, dns[v.DNID], memory))
		}
		return nil
	})
	for id, l := range memory {
		if time.Since(l.seen) > 2*flapTime {
			delete(memory, id)
		}
	}
	return legs, behind, err
}

// legView is how a leg stands, of which its primary said says.
func (m *Monitor) legView(says map[string]array.LegReport, v vda.VD, dn *vda.DN, memory map[string]*legMemory) LegView {
	now := time.Now()
	if v.Role == vda.Member && !v.Leaving {
		return LegView{DAID: v.DAID, VD: v, DNUp: m.up(v.DNID)}
	}
	l := memory[v.ID]
	if l == nil {
		l = &legMemory{epoch: v.Epoch, lost: []time.Time{now}}
		memory[v.ID] = l
	}
	l.noteEpoch(now, v.Epoch)
	said, known := says[v.ID]
	switch {
	case v.Role != vda.Target || known && said.Connected:
		l.apart = time.Time{}
	case l.apart.IsZero():
		l.apart = now
	}
	view := LegView{DAID: v.DAID, VD: v, DNUp: m.up(v.DNID), Fenced: v.CarriedOut(dn.Applied), Wait: l.wait(&m.cfg.Timing, now)}
	if known {
		view.Lack = said.Lack
	}
	if d := m.mine(v.DNID); d != nil {
		view.Fenced = view.Fenced || d.epochOf(v.ID) == v.Epoch
	}
	if !l.apart.IsZero() {
		view.Apart = now.Sub(l.apart)
	}
	return view
}

// primaryCN is the cn of an array's primary.
func primaryCN(tx store.Reader, daID string) (string, error) {
	cntlrs, err := tx.CntlrsOfDA(daID)
	if err != nil {
		return "", err
	}
	for i := range cntlrs {
		if cntlrs[i].Primary && !cntlrs[i].Deleted {
			return cntlrs[i].CNID, nil
		}
	}
	return "", nil
}

// mine is a node that this monitor watches, nil for others.
func (m *Monitor) mine(id string) *node {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.nodes[id]
}

// saysOfLegs is what the primaries on the node said last of their legs, by vd. It adds to behind,
// by array, those that lack something.
func (n *node) saysOfLegs(behind map[string][]string) map[string]array.LegReport {
	n.mu.Lock()
	defer n.mu.Unlock()
	says := map[string]array.LegReport{}
	for _, r := range n.legs {
		for i := range r.Mirrors {
			for _, l := range r.Mirrors[i].Legs {
				if _, is := says[l.VDID]; is {
					continue
				}
				says[l.VDID] = l
				if !l.Connected || l.Lack > 0 {
					behind[r.DAID] = append(behind[r.DAID], l.VDID)
				}
			}
		}
	}
	return says
}

// epochOf is the epoch of a vd that the node said it has applied.
func (n *node) epochOf(vdID string) uint64 {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.epochs[vdID]
}
