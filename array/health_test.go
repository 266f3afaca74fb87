package array_test

import (
	"errors"
	"testing"
	"time"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/array"
	"github.com/virtual-disk-array/vda/placement"
	"github.com/virtual-disk-array/vda/store"
)

// TestRawHealthIsWrittenOnce: what an older agent says in a library's words is
// kept in ours, and is not news at each heartbeat.
func TestRawHealthIsWrittenOnce(t *testing.T) {
	const raw = "ask: context deadline exceeded"
	kept := vda.Health{Error: true, Msg: store.CleanMsg(raw)}
	if kept.Msg != "ask: no answer in time" || !array.SameHealth(kept, vda.Health{Error: true, Msg: raw}) {
		t.Errorf("kept as %q, which is not the same as %q", kept.Msg, raw)
	}
}

// TestHealthOfLegs: a leg that is not well is an error of its array only when no
// member of its column is left; targets and stale legs are never one.
func TestHealthOfLegs(t *testing.T) {
	noon := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	leg := func(idx uint32, role vda.LegRole, bad bool) vda.VD {
		v := vda.VD{Idx: idx, MirrorID: "m", Role: role}
		if bad {
			v.Health = vda.Health{Error: true, Msg: "its dn is down", Since: noon}
		}
		return v
	}
	for _, tt := range []struct {
		name string
		vds  []vda.VD
		want string
	}{
		{"full", []vda.VD{leg(0, vda.Member, false), leg(0, vda.Member, false)}, ""},
		{"one of two members", []vda.VD{leg(0, vda.Member, true), leg(0, vda.Member, false)}, ""},
		{"one of each column",
			[]vda.VD{leg(0, vda.Member, true), leg(0, vda.Member, false), leg(1, vda.Member, false), leg(1, vda.Member, true)}, ""},
		{"both members of the second column",
			[]vda.VD{leg(0, vda.Member, true), leg(0, vda.Member, false), leg(1, vda.Member, true), leg(1, vda.Member, true)},
			"vd 1 of group 0: its dn is down (and 1 more)"},
		{"the last member, though a target is well", []vda.VD{leg(0, vda.Member, true), leg(0, vda.Target, false)},
			"vd 0 of group 0: its dn is down"},
		{"the last member, beside a stale leg in error", []vda.VD{leg(0, vda.Member, true), leg(0, vda.Stale, true)},
			"vd 0 of group 0: its dn is down"},
		{"a target and a stale leg", []vda.VD{leg(0, vda.Member, false), leg(0, vda.Target, true), leg(0, vda.Stale, true)}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := array.HealthOfDisks(tt.vds)
			if h.Msg != tt.want || h.Error != (tt.want != "") || h.Error && !h.Since.Equal(noon) {
				t.Errorf("%+v, want %q", h, tt.want)
			}
		})
	}
}

// TestDegradedIsNoError: an array that has lost a leg is not in error, and is when
// it has lost both of a column.
func TestDegradedIsNoError(t *testing.T) {
	c := newCluster(t)
	c.update(func(tx store.Tx) error {
		_, err := array.Create(tx, &vda.DA{ID: "new", Name: "new", Term: 1, Redundancy: vda.Mirror2, MinLegs: 1},
			[]placement.Column{mirrored(2, 0)}, []placement.Cntlr{{CNID: cn(1), Primary: true}})
		return err
	})
	fail := func(dnID, want string) {
		t.Helper()
		c.update(func(tx store.Tx) error {
			change := array.Begin(tx)
			if err := change.LockArrays("new"); err != nil {
				return err
			}
			vds, err := tx.VDsOfDA("new")
			if err != nil {
				return err
			}
			for i := range vds {
				if vds[i].DNID == dnID {
					err = errors.Join(err, tx.SetHealth(store.ObjVD, vds[i].ID, vda.Health{Error: true, Msg: dnID + " is down"}))
				}
			}
			if err := errors.Join(err, change.Settle("new")); err != nil {
				return err
			}
			da, err := tx.DA("new")
			if err == nil && (da.Health.Msg != want || da.Health.Error != (want != "")) {
				t.Errorf("without %s the array's health is %+v, want %q", dnID, da.Health, want)
			}
			return err
		})
	}
	fail(dn(2), "")
	fail(dn(0), "vd 0 of group 0: dn2 is down (and 1 more)")
}
