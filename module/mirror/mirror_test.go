package mirror_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"go.uber.org/goleak"

	"github.com/virtual-disk-array/vda/bdev"
	"github.com/virtual-disk-array/vda/bdev/bdevtest"
	"github.com/virtual-disk-array/vda/module/errorinj"
	"github.com/virtual-disk-array/vda/module/malloc"
	"github.com/virtual-disk-array/vda/module/mirror"
	"github.com/virtual-disk-array/vda/module/mirror/core"
	"github.com/virtual-disk-array/vda/module/mirror/label"
	"github.com/virtual-disk-array/vda/nvme"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const dataSize = 16 << 20

func id(kind byte, n int) label.ID { return label.ID{0: kind, 15: byte(n)} }

// rig is a mirror of malloc bdevs, behind bdevs that fail on demand.
type rig struct {
	*testing.T
	reg    *bdev.Registry
	mod    *mirror.Module
	m      *mirror.Mirror
	legs   []mirror.LegConfig
	errors []*errorinj.Device
	gen    uint64
}

func newRig(t *testing.T, legs int) *rig {
	r := &rig{T: t, reg: bdev.NewRegistry(), gen: 1}
	t.Cleanup(r.reg.Close)
	r.mod = mirror.New(r.reg, slog.New(slog.DiscardHandler))
	for i := range legs {
		r.addDisk(i)
		r.legs = append(r.legs, mirror.LegConfig{VD: id(0xb0, i), Bdev: legName(i), Role: core.Member, Epoch: id(0xee, i)})
	}
	r.create(true)
	return r
}

func legName(i int) string { return fmt.Sprint("EE_disk", i) }

// addDisk makes the disk of a leg.
func (r *rig) addDisk(i int) {
	r.Helper()
	name := fmt.Sprint("disk", i)
	d, err := malloc.New(malloc.Config{Name: name, BlockSize: 4096, Blocks: (dataSize + label.TailSize) / 4096})
	r.ok(err)
	r.ok(r.reg.Register(d))
	r.cover(i)
}

// cover puts the bdev that fails on demand on a disk.
func (r *rig) cover(i int) {
	r.Helper()
	e, err := errorinj.Create(r.reg, fmt.Sprint("disk", i), uuid.Nil)
	r.ok(err)
	for len(r.errors) <= i {
		r.errors = append(r.errors, nil)
	}
	r.errors[i] = e
}

func (r *rig) ok(err error) {
	r.Helper()
	if err != nil {
		r.Fatal(err)
	}
}

func (r *rig) config(fresh bool) mirror.Config {
	return mirror.Config{Name: "m", DA: id(0xda, 1), Mirror: id(0xaa, 1), DataSize: dataSize, Term: 1, Gen: r.gen, Legs: r.legs, Fresh: fresh}
}

func (r *rig) create(fresh bool) {
	r.Helper()
	m, err := r.mod.Create(r.Context(), r.config(fresh))
	r.ok(err)
	r.m = m
}

func (r *rig) delete() {
	r.Helper()
	r.ok(r.mod.Delete("m"))
}

// set says what the legs are now.
func (r *rig) set() {
	r.Helper()
	r.ok(r.m.Set(r.Context(), 1, r.gen, r.legs))
}

// until waits for the status.
func (r *rig) until(what string, f func(s mirror.Status) bool) {
	r.Helper()
	ctx, cancel := context.WithTimeout(r.Context(), time.Minute)
	defer cancel()
	s := r.m.Status()
	for !f(s) {
		if ctx.Err() != nil {
			r.Fatalf("%s: not within a minute: %+v", what, s)
		}
		short, done := context.WithTimeout(ctx, 50*time.Millisecond) // bytes change without notice
		s = r.m.Wait(short, s.Changes)
		done()
	}
}

func (r *rig) open() *bdev.Handle {
	r.Helper()
	h, err := r.reg.Open("m", nil)
	r.ok(err)
	r.Cleanup(h.Close)
	return h
}

