package placement

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/virtual-disk-array/vda"
)

// columnsText is "a/0 b/0, c/0 d/0".
func columnsText(columns []Column) string {
	var out []string
	for _, c := range columns {
		var ids []string
		for _, v := range c.Legs {
			ids = append(ids, v.PDID)
		}
		slices.Sort(ids)
		out = append(out, strings.Join(ids, " "))
	}
	return strings.Join(out, ", ")
}

func TestMirrors(t *testing.T) {
	for _, tt := range []struct {
		name    string
		pds     []PD
		n, legs int
		data    uint64
		strict  Strictness
		want    string
		warn    string
		err     string
	}{
		{name: "distinct locations before free space", n: 1, legs: 2, data: mib, want: "a/0 c/0",
			pds: []PD{pd("a", "0", "r1", 100), pd("b", "0", "r1", 90), pd("c", "0", "r2", 2)}},
		{name: "what is behind the data is counted", n: 1, legs: 2, data: mib, want: "a/0 c/0",
			pds: []PD{pd("a", "0", "", 2), pd("b", "0", "", 1), pd("c", "0", "", 2)}},
		{name: "one location, distinct dns", n: 1, legs: 2, data: mib, want: "a/0 b/0",
			warn: "not all in distinct locations: 1 location has an online pd with 2097152 bytes free",
			pds:  []PD{pd("a", "0", "r", 100), pd("a", "1", "r", 100), pd("b", "0", "r", 2)}},
		{name: "strict refuses one location", n: 1, legs: 2, data: mib, strict: Strict,
			err: "--strict asks for 2 locations for the legs of each column, but 1 location has an online pd with 2097152 bytes free",
			pds: []PD{pd("a", "0", "r", 9), pd("b", "0", "r", 9)}},
		{name: "strict with enough locations", n: 1, legs: 2, data: mib, strict: Strict, want: "a/0 b/0",
			pds: []PD{pd("a", "0", "r", 9), pd("b", "0", "s", 9)}},
		{name: "never two legs on a dn", n: 1, legs: 2, data: mib,
			err: "2 legs of 2097152 bytes asked for, the 2 of a column on 2 dns, but 1 dn has an online pd with 2097152 bytes free",
			pds: []PD{pd("a", "0", "", 100), pd("a", "1", "", 100), pd("b", "0", "", 1)}},
		{name: "room for one column only", n: 2, legs: 2, data: mib,
			err: "4 legs of 2097152 bytes asked for, the 2 of a column on 2 dns, but 2 dns have an online pd with 2097152 bytes free, which is " +
				"room for 1 of 2 columns",
			pds: []PD{pd("a", "0", "", 100), pd("b", "0", "", 3)}},
		{name: "columns are spread", n: 2, legs: 2, data: mib, want: "a/0 b/0, c/0 d/0",
			pds: []PD{pd("a", "0", "", 100), pd("b", "0", "", 90), pd("c", "0", "", 50), pd("d", "0", "", 40)}},
		{name: "columns cross over three dns", n: 3, legs: 2, data: mib, want: "a/0 b/0, a/0 c/0, b/0 c/0",
			pds: []PD{pd("a", "0", "", 4), pd("b", "0", "", 4), pd("c", "0", "", 4)}},
		{name: "the roomy dn is left to all columns", n: 2, legs: 2, data: mib, want: "a/0 c/0, b/0 c/0",
			pds: []PD{pd("a", "0", "", 3), pd("b", "0", "", 3), pd("c", "0", "", 4)}},
		{name: "mirror:3", n: 1, legs: 3, data: mib, want: "a/0 b/0 c/0",
			pds: []PD{pd("a", "0", "x", 9), pd("b", "0", "y", 9), pd("c", "0", "z", 9)}},
		{name: "empty cluster", n: 1, legs: 2, data: mib, err: "2 vds of 2097152 bytes asked for, but the cluster has no pd"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			columns, warnings, err := Mirrors(tt.pds, tt.n, tt.legs, tt.data, tt.strict)
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) || vda.KindOf(err) != vda.ResourceExhausted {
					t.Fatalf("error = %v, want %q", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := columnsText(columns); got != tt.want {
				t.Errorf("chose %s, want %s", got, tt.want)
			}
			if got := strings.Join(warnings, "\n"); (tt.warn == "") != (got == "") || !strings.Contains(got, tt.warn) {
				t.Errorf("warnings = %q, want %q", got, tt.warn)
			}
		})
	}
}

// possible finds by trying all whether columns with legs on distinct units exist.
func possible(room map[string]int, units []string, n, legs, from, open int) bool {
	if open == 0 {
		n--
		if n == 0 {
			return true
		}
		from, open = 0, legs
	}
	for i := from; i < len(units); i++ {
		if u := units[i]; room[u] > 0 {
			room[u]--
			ok := possible(room, units, n, legs, i+1, open-1)
			room[u]++
			if ok {
				return true
			}
		}
	}
	return false
}

