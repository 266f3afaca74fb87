package syncer

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/virtual-disk-array/vda"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/store"
)

// A move of an array's primary goes through these stages:
//
//  1. record: one transaction gives the array a new term, makes another
//     controller primary, and a new version to every node involved;
//  2. stand by and retire, only in a planned switch: the other controllers
//     close their paths, so that hosts don't go there when the old primary closes
//     its own and detaches; nothing is in flight when the fence falls;
//  3. fence: every dn of the array admits the new term's host only, and
//     answers when the old one's connections are closed and its writes settled;
//  4. promote: the new primary attaches, loads the lvstore and exports;
//  5. follow: the other controllers proxy to the new primary; the old one, when
//     it can be reached, detaches.
//
// After stage 1 everything stands in SQL as versions that nodes have not
// applied. Whoever syncs a node then, a portal, this monitor or the one that
// takes over, keeps the order: SyncCn fences the dns of a primary before it
// tells the primary. So a move that was cut off anywhere is finished by the
// ordinary work of a monitor, and there is no other state to resume.

// retireTimeout bounds stage 2: an old primary that doesn't answer is fenced.
const retireTimeout = 3 * time.Second

// standByTimeout bounds the first half of stage 2, without which hosts may wait
// for a second longer; standByHold is for how long the paths stay closed when
// nothing comes of the move.
const (
	standByTimeout = time.Second
	standByHold    = 5 * time.Second
)

// recording bounds the transactions of stage 1 under way at once.
const recording = 8

// Move is a change of an array's primary.
type Move struct {
	DAID string
	Term uint64 // the array's when it was decided; if it has changed, the move is void
	To   string // id of the controller that becomes primary
	// Planned: the old primary is well and is asked to retire first.
	Planned bool
}

// nodes are the nodes that a recorded move concerns.
type nodes struct {
	dns       map[string]bool
	retiring  map[string]bool // cns of old primaries, planned
	dead      map[string]bool // cns of old primaries, not planned
	promoting map[string]bool
	following map[string]bool
	standBy   map[string][]string // arrays of planned moves, by the cns of their secondaries
}

func newNodes() *nodes {
	return &nodes{map[string]bool{}, map[string]bool{}, map[string]bool{}, map[string]bool{}, map[string]bool{}, map[string][]string{}}
}

// FailoverDa moves an array's primary on purpose. toCN is the id of the cn to
// move to, "" for the healthy one with the fewest primaries.
func (s *Syncer) FailoverDa(ctx context.Context, daID, toCN string) error {
	var m Move
	err := s.cfg.Store.View(ctx, func(tx store.Reader) (err error) {
		m, err = planned(tx, daID, toCN)
		return err
	})
	if err != nil {
		return err
	}
	return s.Move(ctx, []Move{m})[0]
}

// planned chooses the controller for a planned switch.
func planned(tx store.Reader, daID, toCN string) (Move, error) {
	da, err := tx.DA(daID)
	if err != nil {
		return Move{}, err
	}
	refuse := func(format string, args ...any) (Move, error) {
		return Move{}, &vda.Error{Kind: vda.FailedPrecondition, Op: "failover", Object: "da " + da.Name, Msg: fmt.Sprintf(format, args...)}
	}
	if da.Deleted || !da.Created {
		return refuse("it has never been up, or is being deleted")
	}
	cands, err := candidates(tx, daID)
	if err != nil {
		return Move{}, err
	}
	if len(cands) == 0 {
		return refuse("it has one controller only")
	}
	for _, c := range cands {
		switch {
		case toCN == "" && !c.cn.Health.Error && !c.Health.Error, toCN == c.CNID && !c.cn.Health.Error:
			return Move{DAID: da.ID, Term: da.Term, To: c.ID, Planned: true}, nil
		case toCN == c.CNID:
			return refuse("cn %s is not well: %s", c.cn.Name, c.cn.Health.Msg)
		}
	}
	if toCN == "" {
		return refuse("no other controller is well")
	}
	return refuse("no controller that could become primary is on cn %s", toCN)
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
		if a.cn.Online != b.cn.Online {
			return count(b.cn.Online) - count(a.cn.Online)
		}
		return int(a.cn.PrimaryCount) - int(b.cn.PrimaryCount)
	})
	return all, nil
}