// fill writes random data everywhere and returns them.
func (r *rig) fill(h *bdev.Handle) []byte {
	r.Helper()
	data := make([]byte, dataSize)
	rng := rand.NewChaCha8([32]byte{1})
	_, _ = rng.Read(data)
	for at := 0; at < dataSize; at += 1 << 20 {
		if s := bdevtest.Do(h, &bdev.Request{Op: bdev.OpWrite, Offset: uint64(at / 4096), Blocks: 256,
			Iov: [][]byte{data[at : at+1<<20]}}); s != nvme.Success {
			r.Fatalf("write at %d: %v", at, s)
		}
	}
	return data
}

// holds checks what is on a leg's disk.
func (r *rig) holds(i int, data []byte) {
	r.Helper()
	h, err := r.reg.Open(fmt.Sprint("disk", i), nil)
	r.ok(err)
	defer h.Close()
	if got := bdevtest.Read(r, h, 0, dataSize/4096); !bytes.Equal(got, data) {
		r.Errorf("disk %d holds other data", i)
	}
}

func lost(i int) func(s mirror.Status) bool {
	return func(s mirror.Status) bool { return s.Legs[i].Lost }
}

func online(s mirror.Status) bool { return s.Online }

func TestConformance(t *testing.T) {
	for legs := 1; legs <= 3; legs++ {
		t.Run(fmt.Sprint(legs, " legs"), func(t *testing.T) {
			bdevtest.Run(t, bdevtest.Subject{New: func(t *testing.T, reg *bdev.Registry) string {
				r := &rig{T: t, reg: reg, gen: 1, mod: mirror.New(reg, slog.New(slog.DiscardHandler))}
				for i := range legs {
					r.addDisk(i)
					r.legs = append(r.legs, mirror.LegConfig{VD: id(0xb0, i), Bdev: legName(i), Role: core.Member})
				}
				r.create(true)
				return "m"
			}})
		})
	}
}

func TestEveryLegHasTheData(t *testing.T) {
	r := newRig(t, 3)
	h := r.open()
	data := r.fill(h)
	for i := range 3 {
		r.holds(i, data)
	}
	h.Close()
	r.delete()
	r.create(false)
	r.until("online", online)
	if s := r.m.Status(); s.Repair != 0 {
		t.Errorf("%d bytes are to be repaired after a clean end", s.Repair)
	}
	if got := bdevtest.Read(t, r.open(), 0, dataSize/4096); !bytes.Equal(got, data) {
		t.Error("the mirror holds other data")
	}
}

// A write that a member misses is acknowledged when the member is none any
// more, and the member lacks just that when it is back.
func TestALegIsDroppedAndComesBack(t *testing.T) {
	r := newRig(t, 2)
	h := r.open()
	data := r.fill(h)
	r.ok(r.errors[1].Inject(errorinj.Injection{IOType: "write", Fault: errorinj.Failure, Num: 1}))
	acked := make(chan nvme.Status, 1)
	one := bytes.Repeat([]byte{7}, 4096)
	go func() {
		acked <- bdevtest.Do(h, &bdev.Request{Op: bdev.OpWrite, Offset: 3, Blocks: 1, Iov: [][]byte{one}})
	}()
	copy(data[3*4096:], one)
	r.until("leg 1 is lost", lost(1))
	select {
	case s := <-acked:
		t.Fatalf("a write that a member misses ended with %v", s)
	default:
	}
	r.legs[1].Role, r.gen = core.Absent, 2
	r.set()
	if s := <-acked; s != nvme.Success {
		t.Fatalf("after the drop: %v", s)
	}
	r.holds(0, data)
	r.legs[1].Role = core.Target
	r.set()
	r.until("leg 1 lacks nothing", func(s mirror.Status) bool { return s.Legs[1].Ready })
	r.legs[1].Role, r.gen = core.Member, 3
	r.set()
	r.until("leg 1 is a member", func(s mirror.Status) bool { return s.Online && s.Legs[1].Connected })
	r.holds(1, data)
}

