package placement

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/virtual-disk-array/vda"
)

const mib = 1 << 20

// pd makes a candidate "dn/name" with free MiB.
func pd(dn, name, location string, free uint64) PD {
	return PD{ID: dn + "/" + name, Name: name, DNID: dn, DNName: dn, Location: location, ClusterSize: mib, FreeClusters: free}
}

func TestVDs(t *testing.T) {
	for _, tt := range []struct {
		name   string
		pds    []PD
		n      int
		size   uint64
		strict Strictness
		want   string // sorted pd ids
		warn   string
		err    string
	}{
		{name: "distinct locations before free space", n: 2, size: mib, want: "a/0 c/0",
			pds: []PD{pd("a", "0", "r1", 100), pd("b", "0", "r1", 90), pd("c", "0", "r2", 1)}},
		{name: "empty location is one of its own", n: 2, size: mib, want: "a/0 b/0",
			pds: []PD{pd("a", "0", "", 10), pd("b", "0", "", 10)}},
		{name: "two pds of a dn without location are one location", n: 2, size: mib, want: "a/0 a/1", warn: "1 location, on 1 dn and 2 pds",
			pds: []PD{pd("a", "0", "", 10), pd("a", "1", "", 10)}},
		{name: "distinct dns in one location", n: 2, size: mib, want: "a/0 b/0", warn: "1 location, on 2 dns and 2 pds",
			pds: []PD{pd("a", "0", "r", 100), pd("a", "1", "r", 100), pd("b", "0", "r", 1)}},
		{name: "the same pd only as the last resort", n: 2, size: 4 * mib, want: "a/0 a/0", warn: "1 pd:",
			pds: []PD{pd("a", "0", "r", 8), pd("b", "0", "s", 3)}},
		{name: "emptiest", n: 1, size: mib, want: "b/0",
			pds: []PD{pd("a", "0", "x", 5), pd("b", "0", "y", 6), pd("c", "0", "z", 4)}},
		{name: "every location its share before one gets more", n: 4, size: mib, want: "a/0 a/1 b/0 b/1", warn: "2 locations, on 2 dns and 4 pds",
			pds: []PD{pd("a", "0", "x", 100), pd("a", "1", "x", 100), pd("b", "0", "y", 5), pd("b", "1", "y", 5)}},
		{name: "size is rounded up to the pd's clusters", n: 1, size: mib + 1, want: "b/0",
			pds: []PD{pd("a", "0", "x", 1), pd("b", "0", "y", 2)}},
		{name: "unformatted pd is no candidate", n: 1, size: mib, err: "no pd that is online",
			pds: []PD{{ID: "a/0", FreeClusters: 9}}},
		{name: "strict refuses one location", n: 2, size: mib, strict: Strict, err: "--strict asks for 2 locations",
			pds: []PD{pd("a", "0", "r", 9), pd("b", "0", "r", 9)}},
		{name: "strict with enough locations", n: 2, size: mib, strict: Strict, want: "a/0 b/0",
			pds: []PD{pd("a", "0", "r", 9), pd("b", "0", "s", 9)}},
		{name: "full says what is there", n: 3, size: 4 * mib,
			err: "3 vds of 4194304 bytes asked for, but there is room for 2: 2 online pds with 11534336 bytes free in all, at most 6291456 on " +
				"one (0 of b)",
			pds: []PD{pd("a", "0", "r", 5), pd("b", "0", "s", 6)}},
		{name: "empty cluster", n: 1, size: mib, err: "1 vd of 1048576 bytes asked for, but the cluster has no pd"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			vds, warnings, err := VDs(tt.pds, tt.n, tt.size, tt.strict)
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) || vda.KindOf(err) != vda.ResourceExhausted {
					t.Fatalf("error = %v, want %q", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			var ids []string
			for _, v := range vds {
				ids = append(ids, v.PDID)
			}
			slices.Sort(ids)
			if got := strings.Join(ids, " "); got != tt.want {
				t.Errorf("chose %s, want %s", got, tt.want)
			}
			if got := strings.Join(warnings, "\n"); (tt.warn == "") != (got == "") || !strings.Contains(got, tt.warn) {
				t.Errorf("warnings = %q, want %q", got, tt.warn)
			}
		})
	}
}

