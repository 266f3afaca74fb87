package vda

import "testing"

// TestStripedToleratesNothing: every vd of a striped array has data that no
// other has.
func TestStripedToleratesNothing(t *testing.T) {
	lost := func(ids ...string) func(string) bool {
		return func(v string) bool {
			for _, id := range ids {
				if v == id {
					return false
				}
			}
			return true
		}
	}
	two := [][]string{{"a", "b"}, {"c"}}
	for _, c := range []struct {
		name   string
		groups [][]string
		there  func(string) bool
		want   bool
	}{
		{"all are there", two, lost(), true},
		{"the first is lost", two, lost("a"), false},
		{"the last of a group is lost", two, lost("b"), false},
		{"one of the second group is lost", two, lost("c"), false},
		{"all are lost", two, lost("a", "b", "c"), false},
		{"another array's is lost", two, lost("d"), true},
	} {
		if got := Usable(Striped, c.groups, c.there); got != c.want {
			t.Errorf("%s: usable is %v", c.name, got)
		}
	}
	if (&DA{}).Redundancy() != Striped {
		t.Error("an array is not striped")
	}
}