// A leg whose bdev goes away while writes are under way, and a new one in its
// place, which is copied whole under load.
func TestANewLegIsFilledUnderLoad(t *testing.T) {
	r := newRig(t, 2)
	h := r.open()
	data := r.fill(h)
	var stop, abort atomic.Bool
	var wg sync.WaitGroup
	var mu sync.Mutex
	defer wg.Wait()
	defer abort.Store(true)
	for w := range 4 {
		rng := rand.New(rand.NewPCG(1, uint64(w)))
		wg.Go(func() {
			for !stop.Load() && !abort.Load() {
				block := uint64(rng.IntN(dataSize/4096/4))*4 + uint64(w)
				p := bytes.Repeat([]byte{byte(rng.Uint32())}, 4096)
				for !abort.Load() {
					s := bdevtest.Do(h, &bdev.Request{Op: bdev.OpWrite, Offset: block, Blocks: 1, Iov: [][]byte{p}})
					if s == nvme.Success {
						break
					}
					if !s.IsPath() {
						t.Errorf("write: %v", s)
						return
					}
					time.Sleep(time.Millisecond)
				}
				mu.Lock()
				copy(data[block*4096:], p)
				mu.Unlock()
			}
		})
	}
	gone := make(chan error, 1)
	go func() { gone <- r.reg.Unregister(legName(1)) }()
	r.until("leg 1 is lost", lost(1))
	r.legs[1].Role, r.gen = core.Absent, 2
	r.set()
	r.ok(<-gone)
	r.addDisk(2)
	r.legs = append(r.legs[:1], mirror.LegConfig{VD: id(0xb0, 2), Bdev: legName(2), Role: core.Target})
	r.set()
	find := func(s mirror.Status) mirror.LegStatus {
		for _, l := range s.Legs {
			if l.Bdev == legName(2) {
				return l
			}
		}
		return mirror.LegStatus{}
	}
	r.until("leg 2 lacks nothing", func(s mirror.Status) bool { return find(s).Ready })
	r.legs[1].Role, r.gen = core.Member, 3
	r.set()
	r.until("leg 2 is a member", func(s mirror.Status) bool { return s.Online && find(s).Connected })
	stop.Store(true)
	wg.Wait()
	r.until("online", online)
	r.holds(0, data)
	r.holds(2, data)
}

// A lost member that is back in time is asked again, and nothing was refused.
func TestALostMemberResumes(t *testing.T) {
	r := newRig(t, 2)
	h := r.open()
	data := r.fill(h)
	r.ok(r.reg.Unregister(legName(0)))
	r.until("leg 0 is lost", lost(0))
	acked := make(chan nvme.Status, 1)
	one := bytes.Repeat([]byte{9}, 4096)
	go func() {
		acked <- bdevtest.Do(h, &bdev.Request{Op: bdev.OpWrite, Offset: 5, Blocks: 1, Iov: [][]byte{one}})
	}()
	r.cover(0)
	r.set()
	r.until("online", func(s mirror.Status) bool { return s.Online && !s.Legs[0].Lost })
	if s := <-acked; s == nvme.Success {
		copy(data[5*4096:], one)
	} else if !s.IsPath() {
		t.Fatalf("the write ended with %v", s)
	}
	if got := bdevtest.Read(t, h, 0, dataSize/4096); !bytes.Equal(got, data) {
		t.Error("the mirror holds other data")
	}
	r.holds(0, data)
	r.holds(1, data)
}

// Reads go on when a member cannot read a block: another serves it, and what it
// read is written over the bad block.
func TestAReadErrorIsHealed(t *testing.T) {
	r := newRig(t, 2)
	h := r.open()
	data := r.fill(h)
	for i := range 2 {
		r.ok(r.errors[i].Inject(errorinj.Injection{IOType: "read", Fault: errorinj.Failure, Num: 1}))
		if got := bdevtest.Read(t, h, 0, 256); !bytes.Equal(got, data[:1<<20]) {
			t.Error("the mirror holds other data")
		}
		r.ok(r.errors[i].Inject(errorinj.Injection{IOType: "clear"}))
	}
	if s := r.m.Status(); !s.Online {
		t.Errorf("%+v", s)
	}
}

