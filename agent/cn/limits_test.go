package cn_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/virtual-disk-array/vda/agent/planetest"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/nvmf/host"
	"github.com/virtual-disk-array/vda/spdk"
)

// TestLimitsAreTheVolumes: the primary's volume has the array's limits before hosts
// get to it. They are changed and lifted while it serves, come back when the data
// plane has been restarted, and go with the primary.
func TestLimitsAreTheVolumes(t *testing.T) {
	for _, swaps := range []bool{true, false} {
		t.Run(fmt.Sprint("swaps=", swaps), func(t *testing.T) {
			inBubble(t, 2, swaps, func(l *lab) {
				var mu sync.Mutex
				var calls []string
				refuse := false
				hook := func(method string, a map[string]any) error {
					mu.Lock()
					defer mu.Unlock()
					nqn, _ := a["nqn"].(string)
					switch method {
					case "bdev_set_qos_limit":
						calls = append(calls, "limit")
						if refuse {
							return planetest.Refuse(syscall.EAGAIN)
						}
					case "nvmf_subsystem_add_listener":
						if nqn == expNQN {
							calls = append(calls, "listen")
						}
					case "bdev_raid_delete":
						calls = append(calls, "down")
					}
					return nil
				}
				called := func() []string {
					mu.Lock()
					defer mu.Unlock()
					defer func() { calls = nil }()
					return calls
				}
				l.cns[0].plane.SetHook(hook)
				limits := func(i int) spdk.RateLimits {
					l.Helper()
					return l.limits(l.cns[i].plane.Client())
				}
				l.spec.Limits = &apiv1.Limits{RwIosPerSec: 5000, WMbytesPerSec: 7}
				l.up(0)
				if got := called(); !slices.Equal(got, []string{"limit", "listen"}) {
					l.Errorf("calls %q, want the limit before hosts can come", got)
				}
				if got := limits(0); got != (spdk.RateLimits{RWIOsPerSec: 5000, WMbytesPerSec: 7}) {
					l.Errorf("the volume has the limits %+v", got)
				}
				l.spec.Create = false

				l.spec.Limits = &apiv1.Limits{RMbytesPerSec: 3}
				l.good(0, l.cntlr(0, 0))
				l.good(0, l.cntlr(0, 0))
				if got := limits(0); got != (spdk.RateLimits{RMbytesPerSec: 3}) {
					l.Errorf("after they were changed the volume has the limits %+v", got)
				}
				if got := called(); !slices.Equal(got, []string{"limit"}) {
					l.Errorf("calls %q, want one, and the array to stay up", got)
				}
				refuse = true
				l.spec.Limits = &apiv1.Limits{RMbytesPerSec: 4}
				bad := ""
				for _, s := range l.sync(0, l.cntlr(0, 0)).States {
					if s.Id == l.cns[0].cntlr {
						bad = s.ErrorMsg
					}
				}
				if !strings.Contains(bad, "the limits of disk array da0 cannot be set") {
					l.Errorf("a data plane that refuses limits is the error %q", bad)
				}
				refuse = false

				l.cns[0].plane.Kill()
				l.cns[0].plane.Start()
				planetest.Eventually(l, func() string {
					if s := l.states(0); len(s) > 0 || l.cns[0].plane.ANA(expNQN) != spdk.ANAOptimized {
						return fmt.Sprint(s)
					}
					return ""
				})
				if got := limits(0); got != (spdk.RateLimits{RMbytesPerSec: 4}) {
					l.Errorf("after a restart of the data plane the volume has the limits %+v", got)
				}

				l.term++
				l.up(1)
				if got := limits(1); got != (spdk.RateLimits{RMbytesPerSec: 4}) {
					l.Errorf("after a failover the volume has the limits %+v", got)
				}
				l.spec.Limits = nil
				l.good(1, l.cntlr(1, 1))
				if got := limits(1); got != (spdk.RateLimits{}) {
					l.Errorf("after they were lifted the volume has the limits %+v", got)
				}
			})
		})
	}
}

// limits are those of the array's volume, of which there is one.
func (l *lab) limits(c spdk.API) spdk.RateLimits {
	l.Helper()
	b, err := c.BdevGet(context.Background(), "vda-da-"+daID+"/vda-vol-"+daID, 0)
	if err != nil {
		l.Fatal(err)
	}
	return b.AssignedRateLimits
}