// Move moves primaries, many at once: one transaction per array, then one call
// per node and stage. The error of a move says that it was not recorded, or that its
// new primary could not be told; the latter is tried again by the monitors.
func (s *Syncer) Move(ctx context.Context, moves []Move) []error {
	errs := make([]error, len(moves))
	concerned := make([]*nodes, len(moves))
	limit := make(chan struct{}, recording)
	var wg sync.WaitGroup
	for i, m := range moves {
		wg.Go(func() {
			limit <- struct{}{}
			defer func() { <-limit }()
			errs[i] = s.cfg.Store.Update(ctx, func(tx store.Tx) (err error) {
				concerned[i], err = record(tx, m)
				return err
			})
			if errs[i] != nil {
				concerned[i] = nil
			}
		})
	}
	wg.Wait()
	all := newNodes()
	for _, n := range concerned {
		if n != nil {
			all.add(n)
		}
	}
	s.standBy(ctx, all)
	s.retire(ctx, all)
	s.fence(ctx, slices.Sorted(maps.Keys(all.dns)))
	told := s.each(ctx, all.promoting, s.SyncCn)
	for i, n := range concerned {
		if n == nil {
			continue
		}
		for id := range n.promoting {
			errs[i] = errors.Join(errs[i], told[id])
		}
	}
	// An old primary retired before the new one was up, so it may not have
	// found it yet.
	maps.Copy(all.following, all.retiring)
	for id := range all.promoting {
		delete(all.following, id) // told already
	}
	for id, err := range s.each(ctx, all.following, s.SyncCn) {
		if err != nil {
			s.cfg.Log.Warn("a controller does not know its new primary yet", "cn", id, "err", err)
		}
	}
	return errs
}

func (n *nodes) add(o *nodes) {
	maps.Copy(n.dns, o.dns)
	maps.Copy(n.retiring, o.retiring)
	maps.Copy(n.dead, o.dead)
	maps.Copy(n.promoting, o.promoting)
	maps.Copy(n.following, o.following)
	for cn, das := range o.standBy {
		n.standBy[cn] = append(n.standBy[cn], das...)
	}
}

// record is stage 1.
func record(tx store.Tx, m Move) (*nodes, error) {
	da, err := tx.DA(m.DAID)
	if err != nil {
		return nil, err
	}
	if da.Deleted || da.Term != m.Term {
		return nil, &vda.Error{Kind: vda.FailedPrecondition, Op: "failover", Object: "da " + da.Name,
			Msg: fmt.Sprintf("term is %d, not %d any more: somebody else has moved it", da.Term, m.Term)}
	}
	n := newNodes()
	da.Term++
	if err := tx.UpdateDA(da); err != nil {
		return nil, err
	}
	if err := recordVds(tx, da.ID, n); err != nil {
		return nil, err
	}
	return n, recordCntlrs(tx, m, da, n)
}

func recordVds(tx store.Tx, daID string, n *nodes) error {
	vds, err := tx.VDsOfDA(daID)
	if err != nil {
		return err
	}
	for i := range vds {
		n.dns[vds[i].DNID] = true
	}
	versions := map[string]uint64{}
	for _, id := range slices.Sorted(maps.Keys(n.dns)) {
		if versions[id], err = tx.BumpNode(vda.DiskNode, id); err != nil {
			return err
		}
	}
	for i := range vds {
		vds[i].Version = versions[vds[i].DNID]
		if err := tx.UpdateVD(&vds[i]); err != nil {
			return err
		}
	}
	return nil
}

