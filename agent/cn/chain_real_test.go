package cn_test

import (
	"context"
	"sync"
	"testing"
	"time"

	apiv1 "github.com/virtual-disk-array/vda/api/v1"
)

// TestRealFirstOfAChainGoes deletes the exporter that the others of a chain stand
// on, while hosts use all of them. An spdk_tgt in which an exporter changes below a
// link stands still.
func TestRealFirstOfAChainGoes(t *testing.T) { planes(t, realFirstOfAChainGoes) }

func realFirstOfAChainGoes(t *testing.T, spdkDN, spdkCN bool) {
	l, _, _ := reals(t, 2, false, spdkDN, spdkCN)
	for n := 1; n < 5; n++ {
		l.exporter(n)
	}
	l.leased()
	l.up(0)
	l.spec.Create = false
	for round := range 2 {
		exps := l.spec.Exps
		work := startLoad(l.multipathOf(exps[len(exps)-1]))
		var stops []func()
		for _, e := range exps[:len(exps)-1] {
			stops = append(stops, l.pound(e))
		}
		time.Sleep(50 * time.Millisecond)
		exps[0].Deleted = true
		begin := time.Now()
		l.all(0)
		took := time.Since(begin)
		time.Sleep(50 * time.Millisecond)
		work.end()
		for _, stop := range stops {
			stop()
		}
		t.Logf("deletion of the first of five took %v; longest I/O of the last %v", took, work.pause())
		l.spec.Exps = exps[1:]
		l.exporter(5 + round)
		l.all(0)
	}
}

// pound reads through an exporter on every controller node, whatever comes of
// it, until stop is called.
func (l *lab) pound(e *apiv1.ExpSpec) (stop func()) {
	l.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	for i := range l.cns {
		ns := l.connect(i, e)
		wg.Go(func() {
			for buf := make([]byte, 4096); ctx.Err() == nil; {
				if ns.ReadAt(ctx, buf, 0) != nil {
					time.Sleep(time.Millisecond)
				}
			}
		})
	}
	return func() { cancel(); wg.Wait() }
}
