package cn

import (
	"testing"
	"time"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/spdk"
)

// TestCopyRate: the rate of a copy is known after 10 s, is that of the last 30 s, and
// begins again with the copy.
func TestCopyRate(t *testing.T) {
	var c copying
	now := time.Unix(1000, 0)
	lack := uint64(10_000 << 20)
	look := func(role spdk.MirrorRole) {
		c.note(now, []spdk.Mirror{{Name: vda.MirrorPrefix + "m", Legs: []spdk.MirrorLegState{
			{VD: "a", Role: spdk.MirrorMember}, {VD: "b", Role: role, Lack: lack}}}})
	}
	// copied looks 20 times a second for a while, as mb MiB are copied in each.
	copied := func(seconds int, mb uint64) {
		for i := range seconds * 20 {
			look(spdk.MirrorTarget)
			now = now.Add(50 * time.Millisecond)
			if i%20 == 19 {
				lack -= mb << 20
			}
		}
		look(spdk.MirrorTarget)
	}
	is := func(when string, mb uint64) {
		t.Helper()
		got := c.rate("m", "b")
		if off := int64(got) - int64(mb<<20); off < -1<<19 || off > 1<<19 {
			t.Errorf("%s the rate is %d bytes per second, want about %d MiB", when, got, mb)
		}
	}
	is("before anything was seen", 0)
	copied(9, 100)
	is("after 9 s", 0)
	copied(1, 100)
	is("after 10 s", 100)
	copied(60, 10)
	is("30 s after it has become slow", 10)
	if n := len(c[[2]string{vda.MirrorPrefix + "m", "b"}]); n > 32 {
		t.Errorf("%d moments are remembered, more than the last 30 s have", n)
	}
	copied(30, 0)
	is("when nothing is copied any more", 0)
	copied(30, 20)
	is("when it goes on", 20)
	lack += 50 << 20
	look(spdk.MirrorTarget)
	is("when the leg lacks more than before", 0)
	copied(10, 30)
	is("10 s after that", 30)
	if got := c.rate("m", "a") + c.rate("n", "b"); got != 0 {
		t.Errorf("legs that nothing is copied to have the rate %d", got)
	}
	look(spdk.MirrorAbsent)
	is("when the leg is absent", 0)
	if len(c) != 0 {
		t.Errorf("%d legs are remembered", len(c))
	}
}