func recordCntlrs(tx store.Tx, m Move, da *vda.DA, n *nodes) error {
	cntlrs, err := tx.CntlrsOfDA(da.ID)
	if err != nil {
		return err
	}
	slices.SortFunc(cntlrs, func(a, b vda.Cntlr) int {
		if a.CNID < b.CNID {
			return -1
		}
		return count(a.CNID > b.CNID)
	})
	found := false
	for i := range cntlrs {
		c := &cntlrs[i]
		promoted := c.ID == m.To
		if promoted && (c.Deleted || c.Primary) {
			break
		}
		if c.Version, err = tx.BumpNode(vda.ControllerNode, c.CNID); err != nil {
			return err
		}
		switch {
		case promoted:
			found = true
			n.promoting[c.CNID] = true
		case c.Primary && m.Planned:
			n.retiring[c.CNID] = true
		case c.Primary:
			n.dead[c.CNID] = true
		default:
			n.following[c.CNID] = true
		}
		if m.Planned && !c.Primary {
			n.standBy[c.CNID] = append(n.standBy[c.CNID], da.ID)
		}
		c.Primary = promoted
		if err := tx.UpdateCntlr(c); err != nil {
			return err
		}
	}
	if !found {
		return &vda.Error{Kind: vda.FailedPrecondition, Op: "failover", Object: "da " + da.Name, Msg: "controller " + m.To + " can't become its primary"}
	}
	return nil
}

// standBy is the first half of stage 2.
func (s *Syncer) standBy(ctx context.Context, n *nodes) {
	if len(n.standBy) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, standByTimeout)
	defer cancel()
	cns := map[string]bool{}
	for id := range n.standBy {
		cns[id] = true
	}
	for id, err := range s.each(ctx, cns, func(ctx context.Context, id string) error { return s.tellStandBy(ctx, id, n.standBy[id]) }) {
		if err != nil {
			s.cfg.Log.Warn("secondaries do not stand by; hosts may wait a second longer", "cn", id, "err", err)
		}
	}
}

func (s *Syncer) tellStandBy(ctx context.Context, cnID string, daIDs []string) error {
	req := &apiv1.StandByRequest{NodeId: cnID, DaIds: daIDs, HoldMs: uint32(standByHold.Milliseconds())}
	name := ""
	err := s.cfg.Store.View(ctx, func(tx store.Reader) (err error) {
		if req.ClusterId, err = tx.ClusterID(); err != nil {
			return err
		}
		cn, err := tx.CN(cnID)
		if err == nil {
			name = cn.Name
		}
		return err
	})
	if err != nil {
		return err
	}
	client, err := s.cfg.Dial.Cn(name)
	if err != nil {
		return err
	}
	_, err = client.StandBy(ctx, req)
	return err
}

// retire is the second half. A cn whose new role comes with fences to wait for is
// told of all of it here, which is right as well.
func (s *Syncer) retire(ctx context.Context, n *nodes) {
	if len(n.retiring) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, retireTimeout)
	defer cancel()
	for id, err := range s.each(ctx, n.retiring, s.SyncCn) {
		if err != nil {
			s.cfg.Log.Warn("the old primary does not retire; it is fenced", "cn", id, "err", err)
		}
	}
}

// fence is stage 3: it brings dns to their versions and returns when each has
// answered or its time is up.
func (s *Syncer) fence(ctx context.Context, dns []string) {
	if len(dns) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, s.cfg.FenceTimeout)
	defer cancel()
	ids := map[string]bool{}
	for _, id := range dns {
		ids[id] = true
	}
	for id, err := range s.each(ctx, ids, s.SyncDn) {
		if err != nil {
			s.cfg.Log.Warn("a dn does not know the new term yet; it admits the old primary only", "dn", id, "err", err)
		}
	}
}

// each calls fn for all nodes at once.
func (s *Syncer) each(ctx context.Context, ids map[string]bool, fn func(context.Context, string) error) map[string]error {
	var mu sync.Mutex
	errs := make(map[string]error, len(ids))
	var wg sync.WaitGroup
	for id := range ids {
		wg.Go(func() {
			err := fn(ctx, id)
			mu.Lock()
			defer mu.Unlock()
			errs[id] = err
		})
	}
	wg.Wait()
	return errs
}
