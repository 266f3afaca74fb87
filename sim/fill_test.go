//go:build !race

package sim

import (
	"context"
	"testing"
	"time"

	"github.com/virtual-disk-array/vda/store"
)

// TestBrokenAutoGrowIsFound: an array that is filled grows to its limit, before its host runs full, and
// no further; what it breaks is found.
func TestBrokenAutoGrowIsFound(t *testing.T) {
	fills := func() Config { return Config{Volumes: true, story: &story{fills: true}} }
	t.Run("more disks are no more room", func(t *testing.T) {
		mustFind(t, fills(), func(cfg *Config) { cfg.NoRoom = true }, anArrayIsFilled, "capacity exceeded below the limit")
	})
	t.Run("the limit is not kept", func(t *testing.T) {
		mustFind(t, fills(), func(cfg *Config) { cfg.Unguarded = true }, anArrayIsFilled, "beyond the limit")
	})
}

// anArrayIsFilled for a while; the host goes on when the story is over. Unguarded: the database has another
// limit than was asked for.
func anArrayIsFilled(p *player) {
	if p.s.cfg.Unguarded {
		if err := p.s.db.Store.Update(context.Background(), func(tx store.Tx) error {
			da, err := tx.DAByName(fillingName)
			if err != nil {
				return err
			}
			da.AutoGrow.Limit *= 2
			return tx.UpdateDA(da)
		}); err != nil {
			p.s.ledger.Wrong("the story stands still: %v", err)
		}
	}
	p.pass(20 * time.Second)
	p.kill(p.primaryOf(fillingName))
	p.pass(20 * time.Second)
}
