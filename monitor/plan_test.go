package monitor

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/virtual-disk-array/vda/array"
)

// TestPlan plays events to Plan and reads what it decides, as a story: each
// line is "seconds event", and below it the steps that are expected.
func TestPlan(t *testing.T) {
	for name, story := range map[string]string{
		"a healthy node is synced when it stays behind": `
			0 view 1/1
			0 beat v1        -> report ""
			1 reported
			1 beat v1
			2 view 2/1
			2 beat v1
			3 beat v1
			4 beat v1        -> sync
			4 beat v1
			5 synced
			6 beat v1
			7 beat v1        -> sync
			8 synced
			10 view 2/1
			10 beat v1
			12 beat v1       -> sync`,
		"the portal was faster": `
			0 view 1/1
			0 beat v1        -> report ""
			0 reported
			1 view 2/1
			1 beat v1
			2 view 2/2
			2 beat v2
			9 beat v2`,
		"something new does not wait for the pause of the old": `
			0 view 2/1
			0 beat v1        -> report ""
			0 reported
			2 beat v1        -> sync
			3 synced
			6 view 2/1
			6 beat v1        -> sync
			7 synced
			7 view 3/1
			7 beat v1
			9 beat v1        -> sync`,
		"silence counts after three beats": `
			0 view 1/1
			0 beat v1        -> report ""
			0 reported
			1 miss
			2 miss
			2 beat v1
			3 miss
			4 miss
			5 miss           -> down, report "silent"
			5 view 1/1 silent
			5 reported
			6 miss
			6 beat v1        -> up, report ""`,
		"a monitor that is held up judges nobody, but for what is proven": `
			0 view 1/1
			0 beat v1        -> report ""
			0 reported
			1 miss
			1 miss
			1 late
			1 late
			1 late
			1 late
			1 late
			1 late
			2 miss           -> down, report "silent"
			2 view 1/1 silent
			2 reported
			2 late
			2 beat v1        -> up, report ""
			2 view 1/1
			2 reported
			2 late
			2 late
			2 late
			2 beat v1
			2 miss
			2 miss
			3 late refused   -> down, report "nobody there"`,
		"nor for ever": `
			0 view 1/1
			0 beat v1        -> report ""
			0 reported
			1 late
			1 late
			1 late
			1 late
			1 late
			2 late
			2 late
			2 late
			2 late
			2 late
			2 late
			3 late           -> down, report "silent"`,
		"a refused connection counts at once": `
			0 view 1/1
			0 beat v1        -> report ""
			0 reported
			1 refused        -> down, report "nobody there"`,
		"a bad data plane is a bad node": `
			0 view 1/1
			0 beat v1        -> report ""
			0 reported
			1 beat v1 plane=hung -> down, report "data plane: hung"
			1 view 1/1 data plane: hung
			1 reported
			2 beat v1        -> up, report ""`,
		"a slow data plane counts after three beats": `
			0 view 1/1
			0 beat v1        -> report ""
			0 reported
			1 beat v1 slow=x
			1 beat v1
			2 beat v1 slow=x
			2 beat v1 slow=x
			3 beat v1 slow=x -> down, report "data plane: x"
			3 reported
			3 view 1/1 data plane: x
			4 beat v1 slow=x
			5 beat v1        -> up, report ""`,
		"a restart of agent or data plane syncs everything at once": `
			0 view 1/1
			0 beat v1        -> report ""
			0 reported
			1 beat v1 p2     -> full
			2 synced full
			3 beat v1 p2
			4 beat v1 p2 a2  -> full
			4 synced full failed
			5 view 1/1
			5 beat v1 p2 a2
			9 beat v1 p2 a2  -> full`,
		"an agent that lost its state gets everything": `
			0 view 5/5
			0 beat v0        -> full, report ""
			0 reported
			1 synced full
			1 beat v5`,
		"an agent that is another node is not asked in every beat": `
			0 view 5/5
			0 beat v0        -> full, report ""
			0 reported
			1 synced full failed refused -> report "sync refused"
			1 reported
			1 view 5/5 sync refused
			1 beat v0
			2 beat v0
			3 beat v0        -> full
			3 synced full failed refused
			5 beat v0
			6 beat v0`,
		"everything once in a while": `
			0 view 1/1
			0 beat v1        -> report ""
			0 reported
			59 view 1/1
			59 beat v1
			60 beat v1       -> full
			61 synced full
			119 view 1/1
			120 beat v1
			121 beat v1      -> full`,
		"a foreign agent is not synced": `
			0 view 2/1
			0 beat v1 c=other -> down, report "the agent belongs to cluster other, this is cluster c"
			0 reported
			9 beat v1 c=other`,
		"a refusal is shown until it is over": `
			0 view 2/1
			0 beat v1        -> report ""
			0 reported
			2 beat v1        -> sync
			2 synced refused -> report "sync refused"
			2 reported
			3 view 2/1 sync refused
			3 beat v1
			4 beat v1        -> sync
			4 synced         -> report ""`,
		"nothing is decided on a stale picture": `
			0 view 1/1
			0 beat v1        -> report ""
			0 reported
			6 beat v1 p2
			7 miss
			8 miss
			9 miss           -> down
			10 miss
			10 view 1/1
			10 miss          -> report "silent"`,
		"health that somebody else wrote is put right": `
			0 view 1/1
			0 beat v1        -> report ""
			0 reported
			1 view 1/1 an old error
			1 beat v1        -> report ""
			1 reported
			1 beat v1
			2 view 1/1
			2 beat v1`,
		"a node ahead of the database": `
			0 view 1/1
			0 beat v7        -> report ""
			0 reported
			1 beat v7
			2 beat v7
			3 beat v7
			4 beat v7        -> report "the node holds version 7, the database 1: it is older than the node, as after restoring a backup; see vda_db --action restored"`,
		"objects in error": `
			0 view 1/1
			0 beat v1        -> report ""
			0 reported
			1 beat v1 e=x    -> report "" map[x:bad]
			1 reported
			2 beat v1 e=x
			3 beat v1        -> report ""`,
	} {
		t.Run(name, func(t *testing.T) {
			p := &play{t: t, start: time.Unix(1000, 0), timing: Timing{Misses: 3, StaleAfter: 5 * time.Second, Lease: 6 * time.Second}}
			if err := p.timing.validate(); err != nil {
				t.Fatal(err)
			}
			for line := range strings.Lines(story) {
				if line = strings.TrimSpace(line); line != "" {
					p.line(line)
				}
			}
		})
	}
}

