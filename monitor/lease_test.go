package monitor

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/virtual-disk-array/vda/store"
)

func TestOwner(t *testing.T) {
	monitors := []share{{id: "m0"}, {id: "m1"}, {id: "m2"}, {id: "m3"}}
	count := map[string]int{}
	moved := 0
	const nodes = 4000
	for i := range nodes {
		id := fmt.Sprint("node", i)
		before := owner(monitors, id)
		count[before]++
		after := owner(monitors[:3], id)
		if before != after {
			moved++
			if before != "m3" {
				t.Fatalf("%s moved from %s, which is alive, to %s", id, before, after)
			}
		}
		if o := owner([]share{{id: "m3"}, {id: "m1"}, {id: "m0"}, {id: "m2"}}, id); o != before {
			t.Fatalf("the order of monitors matters: %s, %s", o, before)
		}
	}
	for _, m := range monitors {
		if n := count[m.id]; n < nodes/5 || n > nodes/3 {
			t.Errorf("%s has %d of %d nodes", m.id, n, nodes)
		}
	}
	if moved != count["m3"] {
		t.Errorf("%d nodes moved, m3 had %d", moved, count["m3"])
	}
	if o := owner(nil, "x"); o != "" {
		t.Errorf("without monitors %q owns a node", o)
	}
}

func TestRoster(t *testing.T) {
	start := time.Unix(1000, 0)
	r := newRoster("a", 5*time.Second, time.Second)
	r.join(start)
	for _, c := range []struct {
		sec         int
		beatA       uint64
		beatB       uint64 // 0: no row
		alive, dead string
		act         bool
	}{
		{0, 1, 0, "[a]", "[]", true}, // alone
		{1, 2, 7, "[a]", "[]", true}, // b joins
		{4, 5, 8, "[a]", "[]", true},
		{6, 7, 9, "[a]", "[]", true},
		{7, 8, 9, "[a]", "[]", true},
		{8, 9, 9, "[a b]", "[]", true},
		{11, 12, 9, "[a b]", "[]", true}, // just in time
		{12, 13, 9, "[a]", "[]", true},
		{50, 51, 9, "[a]", "[]", true},
		{60, 61, 9, "[a]", "[b]", true},
		{61, 62, 0, "[a]", "[]", true},
		{62, 63, 10, "[a]", "[]", true}, // it woke up
		{66, 67, 11, "[a]", "[]", true},
		{69, 70, 12, "[a b]", "[]", true},
	} {
		rows := []store.Monitor{{ID: "a", Beat: c.beatA}}
		if c.beatB > 0 {
			rows = append(rows, store.Monitor{ID: "b", Beat: c.beatB})
		}
		now := start.Add(time.Duration(c.sec) * time.Second)
		alive, dead := r.observe(now, rows)
		if got := fmt.Sprint(alive, dead, r.mayAct(now, len(rows))); got != fmt.Sprintf("%s %s %v", c.alive, c.dead, c.act) {
			t.Errorf("after %d s: %s, want %s %s %v", c.sec, got, c.alive, c.dead, c.act)
		}
	}
}

func TestRosterJoins(t *testing.T) {
	start := time.Unix(1000, 0)
	r := newRoster("b", 5*time.Second, time.Second)
	r.join(start)
	rows := func(beat uint64) []store.Monitor { return []store.Monitor{{ID: "a", Beat: 9}, {ID: "b", Beat: beat}} }
	for _, c := range []struct {
		sec  int
		want string
	}{{0, "[a b] false"}, {4, "[a b] false"}, {6, "[b] true"}} { // a has died before b joined
		now := start.Add(time.Duration(c.sec) * time.Second)
		alive, _ := r.observe(now, rows(uint64(c.sec+1)))
		if got := fmt.Sprint(alive, r.mayAct(now, 2)); got != c.want {
			t.Errorf("after %d s: %s, want %s", c.sec, got, c.want)
		}
	}
	r.join(start.Add(time.Hour)) // its row was swept away while it stalled
	if r.mayAct(start.Add(time.Hour+time.Second), 2) {
		t.Error("it acts at once after it joined again")
	}
}

// watched are the names of the nodes that a monitor acts upon now.
func watched(m *Monitor) (names []string) {
	if !m.Ready() {
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, n := range m.nodes {
		names = append(names, n.at.Name)
	}
	slices.Sort(names)
	return names
}

// TestShare has two monitors share the nodes, and one of them stall.
func TestShare(t *testing.T) {
	inBubble(t, func(r *rig) {
		time.Sleep(3 * time.Second)
		if n := len(watched(r.m)); n != 5 {
			t.Fatalf("a single monitor watches %d nodes", n)
		}
		theirs := &flaky{Store: r.store.Store}
		m2, stop := r.another(theirs)
		for range 120 { // while it joins, each node is watched by one at least
			time.Sleep(100 * time.Millisecond)
			if n := len(watched(r.m)) + len(watched(m2)); n < 5 {
				t.Fatalf("%d nodes watched while the second joins", n)
			}
		}
		both := func() {
			t.Helper()
			a, b := watched(r.m), watched(m2)
			if len(a)+len(b) != 5 || len(slices.Compact(slices.Sorted(slices.Values(append(a, b...))))) != 5 {
				t.Errorf("the monitors watch %v and %v", a, b)
			}
		}
		both()

		// The second one loses the database, as one does that is stopped: it
		// ceases to act before the first takes over.
		theirs.away.Store(true)
		for took := time.Duration(0); len(watched(r.m)) < 5; took += 50 * time.Millisecond {
			if took > 8*time.Second {
				t.Fatal("nobody takes over")
			}
			time.Sleep(50 * time.Millisecond)
		}
		if names := watched(m2); names != nil {
			t.Errorf("the first one took over while the second acts on %v", names)
		}
		theirs.away.Store(false)
		time.Sleep(12 * time.Second)
		both()

		// It goes in good order: no lease has to end.
		stop()
		time.Sleep(1500 * time.Millisecond)
		if n := len(watched(r.m)); n != 5 {
			t.Errorf("the one that is left watches %d nodes", n)
		}
	})
}
