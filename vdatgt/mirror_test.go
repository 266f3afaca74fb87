package vdatgt

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/virtual-disk-array/vda/module/mirror"
	"github.com/virtual-disk-array/vda/spdk"
)

// mirrored is a mirror over disk nodes, driven by its methods.
type mirrored struct {
	*plane
	gen  uint64
	legs []spdk.MirrorLeg
}

// leg connects a disk, in the role given.
func (m *mirrored) leg(d *disk, i int, role spdk.MirrorRole) {
	m.t.Helper()
	name := m.connect(fmt.Sprintf("vda-vd-%d", i), d.port, d.nqn, term(1))
	m.legs = append(m.legs, spdk.MirrorLeg{VD: fmt.Sprintf("b%031x", i), Bdev: name, Role: role})
}

// set says what the legs are now.
func (m *mirrored) set() *spdk.Mirror {
	m.t.Helper()
	return must[*spdk.Mirror](m.t)(m.VdaMirrorSet(m.t.Context(), spdk.MirrorSet{Name: "vda-mir-0", Term: 1, Gen: m.gen, Legs: m.legs}))
}

// until waits for the state.
func (m *mirrored) until(what string, f func(s *spdk.Mirror) bool) {
	m.t.Helper()
	s := &spdk.Mirror{}
	for end := time.Now().Add(time.Minute); ; {
		if s = must[*spdk.Mirror](m.t)(m.VdaMirrorWait(m.t.Context(), "vda-mir-0", s.Changes, 200*time.Millisecond)); f(s) {
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
	lis, get := web(t)
	m, port := &mirrored{plane: start(t, Config{HTTP: lis}), gen: 1}, freePort(t)
	m.leg(disks[0], 0, "member")
	m.leg(disks[1], 1, "member")
	must[*spdk.Mirror](t)(m.VdaMirrorCreate(ctx, spdk.MirrorCreate{Name: "vda-mir-0", DA: fmt.Sprintf("da%030x", 1),
		Mirror: fmt.Sprintf("aa%030x", 1), Size: 23 * miB, Term: 1, Gen: 1, Legs: m.legs, Fresh: true}))
	m.export(exporter(0), exported("vda-mir-0"), port, userNQN)
	user := dial(t, port, exportNQN, userNQN)
	fill(t, user, 1)

	ok(t, disks[1].stop())
	ok(t, m.BdevNvmeDetachController(ctx, "vda-vd-1"))
	m.until("the leg is lost", func(s *spdk.Mirror) bool { return s.Legs[1].Lost && s.Legs[0].Connected })
	written := make(chan error, 1)
	go func() { written <- user.WriteAt(ctx, make([]byte, 4096), 0) }()
	m.legs[1].Role, m.gen = "absent", 2
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
	m.until("the new leg lacks nothing", func(s *spdk.Mirror) bool {
		return len(s.Legs) == 2 && s.Legs[1].Ready && strings.HasSuffix(s.Legs[1].VD, "2")
	})
	m.legs[1].Role, m.gen = "member", 3
	m.set()
	m.until("it is a member", func(s *spdk.Mirror) bool { return s.Online && s.Legs[1].Connected })

	ok(t, disks[0].stop())
	ok(t, m.BdevNvmeDetachController(ctx, "vda-vd-0"))
	m.until("the first leg is lost", func(s *spdk.Mirror) bool { return s.Legs[0].Lost })
	m.legs[0].Role, m.gen = "absent", 4
	m.set()
	verify(t, user, 2)
	fill(t, user, 3)
	verify(t, user, 3)

	_, err := m.VdaMirrorSet(ctx, spdk.MirrorSet{Name: "vda-mir-0", Term: 1, Gen: 3, Legs: []spdk.MirrorLeg{}})
	if err == nil || !strings.Contains(err.Error(), "older") {
		t.Errorf("a set of the past: %v", err)
	}
	if _, err := m.VdaMirrorGetBdevs(ctx, "nix"); !spdk.IsNoSuchDevice(err) || !strings.Contains(err.Error(), "nix") {
		t.Errorf("a mirror that is not there: %v", err)
	}
	_, page := get("/metrics")
	has(t, page, "vda_mirror_joins_total 1", `vda_mirror_legs{role="member"} 1`, "vda_mirror_lack_bytes 0", "vda_mirror_waiting 0")
	if n := total(t, page, "vda_mirror_drops_total"); n != 2 {
		t.Errorf("two members were dropped, %v are counted", n)
	}
	if n := total(t, page, "vda_mirror_copied_bytes_total"); n < 22*miB {
		t.Errorf("a leg of 23 MiB was filled, %v bytes are counted", n)
	}
	if n := total(t, page, "vda_mirror_held_seconds_total"); n <= 0 {
		t.Error("a write met the loss of a leg, and no time is counted in which it was held")
	}
	user.Controller().Close()
	ok(t, m.NvmfDeleteSubsystem(ctx, exportNQN))
	ok(t, m.VdaMirrorDelete(ctx, "vda-mir-0"))
	if l := must[[]spdk.Bdev](t)(m.BdevGetBdevs(ctx)); len(l) != 1 {
		t.Errorf("bdevs that are left: %+v", l)
	}
}

// The client knows all that a mirror reports, and nothing else.
func TestMirrorStatusOfTheClient(t *testing.T) {
	full := mirror.Status{Legs: []mirror.LegStatus{{Why: "lost"}}}
	text := must[[]byte](t)(json.Marshal(full))
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	var read spdk.Mirror
	ok(t, dec.Decode(&read))
	if again := must[[]byte](t)(json.Marshal(read)); !bytes.Equal(again, text) {
		t.Errorf("vda_tgt says\n%s, the client reads\n%s", text, again)
	}
	table := methods()
	for _, name := range []string{"create", "set", "get_bdevs", "wait"} {
		for _, f := range table["vda_mirror_"+name].Result {
			if f.Doc == "" {
				t.Errorf("vda_mirror_%s: %s has no description", name, f.Name)
			}
		}
		if len(table["vda_mirror_"+name].Result) < reflect.TypeFor[mirror.Status]().NumField() {
			t.Errorf("vda_mirror_%s: the result is not described", name)
		}
	}
}