func TestRefusals(t *testing.T) {
	r := newRig(t, 2)
	if _, err := r.mod.Create(t.Context(), r.config(true)); err == nil {
		t.Error("the name is taken twice")
	}
	for _, c := range []struct {
		name   string
		change func(c *mirror.Config)
		errno  syscall.Errno
	}{
		{"no name", func(c *mirror.Config) { c.Name = "" }, syscall.EINVAL},
		{"size", func(c *mirror.Config) { c.DataSize = 100 }, syscall.EINVAL},
		{"no legs", func(c *mirror.Config) { c.Legs = nil }, syscall.EINVAL},
		{"no member", func(c *mirror.Config) { c.Legs[0].Role, c.Legs[1].Role = core.Target, core.Absent }, syscall.EINVAL},
		{"the name of a mirror", func(c *mirror.Config) { c.Name, c.Legs[0].Bdev = "m", "nix" }, syscall.EEXIST},
		{"a leg twice", func(c *mirror.Config) { c.Legs = append(c.Legs, c.Legs[0]) }, syscall.EINVAL},
		{"no member is there", func(c *mirror.Config) {
			c.Legs = []mirror.LegConfig{{VD: id(0xb0, 7), Bdev: "nix", Role: core.Member}}
		}, syscall.EIO},
		{"legs of another mirror", func(c *mirror.Config) { c.Mirror = id(0xaa, 2) }, syscall.EIO},
		{"SQL is behind", func(c *mirror.Config) { c.Gen = 0 }, syscall.ESTALE},
	} {
		conf := r.config(false)
		if c.name != "no name" {
			conf.Name = "other"
		}
		conf.Legs = append([]mirror.LegConfig(nil), conf.Legs...)
		if c.change(&conf); c.errno != syscall.EINVAL && c.errno != syscall.EEXIST && r.m != nil {
			r.delete()
			r.m = nil
		}
		if _, err := r.mod.Create(t.Context(), conf); !errors.Is(err, c.errno) {
			t.Errorf("%s: %v, not %v", c.name, err, c.errno)
		}
	}
}

// A member is not dropped by leaving it out of a set whose gen is as before:
// without members, writes would be on no leg.
func TestMembersDoNotChangeWithoutAGen(t *testing.T) {
	r := newRig(t, 2)
	h := r.open()
	data := r.fill(h)
	before := r.m.Status()
	for _, legs := range [][]mirror.LegConfig{nil, r.legs[:1], r.legs[1:]} {
		if err := r.m.Set(t.Context(), 1, r.gen, legs); !errors.Is(err, syscall.EINVAL) || !strings.Contains(err.Error(), "left out") {
			t.Errorf("a set of %d legs with the gen of two: %v", len(legs), err)
		}
	}
	if s := r.m.Status(); s.Changes != before.Changes || len(s.Legs) != 2 || !s.Legs[0].Connected || !s.Legs[1].Connected {
		t.Errorf("a refused set changed the mirror: %+v", s)
	}
	r.holds(0, data)
	r.holds(1, data)
}

// A mirror that waits for members is given a smaller set, and the one that was
// there cannot be read then: the mirror waits on, and comes up when it can.
func TestASetThatCannotBeAssembled(t *testing.T) {
	r := newRig(t, 3)
	h, err := r.reg.Open("m", nil)
	r.ok(err)
	data := r.fill(h)
	h.Close()
	r.delete()
	r.ok(r.reg.Unregister(legName(1)))
	r.ok(r.reg.Unregister(legName(2)))
	r.create(false)
	if s := r.m.Status(); s.Assembled || !strings.Contains(s.Legs[1].Why, legName(1)) {
		t.Errorf("without two of three members: %+v", s)
	}
	legs := r.legs[:2]
	r.legs, r.gen = []mirror.LegConfig{legs[0], legs[1]}, 2
	r.legs[0].Bdev = "nix"
	if err := r.m.Set(t.Context(), 1, r.gen, r.legs); err == nil || strings.Contains(err.Error(), "\n") {
		t.Errorf("no member can be read: %v", err)
	}
	time.Sleep(3 * 100 * time.Millisecond) // the mirror looks at the time
	r.legs[0].Bdev, r.gen = legName(0), 3
	r.cover(1)
	r.set()
	r.until("online", func(s mirror.Status) bool { return s.Online && len(s.Legs) == 2 && s.Legs[1].Connected })
	r.holds(0, data)
	r.holds(1, data)
}

