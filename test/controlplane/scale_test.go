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
// many) on one cn and kills it. It prints when the first, the half and the last
// exporter were served again. Where VDA_SCALE asks for a figure, 30 s is the
// limit; without it other tests run beside this one.
func TestManyArraysOnOneDeadNode(t *testing.T) {
	arrays, scale := scaled(t, many)
	_, uri := dbtest.Postgres(t)
	c := begin(t, uri, 0)
	made := time.Now()
	c.record(arrays, c.array)
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
	if limit := 30 * time.Second; scale && last > limit {
		t.Errorf("the last array waited %v, more than %v", last, limit)
	}
}

// scaled is how many arrays there are, and whether VDA_SCALE says so.
func scaled(t *testing.T, arrays int) (n int, scale bool) {
	t.Helper()
	text := os.Getenv("VDA_SCALE")
	if text == "" {
		return arrays, false
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("VDA_SCALE=%q must be a number of arrays", text)
	}
	return n, true
}

// record has the portal record arrays, and tell no node of them.
func (c *cluster) record(arrays int, array func(i int) error) {
	c.Helper()
	c.later.Store(true)
	var wg sync.WaitGroup
	work := make(chan int)
	for range 8 {
		wg.Go(func() {
			for i := range work {
				if err := array(i); err != nil {
					c.Error(err)
				}
			}
		})
	}
	for i := range arrays {
		work <- i
	}
	close(work)
	wg.Wait()
	if c.Failed() {
		c.FailNow()
	}
	c.later.Store(false)
}

// TestManyLegsOnOneDeadNode has a leg of each of VDA_SCALE mirrored arrays (default 12)
// on one dn, and kills it: all arrays are served again, by the legs that are left, and
// each gets another leg on a third dn, however many wait for one. Where VDA_SCALE asks
// for a figure, 10 s is the limit until the last is served again.
func TestManyLegsOnOneDeadNode(t *testing.T) {
	arrays, scale := scaled(t, 12)
	_, uri := dbtest.Postgres(t)
	c := begin(t, uri, 0)
	c.replaceAfter = time.Second
	var monitors []func()
	for i := range 2 {
		monitors = append(monitors, c.startMonitor(i))
	}
	mirrored := func(i int) error { return c.make(i, &apiv1.CreateDaRequest{Redundancy: "mirror:2"}) }
	c.until("monitors have heard that cns can mirror", func() bool { return mirrored(0) == nil })
	made := time.Now()
	// What is recorded is carried out at once then, as a hundred arrays a second would have
	// a busy machine take nodes for dead before it begins.
	for _, stop := range monitors {
		stop()
	}
	c.record(arrays-1, func(i int) error { return mirrored(i + 1) })
	for i := range 2 {
		c.startMonitor(i)
	}
	online := func() int { return c.cns[0].plane.OnlineMirrors() + c.cns[1].plane.OnlineMirrors() }
	c.reaches("all arrays are up", arrays, func() int { return c.serves(c.cns[0], arrays) + c.serves(c.cns[1], arrays) })
	c.reaches("all mirrors are online", arrays, online)
	c.reaches("all arrays are full", arrays, func() int { return c.full() })
	t.Logf("%d mirrored arrays are up after %v", arrays, time.Since(made).Round(time.Millisecond))
	c.addDN()

	begin := time.Now()
	c.dns[0].kill()
	if n := online(); n != 0 {
		t.Errorf("%d mirrors serve I/O though a member is dead", n)
	}
	at := func(n int) time.Duration {
		c.reaches("served again", n, online)
		return time.Since(begin)
	}
	first, half, last := at(1), at((arrays+1)/2), at(arrays)
	t.Logf("%d arrays have a leg on the dead node: the first is served again after %.2f s, half of them after %.2f s, the last after %.2f s",
		arrays, first.Seconds(), half.Seconds(), last.Seconds())
	c.reaches("all arrays have got another leg", arrays, func() int { return c.full() })
	t.Logf("all have got another leg after %.1f s", time.Since(begin).Seconds())
	if limit := 10 * time.Second; scale && last > limit {
		t.Errorf("the last array waited %v, more than %v", last, limit)
	}
}

// full counts the arrays that have all their legs.
func (c *cluster) full() (n int) {
	for token := ""; ; {
		r, err := c.portal.ListDa(c.Context(), &apiv1.ListDaRequest{Token: token})
		c.must(r, err)
		for _, da := range r.DaMsgList {
			if da.RedundancyState == "full" {
				n++
			}
		}
		if token = r.NextToken; token == "" {
			return n
		}
	}
}