type play struct {
	t      *testing.T
	start  time.Time
	timing Timing
	view   NodeView
	mem    Memory
	last   string // fingerprint of the report under way
}

func (p *play) line(line string) {
	p.t.Helper()
	event, want, _ := strings.Cut(line, "->")
	words := strings.Fields(event)
	var sec int
	fmt.Sscan(words[0], &sec)
	now := p.start.Add(time.Duration(sec) * time.Second)
	var ev Event
	switch words[1] {
	case "view":
		p.view = NodeView{At: now, ClusterID: "c", Problem: strings.Join(words[3:], " ")}
		fmt.Sscanf(words[2], "%d/%d", &p.view.Version, &p.view.Applied)
		return
	case "beat":
		b := Beat{Answered: true, ClusterID: "c", AgentStart: "a1", PlaneStart: "p1", PlaneOK: true}
		for _, w := range words[2:] {
			switch {
			case w[0] == 'v':
				fmt.Sscanf(w, "v%d", &b.Version)
			case strings.HasPrefix(w, "plane="):
				b.PlaneOK, b.PlaneReason = false, w[6:]
			case strings.HasPrefix(w, "slow="):
				b.PlaneOK, b.PlaneSilent, b.PlaneReason = false, true, w[5:]
			case strings.HasPrefix(w, "c="):
				b.ClusterID = w[2:]
			case strings.HasPrefix(w, "e="):
				b.Errors = map[string]string{w[2:]: "bad"}
			case w[0] == 'p':
				b.PlaneStart = w
			case w[0] == 'a':
				b.AgentStart = w
			}
		}
		ev = b
	case "miss":
		ev = Beat{Reason: "silent"}
	case "late":
		ev = Beat{Reason: "silent", HeldUp: true}
		if len(words) > 2 {
			ev = Beat{Reason: "nobody there", Refused: true, HeldUp: true}
		}
	case "refused":
		ev = Beat{Reason: "nobody there", Refused: true}
	case "synced":
		s := Synced{}
		for _, w := range words[2:] {
			s.Full, s.Failed = s.Full || w == "full", s.Failed || w == "failed"
			if w == "refused" {
				s.Failed, s.Reason = true, "sync refused"
			}
		}
		ev = s
	case "reported":
		ev = Reported{Fingerprint: p.last}
	default:
		p.t.Fatalf("what is %q?", line)
	}
	var steps []Step
	p.mem, steps = Plan(&p.timing, now, p.view, p.mem, ev)
	var got []string
	for _, s := range steps {
		switch s := s.(type) {
		case SyncStep:
			got = append(got, map[bool]string{true: "full", false: "sync"}[s.Full])
		case ReportStep:
			text := fmt.Sprintf("report %q", s.Report.Problem)
			if len(s.Report.Errors) > 0 {
				text += fmt.Sprint(" ", s.Report.Errors)
			}
			p.last = s.Report.Fingerprint()
			got = append(got, text)
		case DownStep:
			got = append(got, "down")
		case UpStep:
			got = append(got, "up")
		}
	}
	if g := strings.Join(got, ", "); g != strings.TrimSpace(want) {
		p.t.Errorf("%s\n   got: %s", line, g)
	}
}

