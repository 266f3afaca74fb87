package cn_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/agent/planetest"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/nvme"
	"github.com/virtual-disk-array/vda/nvmf/host"
	"github.com/virtual-disk-array/vda/spdk"
)

// another gives the array another group of vds, which is joining.
func (l *lab) another() *apiv1.GrpSpec {
	n := len(l.spec.Grps)
	g := &apiv1.GrpSpec{Id: id("e1", n), GrpIdx: uint32(n), StripeSizeKb: 64, Joining: true}
	for i, d := range l.dns {
		v := id(fmt.Sprint("b", n), i)
		vd := &apiv1.VdTarget{VdId: v, Listener: at(d.port), Nqn: "nqn.2016-06.io.spdk:vda-vd-" + v, Uuid: v}
		g.Vds = append(g.Vds, vd)
		g.Columns = append(g.Columns, oneLeg(16*n+i, vd, 12<<20))
	}
	l.spec.Grps = append(l.spec.Grps, g)
	return g
}

// joins syncs the primary and returns what it says of a group that is joining.
func (l *lab) joins(primary int, g *apiv1.GrpSpec) *apiv1.ObjectState {
	l.Helper()
	for _, s := range l.settled(primary, l.cntlr(primary, primary)) {
		if s.Id == g.Id {
			return s
		}
	}
	l.Fatal("the reply says nothing of the group")
	return nil
}

// wide is how many groups the concat of controller node i has, and how many MiB the
// lvstore on it.
func (l *lab) wide(i int) (bases int, mib uint64) {
	l.Helper()
	c := l.cns[i].plane.Client()
	raids, err := c.BdevRaidGetBdevs(l.Context(), "all")
	if err != nil {
		l.Fatal(err)
	}
	for _, r := range raids {
		if r.Name == "vda-da-"+daID {
			bases = len(r.BaseBdevs)
		}
	}
	lvs, err := c.BdevLvolGetLvstore(l.Context(), "vda-da-"+daID)
	if err != nil {
		l.Fatal(err)
	}
	return bases, lvs.TotalDataClusters * lvs.ClusterSize >> 20
}

func (l *lab) isWide(i, bases int, mib uint64) {
	l.Helper()
	if b, m := l.wide(i); b != bases || m != mib {
		l.Errorf("the concat has %d groups and the lvstore %d MiB, want %d and %d", b, m, bases, mib)
	}
}

// TestGroupJoins: the array serves while a group that is to be part of it is put together,
// and has nothing to do with it, whatever is wrong with it; then it is put behind the
// others while the array serves, once.
func TestGroupJoins(t *testing.T) {
	inBubble(t, 2, true, func(l *lab) {
		down, grown := 0, 0
		l.cns[0].plane.SetHook(func(method string, _ map[string]any) error {
			switch method {
			case "bdev_raid_delete", "nvmf_subsystem_listener_set_ana_state":
				down++
			case "bdev_lvol_grow_lvstore":
				grown++
			}
			return nil
		})
		l.spec.Size = 4 << 20
		l.up(0)
		l.spec.Create = false
		down = 0
		g := l.another()
		want := "is to get more physical size, and serves meanwhile: vd b1"
		if st := l.joins(0, g); !st.Error || st.Found || !strings.Contains(st.ErrorMsg, want) {
			l.Errorf("without the vds: %v", st)
		}
		l.isWide(0, 1, 23)
		l.fence(false)
		if st := l.joins(0, g); st.Error || !st.Found {
			l.Errorf("the vds are there: %v", st)
		}
		l.isWide(0, 1, 23)
		g.Joining = false
		for range 2 {
			l.good(0, l.cntlr(0, 0))
		}
		l.isWide(0, 2, 47)
		if down != 0 || grown != 1 {
			l.Errorf("paths or raids were told %d times, the lvstore %d times to grow; want 0 and 1", down, grown)
		}
		l.spec.Size = 40 << 20
		l.good(0, l.cntlr(0, 0))
		l.volumeIs(0, 40<<20)
		l.cns[0].stop(l)
		l.cns[0].plane.Kill()
		l.term++
		l.fence(false)
		l.good(1, l.cntlr(1, 1))
		l.isWide(1, 2, 47)
		l.volumeIs(1, 40<<20)
	})
}

