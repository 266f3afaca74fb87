package core_test

import (
	"cmp"
	"flag"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/virtual-disk-array/vda/module/mirror/core"
)

var seeds = flag.Int("seeds", 300, "how many seeds TestSeeds runs")

var all = faults{crash: 400, down: 500, up: 150, cut: 2, breaks: 700, sick: 900, back: 3000}

// many is for short runs that have to meet a certain order of events.
var many = faults{crash: 120, down: 250, up: 80, cut: 2, breaks: 400, sick: 500, back: 200}

// TestSeeds runs mirrors of one to three legs through faults by seed.
func TestSeeds(t *testing.T) {
	acks, reads, drops, joins, moves, resumes, scrubbed := 0, 0, 0, 0, 0, 0, 0
	for seed := range *seeds {
		m := newModel(uint64(seed), 1+seed%3, core.Nothing)
		f := all
		if seed/6%2 > 0 {
			f = many
		}
		m.run(3000, f)
		if m.wrong != "" {
			t.Fatalf("seed %d: %s\n%s", seed, m.wrong, strings.Join(m.log[max(0, len(m.log)-60):], "\n"))
		}
		acks, reads, drops, joins, moves, resumes = acks+m.acks, reads+m.reads, drops+m.drops, joins+m.joins, moves+m.moves, resumes+m.resumes
		scrubbed += int(m.scrubbed >> 20)
	}
	what := fmt.Sprintf("%d writes, %d reads, %d drops, %d joins, %d primaries died, %d legs resumed, %d MiB scrubbed", acks, reads,
		drops, joins, moves, resumes, scrubbed)
	t.Log(what)
	if min(acks, reads, drops, joins, moves, resumes, scrubbed) == 0 {
		t.Errorf("something never happened: %s", what)
	}
}

// TestBreaches leaves rules out, and must find by seeds that they are missing.
func TestBreaches(t *testing.T) {
	for breach, name := range map[core.Breach]string{
		core.NoOrder: "no order", core.NoRepair: "no repair before read", core.NoJoining: "no joining record",
		core.NoCopy: "no copy",
	} {
		t.Run(name, func(t *testing.T) {
			for seed := range 1000 {
				m := newModel(uint64(seed), 2+seed%2, breach)
				if m.run(3000, many); m.wrong != "" {
					t.Logf("seed %d: %s", seed, m.wrong)
					return
				}
			}
			t.Error("nobody noticed")
		})
	}
}

// TestOrders plays orders of events that seeds seldom meet. Each ends well, and
// badly when the rule that it is about is left out.
func TestOrders(t *testing.T) {
	for _, o := range []struct {
		name   string
		breach core.Breach
		play   func(m *model)
	}{
		{"a bit is cleared, then a disk loses its cache", core.ClearWithoutFlush, func(m *model) {
			m.write(7)
			m.pass(time.Second) // the bit is cleared
			m.powerCut(0)
			m.crash()
		}},
		{"a region rests while a leg is absent, which then returns", core.ClearWhileAbsent, func(m *model) {
			m.write(7)
			m.pass(time.Second)
			m.rows[1].disk.up = false
			m.write(7) // SQL drops the leg
			m.pass(time.Second)
			m.rows[1].disk.up = true
			m.pass(time.Second) // it joins
		}},
		{"SQL loses the drop of a leg, and the primary dies", core.AckBeforeLabel, func(m *model) {
			m.write(7)
			m.rows[0].disk.up = false
			m.noLabels = true
			m.write(7) // SQL drops the leg, and no label says so
			m.forgetChange()
			m.noLabels = false
			m.rows[0].disk.up = true
		}},
		{"the primary dies when one leg has the data and the other has not", core.NoIntent, func(m *model) {
			m.begin(7)
			m.only(core.WriteLeg, 1)
			m.p.pending = nil
			m.crash()
		}},
		{"an array is narrowed to a leg that catches up", core.LastCatchesUp, func(m *model) {
			for r := range uint64(regions) { // more than are repaired at once
				m.write(7 + r*(region/block))
			}
			m.alone = true // SQL does not drop the leg
			m.powerCut(0)
			m.resumed(0)
			if !m.leg(0).CatchingUp {
				m.fail("a leg that has lost its cache does not catch up: %v", status(m.p.c))
			}
			m.narrow(0)
			m.alone = false
			for r := range uint64(regions) {
				m.read(7 + r*(region/block))
			}
		}},
		{"SQL leaves an array a leg that catches up, the primary dies, and a user goes on with it", core.StartsCatchingUp, func(m *model) {
			const clean = regions - 1
			for r := range uint64(clean) {
				m.write(7 + r*(region/block))
			}
			m.alone = true
			m.powerCut(0)
			m.resumed(0)
			m.until("labels say that the leg catches up", func() bool {
				l, _ := m.rows[0].disk.found()
				return slices.Contains(l.CatchingUp, m.rows[0].disk.vd)
			})
			if !m.leg(0).CatchingUp {
				m.fail("it has caught up too soon")
			}
			m.rows[1].role = core.Absent
			m.gen++
			m.crash()
			m.pass(time.Second)
			for r := range uint64(regions) {
				m.read(7 + r*(region/block))
			}
			if m.online() {
				m.fail("it is online: %v", status(m.p.c))
			}
			if l := m.leg(0); !l.Lost || !l.CatchingUp || l.Why != core.LeftAlone {
				m.fail("the leg is %+v", l)
			}
			m.gen++
			m.cfg.Recovered = m.gen
			m.relax()     // the user takes that
			for range 2 { // labels of the set itself may say that it catches up
				m.crash()
				m.start()
				m.ask(7 + clean*(region/block)) // before labels are written
				m.until("it is online", m.online)
				m.await()
			}
			m.alone = false
		}},
	} {
		t.Run(o.name, func(t *testing.T) {
			for _, breach := range []core.Breach{core.Nothing, o.breach} {
				wrong := ""
				var log []string
				for seed := range 20 { // which leg answers first
					m := newModel(uint64(seed), 2, breach)
					m.lazy = true
					m.start()
					m.pass(50 * time.Millisecond)
					o.play(m)
					m.mend()
					m.read(7)
					wrong, log = cmp.Or(wrong, m.wrong), m.log
				}
				if breach == core.Nothing && wrong != "" {
					t.Errorf("%s\n%s", wrong, strings.Join(log, "\n"))
				} else if breach != core.Nothing && wrong == "" {
					t.Error("nobody noticed that the rule is left out")
				} else if wrong != "" {
					t.Log(wrong)
				}
			}
		})
	}
}