// TestMirrorsProperties checks, on random clusters, against a search of all choices:
// one is found whenever there is one, with all legs in distinct locations whenever
// that can be; it fits, never has two legs of a column on one dn, and does not depend
// on the order of the candidates.
func TestMirrorsProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		pds := genPDs(t)
		n := rapid.IntRange(1, 4).Draw(t, "n")
		legs := rapid.IntRange(2, 3).Draw(t, "legs")
		data := rapid.Uint64Range(1, 4*mib).Draw(t, "data")
		size := data + vda.LegTail
		byID := map[string]*PD{}
		dnRoom, locRoom := map[string]int{}, map[string]int{}
		for i := range pds {
			p := &pds[i]
			byID[p.ID] = p
			if fit := int(p.FreeClusters / ((size-1)/p.ClusterSize + 1)); fit > 0 {
				dnRoom[p.DNID] += fit
				locRoom[locationOf(p.Location, p.DNID)] += fit
			}
		}
		can := func(room map[string]int) bool {
			var units []string
			for u := range room {
				units = append(units, u)
			}
			slices.Sort(units)
			return possible(room, units, n, legs, 0, legs)
		}
		spread := can(locRoom)
		columns, warnings, err := Mirrors(pds, n, legs, data, BestEffort)
		if (err == nil) != can(dnRoom) {
			t.Fatalf("%d columns of %d legs over %v: %v", n, legs, dnRoom, err)
		}
		if _, _, err := Mirrors(pds, n, legs, data, Strict); (err == nil) != spread {
			t.Fatalf("strict, %d columns of %d legs over %v: %v", n, legs, locRoom, err)
		}
		if err != nil {
			return
		}
		if (len(warnings) == 0) != spread {
			t.Fatalf("spread can be %v, warnings %q", spread, warnings)
		}
		taken := map[string]uint64{}
		for _, c := range columns {
			dns, locs := map[string]bool{}, map[string]bool{}
			for _, v := range c.Legs {
				p := byID[v.PDID]
				if v.Size < size || v.Size != v.Clusters*p.ClusterSize || v.Size-size >= p.ClusterSize || v.DNID != p.DNID {
					t.Fatalf("leg %+v for %d bytes on %+v", v, size, p)
				}
				taken[v.PDID] += v.Clusters
				dns[v.DNID], locs[locationOf(p.Location, p.DNID)] = true, true
			}
			if len(c.Legs) != legs || len(dns) != legs || spread && len(locs) != legs || c.Data != data {
				t.Fatalf("column %+v on dns %v in locations %v", c, dns, locs)
			}
		}
		for id, clusters := range taken {
			if clusters > byID[id].FreeClusters {
				t.Fatalf("%d clusters of %s, which has %d", clusters, id, byID[id].FreeClusters)
			}
		}
		shuffled := slices.Clone(pds)
		slices.Reverse(shuffled)
		again, _, _ := Mirrors(shuffled, n, legs, data, BestEffort)
		if fmt.Sprint(columns) != fmt.Sprint(again) {
			t.Fatalf("another order of candidates: %v, then %v", columns, again)
		}
	})
}

func TestAnotherLeg(t *testing.T) {
	column := []Leg{{DNID: "a", Location: "r"}, {DNID: "b", Location: "s", Leaving: true}}
	for _, tt := range []struct {
		name string
		pds  []PD
		want string
		warn string
		err  string
	}{
		{name: "another location before free space", want: "d/0",
			pds: []PD{pd("c", "0", "r", 100), pd("d", "0", "t", 2)}},
		{name: "the location of the one that leaves is as good as any", want: "c/0",
			pds: []PD{pd("c", "0", "s", 100), pd("d", "0", "t", 2)}},
		{name: "never the dn of a leg, not even of the one that leaves", want: "c/0", warn: "another leg of its column",
			pds: []PD{pd("a", "0", "r", 100), pd("b", "0", "s", 100), pd("c", "0", "r", 2)}},
		{name: "no room", err: "a leg of 2097152 bytes asked for, on another dn than the 2 that have legs of its column",
			pds: []PD{pd("a", "0", "r", 100), pd("b", "0", "s", 100), pd("c", "0", "r", 1)}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			v, warn, err := AnotherLeg(tt.pds, column, mib)
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) || vda.KindOf(err) != vda.ResourceExhausted {
					t.Fatalf("error = %v, want %q", err, tt.err)
				}
				return
			}
			if err != nil || v.PDID != tt.want || v.Size != 2*mib || (tt.warn == "") != (warn == "") || !strings.Contains(warn, tt.warn) {
				t.Errorf("%+v, %q, %v; want %s, %q", v, warn, err, tt.want, tt.warn)
			}
		})
	}
}

// BenchmarkMirrors places the widest array on ten thousand pds.
func BenchmarkMirrors(b *testing.B) {
	var pds []PD
	for d := range 1000 {
		for p := range 10 {
			pds = append(pds, pd(fmt.Sprint("dn", d), fmt.Sprint("pd", p), fmt.Sprint("r", d%40), 100))
		}
	}
	for b.Loop() {
		if _, _, err := Mirrors(pds, vda.MaxStripeCount, 3, mib, BestEffort); err != nil {
			b.Fatal(err)
		}
	}
}