// TestGroupOutlivesItsPrimary: a process dies at one of the calls by which a group joins,
// which was carried out or not; the primary of then finishes it.
func TestGroupOutlivesItsPrimary(t *testing.T) {
	for _, method := range []string{"bdev_nvme_attach_controller", " bdev_nvme_attach_controller", "vda_mirror_create", "bdev_raid_create",
		"vda_raid_append", " vda_raid_append", "bdev_lvol_grow_lvstore"} {
		for _, carriedOut := range []bool{false, true} {
			for _, dies := range []string{"agent", "data plane", "both"} {
				t.Run(fmt.Sprint(method, " carried out: ", carriedOut, ", dies: ", dies), func(t *testing.T) {
					inBubble(t, 2, true, func(l *lab) { groupOutlives(l, method, carriedOut, dies) })
				})
			}
		}
	}
}

func groupOutlives(l *lab, method string, carriedOut bool, dies string) {
	l.spec.Size = 4 << 20
	l.up(0)
	l.spec.Create = false
	g := l.another()
	l.fence(false)
	p := l.cns[0].plane
	var mu sync.Mutex
	hit, left := false, strings.Count(method, " ") // a blank for each call that passes
	died := make(chan struct{})
	p.SetHook(func(m string, _ map[string]any) error {
		mu.Lock()
		defer mu.Unlock()
		if m != strings.TrimSpace(method) || hit {
			return nil
		}
		if left--; left >= 0 {
			return nil
		}
		hit = true
		if dies != "agent" {
			p.Kill()
		}
		close(died) // the next one is started from then on
		if carriedOut && dies == "agent" {
			return nil
		}
		return spdk.ErrLost
	})
	// SQL has the group joined when the primary has said so.
	carry := func(i int) {
		for _, s := range l.sync(i, l.cntlr(i, i)).States {
			if s.Id == g.Id && s.Found && !s.Error {
				g.Joining = false
			}
		}
	}
	primary := 0
	if left == 1 && strings.HasSuffix(method, "append") || strings.HasPrefix(method, "bdev_lvol") {
		carry(0)
		if g.Joining {
			l.Fatalf("the group does not join: %v", l.states(0))
		}
	}
	answered := make(chan struct{})
	c := l.cntlr(0, 0)
	go func() {
		defer close(answered)
		l.sync(0, c)
	}()
	<-died
	if dies == "data plane" {
		p.Boot()
	}
	<-answered
	switch dies {
	case "agent":
		l.cns[0].stop(l)
		l.cns[0].start(l)
	case "both":
		l.cns[0].stop(l)
		primary = 1
		l.term++
		l.fence(false)
	}
	for end := time.Now().Add(time.Minute); g.Joining; time.Sleep(time.Second) {
		if carry(primary); time.Now().After(end) {
			l.Fatalf("the group does not join: %v", l.states(primary))
		}
	}
	l.good(primary, l.cntlr(primary, primary))
	planetest.Eventually(l, func() string {
		if s := l.states(primary); len(s) > 0 {
			return fmt.Sprint(s)
		}
		return ""
	})
	l.isWide(primary, 2, 47)
	l.volumeIs(primary, 4<<20)
}

// TestTwoGroupsOnSPDK: an array that has got more physical size serves on SPDK too, also when
// that has lost everything.
func TestTwoGroupsOnSPDK(t *testing.T) {
	inBubble(t, 1, false, func(l *lab) {
		l.spec.Size = 30 << 20
		l.another().Joining = false
		l.fence(false)
		l.up(0)
		l.spec.Create = false
		for range 2 {
			if bases, mib := l.wide(0); bases != 2 || mib < 30 {
				l.Errorf("the concat has %d groups and the lvstore %d MiB", bases, mib)
			}
			l.volumeIs(0, 30<<20)
			l.cns[0].plane.Kill()
			l.cns[0].plane.Boot()
			l.good(0, l.cntlr(0, 0))
		}
	})
}