func TestPlanMoves(t *testing.T) {
	up := func(ids ...string) func(string) bool {
		return func(id string) bool {
			for _, x := range ids {
				if x == id {
					return true
				}
			}
			return false
		}
	}
	sec := func(id, cn string, load int) SecondaryView { return SecondaryView{ID: id, CN: cn, Primaries: load} }
	many := []ArrayView{}
	for i := range 6 {
		many = append(many, ArrayView{ID: fmt.Sprint(i), Term: 3,
			Secondaries: []SecondaryView{sec(fmt.Sprint("a", i), "A", 4), sec(fmt.Sprint("b", i), "B", 0), sec(fmt.Sprint("c", i), "C", 1)}})
	}
	for _, c := range []struct {
		name   string
		arrays []ArrayView
		up     func(string) bool
		want   string
	}{
		{"none", nil, up(), ""},
		{"the one that is up", []ArrayView{{ID: "x", Columns: [][]string{{"D"}},
			Secondaries: []SecondaryView{sec("a", "A", 0), sec("b", "B", 9)}}}, up("B", "D"), "x:b"},
		{"no secondary is up", []ArrayView{{ID: "x", Columns: [][]string{{"D"}}, Secondaries: []SecondaryView{sec("a", "A", 0)}}}, up("D"), ""},
		{"a dn is down as well", []ArrayView{{ID: "x", Columns: [][]string{{"D"}, {"E"}}, Secondaries: []SecondaryView{sec("a", "A", 0)}}},
			up("A", "D"), ""},
		{"a dn of each mirror is up", []ArrayView{{ID: "x", Columns: [][]string{{"D", "E"}, {"F", "E"}},
			Secondaries: []SecondaryView{sec("a", "A", 0)}}}, up("A", "D", "F"), "x:a"},
		{"a mirror has no dn that is up", []ArrayView{{ID: "x", Columns: [][]string{{"D", "E"}, {"F", "G"}},
			Secondaries: []SecondaryView{sec("a", "A", 0)}}}, up("A", "D", "E"), ""},
		{"a draining node is the last choice", []ArrayView{{ID: "x",
			Secondaries: []SecondaryView{{ID: "a", CN: "A", Draining: true}, sec("b", "B", 9)}}}, up("A", "B"), "x:b"},
		{"but a choice", []ArrayView{{ID: "x", Secondaries: []SecondaryView{{ID: "a", CN: "A", Draining: true}, sec("b", "B", 9)}}}, up("A"),
			"x:a"},
		{"load is spread", many, up("A", "B", "C"), "0:b0 1:b1 2:c2 3:b3 4:c4 5:b5"},
		{"load is spread over what is up", many[:3], up("A", "C"), "0:c0 1:c1 2:c2"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got []string
			for _, m := range PlanMoves(c.arrays, c.up, false) {
				got = append(got, m.DAID+":"+m.To)
				if m.Planned {
					t.Error("an old primary that is down is asked to retire")
				}
			}
			if g := strings.Join(got, " "); g != c.want {
				t.Errorf("got %q, want %q", g, c.want)
			}
		})
	}
}

