package vdatgt

import (
	"fmt"
	"testing"

	"github.com/virtual-disk-array/vda/spdk"
)

// TestMirrorOptionsAndScrub makes the typed calls that the life of a mirror does
// not: the bounds of copying, and a scrub of two equal members from its begin to
// its end and past it.
func TestMirrorOptionsAndScrub(t *testing.T) {
	ctx := t.Context()
	m := &mirrored{plane: start(t, Config{}), gen: 1}
	for i := range 2 {
		name := must[string](t)(m.BdevMallocCreate(ctx, spdk.MallocCreate{Name: fmt.Sprint("M", i), BlockSize: 4096, NumBlocks: 24 * miB / 4096}))
		m.legs = append(m.legs, spdk.MirrorLeg{VD: fmt.Sprintf("b%031x", i), Bdev: name, Role: spdk.MirrorMember})
	}
	must[*spdk.Mirror](t)(m.VdaMirrorCreate(ctx, spdk.MirrorCreate{Name: "vda-mir-0", DA: fmt.Sprintf("da%030x", 1),
		Mirror: fmt.Sprintf("aa%030x", 1), Size: 23 * miB, Term: 1, Gen: 1, Legs: m.legs, Fresh: true}))
	m.until("it is online", func(s *spdk.Mirror) bool { return s.Online })
	for _, p := range []spdk.MirrorOptions{{Name: "vda-mir-0", CopyMB: 1000}, {CopyMB: 2000}, {}} {
		ok(t, m.VdaMirrorSetOptions(ctx, p))
	}
	if err := m.VdaMirrorSetOptions(ctx, spdk.MirrorOptions{Name: "none", CopyMB: 1}); !spdk.IsNoSuchDevice(err) {
		t.Errorf("options of a mirror that there is not: %v", err)
	}
	must[*spdk.Mirror](t)(m.VdaMirrorScrub(ctx, "vda-mir-0", ""))
	m.until("the scrub is done", func(s *spdk.Mirror) bool { return s.Scrub.State == "done" })
	if s := must[*spdk.Mirror](t)(m.VdaMirrorStopScrub(ctx, "vda-mir-0")).Scrub; s.State != "done" || s.Done != 23*miB || s.Mismatches != 0 {
		t.Errorf("the scrub of equal members: %+v", s)
	}
	if _, err := m.VdaMirrorScrub(ctx, "none", ""); !spdk.IsNoSuchDevice(err) {
		t.Errorf("a scrub of a mirror that there is not: %v", err)
	}
	ok(t, m.VdaMirrorDelete(ctx, "vda-mir-0"))
}
