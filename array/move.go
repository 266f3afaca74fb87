package array

import (
	"fmt"
	"slices"
	"time"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/store"
)

// Move is a change of an array's primary.
type Move struct {
	DAID string
	Term uint64 // the array's when it was decided; if it has changed, the move is void
	To   string // id of the controller that becomes primary
	// Planned: the old primary is well and is asked to retire first.
	Planned bool
}

// refused is why an array's primary is not moved.
func refused(da *vda.DA, format string, args ...any) error {
	return &vda.Error{Kind: vda.FailedPrecondition, Op: "failover", Object: "da " + da.Name, Msg: fmt.Sprintf(format, args...)}
}

// PlannedMove chooses the controller for a planned switch. toCN is the id of the
// cn to move to, "" for the healthy one with the fewest primaries.
func PlannedMove(tx store.Reader, daID, toCN string) (Move, error) {
	da, err := tx.DA(daID)
	if err != nil {
		return Move{}, err
	}
	if da.Deleted || !da.Created {
		return Move{}, refused(da, "it has never been up, or is being deleted")
	}
	all, err := candidates(tx, daID)
	if err != nil {
		return Move{}, err
	}
	if len(all) == 0 {
		return Move{}, refused(da, "it has one controller only")
	}
	for _, c := range all {
		why := ""
		if da.Reservations {
			why = c.cn.NotReserving()
		}
		switch {
		case why != "" && toCN == "":
		case why != "" && toCN == c.CNID:
			return Move{}, refused(da, "its reservations would not hold by cn %s: %s", c.cn.Name, why)
		case toCN == "" && !c.cn.Health.Error && !c.Health.Error, toCN == c.CNID && !c.cn.Health.Error:
			return Move{DAID: da.ID, Term: da.Term, To: c.ID, Planned: true}, nil
		case toCN == c.CNID:
			return Move{}, refused(da, "cn %s is not well: %s", c.cn.Name, c.cn.Health.Msg)
		}
	}
	if toCN == "" {
		return Move{}, refused(da, "no other controller is well")
	}
	return Move{}, refused(da, "no controller that could become primary is on cn %s", toCN)
}

// candidate is a live secondary and its cn.
type candidate struct {
	vda.Cntlr
	cn *vda.CN
}

// candidates are an array's live secondaries, best first: on a cn that is
// online, with the fewest primaries.
func candidates(tx store.Reader, daID string) ([]candidate, error) {
	cntlrs, err := tx.CntlrsOfDA(daID)
	if err != nil {
		return nil, err
	}
	var all []candidate
	for _, c := range cntlrs {
		if c.Primary || c.Deleted {
			continue
		}
		cn, err := tx.CN(c.CNID)
		if err != nil {
			return nil, err
		}
		all = append(all, candidate{c, cn})
	}
	slices.SortStableFunc(all, func(a, b candidate) int {
		switch {
		case a.cn.Online == b.cn.Online:
			return int(a.cn.PrimaryCount) - int(b.cn.PrimaryCount)
		case a.cn.Online:
			return -1
		}
		return 1
	})
	return all, nil
}

// MovePrimary gives an array a new term, makes another of its controllers
// primary, and tells every node involved. The plan of a planned move begins with
// StandBy and Retire. In every plan the Disks are fenced before the Primary is told,
// and the Secondaries come last.
func MovePrimary(tx store.Tx, m Move) (Plan, error) {
	da, err := tx.DA(m.DAID)
	if err != nil {
		return nil, err
	}
	if da.Deleted || da.Term != m.Term {
		return nil, refused(da, "term is %d, not %d any more: somebody else has moved it", da.Term, m.Term)
	}
	da.Term++
	da.Moving = time.Now().UTC().Truncate(time.Microsecond)
	if err := tx.UpdateDA(da); err != nil {
		return nil, err
	}
	c := Begin(tx)
	plan := stages(StandBy, Retire, Disks, Primary, Secondaries)
	vds, err := tx.VDsOfDA(da.ID)
	if err != nil {
		return nil, err
	}
	var fenced []vda.VD
	for i := range vds {
		c.updateVD(&vds[i])
		if vds[i].Role == vda.Member && vds[i].Copied() { // the new primary says it again, if it is so
			c.then(func() error { return tx.SetVDLack(vds[i].ID, 0, 0) })
		}
		if vds[i].Role != vda.Stale { // nobody waits for a dn that lets in nobody anyway
			fenced = append(fenced, vds[i])
		}
	}
	plan.addDisks(fenced)
	cntlrs, err := tx.CntlrsOfDA(da.ID)
	if err != nil {
		return nil, err
	}
	if err := mayReserve(tx, da, cntlrs, m.To); err != nil {
		return nil, err
	}
	if err := c.promote(m, da, slices.Clone(cntlrs), &plan); err != nil {
		return nil, err
	}
	c.then(func() error { return tx.Record(moveEvent(tx, m, da, cntlrs)) })
	return plan, c.Write()
}

// mayReserve refuses a primary that would not know of what hosts have reserved.
func mayReserve(tx store.Tx, da *vda.DA, cntlrs []vda.Cntlr, to string) error {
	for i := range cntlrs {
		if !da.Reservations || cntlrs[i].ID != to {
			continue
		}
		cn, err := tx.Unlocked().CN(cntlrs[i].CNID)
		if err != nil {
			return err
		}
		if why := cn.NotReserving(); why != "" {
			return refused(da, "its reservations would not hold by cn %s: %s", cn.Name, why)
		}
	}
	return nil
}

// moveEvent says why an array gets another primary. cntlrs are as they were.
func moveEvent(tx store.Reader, m Move, da *vda.DA, cntlrs []vda.Cntlr) vda.Event {
	from, to := "a cn that is gone", ""
	for i := range cntlrs {
		v := &cntlrs[i]
		switch name := nodeName(tx, vda.ControllerNode, v.CNID); {
		case v.ID == m.To:
			to = name
		case v.Primary:
			from = name
			if n, err := tx.Unlocked().Node(vda.ControllerNode, v.CNID); err == nil && n.Health.Error {
				from += " (" + n.Health.Msg + ")"
			}
		}
	}
	why := "is replaced"
	if m.Planned {
		why = "moves on purpose"
	}
	return daEvent(da, vda.EventFailoverBegin, "its primary on cn %s %s: cn %s takes over, with term %d", from, why, to, da.Term)
}

// promote has the roles of an array's controllers change.
func (c *Change) promote(m Move, da *vda.DA, cntlrs []vda.Cntlr, plan *Plan) error {
	if !slices.ContainsFunc(cntlrs, func(v vda.Cntlr) bool { return v.ID == m.To && !v.Deleted && !v.Primary }) {
		return refused(da, "controller %s cannot become its primary", m.To)
	}
	for i := range cntlrs {
		v := &cntlrs[i]
		at := Node{vda.ControllerNode, v.CNID}
		if m.Planned && !v.Primary {
			plan.add(StandBy, at)
			plan.concerns(StandBy, at, da.ID)
		}
		switch {
		case v.ID == m.To:
			plan.add(Primary, at)
		case v.Primary && m.Planned:
			// It retires before the new one is up, so it may not find it then.
			plan.add(Retire, at)
			plan.add(Secondaries, at)
		case !v.Primary:
			plan.add(Secondaries, at)
		}
		v.Primary = v.ID == m.To
		c.updateCntlr(v)
	}
	return nil
}