func TestPlanLeave(t *testing.T) {
	for _, c := range []struct {
		name  string
		cns   []CNView
		down  string
		drain string
		again time.Duration
	}{
		{name: "none"},
		{name: "all are well", cns: []CNView{{ID: "A", Up: true}, {ID: "B", Up: true}}},
		{name: "not known yet, be it offline", cns: []CNView{{ID: "A"}, {ID: "B", Offline: true}}},
		{name: "down", cns: []CNView{{ID: "B", Down: true}, {ID: "A", Down: true}, {ID: "C", Up: true}}, down: "A B"},
		{name: "a lease of one that answers keeps nothing", cns: []CNView{{ID: "A", Up: true, Lease: time.Second, Offline: true}}, drain: "A"},
		{name: "silent, with a lease", cns: []CNView{{ID: "A", Down: true, Lease: time.Second}}, again: time.Second},
		{name: "the first lease that ends", cns: []CNView{{ID: "A", Down: true, Lease: 3 * time.Second},
			{ID: "B", Down: true, Lease: time.Second},
			{ID: "C", Down: true, Lease: 2 * time.Second}, {ID: "D", Down: true}}, down: "D", again: time.Second},
		{name: "drained", cns: []CNView{{ID: "B", Up: true, Offline: true}, {ID: "A", Up: true, Offline: true}}, drain: "A B"},
		{name: "down and offline is down", cns: []CNView{{ID: "A", Down: true, Offline: true}}, down: "A"},
		{name: "under way", cns: []CNView{{ID: "A", Down: true, Moving: true}, {ID: "B", Up: true, Offline: true, Moving: true},
			{ID: "C", Down: true, Lease: time.Second, Moving: true}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			down, drain, again := PlanLeave(c.cns)
			if got := strings.Join(down, " "); got != c.down {
				t.Errorf("down are %q, want %q", got, c.down)
			}
			if got := strings.Join(drain, " "); got != c.drain {
				t.Errorf("to be drained are %q, want %q", got, c.drain)
			}
			if again != c.again {
				t.Errorf("it looks again after %v, want %v", again, c.again)
			}
		})
	}
}

func TestPlanDrain(t *testing.T) {
	all := func(string) bool { return true }
	a := ArrayView{ID: "x", Term: 4, Secondaries: []SecondaryView{{ID: "a", CN: "A", Draining: true}}}
	if m := PlanMoves([]ArrayView{a}, all, true); m != nil {
		t.Errorf("from one draining node to another: %v", m)
	}
	a.Secondaries = append(a.Secondaries, SecondaryView{ID: "b", CN: "B", Primaries: 50})
	if m := PlanMoves([]ArrayView{a}, all, true); len(m) != 1 || m[0] != (array.Move{DAID: "x", Term: 4, To: "b", Planned: true}) {
		t.Errorf("drain: %v", m)
	}
}

func TestTiming(t *testing.T) {
	for _, c := range []struct {
		t    Timing
		want string
	}{
		{Timing{}, ""},
		{Timing{Period: time.Second, Timeout: time.Second}, "heartbeat-timeout 1s must be below heartbeat-period 1s"},
		{Timing{Period: -1}, "must be above 0"},
		{Timing{Misses: -1}, "misses"},
		{Timing{Refresh: time.Hour}, "stale-after"},
		{Timing{Lease: 2 * time.Second}, "stop to act before another may"},
		{Timing{RetryMin: time.Hour}, "retry-max"},
	} {
		if err := c.t.validate(); (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v, want %q", c.t, err, c.want)
		}
	}
}

// TestPlanBatches: arrays that all dns can fence do not wait for one that is away, which holds
// another's.
func TestPlanBatches(t *testing.T) {
	up := func(node string) bool { return node != "dn2" }
	var arrays []ArrayView
	var moves []array.Move
	for i := range 300 {
		a := ArrayView{ID: fmt.Sprint("da", i), Columns: [][]string{{"dn0", "dn1"}, {"dn3"}}}
		if i%100 == 7 {
			a.Columns[0] = []string{"dn0", "dn2"}
		}
		arrays = append(arrays, a, ArrayView{ID: "stays", Columns: [][]string{{"dn2"}}})
		moves = append(moves, array.Move{DAID: a.ID, Term: uint64(i)})
	}
	var sizes []int
	seen := map[string]bool{}
	for _, part := range PlanBatches(moves, arrays, up) {
		sizes = append(sizes, len(part))
		for _, m := range part {
			if late := m.Term%100 == 7; late != (len(sizes) == 4) || seen[m.DAID] {
				t.Errorf("batch %d has %s (seen %v)", len(sizes)-1, m.DAID, seen[m.DAID])
			}
			seen[m.DAID] = true
		}
	}
	if want := []int{128, 128, 41, 3}; !slices.Equal(sizes, want) || len(seen) != 300 {
		t.Errorf("batches of %v with %d arrays, want %v with 300", sizes, len(seen), want)
	}
	if got := PlanBatches(nil, arrays, up); len(got) != 0 {
		t.Errorf("without moves there are batches %v", got)
	}
}
