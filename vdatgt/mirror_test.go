package vdatgt

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/virtual-disk-array/vda/module/mirror"
	"github.com/virtual-disk-array/vda/spdk"
)

// mirrored is a mirror over disk nodes, driven by its methods.
type mirrored struct {
	*plane
	gen  int
	legs []object
}

func (m *mirrored) call(method string, params object) mirror.Status {
	m.t.Helper()
	var s mirror.Status
	ok(m.t, m.Call(m.t.Context(), method, params, &s))
	return s
}

// leg connects a disk, in the role given.
func (m *mirrored) leg(d *disk, i int, role string) {
	m.t.Helper()
	name := m.connect(fmt.Sprintf("vda-vd-%d", i), d.port, d.nqn, term(1))
	m.legs = append(m.legs, object{"vd_id": fmt.Sprintf("b%031x", i), "bdev_name": name, "role": role})
}

// set says what the legs are now.
func (m *mirrored) set() mirror.Status {
	m.t.Helper()
	return m.call("vda_mirror_set", object{"name": "vda-mir-0", "term": 1, "gen": m.gen, "legs": m.legs})
}

// until waits for the state.
func (m *mirrored) until(what string, f func(s mirror.Status) bool) {
	m.t.Helper()
	var s mirror.Status
	for end := time.Now().Add(time.Minute); ; {
		if s = m.call("vda_mirror_wait", object{"name": "vda-mir-0", "changes": s.Changes, "timeout_ms": 200}); f(s) {
			return
		}
		if time.Now().After(end) {
			m.t.Fatalf("%s: not within a minute: %+v", what, s)
		}
	}
}

// TestMirror is the life of a mirror over two disk nodes: one dies, another is
// filled in its place, and then the first dies, too.
func TestMirror(t *testing.T) {
	ctx := t.Context()
	disks := []*disk{newDisk(t, 0), newDisk(t, 1)}
	m, port := &mirrored{plane: start(t, Config{}), gen: 1}, freePort(t)
	m.leg(disks[0], 0, "member")
	m.leg(disks[1], 1, "member")
	m.call("vda_mirror_create", object{"name": "vda-mir-0", "da_id": fmt.Sprintf("da%030x", 1), "mirror_id": fmt.Sprintf("aa%030x", 1),
		"size": 23 * miB, "term": 1, "gen": 1, "legs": m.legs, "fresh": true})
	m.export(exporter(0), exported("vda-mir-0"), port, userNQN)
	user := dial(t, port, exportNQN, userNQN)
	fill(t, user, 1)

	ok(t, disks[1].stop())
	ok(t, m.BdevNvmeDetachController(ctx, "vda-vd-1"))
	m.until("the leg is lost", func(s mirror.Status) bool { return s.Legs[1].Lost && s.Legs[0].Connected })
	written := make(chan error, 1)
	go func() { written <- user.WriteAt(ctx, make([]byte, 4096), 0) }()
	m.legs[1]["role"], m.gen = "absent", 2
	m.set()
	if err := <-written; err != nil {
		t.Fatalf("a write that met the loss of a leg: %v", err)
	}
	fill(t, user, 2)
	verify(t, user, 2)

	fresh := newDisk(t, 2)
	m.legs = m.legs[:1]
	m.leg(fresh, 2, "target")
	m.set()
	m.until("the new leg lacks nothing", func(s mirror.Status) bool {
		return len(s.Legs) == 2 && s.Legs[1].Ready && strings.HasSuffix(s.Legs[1].VD, "2")
	})
	m.legs[1]["role"], m.gen = "member", 3
	m.set()
	m.until("it is a member", func(s mirror.Status) bool { return s.Online && s.Legs[1].Connected })

	ok(t, disks[0].stop())
	ok(t, m.BdevNvmeDetachController(ctx, "vda-vd-0"))
	m.until("the first leg is lost", func(s mirror.Status) bool { return s.Legs[0].Lost })
	m.legs[0]["role"], m.gen = "absent", 4
	m.set()
	verify(t, user, 2)
	fill(t, user, 3)
	verify(t, user, 3)

	past := object{"name": "vda-mir-0", "term": 1, "gen": 3, "legs": []object{}}
	if err := m.Call(ctx, "vda_mirror_set", past, nil); err == nil || !strings.Contains(err.Error(), "older") {
		t.Errorf("a set of the past: %v", err)
	}
	if err := m.Call(ctx, "vda_mirror_get_bdevs", object{"name": "nix"}, nil); err == nil || !strings.Contains(err.Error(), "nix") {
		t.Errorf("a mirror that is not there: %v", err)
	}
	user.Controller().Close()
	ok(t, m.NvmfDeleteSubsystem(ctx, exportNQN))
	ok(t, m.Call(ctx, "vda_mirror_delete", object{"name": "vda-mir-0"}, nil))
	if l := must[[]spdk.Bdev](t)(m.BdevGetBdevs(ctx)); len(l) != 1 {
		t.Errorf("bdevs that are left: %+v", l)
	}
}
