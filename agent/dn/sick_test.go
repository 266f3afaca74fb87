package dn_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/virtual-disk-array/vda/agent/planetest"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/disk"
)

// says waits until the states of objects say all of the words, or none of
// them when without is set.
func (l *lab) says(ids []string, words ...string) {
	l.Helper()
	planetest.Eventually(l, func() string {
		for _, id := range ids {
			msg := l.bad(id)
			for _, w := range words {
				if !strings.Contains(msg, w) {
					return fmt.Sprintf("%s does not say %q: %q", id, w, msg)
				}
			}
		}
		return ""
	})
}

// TestIOErrorsAreShown: what the data plane counts of a disk's I/O errors shows
// in the pd and in the vds on it, which stay exported, and goes on counting
// over a restart of the data plane.
func TestIOErrorsAreShown(t *testing.T) {
	t.Parallel()
	for plane, counters := range map[string]func(n uint64) map[string]uint64{
		"vda_tgt": func(n uint64) map[string]uint64 {
			return map[string]uint64{"failed": n + 7, "medium": n, "no_space": 0}
		},
		"spdk_tgt": func(n uint64) map[string]uint64 { return map[string]uint64{"aio_error": n, "aborted": 9} },
	} {
		t.Run(plane, func(t *testing.T) {
			l := newLabOf(t, plane == "vda_tgt")
			l.c.Ail("/dev/null", counters(0))
			l.good(full(1, []*apiv1.PdSpec{aioPD()}, vd(1)))
			both := []string{pdID, vdID}
			l.c.Ail("/dev/null", counters(3))
			l.says(both, "3 I/O errors")
			l.c.Ail("/dev/null", counters(5))
			l.says(both, "5 I/O errors")
			same := full(1, []*apiv1.PdSpec{aioPD()}, vd(1))
			for _, s := range l.sync(same).States {
				if !s.Error || !s.Done || !strings.Contains(s.ErrorMsg, "5 I/O errors") {
					t.Errorf("a sync is answered with %v", s)
				}
			}
			if len(l.hosts()) == 0 {
				t.Error("the vd is not exported any more")
			}
			l.plane.Stop()
			l.c.Ail("/dev/null", counters(2)) // it counts again
			l.plane.Start()
			l.says(both, "7 I/O errors")
		})
	}
}

// Writes that fail because what is below a pd is full show in the pd and its
// vds.
func TestFullDiskIsShown(t *testing.T) {
	t.Parallel()
	l := newLabOf(t, true)
	l.good(full(1, []*apiv1.PdSpec{aioPD()}, vd(1)))
	l.c.Ail("/dev/null", map[string]uint64{"failed": 4, "medium": 0, "no_space": 4})
	l.says([]string{pdID, vdID}, "no space")
}

// Vds whose writes had no space are in error until there is some, so that no leg is
// copied to them.
func TestFullDiskIsShownUntilThereIsSpace(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		t.Cleanup(func() { time.Sleep(time.Minute) })
		l := &lab{T: t, c: planetest.NewCluster(), dir: t.TempDir(), check: 3 * time.Second} // as agents have it: minutes pass
		l.plane = l.c.Place("dn0", true)
		l.plane.Boot()
		l.start()
		t.Cleanup(func() { l.stop() })
		l.good(full(1, []*apiv1.PdSpec{aioPD()}, vd(1)))
		l.c.SetRoom("/dev/null", disk.Room{Size: 64 << 20, Allocated: 16 << 20, Left: 4096})
		l.c.Ail("/dev/null", map[string]uint64{"failed": 4, "medium": 0, "no_space": 4})
		for range 10 {
			time.Sleep(time.Minute)
			l.says([]string{pdID, vdID}, "no space")
		}
		l.c.SetRoom("/dev/null", disk.Room{Size: 64 << 20, Allocated: 16 << 20, Left: 1 << 30})
		time.Sleep(time.Minute)
		for _, id := range []string{pdID, vdID} {
			if msg := l.bad(id); msg != "" {
				t.Errorf("%s has space: %q", id, msg)
			}
		}
	})
}

// A disk that answers nothing, while something is under way, shows in its pd and vds
// until it answers.
func TestHangingDiskIsShown(t *testing.T) {
	inBubble(t, func(l *lab) {
		both := []string{pdID, vdID}
		l.good(full(1, []*apiv1.PdSpec{aioPD()}, vd(1)))
		l.c.Queue("/dev/null", 0, 7)
		time.Sleep(time.Minute) // at rest
		if msg := l.bad(pdID); msg != "" {
			t.Errorf("a disk at rest: %q", msg)
		}
		for n := range uint64(20) { // it is slow
			l.c.Queue("/dev/null", 3, 8+n)
			time.Sleep(5 * time.Second)
			if msg := l.bad(pdID) + l.bad(vdID); msg != "" {
				t.Errorf("a disk that answers every 5 s: %q", msg)
			}
		}
		l.says(both, "answered nothing since", "3 requests")
		l.c.Queue("/dev/null", 3, 100)
		time.Sleep(10 * time.Second)
		for _, id := range both {
			if msg := l.bad(id); msg != "" {
				t.Errorf("a disk that answers again: %s: %q", id, msg)
			}
		}
	})
}

// A file that is not there any more shows, though the data plane has it open.
func TestFileThatIsGoneIsShown(t *testing.T) {
	inBubble(t, func(l *lab) {
		l.good(full(1, []*apiv1.PdSpec{aioPD()}, vd(1)))
		l.c.Hide("/dev/null", true)
		l.says([]string{pdID, vdID}, "does not exist any more")
		l.c.Hide("/dev/null", false)
		time.Sleep(time.Minute)
		for _, id := range []string{pdID, vdID} {
			if msg := l.bad(id); msg != "" {
				t.Errorf("%s is back: %q", id, msg)
			}
		}
	})
}