// TestCopyRateOutlastsAnAssembly: what a user bounds a mirror to that waits for its
// legs holds when a set has it assembled again.
func TestCopyRateOutlastsAnAssembly(t *testing.T) {
	r := newRig(t, 2)
	r.delete()
	r.ok(r.reg.Unregister(legName(1)))
	r.create(false) // waits for leg 1
	r.m.SetCopyRate(3 << 20)
	r.cover(1)
	r.set()
	r.until("online", online)
	if rate := r.m.NextCopyRate(); rate != 3<<20 {
		t.Errorf("it is assembled with a bound of %d bytes per second, not %d", rate, 3<<20)
	}
	r.m.SetCopyRate(0)
	if rate := r.m.NextCopyRate(); rate != 0 {
		t.Errorf("a bound of %d bytes per second is still there", rate)
	}
}

// A mirror that could not be assembled by a set comes up by the same set, once
// its leg is there; a host's write waits meanwhile. Nothing of the failed trials
// keeps hold of a leg.
func TestAFailedSetIsRepeated(t *testing.T) {
	r := newRig(t, 2)
	h := r.open()
	data := r.fill(h)
	h.Close()
	r.delete()
	r.ok(r.reg.Unregister(legName(1)))
	r.create(false) // waits for leg 1
	h = r.open()
	r.ok(r.reg.Unregister(legName(0)))
	for range 3 {
		if err := r.m.Set(t.Context(), 1, r.gen, r.legs); !errors.Is(err, syscall.EIO) || !strings.Contains(err.Error(), legName(0)) {
			t.Fatalf("a set without any leg: %v", err)
		}
	}
	r.cover(0)
	claimed, err := r.reg.Open(legName(0), nil)
	r.ok(err)
	r.ok(claimed.Claim("a test"))
	if err := r.m.Set(t.Context(), 1, r.gen, r.legs); !errors.Is(err, syscall.EIO) || !strings.Contains(err.Error(), "claimed by a test") {
		t.Fatalf("a set whose leg is in use: %v", err)
	}
	claimed.Close()
	acked := make(chan nvme.Status, 1)
	one := bytes.Repeat([]byte{5}, 4096)
	go func() {
		acked <- bdevtest.Do(h, &bdev.Request{Op: bdev.OpWrite, Offset: 9, Blocks: 1, Iov: [][]byte{one}})
	}()
	r.cover(1)
	r.set()
	r.until("online", online)
	if s := <-acked; s == nvme.Success {
		copy(data[9*4096:], one)
	} else if !s.IsPath() {
		t.Fatalf("the write ended with %v", s)
	}
	if s := bdevtest.Do(h, &bdev.Request{Op: bdev.OpWrite, Offset: 9, Blocks: 1, Iov: [][]byte{one}}); s != nvme.Success {
		t.Fatalf("a write after it came up: %v", s)
	}
	copy(data[9*4096:], one)
	h.Close()
	r.delete()
	for i := range 2 {
		r.holds(i, data)
		free, err := r.reg.Open(legName(i), nil)
		r.ok(err)
		r.ok(free.Claim("a test")) // else it is leaked
		free.Close()
	}
}

