//go:build !race

// Stories run without the race detector, under which they take minutes; seeds show
// it the same code.

package sim

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/agent/planetest"
	"github.com/virtual-disk-array/vda/module/mirror/core"
)

// A simulation that finds nothing proves little unless it finds what is there. A
// rule that is left out is looked for by a story that is about it, not by seeds:
// what these find depends on the order of goroutines, too.

// mustFind tells a story twice: nothing is wrong in it, unless a rule is left out.
func mustFind(t *testing.T, cfg Config, leave func(cfg *Config), tell func(p *player), want string) {
	t.Helper()
	cfg.Schema = schema(t)
	if o := play(t, cfg, 2, 2, tell); len(o.Wrongs) > 0 {
		t.Errorf("the rule is kept, and yet: %q\n%s", o.Wrongs, o.Log)
	}
	leave(&cfg)
	o := play(t, cfg, 2, 2, tell)
	if !slices.ContainsFunc(o.Wrongs, func(w string) bool { return strings.HasPrefix(w, want) }) {
		t.Errorf("%q is not found, but %q\n%s", want, o.Wrongs, o.Log)
	}
}

// TestBrokenFenceIsFound leaves out what keeps an old primary from writing.
func TestBrokenFenceIsFound(t *testing.T) {
	t.Run("connections stay open", func(t *testing.T) {
		mustFind(t, Config{}, func(cfg *Config) { cfg.NoFence = true }, aHostStaysWithTheOldPrimary, "two writers")
	})
	t.Run("does not wait for what is in flight", func(t *testing.T) {
		mustFind(t, Config{}, func(cfg *Config) { cfg.NoSettle = true }, aWriteIsLateAtTheDisk, "two writers")
	})
}

// aHostStaysWithTheOldPrimary: its agent is dead, and its data plane goes on.
func aHostStaysWithTheOldPrimary(p *player) {
	p.write(3)
	old := p.primary()
	old.agent.kill()
	p.until("another cn is primary and disks admit it", func() bool { return p.primary() != old && p.moves() > 0 })
	w := p.beginAt(old, 3)
	p.until("a write at the old primary ends", w.over)
}

// TestAFenceOutlastsAHungDisk: a write hangs in a disk for longer than a call to its
// data plane may take. The next attempt at the fence must wait for it, too.
func TestAFenceOutlastsAHungDisk(t *testing.T) {
	o := play(t, Config{Schema: schema(t)}, 2, 2, func(p *player) { lateAtTheDisk(p, time.Minute) })
	if len(o.Wrongs) > 0 {
		t.Errorf("%q\n%s", o.Wrongs, o.Log)
	}
}

// aWriteIsLateAtTheDisk: its primary is dead by then, and the next one is to come.
func aWriteIsLateAtTheDisk(p *player) { lateAtTheDisk(p, time.Second) }

// lateAtTheDisk has a write hang until the next primary is admitted, or for so long.
func lateAtTheDisk(p *player, most time.Duration) {
	p.write(3)
	old, there := p.primary(), p.watch(p.number+1)
	release := p.when("the write is late", planetest.Wait, func(a planetest.Access) bool { return a.Number == p.number && a.Write })
	p.begin(3)
	p.until("a write is at the disk", there)
	p.kill(old)
	p.until("another cn is primary", func() bool { return p.primary() != old })
	for begun := time.Now(); p.moves() == 0 && time.Since(begun) < most; {
		time.Sleep(time.Millisecond) // the fence waits, or does not
	}
	release()
	p.pass(time.Second)
}

// TestRefusalsForGoodAreFound: data planes that refuse for good what is not there
// yet cost hosts their paths, and the simulation says so.
func TestRefusalsForGoodAreFound(t *testing.T) {
	mustFind(t, Config{story: &story{arrays: 2}}, func(cfg *Config) { cfg.ForGood = true }, aSubsystemComesBackLate, "a path is lost for ever")
}