// TestGroupIsTakenBack: what has been put together for an array goes when the group does
// not come to be part of it.
func TestGroupIsTakenBack(t *testing.T) {
	inBubble(t, 1, true, func(l *lab) {
		l.spec.Size = 4 << 20
		l.up(0)
		l.spec.Create = false
		g := l.another()
		l.fence(false)
		if st := l.joins(0, g); !st.Found {
			l.Fatal(st)
		}
		l.spec.Grps = l.spec.Grps[:1]
		l.good(0, l.cntlr(0, 0))
		left := func() string {
			c := l.cns[0].plane.Client()
			raids, err := c.BdevRaidGetBdevs(l.Context(), "all")
			ctrlrs, err2 := c.BdevNvmeGetControllers(l.Context())
			if err := errors.Join(err, err2); err != nil {
				l.Fatal(err)
			}
			return fmt.Sprint(len(raids), " raids, ", len(ctrlrs), " connections")
		}
		planetest.Eventually(t, func() string {
			if s := left(); s != "2 raids, 2 connections" {
				return s
			}
			return ""
		})
		l.healthy(0)
		l.volumeIs(0, 4<<20)
	})
}

// TestRealPhysicalGrowth: hosts fill a thin array until they get Capacity Exceeded; it
// gets another group of vds while they read and write, and they go on, with all that they
// had written, also after the primary has moved.
func TestRealPhysicalGrowth(t *testing.T) {
	l, _, _ := reals(t, 2, true, false, false)
	l.spec.Size, l.spec.Thin = 40<<20, true
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
	work.running(3)
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	defer cancel()
	fill := func(at int64) error {
		return disks[int(at>>20)%2].WriteAt(ctx, []byte(strings.Repeat("\xee", 1<<20)), at)
	}
	full := int64(0)
	for at := int64(16 << 20); at < 40<<20 && full == 0; at += 1 << 20 {
		err := fill(at)
		var st nvme.Status
		switch {
		case err == nil:
		case errors.As(err, &st) && st&^nvme.DNR == nvme.CapacityExceeded:
			full = at
		default:
			t.Fatalf("a write at %d: %v", at, err)
		}
	}
	if full == 0 {
		t.Fatal("an array of 23 MiB of physical size takes 40 MiB")
	}
	g := l.another()
	l.fence(false)
	if st := l.joins(0, g); st.Error || !st.Found {
		t.Fatal(st)
	}
	g.Joining = false
	begin := time.Now()
	l.good(0, l.cntlr(0, 0))
	t.Logf("the group was put behind within %v", time.Since(begin))
	for at := full; at < 40<<20; at += 1 << 20 {
		if err := fill(at); err != nil {
			t.Fatalf("a write at %d after the array has grown: %v", at, err)
		}
	}
	work.running(3)
	l.standBy(1, 5*time.Second)
	l.term++
	l.fence(false)
	l.good(1, l.cntlr(1, 1))
	l.good(0, l.cntlr(0, 1))
	work.running(3)
	buf := make([]byte, 1<<20)
	for at := int64(16 << 20); at < 40<<20; at += 1 << 20 {
		if err := disks[1].ReadAt(ctx, buf, at); err != nil || buf[0] != 0xee || buf[len(buf)-1] != 0xee {
			t.Fatalf("at %d: %#x, %v", at, buf[0], err)
		}
	}
	ended()
}

