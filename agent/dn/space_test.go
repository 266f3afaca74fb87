package dn_test

import (
	"strings"
	"sync/atomic"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/agent/planetest"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
)

// A create for which there turns out to be no space leaves nothing on the
// disk, says what is full, and is not tried again at once.
func TestNoSpaceLeavesNothing(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.c.Fill("/dev/null", true)
	var creates atomic.Int32
	l.plane.SetHook(func(method string, _ map[string]any) error {
		if method == "bdev_lvol_create" {
			creates.Add(1)
		}
		return nil
	})
	r := l.sync(full(1, []*apiv1.PdSpec{aioPD()}, vd(1)))
	if msg := l.errorOf(r, vdID); !strings.Contains(msg, "no space: /dev/null of pd pd0") {
		t.Errorf("the vd: %q", msg)
	}
	planetest.Eventually(t, func() string {
		if msg := l.bad(pdID); !strings.Contains(msg, "no space") {
			return "the pd's state: " + msg
		}
		return ""
	})
	if lvols := l.c.Lvols(l.c.Disk("/dev/null")); len(lvols) != 0 || l.c.Cleared("/dev/null") != 1 {
		t.Errorf("%v are left, %d were given back", lvols, l.c.Cleared("/dev/null"))
	}
	l.c.Fill("/dev/null", false)
	delta := full(2, nil, proto.CloneOf(vd(2)))
	delta.BaseVersion = 1
	l.sync(delta)
	if n := creates.Load(); n != 1 {
		t.Errorf("tried %d times within a moment", n)
	}
}

// A pd with less room than the database counts, as with an orphan on it, says
// so in a way by which the portal takes the array back.
func TestAVdThatDoesNotFitSaysSo(t *testing.T) { rigs(t, aVdThatDoesNotFitSaysSo) }

func aVdThatDoesNotFitSaysSo(r *rig) {
	pds := []*apiv1.PdSpec{pdOf(1, aioConf(r.file("disk", 64*mib, 0, ""), ""))}
	first, second := proto.CloneOf(vd(1)), proto.CloneOf(vd(1))
	first.PdId, second.PdId = pds[0].Id, pds[0].Id
	first.Size = 40 * mib
	second.Size = 30 * mib
	second.Id, second.Uuid, second.Nqn = "b"+strings.Repeat("0", 30)+"2", "b"+strings.Repeat("0", 30)+"2", vdNQN[:len(vdNQN)-1]+"2"
	for _, s := range r.states(pds, first) {
		if s.Error {
			r.Fatal(s)
		}
	}
	for _, s := range r.states(pds, first, second) {
		switch {
		case s.Id != second.Id && s.Error:
			r.Error(s)
		case s.Id == second.Id && !strings.HasPrefix(s.ErrorMsg,
			vda.NoSpace+"the vd takes 31457280 bytes of the 24117248 that are free on pd pd1"):
			r.Errorf("%q", s.ErrorMsg)
		}
	}
}

// What a deleted vd held is gone and its blocks are given back, before the vd
// is.
func TestDeletedVDsAreCleared(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.good(full(1, []*apiv1.PdSpec{aioPD()}, vd(1)))
	var deletes atomic.Int32
	l.plane.SetHook(func(method string, _ map[string]any) error {
		if method == "bdev_lvol_delete" {
			deletes.Add(1)
			if l.c.Cleared("/dev/null") == 0 {
				t.Error("deleted before it was cleared")
			}
			if len(l.hosts()) > 0 {
				t.Error("deleted while it is exported")
			}
		}
		return nil
	})
	gone := proto.CloneOf(vd(1))
	gone.Deleted = true
	delta := full(2, nil, gone)
	delta.BaseVersion = 1
	l.good(delta)
	if n := l.c.Cleared("/dev/null"); n != 1 || deletes.Load() != 1 {
		t.Errorf("%d lvols were cleared, %d deleted", n, deletes.Load())
	}
}
