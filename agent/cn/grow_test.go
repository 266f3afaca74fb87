package cn_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/virtual-disk-array/vda/agent/planetest"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/nvmf/host"
)

// volumeIs checks the size of the volume on controller node i.
func (l *lab) volumeIs(i int, bytes uint64) {
	l.Helper()
	b, err := l.cns[i].plane.Client().BdevGet(l.Context(), "vda-da-"+daID+"/vda-vol-"+daID, 0)
	if err != nil {
		l.Fatal(err)
	}
	if b.Bytes() != bytes {
		l.Errorf("the volume has %d bytes, want %d", b.Bytes(), bytes)
	}
}

// growthError syncs the primary with a new size and returns what is wrong then.
func (l *lab) growthError(primary int, size uint64) string {
	l.Helper()
	l.spec.Size = size
	for _, s := range l.sync(primary, l.cntlr(primary, primary)).States {
		if s.Error {
			return s.ErrorMsg
		}
	}
	return ""
}

// TestArrayGrows: the primary has its volume grow while the array stays up; a growth
// that fails, or that a primary did not live to carry out, is made up for, and one
// beyond what there is refused.
func TestArrayGrows(t *testing.T) {
	inBubble(t, 2, true, func(l *lab) {
		var fail atomic.Bool
		grown, down := 0, 0
		l.cns[0].plane.SetHook(func(method string, _ map[string]any) error {
			switch method {
			case "vda_lvol_grow":
				if fail.Load() {
					return planetest.Refuse(syscall.EBUSY)
				}
				grown++
			case "bdev_raid_delete", "nvmf_subsystem_listener_set_ana_state":
				down++
			}
			return nil
		})
		l.spec.Size = 4 << 20
		l.up(0)
		l.spec.Create = false
		down = 0
		l.spec.Size = 6 << 20
		for range 2 {
			l.good(0, l.cntlr(0, 0))
		}
		if l.volumeIs(0, 6<<20); grown != 1 || down != 0 {
			l.Errorf("it was told to grow %d times, and of paths or raids %d times, want 1 and 0", grown, down)
		}
		if bad := l.growthError(0, 4<<20); bad != "" { // of a database that went back
			l.Error(bad)
		}
		l.volumeIs(0, 6<<20)

		if bad := l.growthError(0, 40<<20); !strings.Contains(bad, "is to grow to 41943040 bytes, has 6291456, and serves meanwhile") ||
			!strings.Contains(bad, "17825792 bytes of its physical size are free") || !strings.Contains(bad, "35651584 more") {
			l.Errorf("a growth beyond the physical size: %q", bad)
		}
		l.volumeIs(0, 6<<20)
		fail.Store(true)
		if bad := l.growthError(0, 8<<20); !strings.Contains(bad, "is to grow to 8388608 bytes, has 6291456") {
			l.Errorf("a growth that fails: %q", bad)
		}
		fail.Store(false)
		l.good(0, l.cntlr(0, 0))
		l.volumeIs(0, 8<<20)

		// A primary that dies before it has heard of the order leaves it to the next.
		l.cns[0].stop(l)
		l.cns[0].plane.Kill()
		l.term++
		l.spec.Size = 10 << 20
		l.fence(false)
		l.good(1, l.cntlr(1, 1))
		l.volumeIs(1, 10<<20)
	})
}

// TestGrowthOutlivesAPass: a data plane that takes its time keeps nobody from looking
// after the array, and is told once.
func TestGrowthOutlivesAPass(t *testing.T) {
	inBubble(t, 1, true, func(l *lab) {
		var told atomic.Int32
		goOn := make(chan struct{})
		l.cns[0].plane.SetHook(func(method string, _ map[string]any) error {
			if method == "vda_lvol_grow" {
				told.Add(1)
				<-goOn
			}
			return nil
		})
		l.spec.Size = 4 << 20
		l.up(0)
		l.spec.Create = false
		for range 2 {
			if bad := l.growthError(0, 8<<20); !strings.Contains(bad, "still zeroing what it adds") {
				l.Errorf("while it grows: %q", bad)
			}
		}
		close(goOn)
		l.healthy(0)
		l.volumeIs(0, 8<<20)
		if n := told.Load(); n != 1 {
			l.Errorf("the data plane was told %d times", n)
		}
	})
}

