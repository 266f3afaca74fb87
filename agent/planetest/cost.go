package planetest

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// CostsTheSame fails when what something costs per object grows with how many there are.
// measure returns that for n objects: how often a data plane is asked, and the bytes of lists that it
// answers. It is called in a bubble of testing/synctest.
func CostsTheSame(t *testing.T, few, many int, measure func(t *testing.T, n int) (calls, bytes float64)) {
	t.Helper()
	var fewCalls, fewBytes, manyCalls, manyBytes float64
	synctest.Test(t, func(t *testing.T) { fewCalls, fewBytes = measure(t, few) })
	synctest.Test(t, func(t *testing.T) { manyCalls, manyBytes = measure(t, many) })
	t.Logf("each: with %d %.1f calls and %.0f bytes of lists, with %d %.1f and %.0f", few, fewCalls, fewBytes, many, manyCalls, manyBytes)
	if manyCalls > 1.25*fewCalls || manyBytes > 1.1*fewBytes {
		t.Error("it grows with what else there is")
	}
}

// ComeBack has the data plane die and start again, and returns once a method was called that
// its agent has to call for each object, after skip calls of it for others. Each of these calls takes
// step longer than the one before, so that none ends when another does. calls counts them; Asked
// counts from the start.
func (p *Plane) ComeBack(t testing.TB, method string, step time.Duration, skip int32) (calls *atomic.Int32) {
	t.Helper()
	calls = new(atomic.Int32)
	p.SetHook(func(called string, _ map[string]any) error {
		if called == method {
			time.Sleep(20*time.Millisecond + time.Duration(calls.Add(1))*step)
		}
		return nil
	})
	p.Kill()
	p.Asked()
	p.Boot()
	Eventually(t, func() string {
		if calls.Load() <= skip {
			return "no pass has begun"
		}
		return ""
	})
	return calls
}
