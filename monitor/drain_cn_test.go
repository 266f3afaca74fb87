package monitor

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/array"
	"github.com/virtual-disk-array/vda/store"
)

// left is what the drain of a cn has not dealt with, and why what stays does: "two secondary, one
// primary: the reason".
func (r *rig) left(cn *vda.CN) (text string) {
	r.Helper()
	if err := r.store.Store.View(r.Context(), func(tx store.Reader) error {
		row, err := tx.CN(cn.ID)
		if err != nil {
			return err
		}
		left, err := array.LeftOnCN(tx, cn.ID, row.Drain)
		var all []string
		for _, l := range left {
			s := l.DAName + map[bool]string{true: " primary", false: " secondary"}[l.Primary]
			if l.Why != "" {
				s += ": " + l.Why
			}
			all = append(all, s)
		}
		text = strings.Join(all, "; ")
		return err
	}); err != nil {
		r.Fatal(err)
	}
	return text
}

// drainCN marks cn0.
func (r *rig) drainCN(drain vda.CNDrain) {
	r.Helper()
	r.update(func(tx store.Tx) error {
		n, err := tx.Node(vda.ControllerNode, r.cns[0].ID)
		if err != nil {
			return err
		}
		n.Online = drain == vda.NoDrain
		return errors.Join(tx.UpdateNode(vda.ControllerNode, n), tx.SetCNDrain(n.ID, drain))
	})
}

// TestPrimariesLeaveADrainedCN: with a drain of primaries they move and nothing else does; what
// has no other controller stays, with the reason; when the drain has ended nothing comes back.
func TestPrimariesLeaveADrainedCN(t *testing.T) {
	inBubble(t, func(r *rig) {
		r.within(5*time.Second, "formatted", func() bool { return r.thePD().TotalClusters == 100 })
		two, one := r.addDA("two"), r.addDA("one")
		r.within(10*time.Second, "they are up", func() bool {
			_, _, a := r.primary(two)
			_, _, b := r.primary(one)
			return a && b
		})
		r.shrink(two, 2) // cn0 and cn1
		r.shrink(one, 1) // cn0
		if got := r.left(r.cns[0]); got != "" {
			t.Errorf("left on a cn that is not drained: %q", got)
		}
		r.drainCN(vda.DrainPrimaries)
		const stays = "one primary: the array has one controller only"
		r.within(20*time.Second, "one moves", func() bool { return r.left(r.cns[0]) == stays })
		time.Sleep(time.Minute)
		if name, _, settled := r.primary(two); name != "cn1" || !settled || len(r.cntlrs(two)) != 2 || len(r.cntlrs(one)) != 1 {
			t.Errorf("two is on %s, settled %v, with controllers %v", name, settled, r.cntlrs(two))
		}
		if got := r.left(r.cns[0]); got != stays {
			t.Errorf("left: %q", got)
		}

		// A primary elsewhere that is not well leaves hosts the path that is drained alone.
		r.agents.Agent("cn1").Stop()
		r.within(20*time.Second, "the path is needed", func() bool {
			return strings.Contains(r.left(r.cns[0]), "two secondary: cn cn1, where its primary is, is not well: ") ||
				strings.Contains(r.left(r.cns[0]), "two primary")
		})
		r.agents.Start("cn1")
		r.drainCN(vda.NoDrain)
		r.within(20*time.Second, "nothing is left of the drain", func() bool { return r.left(r.cns[0]) == "" })
	})
}

// TestCntlrsLeaveADrainedCN: with a drain of all controllers each gets a successor on another cn,
// also the only one of an array without exporters; one that hosts reach an array by stays.
func TestCntlrsLeaveADrainedCN(t *testing.T) {
	inBubble(t, func(r *rig) {
		r.within(5*time.Second, "formatted", func() bool { return r.thePD().TotalClusters == 100 })
		two, used, idle, full := r.addDA("two"), r.addDA("used"), r.addDA("idle"), r.addDA("full")
		all := []*vda.DA{two, used, idle, full}
		r.within(10*time.Second, "they are up", func() bool {
			for _, da := range all {
				if _, _, up := r.primary(da); !up {
					return false
				}
			}
			return true
		})
		r.shrink(two, 2)
		r.shrink(used, 1)
		r.shrink(idle, 1)
		r.shrink(full, 3)
		r.update(func(tx store.Tx) error { // no host uses idle
			exps, err := tx.ExpsOfDA(idle.ID)
			for i := range exps {
				err = errors.Join(err, tx.DeleteExp(exps[i].ID))
			}
			return err
		})
		r.drainCN(vda.DrainCntlrs)
		r.within(60*time.Second, "what can leave has left", func() bool {
			a, b := r.cntlrs(two), r.cntlrs(idle)
			return a["cn0"].ID == "" && a["cn1"].Primary && !a["cn2"].Deleted && a["cn2"].ID != "" && b["cn0"].ID == "" && len(b) == 1
		})
		const stays = "full secondary; used primary: the array has one controller only, and hosts reach it by that: delete its exps first"
		r.within(20*time.Second, "the rest stays", func() bool { return r.left(r.cns[0]) == stays })
		time.Sleep(time.Minute)
		if got := r.left(r.cns[0]); got != stays {
			t.Errorf("left: %q, want %q", got, stays)
		}
		if c := r.cntlrs(full); len(c) != 3 || c["cn0"].Deleted || c["cn0"].Primary {
			t.Errorf("an array on all cns: %v", c)
		}
		if c := r.cntlrs(used); len(c) != 1 || c["cn0"].Deleted {
			t.Errorf("an array with one controller: %v", c)
		}
	})
}
