package cli

import (
	"testing"

	apiv1 "github.com/virtual-disk-array/vda/api/v1"
)

// TestRebuildIsShown: how far a rebuild is, how fast and for how long still, in lists, of
// one array and in lines of --wait; nothing of an array that is not being rebuilt.
func TestRebuildIsShown(t *testing.T) {
	column := func(m *apiv1.DaMsg, head string) string {
		for _, c := range allColumns(m.ProtoReflect().Descriptor()) {
			if c.head == head {
				return c.of(m.ProtoReflect())
			}
		}
		t.Fatalf("there is no column %s", head)
		return ""
	}
	busy := &apiv1.DaMsg{RedundancyState: "rebuilding", LackBytes: 30 << 30, RebuildPercent: 70, RebuildBytesPerSec: 100 << 20,
		RebuildLeftSec: 308, RebuildMbps: 100}
	well := &apiv1.DaMsg{RedundancyState: "full"}
	for _, c := range []struct {
		m                      *apiv1.DaMsg
		state, rate, left, max string
	}{{busy, "rebuilding 70%", "100 MiB/s", "5m8s", "100 MiB/s copied"}, {well, "up", "-", "-", "-"}} {
		got := [4]string{column(c.m, "STATE"), column(c.m, "RATE"), column(c.m, "LEFT"), column(c.m, "LIMITS")}
		if want := [4]string{c.state, c.rate, c.left, c.max}; got != want {
			t.Errorf("columns %q, want %q", got, want)
		}
	}
	for name, want := range map[string][2]string{"rebuild_percent": {"70", "-"}, "rebuild_bytes_per_sec": {"100 MiB/s", "-"},
		"rebuild_left_sec": {"5m8s", "-"}, "rebuild_mbps": {"100", "0"}} {
		for i, m := range []*apiv1.DaMsg{busy, well} {
			r := m.ProtoReflect()
			f := r.Descriptor().Fields()
			for j := range f.Len() {
				if d := f.Get(j); string(d.Name()) == name {
					if got := cell(d, r.Get(d)); got != want[i] {
						t.Errorf("%s of one array is %q, want %q", name, got, want[i])
					}
				}
			}
		}
	}
	if got := pace(100<<20, 308) + pace(0, 0); got != " at 100 MiB/s, for about 5m8s" {
		t.Errorf("a line of --wait says %q", got)
	}
}