// TestSPDKDoesNotGrow: nor is it asked to.
func TestSPDKDoesNotGrow(t *testing.T) {
	inBubble(t, 1, false, func(l *lab) {
		l.spec.Size = 4 << 20
		l.up(0)
		l.spec.Create = false
		if bad := l.growthError(0, 8<<20); !strings.Contains(bad, "is SPDK, which cannot safely grow an array that is in use") {
			l.Errorf("%q", bad)
		}
		l.volumeIs(0, 4<<20)
	})
}

// TestRealGrowth: an array grows under writes through both controllers. Hosts see the
// new size on the connection that they have, zeros where it is new, and what they had
// written; so they do after the primary has moved.
func TestRealGrowth(t *testing.T) {
	l, _, _ := reals(t, 2, true, false, false)
	l.spec.Size = 4 << 20
	l.leased()
	l.up(0)
	l.spec.Create = false
	var disks []*host.Namespace
	for i := range l.cns {
		disks = append(disks, l.disk(i))
	}
	work := startLedger(l.multipath())
	ended := sync.OnceFunc(work.end)
	defer ended()

	seen := func(size int64, written ...int64) {
		t.Helper()
		for i, d := range disks {
			planetest.Eventually(t, func() string {
				if d.Size() != size {
					return fmt.Sprintf("the host on cn%d sees %d bytes, want %d", i, d.Size(), size)
				}
				return ""
			})
		}
		work.running(3)
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		buf := make([]byte, 1<<20)
		for i, d := range disks {
			for at := int64(4 << 20); at < size; at += 1 << 20 {
				if err := d.ReadAt(ctx, buf, at); err != nil {
					t.Fatal(err)
				}
				want := byte(0)
				for _, w := range written {
					if w == at {
						want = 0xee
					}
				}
				for k, b := range buf {
					if b != want {
						t.Fatalf("through cn%d byte %d is %#x, want %#x", i, at+int64(k), b, want)
					}
				}
			}
		}
	}
	fill := func(i int, at int64) {
		t.Helper()
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := disks[i].WriteAt(ctx, []byte(strings.Repeat("\xee", 1<<20)), at); err != nil {
			t.Fatal(err)
		}
	}
	begin := time.Now()
	l.spec.Size = 6 << 20
	l.good(0, l.cntlr(0, 0))
	seen(6 << 20)
	t.Logf("hosts saw 2 MiB more after %v", time.Since(begin))
	fill(1, 5<<20) // through the secondary

	// A snapshot that goes leaves its data in clusters that are free.
	s := l.snap(0)
	if st := l.snapState(0, s); st.Error || !st.Found {
		t.Fatal(st)
	}
	s.State = taken
	fill(0, 5<<20)
	s.State = apiv1.SnapState_SNAP_STATE_DELETING
	if st := l.snapState(0, s); st.Error || !st.Gone {
		t.Fatal(st)
	}
	l.spec.Snaps = nil
	l.spec.Size = 16 << 20
	l.good(0, l.cntlr(0, 0))
	seen(16<<20, 5<<20)
	fill(1, 15<<20)

	l.standBy(1, 5*time.Second)
	l.term++
	l.sync(0, l.cntlr(0, 1))
	l.fence(false)
	l.good(1, l.cntlr(1, 1))
	l.good(0, l.cntlr(0, 1))
	seen(16<<20, 5<<20, 15<<20)
	l.spec.Size = 18 << 20
	l.good(1, l.cntlr(1, 1))
	seen(18<<20, 5<<20, 15<<20)
}
