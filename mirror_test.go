package vda

import "testing"

// TestProgress: targets alone count, against the data of their mirrors, not the size of
// their vds.
func TestProgress(t *testing.T) {
	const gib = 1 << 30
	mirrors := []Mirror{{ID: "m", Size: 10 * gib}, {ID: "n", Size: 10 * gib}}
	vds := []VD{
		{ID: "a", MirrorID: "m", Role: Member, Size: 11 * gib},
		{ID: "b", MirrorID: "m", Role: Target, Size: 11 * gib, Lack: 4 * gib, CopyRate: gib / 8},
		{ID: "c", MirrorID: "n", Role: Target, Size: 11 * gib, Lack: 10*gib + 1<<22, CopyRate: gib / 8}, // regions are whole
		{ID: "d", MirrorID: "n", Role: Stale, Size: 11 * gib, Lack: gib, CopyRate: gib},
		{ID: "e", MirrorID: "n", Role: Target, Lack: gib, CopyRate: gib, Deleted: true},
		{ID: "f", MirrorID: "of another array", Role: Target, Lack: gib, CopyRate: gib},
	}
	all := ProgressOf(vds, mirrors)
	if want := (Progress{Size: 20 * gib, Lack: 14 * gib, Rate: gib / 4}); all != want {
		t.Errorf("progress %+v, want %+v", all, want)
	}
	if all.Percent() != 30 || all.Left() != 56 {
		t.Errorf("%d %%, %d s are left, want 30 %% and 56 s", all.Percent(), all.Left())
	}
	one := ProgressOf(vds[1:2], mirrors)
	if one.Percent() != 60 || one.Left() != 32 {
		t.Errorf("one leg: %d %%, %d s are left, want 60 %% and 32 s", one.Percent(), one.Left())
	}
	for _, p := range []Progress{{}, ProgressOf(vds[:1], mirrors), {Size: gib, Lack: gib}} {
		if p.Percent() != 0 || p.Left() != 0 {
			t.Errorf("%+v: %d %%, %d s are left, want neither", p, p.Percent(), p.Left())
		}
	}
	if p := (Progress{Size: 1 << 50, Lack: 1, Rate: 1 << 40}); p.Percent() != 99 || p.Left() != 1 {
		t.Errorf("all but a byte: %d %%, %d s are left, want 99 %% and 1 s", p.Percent(), p.Left())
	}
}

// TestRebuildShare: columns share what an array may copy, and none is left without.
func TestRebuildShare(t *testing.T) {
	for _, c := range []struct {
		mb      uint64
		columns int
		want    uint32
	}{{0, 4, 0}, {100, 1, 100}, {100, 3, 33}, {2, 4, 1}, {1 << 20, 1, 1 << 20}, {5, 0, 5}} {
		if got := (Limits{RebuildMB: c.mb}).RebuildShare(c.columns); got != c.want {
			t.Errorf("of %d MiB per second each of %d columns has %d, want %d", c.mb, c.columns, got, c.want)
		}
	}
}