// TestLimitsOfAnArrayThatIsNotExported: SPDK sets the limits of a volume that is not exported once, and
// does not change them; the error says what they wait for, and that is so. vda_tgt changes them.
func TestLimitsOfAnArrayThatIsNotExported(t *testing.T) {
	t.Run("model", func(t *testing.T) {
		inBubble(t, 1, false, func(l *lab) {
			changeLimits(l, true, func() spdk.RateLimits { return l.limits(l.cns[0].plane.Client()) })
		})
	})
	planes(t, func(t *testing.T, spdkDN, spdkCN bool) {
		l, _, cnTgts := reals(t, 1, false, spdkDN, spdkCN)
		c, err := spdk.New(spdk.Config{Socket: cnTgts[0].socket})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		l.leased()
		changeLimits(l, spdkCN, func() spdk.RateLimits { return l.limits(c.API) })
	})
}

func changeLimits(l *lab, onSPDK bool, have func() spdk.RateLimits) {
	exps := l.spec.Exps
	l.spec.Exps = nil
	l.spec.Limits = &apiv1.Limits{RMbytesPerSec: 3}
	l.up(0)
	l.spec.Create = false
	want := spdk.RateLimits{RMbytesPerSec: 3}
	if got := have(); got != want {
		l.Errorf("the limits are %+v", got)
	}
	l.spec.Limits = &apiv1.Limits{RMbytesPerSec: 5}
	waits := false
	for _, s := range l.settled(0, l.cntlr(0, 0)) {
		waits = waits || s.Error && strings.Contains(s.ErrorMsg, "SPDK, does that only while the array is exported")
	}
	if !onSPDK {
		want.RMbytesPerSec = 5
	}
	if got := have(); waits != onSPDK || got != want {
		l.Errorf("without an exporter the limits are %+v, waiting: %t", got, waits)
	}
	l.spec.Exps = exps
	want.RMbytesPerSec = 5
	planetest.Eventually(l, func() string {
		for _, s := range l.settled(0, l.cntlr(0, 0)) {
			if s.Error {
				return s.ErrorMsg
			}
		}
		if got := have(); got != want {
			return fmt.Sprintf("exported, the limits are %+v", got)
		}
		return ""
	})
}

// TestRealLimits: what hosts do by the primary and by a secondary together stays
// below the array's limit, before and after the primary has moved, however long that
// takes on the machine; and I/O goes on.
func TestRealLimits(t *testing.T) { planes(t, realLimits) }

func realLimits(t *testing.T, spdkDN, spdkCN bool) {
	l, _, cnTgts := reals(t, 2, false, spdkDN, spdkCN)
	// Sixteen reads a second: no machine is so slow that it needs no limit.
	const limit, each = 1 << 20, 64 << 10 // bytes per second, bytes
	l.spec.Limits = &apiv1.Limits{RMbytesPerSec: limit >> 20}
	l.leased()
	l.up(0)
	l.spec.Create = false
	paths := func() []*host.Namespace { return []*host.Namespace{l.disk(0), l.disk(1)} }
	read := func(d time.Duration) (float64, time.Duration) {
		var n atomic.Int64
		var wg sync.WaitGroup
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
		defer cancel()
		begin := time.Now()
		for _, ns := range paths() {
			for i := range 8 {
				wg.Go(func() {
					buf := make([]byte, each)
					for time.Since(begin) < d {
						if err := ns.ReadAt(ctx, buf, int64(i)*each); err != nil {
							t.Error(err)
							return
						}
						n.Add(each)
					}
				})
			}
		}
		wg.Wait()
		return float64(n.Load()), time.Since(begin)
	}
	keeps := func(when string) {
		t.Helper()
		n, took := read(3 * time.Second)
		t.Logf("%s: %.0f bytes read in %v", when, n, took)
		if most := 1.05*limit*took.Seconds() + limit/4 + each; n > most || n == 0 { // 250 ms of a pause before count, and the last read
			t.Errorf("%s: %.0f bytes read in %v, the limit is %d per second", when, n, took, limit)
		}
	}
	keeps("primary on cn0")
	if !cnTgts[0].spdk {
		if n := throttled(t, cnTgts[0].socket); n == 0 {
			t.Error("no time is counted in which I/O was throttled")
		}
	}
	l.term++
	l.up(1)
	keeps("primary on cn1")
	l.spec.Limits = nil
	l.good(1, l.cntlr(1, 1))
	read(100 * time.Millisecond)
}

// throttled is the throttled time of all bdevs, in ticks.
func throttled(t *testing.T, socket string) (ticks uint64) {
	t.Helper()
	c, err := spdk.New(spdk.Config{Socket: socket})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	var stat struct {
		Bdevs []struct {
			Ticks uint64 `json:"vda_throttled_ticks"`
		} `json:"bdevs"`
	}
	if err := c.Call(t.Context(), "bdev_get_iostat", nil, &stat); err != nil {
		t.Fatal(err)
	}
	for _, b := range stat.Bdevs {
		ticks += b.Ticks
	}
	return ticks
}
