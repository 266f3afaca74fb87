package dn_test

import (
	"strings"
	"sync/atomic"
	"testing"

	"google.golang.org/protobuf/proto"

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