func TestCntlrs(t *testing.T) {
	for _, tt := range []struct {
		name   string
		cns    []CN
		n      int
		strict Strictness
		want   string // names by index, * the primary
		warn   string
		err    string
	}{
		{name: "tutorial: two cns, one location", n: 2, want: "a* b", warn: "2 controllers lie in 1 location",
			cns: []CN{{ID: "b", Name: "b", Location: "r"}, {ID: "a", Name: "a", Location: "r"}}},
		{name: "primary where the fewest are, indexes by name", n: 2, want: "a b*",
			cns: []CN{{ID: "a", Name: "a", Cntlrs: 1, Primaries: 1}, {ID: "b", Name: "b", Cntlrs: 1}}},
		{name: "emptiest", n: 1, want: "b*",
			cns: []CN{{ID: "a", Name: "a", Cntlrs: 2}, {ID: "b", Name: "b", Cntlrs: 1}, {ID: "c", Name: "c", Cntlrs: 3}}},
		{name: "distinct locations before emptiness", n: 2, want: "a c*",
			cns: []CN{{ID: "a", Name: "a", Location: "r", Primaries: 1}, {ID: "b", Name: "b", Location: "r", Cntlrs: 1}, {ID: "c", Name: "c",
				Location: "s", Cntlrs: 9}}},
		{name: "never two on a cn", n: 3, err: "3 controllers asked for, each on a cn of its own, but the cluster has 2 cns",
			cns: []CN{{ID: "a", Name: "a"}, {ID: "b", Name: "b"}}},
		{name: "strict", n: 2, strict: Strict, err: "--strict asks for 2 locations for 2 controllers",
			cns: []CN{{ID: "a", Name: "a", Location: "r"}, {ID: "b", Name: "b", Location: "r"}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cntlrs, warnings, err := Cntlrs(tt.cns, tt.n, tt.strict)
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) || vda.KindOf(err) != vda.ResourceExhausted {
					t.Fatalf("error = %v, want %q", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, c := range cntlrs {
				got = append(got, c.CNID+map[bool]string{true: "*"}[c.Primary])
			}
			if s := strings.Join(got, " "); s != tt.want {
				t.Errorf("chose %s, want %s", s, tt.want)
			}
			if w := strings.Join(warnings, "\n"); (tt.warn == "") != (w == "") || !strings.Contains(w, tt.warn) {
				t.Errorf("warnings = %q, want %q", w, tt.warn)
			}
		})
	}
}

func genPDs(t *rapid.T) []PD {
	var pds []PD
	for d := range rapid.IntRange(0, 4).Draw(t, "dns") {
		loc := rapid.SampledFrom([]string{"", "r1", "r2", "r3"}).Draw(t, "location")
		for p := range rapid.IntRange(0, 3).Draw(t, "pds") {
			x := pd(fmt.Sprint("dn", d), fmt.Sprint("pd", p), loc, rapid.Uint64Range(0, 12).Draw(t, "free"))
			x.ClusterSize = rapid.SampledFrom([]uint64{mib, 4 * mib}).Draw(t, "cluster")
			pds = append(pds, x)
		}
	}
	return pds
}

// TestVDsProperties checks, on random clusters: a choice fits, is found
// whenever one exists, uses as many locations, dns and pds as any choice
// could, and does not depend on the order of the candidates.
func TestVDsProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		pds := genPDs(t)
		n := rapid.IntRange(1, 5).Draw(t, "n")
		size := rapid.Uint64Range(1, 6*mib).Draw(t, "size")
		vds, warnings, err := VDs(pds, n, size, BestEffort)

		byID := map[string]*PD{}
		slots, locs := 0, map[string]bool{}
		for i := range pds {
			byID[pds[i].ID] = &pds[i]
			if fit := int(pds[i].FreeClusters / ((size-1)/pds[i].ClusterSize + 1)); fit > 0 {
				slots += fit
				locs[locationOf(pds[i].Location, pds[i].DNID)] = true
			}
		}
		if (err == nil) != (slots >= n) {
			t.Fatalf("room for %d vds, %d asked for: %v", slots, n, err)
		}
		if err != nil {
			return
		}
		taken, usedLocs := map[string]uint64{}, map[string]int{}
		for _, v := range vds {
			p := byID[v.PDID]
			if v.Size < size || v.Size != v.Clusters*p.ClusterSize || v.Size-size >= p.ClusterSize || v.DNID != p.DNID {
				t.Fatalf("vd %+v for %d bytes on %+v", v, size, p)
			}
			taken[v.PDID] += v.Clusters
			usedLocs[locationOf(p.Location, p.DNID)]++
		}
		for id, clusters := range taken {
			if clusters > byID[id].FreeClusters {
				t.Fatalf("%d clusters of %s, which has %d", clusters, id, byID[id].FreeClusters)
			}
		}
		if len(usedLocs) != min(n, len(locs)) {
			t.Fatalf("%d locations used, %d have room for one of %d vds", len(usedLocs), len(locs), n)
		}
		if (len(warnings) > 0) != (len(usedLocs) < n) {
			t.Fatalf("%d locations for %d vds, warnings %q", len(usedLocs), n, warnings)
		}
		if _, _, err := VDs(pds, n, size, Strict); (err == nil) != (len(locs) >= n) {
			t.Fatalf("strict with %d locations for %d vds: %v", len(locs), n, err)
		}
		shuffled := slices.Clone(pds)
		slices.Reverse(shuffled)
		again, _, _ := VDs(shuffled, n, size, BestEffort)
		if !slices.Equal(vds, again) {
			t.Fatalf("another order of candidates: %v, then %v", vds, again)
		}
	})
}

func TestCntlrsProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var cns []CN
		locs := map[string]bool{}
		for i := range rapid.IntRange(0, 8).Draw(t, "cns") {
			c := CN{ID: fmt.Sprint("id", i), Name: fmt.Sprint("cn", i), Location: rapid.SampledFrom([]string{"", "r1", "r2"}).Draw(t, "location"),
				Cntlrs: rapid.Uint32Range(0, 3).Draw(t, "cntlrs")}
			cns = append(cns, c)
			locs[locationOf(c.Location, c.ID)] = true
		}
		n := rapid.IntRange(1, 6).Draw(t, "n")
		cntlrs, _, err := Cntlrs(cns, n, BestEffort)
		if (err == nil) != (len(cns) >= n) {
			t.Fatalf("%d cns for %d: %v", len(cns), n, err)
		}
		if err != nil {
			return
		}
		used, usedLocs, primaries := map[string]bool{}, map[string]bool{}, 0
		for _, c := range cntlrs {
			i := slices.IndexFunc(cns, func(x CN) bool { return x.ID == c.CNID })
			used[c.CNID] = true
			usedLocs[locationOf(cns[i].Location, cns[i].ID)] = true
			if c.Primary {
				primaries++
			}
		}
		if len(used) != n || primaries != 1 || len(usedLocs) != min(n, len(locs)) {
			t.Fatalf("%d cns, %d primaries, %d of %d locations for %d controllers", len(used), primaries, len(usedLocs), len(locs), n)
		}
		if !slices.IsSortedFunc(cntlrs, func(a, b Cntlr) int { return cmp.Compare(a.CNID, b.CNID) }) {
			t.Fatalf("indexes do not follow names: %v", cntlrs)
		}
	})
}

// TestFilling places arrays until the cluster is full: the disks fill evenly,
// and what is refused at the end really does not fit.
func TestFilling(t *testing.T) {
	var pds []PD
	for d := range 10 {
		pds = append(pds, pd(fmt.Sprint("dn", d), "pd0", "", 100))
	}
	placed := 0
	for {
		vds, _, err := VDs(pds, 2, 3*mib, BestEffort)
		if err != nil {
			break
		}
		for _, v := range vds {
			i := slices.IndexFunc(pds, func(p PD) bool { return p.ID == v.PDID })
			pds[i].FreeClusters -= v.Clusters
			placed++
		}
		lo := slices.MinFunc(pds, func(a, b PD) int { return cmp.Compare(a.FreeClusters, b.FreeClusters) }).FreeClusters
		hi := slices.MaxFunc(pds, func(a, b PD) int { return cmp.Compare(a.FreeClusters, b.FreeClusters) }).FreeClusters
		if hi-lo > 3 {
			t.Fatalf("after %d vds the emptiest disk has %d MiB, the fullest %d MiB", placed, hi, lo)
		}
	}
	if placed != 10*33 {
		t.Errorf("%d vds placed, want %d", placed, 10*33)
	}
}