// A connected leg keeps its bdev: another name is refused, and taken once the leg
// is lost. Another epoch of its disk node is a loss.
func TestAnotherBdevOrEpochOfALeg(t *testing.T) {
	r := newRig(t, 2)
	r.until("online", online)
	r.legs[1].Bdev = "nix"
	err := r.m.Set(t.Context(), 1, r.gen, r.legs)
	if !errors.Is(err, syscall.EINVAL) || !strings.Contains(err.Error(), `"nix"`) || !strings.Contains(err.Error(), legName(1)) {
		t.Errorf("another bdev of a connected leg: %v", err)
	}
	if s := r.m.Status(); s.Legs[1].Bdev != legName(1) || !s.Online {
		t.Errorf("a refused set changed the mirror: %+v", s)
	}
	r.legs[1].Bdev = legName(1)
	r.ok(r.reg.Unregister(legName(1)))
	r.until("leg 1 is lost", lost(1))
	p, err := malloc.New(malloc.Config{Name: "other", BlockSize: 4096, Blocks: (dataSize + label.TailSize) / 4096})
	r.ok(err)
	r.ok(r.reg.Register(p))
	r.legs[1].Bdev = "other"
	r.set() // it is not the disk that it was
	if s := r.m.Status(); !s.Legs[1].Lost || !strings.Contains(s.Legs[1].Why, `"other"`) || !strings.Contains(s.Legs[1].Why, "label") {
		t.Errorf("an empty disk in place of a lost leg: %+v", s.Legs[1])
	}
	r.legs[1].Bdev = legName(1)
	r.cover(1)
	r.set()
	r.until("online", online)
	before := r.m.Status().Changes
	r.legs[1].Epoch = id(0xee, 9)
	r.set()
	if s := r.m.Status(); s.Changes == before {
		t.Error("another epoch of a connected leg has no effect")
	}
	r.until("online", online)
}

// A block that a disk has changed by itself is found by a scrub, and repaired where
// it is known who is right.
func TestScrub(t *testing.T) {
	for _, c := range []struct {
		legs     int
		from     label.ID
		repaired uint64
	}{{2, label.ID{}, 0}, {2, id(0xb0, 0), 1}, {3, label.ID{}, 1}} {
		r := newRig(t, c.legs)
		h := r.open()
		data := r.fill(h)
		disk, err := r.reg.Open("disk1", nil)
		r.ok(err)
		bad := bytes.Repeat([]byte{0xbd}, 4096)
		bdevtest.Write(t, disk, 700, bad)
		disk.Close()
		r.ok(r.m.Scrub(c.from))
		r.until("the scrub is done", func(s mirror.Status) bool { return s.Scrub.State == "done" })
		s := r.m.Status().Scrub
		if s.Done != dataSize || s.Mismatches != 1 || len(s.Offsets) != 1 || s.Offsets[0] != 700*4096 || s.Repaired != c.repaired {
			t.Errorf("%d legs, from %v: %+v", c.legs, c.from, s)
		}
		if c.repaired == 0 {
			copy(data[700*4096:], bad)
		}
		r.holds(1, data)
		if n := r.mod.Stats().Mismatches; n != 1 {
			t.Errorf("%d mismatches are counted", n)
		}
		if err := r.m.Scrub(id(0xb0, 9)); !errors.Is(err, syscall.EINVAL) || !strings.Contains(err.Error(), "not a member") {
			t.Errorf("repair from a stranger: %v", err)
		}
	}
	r := newRig(t, 1)
	if err := r.m.Scrub(label.ID{}); !errors.Is(err, syscall.EINVAL) || !strings.Contains(err.Error(), "nothing to compare") {
		t.Errorf("a scrub of one leg: %v", err)
	}
}

// What all mirrors of a node copy together is bounded beside what each may, and a
// scrub of a bounded mirror waits its turn until it is stopped.
func TestTheNodeBoundsWhatIsCopied(t *testing.T) {
	r := newRig(t, 2)
	r.until("online", online)
	r.mod.SetCopyRate(1) // one step goes into debt for ever
	r.ok(r.m.Scrub(label.ID{}))
	if err := r.m.Scrub(label.ID{}); !errors.Is(err, syscall.EBUSY) || !strings.Contains(err.Error(), "is running") {
		t.Errorf("a second scrub: %v", err)
	}
	time.Sleep(3 * 100 * time.Millisecond) // the mirror looks at the time
	if s := r.m.Status().Scrub; s.State != "running" || s.Done > 1<<20 {
		t.Errorf("at a byte per second: %+v", s)
	}
	r.m.StopScrub()
	if s := r.m.Status().Scrub; s.State != "stopped" {
		t.Errorf("stopped: %+v", s)
	}
	r.mod.SetCopyRate(0)
	r.ok(r.m.Scrub(label.ID{}))
	r.until("the scrub is done", func(s mirror.Status) bool { return s.Scrub.State == "done" })
}

