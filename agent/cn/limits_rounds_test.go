//go:build rounds

package cn_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/nvmf/host"
)

// TestLimitFigures tells what hosts on both controllers of an array together get of each limit in 10 s, and holds that
// against the limit alone: a machine that has no time for it lets less through. What a busy machine does not show, bdev
// TestQoSInAnyTenSeconds does.
func TestLimitFigures(t *testing.T) { planes(t, limitFigures) }

func limitFigures(t *testing.T, spdkDN, spdkCN bool) {
	l, _, _ := reals(t, 2, false, spdkDN, spdkCN)
	l.leased()
	l.up(0)
	l.spec.Create = false
	paths := []*host.Namespace{l.disk(0), l.disk(1)}
	for _, c := range []struct {
		name        string
		limits      *apiv1.Limits
		each        int64 // bytes of an I/O
		write, read bool
		want        float64 // I/O per second
	}{
		{"rw_ios_per_sec 1000, 4 KiB, both directions", &apiv1.Limits{RwIosPerSec: 1000}, 4 << 10, true, true, 1000},
		{"rw_mbytes_per_sec 4, 64 KiB, both directions", &apiv1.Limits{RwMbytesPerSec: 4}, 64 << 10, true, true, 64},
		{"r_mbytes_per_sec 2, 16 KiB", &apiv1.Limits{RMbytesPerSec: 2}, 16 << 10, false, true, 128},
		{"w_mbytes_per_sec 2, 128 KiB", &apiv1.Limits{WMbytesPerSec: 2}, 128 << 10, true, false, 16},
	} {
		l.spec.Limits = c.limits
		l.spec.Version++
		l.good(0, l.cntlr(0, 0))
		var ended atomic.Int64
		ctx, stop := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		for _, ns := range paths {
			for i := range 8 {
				wg.Go(func() {
					buf := make([]byte, c.each)
					for n := i; ctx.Err() == nil; n++ {
						var err error
						if c.write && (!c.read || n%2 == 0) {
							err = ns.WriteAt(ctx, buf, int64(i)*c.each)
						} else {
							err = ns.ReadAt(ctx, buf, int64(i)*c.each)
						}
						switch {
						case err == nil:
							ended.Add(1)
						case ctx.Err() == nil:
							t.Errorf("%s: %v", c.name, err)
							return
						}
					}
				})
			}
		}
		time.Sleep(time.Second) // what a pause left to be used is used
		first, begin := ended.Load(), time.Now()
		time.Sleep(10 * time.Second)
		got, took := float64(ended.Load()-first), time.Since(begin)
		stop()
		wg.Wait()
		part := got / took.Seconds() / c.want
		t.Logf("%s: %.1f %% of the limit in %.1f s", c.name, part*100, took.Seconds())
		if part > 1.05 {
			t.Errorf("%s: that is more than 5 %% too much", c.name)
		}
	}
}
