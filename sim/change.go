package sim

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/virtual-disk-array/vda"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/store"
)

// Beside the faults an administrator changes arrays that serve: their redundancy goes
// up and down, and their vds move to other dns. What was begun must come to its end or be
// as before when the faults are over, and hosts must not notice.

// changes are kinds of that. They are drawn from numbers of their own, so that a seed has the
// same faults with and without them.
var changes = []kind{
	{4, "convert", (*sim).drawConvert},
	{2, "dn drain", (*sim).drawDrainDn},
	{1, "pd drain", (*sim).drawDrainPd},
	{3, "vd move", (*sim).drawMove},
}

// changePlan draws the changes of a run.
func (s *sim) changePlan() []fault {
	if !s.cfg.Changes {
		return nil
	}
	faults := s.rng
	defer func() { s.rng = faults }()
	s.rng = rand.New(rand.NewPCG(s.cfg.Seed, 4))
	return s.draw(changes, time.Duration(6+s.rng.IntN(12))*time.Second)
}

// ask has an administrator ask for something, once, whatever he is answered. The undo waits
// for the answer.
func (s *sim) ask(what string, call func(ctx context.Context) (*apiv1.ReplyInfo, error)) (undo func()) {
	s.moved.Store(true)
	return begin(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		info, err := call(ctx)
		if err = replied(info, err); err == nil {
			s.changed.Add(1)
		}
		s.log.printf("admin          %s: %v", what, err)
	})
}

// insist is ask until the answer is that it is done.
func (s *sim) insist(what string, call func(ctx context.Context) (*apiv1.ReplyInfo, error)) {
	for {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		info, err := call(ctx)
		cancel()
		err = replied(info, err)
		s.log.printf("admin          %s: %v", what, err)
		if err == nil {
			return
		}
		time.Sleep(2 * time.Second)
	}
}

func (s *sim) convert(array, to string) func(ctx context.Context) (*apiv1.ReplyInfo, error) {
	return func(ctx context.Context) (*apiv1.ReplyInfo, error) {
		r, err := s.admin.ModifyDa(ctx, &apiv1.ModifyDaRequest{DaName: array, Redundancy: &to})
		return r.GetReplyInfo(), err
	}
}

// drawConvert changes a redundancy and, now and then, changes it again while that is under
// way.
func (s *sim) drawConvert() (string, func() func()) {
	most := min(len(s.of("dn")), 3)
	all := []string{"none", "mirror:2", "mirror:3"}[:most]
	array, to, then := pick(s.rng, s.hosts).array, pick(s.rng, all), ""
	if s.rng.IntN(3) == 0 {
		then = pick(s.rng, all)
	}
	return array + " to " + to, func() func() {
		undo := s.ask(fmt.Sprintf("da modify %s --redundancy %s", array, to), s.convert(array, to))
		return func() {
			undo()
			if then != "" {
				s.ask(fmt.Sprintf("da modify %s --redundancy %s", array, then), s.convert(array, then))()
			}
		}
	}
}

// drawDrainDn drains a dn for as long as the fault lasts: not all may have left it then, or
// be able to.
func (s *sim) drawDrainDn() (string, func() func()) {
	dn := pick(s.rng, s.of("dn")).machine + ":" + dnPort
	return dn, func() func() {
		undo := s.ask("dn drain "+dn, func(ctx context.Context) (*apiv1.ReplyInfo, error) {
			r, err := s.admin.DrainDn(ctx, &apiv1.DrainDnRequest{DnName: dn})
			return r.GetReplyInfo(), err
		})
		return func() {
			undo()
			s.insist("dn undrain "+dn, func(ctx context.Context) (*apiv1.ReplyInfo, error) {
				r, err := s.admin.UndrainDn(ctx, &apiv1.UndrainDnRequest{DnName: dn})
				return r.GetReplyInfo(), err
			})
		}
	}
}

func (s *sim) drawDrainPd() (string, func() func()) {
	dn := pick(s.rng, s.of("dn")).machine + ":" + dnPort
	return dn, func() func() {
		undo := s.ask("pd drain "+dn, func(ctx context.Context) (*apiv1.ReplyInfo, error) {
			r, err := s.admin.DrainPd(ctx, &apiv1.DrainPdRequest{DnName: dn, PdName: "pd0"})
			return r.GetReplyInfo(), err
		})
		return func() {
			undo()
			s.insist("pd undrain "+dn, func(ctx context.Context) (*apiv1.ReplyInfo, error) {
				r, err := s.admin.UndrainPd(ctx, &apiv1.UndrainPdRequest{DnName: dn, PdName: "pd0"})
				return r.GetReplyInfo(), err
			})
		}
	}
}

// drawMove moves one vd, and ends the move again now and then.
func (s *sim) drawMove() (string, func() func()) {
	array, nth, cancels := pick(s.rng, s.hosts).array, s.rng.IntN(16), s.rng.IntN(3) == 0
	to := pick(s.rng, s.of("dn")).machine + ":" + dnPort
	return fmt.Sprintf("vd %d of %s to %s", nth, array, to), func() func() {
		var id string
		undo := s.ask("vd move", func(ctx context.Context) (*apiv1.ReplyInfo, error) {
			var err error
			if id, err = s.vdOf(array, nth); err != nil {
				return nil, err
			}
			r, err := s.admin.MoveVd(ctx, &apiv1.MoveVdRequest{VdId: id, ToDn: &to})
			return r.GetReplyInfo(), err
		})
		return func() {
			undo()
			if cancels && id != "" {
				s.ask("vd move --cancel", func(ctx context.Context) (*apiv1.ReplyInfo, error) {
					r, err := s.admin.MoveVd(ctx, &apiv1.MoveVdRequest{VdId: id, Cancel: true})
					return r.GetReplyInfo(), err
				})()
			}
		}
	}
}

// vdOf is one of an array's vds.
func (s *sim) vdOf(array string, nth int) (id string, err error) {
	err = s.db.Store.View(context.Background(), func(tx store.Reader) error {
		da, err := tx.DAByName(array)
		if err != nil {
			return err
		}
		vds, err := tx.VDsOfDA(da.ID)
		vds = slices.DeleteFunc(vds, func(v vda.VD) bool { return v.Deleted })
		if err == nil && len(vds) > 0 {
			id = vds[nth%len(vds)].ID
		}
		return err
	})
	return id, err
}

// unfinished is what of a change of an array, or of the replacement of a leg, has not come
// to its end: each column has as many legs as the array's redundancy says, all members, on
// distinct dns, and none that is to leave; without moves only that legs are members.
func unfinished(da *vda.DA, vds []vda.VD, moved bool) string {
	for _, c := range vda.Columns(vds) {
		for _, v := range c.Legs {
			if v.MirrorID != "" && (v.Role != vda.Member || moved && v.Leaving) {
				return fmt.Sprintf("leg %s of mirror %s of %s is %v, leaving %v", v.ID, v.MirrorID, da.Name, v.Role, v.Leaving)
			}
		}
		if !moved {
			continue
		}
		if has, want := len(c.Legs), max(int(da.Redundancy), 1); has != want {
			return fmt.Sprintf("column %d of group %d of %s has %d legs, not %d", c.Idx, c.GrpIdx, da.Name, has, want)
		}
		dns := map[string]bool{}
		for _, v := range c.Legs {
			if dns[v.DNID] {
				return fmt.Sprintf("column %d of group %d of %s has two legs on one dn", c.Idx, c.GrpIdx, da.Name)
			}
			dns[v.DNID] = true
		}
	}
	return ""
}