// TestRealMirrorsJoin: an array on mirrors of two legs gets more of them while hosts write,
// first without one of the dns, then across the death of the primary. What is written
// beyond the first group is in the second, on both legs, and survives either dn.
func TestRealMirrorsJoin(t *testing.T) {
	t.Parallel()
	l, dnTgts, cnTgts := reals(t, 2, true, false, false)
	m := newMirrorLab(l)
	m.spec.Size = 22 << 20 // of the 23 MiB of the first group
	m.leased()
	m.fence(0)
	m.fence(1)
	isWell := func(i, primary int) { // the first attempt to reach a leg may have been too slow
		t.Helper()
		planetest.Eventually(t, func() string {
			for _, st := range m.settled(i, m.cntlr(i, primary)) {
				if st.Error {
					return st.String()
				}
			}
			return ""
		})
	}
	isWell(0, 0)
	isWell(1, 0)
	m.spec.Create = false
	work := startLedger(m.multipath())
	ended := sync.OnceFunc(work.end)
	defer ended()
	work.running(3)
	m.reports(0, quiet)
	for _, spec := range m.mirrors {
		spec.Fresh = false
	}

	old := m.mirrors
	m.mirrors = nil
	newMirrors := func() (all []*apiv1.MirrorSpec) {
		for k := range 2 {
			spec := &apiv1.MirrorSpec{Id: id("ab", k), Gen: 1, DataSize: legData, Fresh: true}
			for i, d := range m.dns {
				v := id("b3", 10*k+i)
				spec.Legs = append(spec.Legs, &apiv1.LegSpec{Role: apiv1.LegRole_LEG_ROLE_MEMBER,
					Vd: &apiv1.VdTarget{VdId: v, Listener: at(d.port), Nqn: vda.VdNQN(v), Uuid: v}})
			}
			all = append(all, spec)
		}
		return all
	}()
	m.mirrors = append(old, newMirrors...)
	g := &apiv1.GrpSpec{Id: id("e1", 1), GrpIdx: 1, StripeSizeKb: 64, Joining: true, Mirrors: newMirrors}
	m.spec.Grps = append(m.spec.Grps, g)
	isThere := func(primary int) { // a leg that was away may not be reached by the first attempt
		t.Helper()
		planetest.Eventually(t, func() string {
			if st := m.joins(primary, g); st.Error || !st.Found {
				return st.String()
			}
			return ""
		})
	}
	m.fence(0)
	if st := m.joins(0, g); !st.Error || st.Found {
		t.Fatalf("the group is there without a dn's vds: %v", st)
	}
	work.running(3)
	m.fence(1)
	isThere(0)
	work.running(3)

	// Nobody has heard that: the next primary joins it once more.
	cnTgts[0].stop()
	m.term++
	m.fence(0)
	m.fence(1)
	isWell(1, 1)
	isThere(1)
	g.Joining = false
	for _, spec := range newMirrors {
		spec.Fresh = false
	}
	isWell(1, 1)
	m.spec.Size = 27 << 20
	isWell(1, 1)
	cnTgts[0].start()
	isWell(0, 1) // else it would try to get at vds that are another's for ever
	work.running(3)
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	defer cancel()
	disk, beyond := m.disk(1), noise(7, 3<<20)
	const beyondAt = 24 << 20
	if err := disk.WriteAt(ctx, beyond, beyondAt); err != nil {
		t.Fatal("a write beyond the first group: ", err)
	}
	holdsAll := func(what string) {
		t.Helper()
		got := make([]byte, len(beyond))
		if err := disk.ReadAt(ctx, got, beyondAt); err != nil {
			t.Fatalf("%s: a read beyond the first group: %v", what, err)
		}
		if !bytes.Equal(got, beyond) {
			t.Errorf("%s it shows something else than was written", what)
		}
	}
	for d := range m.dns { // each dies, and comes back
		dnTgts[d].stop()
		m.reports(1, m.legs(d, "lost", func(s *apiv1.LegState) bool { return s.Lost }))
		m.role(d, apiv1.LegRole_LEG_ROLE_STALE)
		isWell(1, 1)
		holdsAll(fmt.Sprintf("without dn%d", d))
		work.running(3)
		dnTgts[d].start()
		m.ready(d)
		m.fence(d)
		m.role(d, apiv1.LegRole_LEG_ROLE_TARGET)
		isWell(1, 1)
		m.reports(1, m.legs(d, "ready", func(s *apiv1.LegState) bool { return s.Ready }))
		m.role(d, apiv1.LegRole_LEG_ROLE_MEMBER)
		isWell(1, 1)
		m.reports(1, quiet)
	}
	work.running(3)
	ended()
	m.delete(1)
	legs := [2][]byte{m.read(newMirrors[0], 0), m.read(newMirrors[1], 0)}
	for k, spec := range newMirrors {
		if !bytes.Equal(legs[k], m.read(spec, 1)) {
			t.Errorf("the legs of mirror %d of the second group differ", k)
		}
	}
	for at := 0; at < len(beyond); at += 64 << 10 {
		if !slices.ContainsFunc(legs[:], func(l []byte) bool { return bytes.Contains(l, beyond[at:at+64<<10]) }) {
			t.Fatalf("the stripe at %d of what was written beyond the first group is not in the second", at)
		}
	}
}