// TestATargetIsThereFromTheStart: a mirror that is assembled while a leg is
// copied to, as after a failover, goes on with that.
func TestATargetIsThereFromTheStart(t *testing.T) {
	r := newRig(t, 1)
	h := r.open()
	data := r.fill(h)
	h.Close()
	r.delete()
	r.addDisk(1)
	r.legs = append(r.legs, mirror.LegConfig{VD: id(0xb0, 1), Bdev: legName(1), Role: core.Target, Epoch: id(0xee, 1)})
	r.create(false)
	r.until("the target has all", func(s mirror.Status) bool { return s.Legs[1].Ready })
	r.legs[1].Role, r.gen = core.Member, r.gen+1
	r.set()
	r.until("online", online)
	r.delete()
	r.holds(1, data)
}

// stuck is a disk that keeps requests until it is let go.
type stuck struct {
	bdev.Device
	mu   sync.Mutex
	on   bool
	at   uint64 // only writes at this offset in blocks; 0: all
	kept []*bdev.Request
}

func (s *stuck) Submit(r *bdev.Request, b *bdev.Batch) {
	s.mu.Lock()
	if s.on && (s.at == 0 || r.Op == bdev.OpWrite && r.Offset == s.at) {
		s.kept = append(s.kept, r)
		s.mu.Unlock()
		return
	}
	s.mu.Unlock()
	s.Device.Submit(r, b)
}

func (s *stuck) turn(on bool) {
	s.mu.Lock()
	kept := s.kept
	s.on, s.kept = on, nil
	s.mu.Unlock()
	var b bdev.Batch
	for _, r := range kept {
		r.Complete(nvme.InternalPathError, &b)
	}
	b.Flush()
}

// A leg that answers nothing is lost after a while, with I/O and without.
func TestALegThatHangsIsLost(t *testing.T) {
	was := mirror.SetStall(time.Second / 2)
	defer func() { mirror.SetStall(was) }()
	for _, busy := range []bool{true, false} {
		r := newRig(t, 1)
		slow := r.addStuck()
		h := r.open()
		slow.turn(true)
		acked := make(chan nvme.Status, 1)
		if busy {
			go func() {
				acked <- bdevtest.Do(h, &bdev.Request{Op: bdev.OpWrite, Offset: 3, Blocks: 1, Iov: [][]byte{make([]byte, 4096)}})
			}()
		}
		r.until("it is lost", lost(1))
		r.legs[1].Role, r.gen = core.Absent, 3
		r.set()
		slow.turn(false) // as its controller is cut
		if busy {
			if s := <-acked; s != nvme.Success {
				t.Errorf("a write that met a leg that hangs: %v", s)
			}
		}
		r.until("the other goes on", online)
		h.Close()
		r.delete()
	}
}

// A leg whose disk fails the sign of life that it is asked for is lost, and says so.
func TestALegThatCannotBeReadIsLost(t *testing.T) {
	r := newRig(t, 2)
	r.until("online", online)
	r.ok(r.errors[1].Inject(errorinj.Injection{IOType: "read", Fault: errorinj.Failure, Num: 1}))
	r.until("it is lost", lost(1))
	if why := r.m.Status().Legs[1].Why; why != core.BadRead {
		t.Errorf("it is lost because %q, not %q", why, core.BadRead)
	}
}

// addStuck adds a second member, whose requests can be held.
func (r *rig) addStuck() *stuck {
	r.Helper()
	slow := r.addTarget()
	r.legs[1].Role, r.gen = core.Member, 2
	r.set()
	r.until("online", func(s mirror.Status) bool { return s.Online && s.Legs[1].Connected })
	return slow
}

