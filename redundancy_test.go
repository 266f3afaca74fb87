package vda

import "testing"

// TestUsable: each column of an array needs a member that is there; a vd of a
// striped array is the only one of its column.
func TestUsable(t *testing.T) {
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
	striped := [][]string{{"a"}, {"b"}, {"c"}}
	mirrored := [][]string{{"a", "b"}, {"c", "d"}}
	for _, c := range []struct {
		name    string
		columns [][]string
		there   func(string) bool
		want    bool
	}{
		{"all of a stripe are there", striped, lost(), true},
		{"the first of a stripe is lost", striped, lost("a"), false},
		{"the last of a stripe is lost", striped, lost("c"), false},
		{"another array's is lost", striped, lost("d"), true},
		{"one leg of each mirror is lost", mirrored, lost("a", "d"), true},
		{"both legs of a mirror are lost", mirrored, lost("c", "d"), false},
		{"a mirror has no members", [][]string{{"a"}, {}}, lost(), false},
	} {
		if got := Usable(c.columns, c.there); got != c.want {
			t.Errorf("%s: usable is %v", c.name, got)
		}
	}
}

// TestRedundancyState: an array is as well as the worst of its columns.
func TestRedundancyState(t *testing.T) {
	leg := func(idx uint32, r LegRole) VD { return VD{Idx: idx, Role: r} }
	sick := func(v VD) VD { v.Health.Error = true; return v }
	behind := func(v VD) VD { v.Lack = 4096; return v }
	gone := func(v VD) VD { v.Deleted = true; return v }
	for _, c := range []struct {
		name string
		r    Redundancy
		vds  []VD
		want RedundancyState
	}{
		{"striped", Striped, []VD{leg(0, Member)}, ""},
		{"all members", Mirror2, []VD{leg(0, Member), leg(0, Member), leg(1, Member), leg(1, Member)}, RedundancyFull},
		{"one is stale", Mirror2, []VD{leg(0, Member), leg(0, Member), leg(1, Member), leg(1, Stale)}, SingleLeg},
		{"one of three is stale", Mirror3, []VD{leg(0, Member), leg(0, Member), leg(0, Stale)}, Degraded},
		{"one is rebuilt", Mirror2, []VD{leg(0, Member), leg(0, Target)}, Rebuilding},
		{"one is rebuilt, the other column is not", Mirror2, []VD{leg(0, Member), leg(0, Target), leg(1, Member)}, SingleLeg},
		{"one of three is left, and one is rebuilt", Mirror3, []VD{leg(0, Member), leg(0, Target), leg(0, Stale)}, Rebuilding},
		{"a member is not well", Mirror2, []VD{leg(0, Member), sick(leg(0, Member))}, SingleLeg},
		{"no member is well", Mirror2, []VD{sick(leg(0, Member)), leg(0, Target)}, RedundancyDown},
		{"a member catches up", Mirror2, []VD{leg(0, Member), behind(leg(0, Member))}, Rebuilding},
		{"the other is not well", Mirror2, []VD{sick(leg(0, Member)), behind(leg(0, Member))}, RedundancyDown},
		{"one of three catches up", Mirror3, []VD{leg(0, Member), behind(leg(0, Member)), leg(0, Stale)}, Rebuilding},
		{"a stale leg lacks much", Mirror2, []VD{leg(0, Member), behind(leg(0, Stale))}, SingleLeg},
		{"a tombstone does not count", Mirror2, []VD{leg(0, Member), leg(0, Member), gone(leg(0, Member))}, RedundancyFull},
		{"more than enough", Mirror2, []VD{leg(0, Member), leg(0, Member), leg(0, Target)}, RedundancyFull},
	} {
		if got := c.r.StateOf(Columns(c.vds)); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

// TestParseRedundancy: what is shown can be given.
func TestParseRedundancy(t *testing.T) {
	for r := Striped; r <= Mirror3; r++ {
		if got, err := ParseRedundancy("redundancy", r.String()); err != nil || got != r {
			t.Errorf("%v is read as %v, %v", r, got, err)
		}
	}
	for _, bad := range []string{"mirror", "mirror:1", "mirror:4", "raid1", "None"} {
		if _, err := ParseRedundancy("redundancy", bad); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
	if r, err := ParseRedundancy("redundancy", ""); err != nil || r != Striped {
		t.Errorf("nothing is read as %v, %v", r, err)
	}
}
