package monitor

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/virtual-disk-array/vda/store"
)

// A monitor with a smaller share gives nodes away, each to the monitor that is next by
// hash, and no other node moves. Where all are equally slow nothing changes.
func TestOwnerByShares(t *testing.T) {
	of := func(halvings ...int) (all []share) {
		for i, n := range halvings {
			all = append(all, share{fmt.Sprint("m", i), n})
		}
		return all
	}
	const nodes = 8000
	for _, c := range []struct {
		shares []share
		of     []float64 // which part of the nodes each has
	}{
		{of(0, 0), []float64{1. / 2, 1. / 2}},
		{of(2, 2), []float64{1. / 2, 1. / 2}},
		{of(0, 1), []float64{2. / 3, 1. / 3}},
		{of(0, 2), []float64{4. / 5, 1. / 5}},
		{of(0, 0, 1), []float64{2. / 5, 2. / 5, 1. / 5}},
	} {
		count := map[string]int{}
		equal := slices.Clone(c.shares)
		for i := range equal {
			equal[i].halvings = 0
		}
		same := !slices.ContainsFunc(c.shares, func(s share) bool { return s.halvings != c.shares[0].halvings })
		for i := range nodes {
			id := fmt.Sprint("node", i)
			now, before := owner(c.shares, id), owner(equal, id)
			count[now]++
			slow := slices.IndexFunc(c.shares, func(s share) bool { return s.id == before })
			if now != before && (same || c.shares[slow].halvings == 0) {
				t.Fatalf("%v: %s moved from %s to %s", c.shares, id, before, now)
			}
		}
		for i, s := range c.shares {
			if got := float64(count[s.id]) / nodes; got < 0.9*c.of[i] || got > 1.1*c.of[i] {
				t.Errorf("%v: %s has %.2f of the nodes, want %.2f", c.shares, s.id, got, c.of[i])
			}
		}
	}
}

func TestPace(t *testing.T) {
	var p pace
	now, held := time.Unix(1000, 0), time.Duration(0)
	p.look(now, held)
	for _, c := range []struct {
		windows int
		held    time.Duration // of each
		want    int
	}{
		{1, 0, 0}, {3, 7 * time.Second, 0}, {1, 8 * time.Second, 1}, {1, 20 * time.Second, 2}, {5, 30 * time.Second, 2},
		{3, time.Second, 2}, {1, 2 * time.Second, 2}, // not well for long enough
		{3, time.Second, 2}, {1, time.Second, 1}, {3, 0, 1}, {1, 0, 0}, {9, 0, 0},
	} {
		for range c.windows {
			for range 30 { // a look per second
				now, held = now.Add(time.Second), held+c.held/30
				was := p.halvings
				if p.look(now, held) != (p.halvings != was) {
					t.Fatal("it does not say that its share changes")
				}
			}
		}
		if p.halvings != c.want {
			t.Fatalf("after %d windows, held up for %v of each: %d halvings, want %d", c.windows, c.held, p.halvings, c.want)
		}
	}
}

// Whatever the order in which monitors read that a share has changed, each node is
// somebody's, and in the end one's.
func TestWeighLeavesNoNodeAlone(t *testing.T) {
	const lease, overlap, refresh = 5 * time.Second, 2 * time.Second, time.Second
	start := time.Unix(1000, 0)
	rows := []store.Monitor{{ID: "a"}, {ID: "b"}, {ID: "c"}}
	rosters := map[string]*roster{}
	pictures := map[string][]share{}
	for _, id := range []string{"a", "b", "c"} {
		rosters[id] = newRoster(id, lease, overlap)
	}
	alone := func(at time.Duration) (doubly int) {
		for i := range 300 {
			node, by := fmt.Sprint("node", i), 0
			for id := range rosters {
				if owner(pictures[id], node) == id {
					by++
				}
			}
			if by == 0 {
				t.Fatalf("after %v nobody has %s: %v", at, node, pictures)
			}
			doubly += by - 1
		}
		return doubly
	}
	for at := time.Duration(0); at < 4*time.Minute; at += 250 * time.Millisecond {
		if at%refresh == 0 {
			for i := range rows {
				rows[i].Beat++
			}
		}
		switch at { // b becomes slow, slower, and well
		case 30 * time.Second:
			rows[1].Halvings = 1
		case time.Minute:
			rows[1].Halvings = 2
		case 2 * time.Minute:
			rows[1].Halvings = 1
		case 3 * time.Minute:
			rows[1].Halvings = 0
		}
		now := start.Add(at)
		for k, id := range []string{"b", "a", "c"} { // b, that writes, reads at once; the others later
			if at%refresh == time.Duration(k)*250*time.Millisecond {
				alive, _ := rosters[id].observe(now, rows)
				pictures[id] = rosters[id].weigh(now, rows, alive)
			}
		}
		if at < 5*time.Second {
			continue
		}
		doubly := alone(at)
		if settled := at%time.Minute > 40*time.Second; settled && doubly > 0 {
			t.Fatalf("after %v %d nodes have two monitors: %v", at, doubly, pictures)
		}
		if at == 110*time.Second && pictures["a"][1].halvings != 2 {
			t.Errorf("after %v: %v", at, pictures["a"])
		}
	}
	rows[2].Halvings = -1 // a monitor of before takes the place of c
	rows[1].Halvings = 2
	alive, _ := rosters["a"].observe(start.Add(4*time.Minute), rows)
	for _, s := range rosters["a"].weigh(start.Add(4*time.Minute), rows, alive) {
		if s.halvings != 0 {
			t.Errorf("beside a monitor of before %s has %d halvings", s.id, s.halvings)
		}
	}
}

// TestSlowMonitor has one of two monitors held up half of the time, and then no more.
func TestSlowMonitor(t *testing.T) {
	inBubble(t, func(r *rig) {
		m2, stop := r.another(r.store.Store)
		defer stop()
		share := func() int {
			halvings := -2
			if err := r.store.Store.View(r.Context(), func(tx store.Reader) error {
				rows, err := tx.Monitors()
				for _, m := range rows {
					if m.ID == m2.self {
						halvings = m.Halvings
					}
				}
				return err
			}); err != nil {
				r.Fatal(err)
			}
			return halvings
		}
		all := func() {
			t.Helper()
			a, b := watched(r.m), watched(m2)
			if len(slices.Compact(slices.Sorted(slices.Values(append(a, b...))))) != 5 {
				t.Fatalf("the monitors watch %v and %v", a, b)
			}
		}
		time.Sleep(20 * time.Second)
		if n := share(); n != 0 {
			t.Errorf("a monitor that is well has %d halvings", n)
		}
		all()
		m2.pulse.mu.Lock()
		m2.pulse.held += 20 * time.Second
		m2.pulse.mu.Unlock()
		for range 400 {
			time.Sleep(100 * time.Millisecond)
			all()
		}
		if n := share(); n != 1 {
			t.Errorf("a monitor that was held up for 20 s of 30 has %d halvings", n)
		}
		for range 150 {
			time.Sleep(time.Second)
			all()
		}
		if n := share(); n != 0 {
			t.Errorf("a monitor that is well again has %d halvings", n)
		}
	})
}
