package vda

import (
	"strings"
	"testing"
)

// TestCheckLimits: a limit that a data plane would round is refused, with what it
// could be.
func TestCheckLimits(t *testing.T) {
	for _, l := range []Limits{{}, {RWIOs: 1000}, {RWIOs: maxLimitIOs, RWMB: 1, RMB: maxLimitMB, WMB: 1}} {
		if err := CheckLimits(l); err != nil {
			t.Errorf("%+v: %v", l, err)
		}
	}
	for _, tt := range []struct {
		l    Limits
		says []string
	}{
		{Limits{RWIOs: 1}, []string{"rw_ios_per_sec is 1;", "multiple of 1000", "1000 is the lowest"}},
		{Limits{RWIOs: 1500}, []string{"rw_ios_per_sec is 1500;", "1000 or 2000"}},
		{Limits{RWIOs: maxLimitIOs + 1000}, []string{"rw_ios_per_sec is 1000001000;", "up to 1000000000"}},
		{Limits{RWIOs: ^uint64(0)}, []string{"rw_ios_per_sec is 18446744073709551615;"}},
		{Limits{RWMB: maxLimitMB + 1}, []string{"rw_mbytes_per_sec is 1048577;", "1 to 1048576"}},
		{Limits{RMB: ^uint64(0)}, []string{"r_mbytes_per_sec is"}},
		{Limits{WMB: maxLimitMB + 1}, []string{"w_mbytes_per_sec is"}},
	} {
		err := CheckLimits(tt.l)
		if KindOf(err) != InvalidArgument {
			t.Errorf("%+v: %v", tt.l, err)
			continue
		}
		for _, word := range tt.says {
			if !strings.Contains(err.Error(), word) {
				t.Errorf("%+v: %q does not say %q", tt.l, err, word)
			}
		}
	}
}