// addTarget adds a second leg, which is ready.
func (r *rig) addTarget() *stuck {
	r.Helper()
	d, err := malloc.New(malloc.Config{Name: "slow", BlockSize: 4096, Blocks: (dataSize + label.TailSize) / 4096})
	r.ok(err)
	slow := &stuck{Device: d}
	r.ok(r.reg.Register(slow))
	r.legs = append(r.legs, mirror.LegConfig{VD: id(0xb0, 1), Bdev: "slow", Role: core.Target})
	r.set()
	r.until("the second leg lacks nothing", func(s mirror.Status) bool { return s.Legs[1].Ready })
	return slow
}

// A leg that is ready, so that writes wait for it, is lost before it is a member. What
// is under way goes on when it is dropped, though the members are the same.
func TestALegThatIsLostBeforeItIsAMember(t *testing.T) {
	was := mirror.SetStall(time.Second / 2)
	defer func() { mirror.SetStall(was) }()
	r := newRig(t, 1)
	slow := r.addTarget()
	h := r.open()
	slow.turn(true)
	acked := make(chan nvme.Status, 1)
	go func() {
		acked <- bdevtest.Do(h, &bdev.Request{Op: bdev.OpWrite, Offset: 3, Blocks: 1, Iov: [][]byte{make([]byte, 4096)}})
	}()
	r.until("it is lost", lost(1))
	r.legs[1].Role = core.Absent
	r.set()
	slow.turn(false) // as its controller is cut
	select {
	case s := <-acked:
		if s != nvme.Success {
			t.Errorf("a write that waited for it: %v", s)
		}
	case <-time.After(2 * time.Minute):
		t.Error("a write waits for it still")
	}
	r.until("the other goes on", online)
	h.Close()
	r.delete()
}

// A leg that leaves one write unanswered is lost after a while, though it goes on
// answering others.
func TestALegThatHoldsOneWriteIsLost(t *testing.T) {
	was := mirror.SetStall(time.Second / 2)
	defer func() { mirror.SetStall(was) }()
	r := newRig(t, 1)
	slow := r.addStuck()
	slow.at = 3
	slow.turn(true)
	h := r.open()
	write := func(at uint64) nvme.Status {
		return bdevtest.Do(h, &bdev.Request{Op: bdev.OpWrite, Offset: at, Blocks: 1, Iov: [][]byte{make([]byte, 4096)}})
	}
	held, others := make(chan nvme.Status, 1), make(chan nvme.Status, 1)
	var ended atomic.Bool
	t.Cleanup(func() {
		ended.Store(true)
		slow.turn(false)
	})
	go func() { held <- write(3) }()
	go func() {
		s := nvme.Success
		for at := uint64(8); s == nvme.Success && !ended.Load(); at++ {
			s = write(8 + at%64)
		}
		others <- s
	}()
	r.until("it is lost", lost(1))
	ended.Store(true)
	r.legs[1].Role, r.gen = core.Absent, 3
	r.set()
	slow.turn(false) // as its controller is cut
	for _, c := range []chan nvme.Status{held, others} {
		if s := <-c; s != nvme.Success {
			t.Errorf("a write beside or at what hangs: %v", s)
		}
	}
	r.until("the other goes on", online)
	h.Close()
	r.delete()
}

// TestALegThatIsCutOffIsLostAtOnce: no request has to fail for it. The only leg is
// not lost, as nobody can go on without it.
func TestALegThatIsCutOffIsLostAtOnce(t *testing.T) {
	r := newRig(t, 2)
	r.until("online", online)
	r.reg.CutOff(legName(1))
	r.until("it is lost", lost(1))
	r.set() // it is back
	r.until("online", online)
	r.legs[1].Role, r.gen = core.Absent, r.gen+1
	r.set()
	r.reg.CutOff(legName(0))
	h := r.open()
	bdevtest.Write(t, h, 0, make([]byte, 4096))
	if s := r.m.Status(); s.Legs[0].Lost || !s.Online {
		t.Errorf("the only leg: %+v", s)
	}
}
