package controlplane

import (
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/store/dbtest"
)

// TestManyArraysOnOneDeadNode has all primaries of VDA_SCALE arrays (default
// 130) on one cn and kills it. It prints when the first, the half and the last
// exporter were served again. Where VDA_SCALE asks for a figure, 30 s is the
// limit; without it other tests run beside this one.
func TestManyArraysOnOneDeadNode(t *testing.T) {
	arrays := 130
	scale := os.Getenv("VDA_SCALE")
	if scale != "" {
		var err error
		if arrays, err = strconv.Atoi(scale); err != nil || arrays < 1 {
			t.Fatalf("VDA_SCALE=%q must be a number of arrays", scale)
		}
	}
	_, uri := dbtest.Postgres(t)
	c := begin(t, uri, 0)
	c.later.Store(true)
	made := time.Now()
	var wg sync.WaitGroup
	work := make(chan int)
	for range 8 {
		wg.Go(func() {
			for i := range work {
				if err := c.array(i); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for i := range arrays {
		work <- i
	}
	close(work)
	wg.Wait()
	if t.Failed() {
		t.FailNow()
	}
	c.later.Store(false)
	recorded := time.Since(made)
	for i := range 2 {
		c.startMonitor(i)
	}
	c.reaches("all arrays are up", arrays, func() int { return c.serves(c.cns[0], arrays) + c.serves(c.cns[1], arrays) })
	t.Logf("%d arrays recorded in %v, all up after %v", arrays, recorded.Round(time.Millisecond), time.Since(made).Round(time.Millisecond))

	// Drained, the other cn leaves all primaries to the first.
	online := func(on bool) {
		c.must(c.portal.ModifyCn(t.Context(), &apiv1.ModifyCnRequest{CnName: c.cns[1].name, NewOnline: &on}))
	}
	online(false)
	drained := c.reaches("drained", arrays, func() int { return c.serves(c.cns[0], arrays) })
	t.Logf("%d primaries drained off a cn in %v", (arrays+1)/2, drained.Round(time.Millisecond))
	online(true)
	c.until("the other cn is secondary", func() bool {
		n := 0
		for i := range arrays {
			if c.cns[1].plane.ANA(expNQN(i)) == "non_optimized" {
				n++
			}
		}
		return n == arrays
	})

	begin := time.Now()
	c.cns[0].kill()
	at := func(n int) time.Duration {
		c.reaches("served again", n, func() int { return c.serves(c.cns[1], arrays) })
		return time.Since(begin)
	}
	first, half, last := at(1), at((arrays+1)/2), at(arrays)
	t.Logf("%d arrays on the dead node: the first is served again after %.2f s, half of them after %.2f s, the last after %.2f s",
		arrays, first.Seconds(), half.Seconds(), last.Seconds())
	if limit := 30 * time.Second; scale != "" && last > limit {
		t.Errorf("the last array waited %v, more than %v", last, limit)
	}
}