// aSubsystemComesBackLate: there is another one at its address before.
func aSubsystemComesBackLate(p *player) {
	p.write(3)
	n := p.s.of("cn")[0]
	p.kill(n)
	var first string // of the subsystems that get a listener
	n.model.SetHook(func(method string, params map[string]any) error {
		if nqn, _ := params["nqn"].(string); method == "nvmf_subsystem_add_listener" {
			p.mu.Lock()
			if first == "" {
				first = nqn
			}
			late := nqn != first
			p.mu.Unlock()
			if late {
				time.Sleep(3 * time.Second) // hosts come each second
			}
		}
		return nil
	})
	p.revive(n)
	p.pass(10 * time.Second)
}

// TestBrokenMirrorRulesAreFound leaves rules of mirrors out: each costs data then.
func TestBrokenMirrorRulesAreFound(t *testing.T) {
	for _, broken := range []struct {
		name string
		rule core.Breach
		rate uint64 // of copies
		tell func(p *player)
		want string
	}{
		{"bits are cleared while a leg is absent", core.ClearWhileAbsent, 0, aRegionRestsWhileALegIsAbsent, "legs differ"},
		{"no repair before read", core.NoRepair, 64 << 10, whatWasReadStays, "older again"},
	} {
		t.Run(broken.name, func(t *testing.T) {
			mustFind(t, Config{Redundancy: "mirror:2", CopyRate: broken.rate}, func(cfg *Config) { cfg.Break = broken.rule }, broken.tell,
				broken.want)
		})
	}
}

// TestALegReturnsTooEarlyIsFound: the epoch of a leg that was dropped keeps out what
// was sent to it before, unless its dn admits the next one at once.
func TestALegReturnsTooEarlyIsFound(t *testing.T) {
	mustFind(t, Config{Redundancy: "mirror:2"}, func(cfg *Config) { cfg.NoSettle = true }, aWriteOfTheLastEpoch, "two writers")
}

// aWriteOfTheLastEpoch hangs at the disk of a leg that is dropped because of it.
func aWriteOfTheLastEpoch(p *player) {
	p.write(3)
	b := p.legs()[1]
	number := p.number + 1
	there := p.watch(number)
	release := p.when("a write is late", planetest.Wait, func(a planetest.Access) bool {
		return a.Write && a.Number == number && a.Addr == b.dn.machine
	})
	p.begin(3)
	p.until("the write is at the disks", there)
	p.until("the leg is dropped", func() bool { return p.role(b.ID) != vda.Member })
	p.write(3)
	for begun := time.Now(); p.role(b.ID) != vda.Member && time.Since(begun) < 40*time.Second; {
		time.Sleep(10 * time.Millisecond) // the fence waits, or does not
	}
	release()
	p.joins(b)
}

// aRegionRestsWhileALegIsAbsent, which then comes back and is copied to by the maps.
func aRegionRestsWhileALegIsAbsent(p *player) {
	p.write(3)
	p.pass(rested) // both legs' maps forget it
	away := p.legs()[1]
	p.kill(away.dn)
	p.write(3)
	p.until("the leg is dropped", func() bool { return p.role(away.ID) == vda.Stale })
	p.pass(rested)
	p.revive(away.dn)
	p.until("it is a member again", func() bool { return p.role(away.ID) == vda.Member })
}

// whatWasReadStays: a primary dies when one leg has a write and the other has not.
// The next one answers reads of it, and then loses the leg that it was read from.
func whatWasReadStays(p *player) {
	p.write(3)
	legs, old := p.legs(), p.primary()
	heal := p.cut(old, legs[1].dn)
	w := p.begin(3)
	p.until("one leg has the write", func() bool { return p.has(legs[0], w.number) })
	p.kill(old)
	heal()
	p.until("another cn is primary", func() bool { return p.primary() != old })
	p.read(3, 4)
	p.read(3, 1)
	p.kill(legs[0].dn)
	p.until("the leg is dropped", func() bool { return p.role(legs[0].ID) == vda.Stale })
	p.read(3, 1)
}
