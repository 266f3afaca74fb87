//go:build !race

package sim

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/virtual-disk-array/vda/agent/planetest"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/store"
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
		faults["snap create of all"] == 0 || faults["grow physically"] == 0 || faults["clone"] == 0 || faults["writable snapshot"] == 0 {
		t.Errorf("%d snapshots were read, and there was %v: nothing happened", snapshots, faults)
	}
	t.Logf("snapshots were read %d times", snapshots)
}

// TestBrokenVolumesAreFound leaves out what snapshots and growth are made of.
func TestBrokenVolumesAreFound(t *testing.T) {
	t.Run("a snapshot is written to", func(t *testing.T) {
		mustFind(t, Config{Volumes: true}, func(cfg *Config) { cfg.NoCopy = true }, aBlockIsWrittenAgain, "too late for the snapshot")
	})
	t.Run("a snapshot changes with its writable one", func(t *testing.T) {
		mustFind(t, Config{Volumes: true}, func(cfg *Config) { cfg.NoCopy = true }, aWritableSnapshotIsWrittenTo, "lost write")
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

// aWritableSnapshotIsWrittenTo where its array has not been since the snapshot, which both show.
func aWritableSnapshotIsWrittenTo(p *player) {
	p.h.writeAs(3, 1000)
	p.s.log.printf("STORY %s", p.s.takeSnap(p.h))
	p.s.log.printf("STORY %s", p.s.makeWritable(p.h, p.h.vol.snaps[0]))
	some := p.s.clonesThat(inUse)
	if len(some) == 0 {
		p.stuck = true
		p.s.ledger.Wrong("the story stands still: there is no writable snapshot")
		return
	}
	some[0].h.writeAs(3, 1<<50)
	p.h.read(3)
	p.pass(5 * time.Second)
	some[0].h.read(3)
}

// anArrayGrows after a block has moved to where nothing was.
func anArrayGrows(p *player) {
	p.h.writeAs(3, 1000)
	p.s.log.printf("STORY %s", p.s.takeSnap(p.h))
	p.h.writeAs(3, 1004)
	p.s.log.printf("STORY %s", p.s.grow(p.h))
	p.h.writeAs(3, 1008)
}

// TestBrokenClonesAreFound leaves out what clones are made of.
func TestBrokenClonesAreFound(t *testing.T) {
	slow := Config{Volumes: true, CloneRate: 128 << 10}
	t.Run("a write makes zeros of what is beside it", func(t *testing.T) {
		mustFind(t, slow, func(cfg *Config) { cfg.NoFill = true }, aCloneIsWrittenTo, "lost write")
	})
	t.Run("what cannot be read is zeros", func(t *testing.T) {
		mustFind(t, slow, func(cfg *Config) { cfg.ZeroOutside = true }, aCloneIsCutFromItsSource, "lost write")
	})
	t.Run("a source goes while a clone is copied from it", func(t *testing.T) {
		mustFind(t, slow, func(cfg *Config) { cfg.Unguarded = true }, aSourceIsToGo, "a source goes")
	})
}

// TestASlowCopyIsNoError: a clone is copied so slowly that the data plane is long at each part of it, and
// nobody is told that anything is wrong.
func TestASlowCopyIsNoError(t *testing.T) {
	o := play(t, Config{Schema: schema(t), Volumes: true, CloneRate: 96 << 10}, 2, 2, func(p *player) {
		c := p.cloned()
		if p.stuck {
			return
		}
		p.until("all is copied", func() bool {
			p.view(func(tx store.Reader) error {
				da, err := tx.DAByName(c.name)
				if err == nil && da.Health.Error {
					p.stuck = true
					p.s.ledger.Wrong("a copy goes on, and an error says %s", da.Health.Msg)
				}
				return err
			})
			return !p.s.copying(c.name)
		})
	})
	if len(o.Wrongs) > 0 {
		t.Errorf("%q\n%s", o.Wrongs, o.Log)
	}
}

// cloned makes a clone of a snapshot of the first array, which has three numbers in one cluster, and
// returns it when its host has read it.
func (p *player) cloned() *clone {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := p.s.awaitMirrors(ctx); err != nil {
		p.s.ledger.Wrong("the story stands still: %v", err)
	}
	for b := range uint64(3) {
		p.h.writeAs(b, 1000+b)
	}
	p.s.log.printf("STORY %s", p.s.takeSnap(p.h))
	p.h.writeAs(2, 1010) // the clone is of before
	p.s.log.printf("STORY %s", p.s.takeClone(p.h, p.h.vol.snaps[0], &apiv1.CreateDaRequest{CntlrCnt: 2}))
	some := p.s.clonesThat(inUse)
	if len(some) == 0 {
		p.stuck = true
		p.s.ledger.Wrong("the story stands still: there is no clone")
		return nil
	}
	return some[0]
}

// aCloneIsWrittenTo before it has anything, and gets the rest when it moves.
func aCloneIsWrittenTo(p *player) {
	c := p.cloned()
	if p.stuck {
		return
	}
	c.h.writeAs(1, 1<<50)
	c.h.read(0)
	p.pass(10 * time.Second)
	c.h.read(2)
}

// aCloneIsCutFromItsSource, whose primary is on the other node.
func aCloneIsCutFromItsSource(p *player) {
	c := p.cloned()
	if p.stuck {
		return
	}
	if from := p.primary(); p.primaryOf(c.name) == from {
		to := p.other()
		r, err := p.s.admin.FailoverDa(context.Background(), &apiv1.FailoverDaRequest{DaName: c.name, ToCn: to.machine + ":" + cnPort})
		p.must("the clone moves", r.GetReplyInfo(), err)
	}
	p.until("the clone is beside its source", func() bool { return p.primaryOf(c.name) != p.primary() })
	c.h.read(2)
	heal := both(p.cut(p.primary(), p.primaryOf(c.name)), p.cut(p.primaryOf(c.name), p.primary()))
	p.pass(20 * time.Second)
	for b := range uint64(3) {
		if v, _, ok := c.h.try(planetest.Command{Off: c.h.off(b)}, 2); ok {
			p.s.ledger.Saw(c.name, b, v)
		}
	}
	heal()
	p.pass(10 * time.Second)
	c.h.read(0)
}

// aSourceIsToGo while a clone is copied from it.
func aSourceIsToGo(p *player) {
	if c := p.cloned(); !p.stuck {
		p.s.mayNotGo(p.h, p.h.vol.snaps[0], c)
	}
}
