package dn_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/virtual-disk-array/vda/agent/planetest"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
)

// A pd is deleted and another one made on its disk, in one request: the old
// stamp comes off first, and the tombstone leaves the new pd alone from then on.
func TestADiskMadeAnewIsTheNewPds(t *testing.T) { inBubble(t, aDiskMadeAnewIsTheNewPds) }

func aDiskMadeAnewIsTheNewPds(l *lab) {
	t := l.T
	l.c.Blank("/dev/null")
	l.good(full(1, []*apiv1.PdSpec{aioPD()}, vd(1)))
	oldVD, oldPD, newPD := vd(1), aioPD(), aioPD()
	oldVD.Deleted, oldPD.Deleted = true, true
	newPD.Id = "a0000000000000000000000000000002"
	delta := full(2, []*apiv1.PdSpec{newPD, oldPD}, oldVD)
	delta.BaseVersion = 1
	attached := 0
	l.plane.SetHook(func(method string, p map[string]any) error {
		if method == "bdev_aio_create" && p["name"] == "vda-pd-"+oldPD.Id {
			attached++
		}
		return nil
	})
	l.good(delta)
	for _, when := range []string{"", "after a restart of the agent "} {
		// What was begun may still end; then checks change nothing.
		planetest.Eventually(t, func() string {
			l.plane.Changes()
			time.Sleep(time.Second) // of fake time: some self-checks
			if n := l.plane.Changes(); n != 0 {
				return fmt.Sprintf("%s%d changes", when, n)
			}
			return ""
		})
		if got := l.plane.Objects(); !slices.Contains(got, "bdev vda-pd-"+newPD.Id) || slices.Contains(got, "bdev vda-pd-"+oldPD.Id) {
			t.Errorf("%sthe data plane has %v", when, got)
		}
		if msg := l.bad(newPD.Id); msg != "" {
			t.Errorf("%s%s", when, msg)
		}
		l.stop()
		l.start()
	}
	if attached > 0 {
		t.Errorf("the deleted pd's bdev was made %d times on a disk that is another pd's", attached)
	}
}
