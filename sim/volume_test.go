//go:build !race

package sim

import (
	"sync/atomic"
	"testing"
	"time"
)

// TestVolumes: arrays are snapshotted, rolled back and made larger while daemons and machines die;
// all that was begun comes to its end, and each snapshot is one moment, on any node that shows it. The seeds
// are such as find it when an order that has failed leaves no tombstone.
func TestVolumes(t *testing.T) {
	file := schema(t)
	snapshots, faults := 0, map[string]int{}
	for _, seed := range []uint64{1, 9, 13} {
		cfg := Config{Seed: seed, Schema: file, Redundancy: "any", Volumes: true}
		o := run(t, cfg)
		report(t, &cfg, o)
		snapshots += o.Snapshots
		for k, n := range o.Faults {
			faults[k] += n
		}
	}
	if snapshots == 0 || faults["snap rollback"] == 0 || faults["snap delete"] == 0 || faults["grow"] == 0 ||
		faults["snap create of all"] == 0 || faults["grow physically"] == 0 {
		t.Errorf("%d snapshots were read, and there was %v: nothing happened", snapshots, faults)
	}
	t.Logf("snapshots were read %d times", snapshots)
}

// TestBrokenVolumesAreFound leaves out what snapshots and growth are made of.
func TestBrokenVolumesAreFound(t *testing.T) {
	t.Run("a snapshot is written to", func(t *testing.T) {
		mustFind(t, Config{Volumes: true}, func(cfg *Config) { cfg.NoCopy = true }, aBlockIsWrittenAgain, "too late for the snapshot")
	})
	t.Run("what is added is not zeros", func(t *testing.T) {
		mustFind(t, Config{Volumes: true}, func(cfg *Config) { cfg.OldData = true }, anArrayGrows, "old data")
	})
	t.Run("what more disks add is not zeros", func(t *testing.T) {
		mustFind(t, Config{Volumes: true}, func(cfg *Config) { cfg.OldData = true }, anArrayGrowsPhysically, "old data")
	})
	t.Run("writes to several arrays go on", func(t *testing.T) {
		two := &story{arrays: 2}
		mustFind(t, Config{Volumes: true, story: two}, func(cfg *Config) { cfg.NoHold = true }, severalArraysAtOnce, "not of one instant")
	})
}

// severalArraysAtOnce are snapshotted while they are written in turn; each second data plane is told
// a second after the first.
func severalArraysAtOnce(p *player) {
	var told atomic.Int32
	for _, n := range p.s.of("cn") {
		n.model.SetHook(func(method string, _ map[string]any) error {
			if method == "vda_lvol_snapshot_hold" && told.Add(1)%2 == 0 {
				time.Sleep(time.Second)
			}
			return nil
		})
	}
	for range 2 {
		p.s.log.printf("STORY %s", p.s.takeTogether())
	}
}

// anArrayGrowsPhysically after blocks have moved, once more than there was room for.
func anArrayGrowsPhysically(p *player) {
	p.h.writeAs(3, 1000)
	p.s.log.printf("STORY %s", p.s.takeSnap(p.h))
	p.h.writeAs(3, 1004)
	p.s.log.printf("STORY %s", p.s.growPhysically(p.h))
	p.h.writeAs(3, 1008)
}

// aBlockIsWrittenAgain after a snapshot, of which there are more, and a rollback.
func aBlockIsWrittenAgain(p *player) {
	for i := range uint64(3) {
		p.h.writeAs(3, 1000+8*i)
		p.s.log.printf("STORY %s", p.s.takeSnap(p.h))
		p.h.writeAs(3, 1004+8*i)
	}
	p.s.log.printf("STORY rolled back to %s", p.s.rollBack(p.h, p.h.vol.snaps[1]))
	p.h.writeAs(3, 1100)
	p.h.writeAs(4, 1100)
}

// anArrayGrows after a block has moved to where nothing was.
func anArrayGrows(p *player) {
	p.h.writeAs(3, 1000)
	p.s.log.printf("STORY %s", p.s.takeSnap(p.h))
	p.h.writeAs(3, 1004)
	p.s.log.printf("STORY %s", p.s.grow(p.h))
	p.h.writeAs(3, 1008)
}
