package vdatgt

import (
	"bytes"
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
	if err := m.VdaNvmeSetFailAtOnce(ctx, "none", true); !spdk.IsNoSuchDevice(err) {
		t.Errorf("a controller that there is not: %v", err)
	}
	// An agent tells a data plane of before from a fault by this.
	if err := m.Call(ctx, "vda_mirror_set", map[string]any{"name": "vda-mir-0", "term": 1, "gen": 1, "legs": m.legs, "later": 1},
		nil); !spdk.LacksParameter(err, "later") {
		t.Errorf("a parameter of a later version: %v", err)
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

// TestScrubIsCounted: what a scrub finds is in the metrics.
func TestScrubIsCounted(t *testing.T) {
	ctx := t.Context()
	lis, get := web(t)
	m, port := &mirrored{plane: start(t, Config{HTTP: lis}), gen: 1}, freePort(t)
	for i := range 2 {
		name := must[string](t)(m.BdevMallocCreate(ctx, spdk.MallocCreate{Name: fmt.Sprint("M", i), BlockSize: 4096, NumBlocks: 24 * miB / 4096}))
		m.legs = append(m.legs, spdk.MirrorLeg{VD: fmt.Sprintf("b%031x", i), Bdev: name, Role: spdk.MirrorMember})
	}
	m.export(exporter(0), exported("M1"), port, userNQN) // behind the mirror's back
	user := dial(t, port, exportNQN, userNQN)
	ok(t, user.WriteAt(ctx, bytes.Repeat([]byte{7}, 2*4096), 5*miB))
	user.Controller().Close()
	ok(t, m.NvmfDeleteSubsystem(ctx, exportNQN))
	must[*spdk.Mirror](t)(m.VdaMirrorCreate(ctx, spdk.MirrorCreate{Name: "vda-mir-0", DA: fmt.Sprintf("da%030x", 1),
		Mirror: fmt.Sprintf("aa%030x", 1), Size: 23 * miB, Term: 1, Gen: 1, Legs: m.legs, Fresh: true}))
	m.until("it is online", func(s *spdk.Mirror) bool { return s.Online })
	must[*spdk.Mirror](t)(m.VdaMirrorScrub(ctx, "vda-mir-0", ""))
	m.until("the scrub is done", func(s *spdk.Mirror) bool { return s.Scrub.State == "done" })
	_, page := get("/metrics")
	has(t, page, "vda_mirror_scrub_mismatches_total 2", `vda_mirror_legs{role="member"} 2`, "vda_mirror_joins_total 0")
	if n := total(t, page, "vda_mirror_drops_total"); n != 0 {
		t.Errorf("no member was dropped, %v are counted", n)
	}
	ok(t, m.VdaMirrorDelete(ctx, "vda-mir-0"))
}
