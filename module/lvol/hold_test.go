package lvol

import (
	"encoding/binary"
	"fmt"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/virtual-disk-array/vda/bdev"
	"github.com/virtual-disk-array/vda/module/malloc"
	"github.com/virtual-disk-array/vda/nvme"
)

// numbered is a block that begins with a number.
func numbered(n uint64) []byte {
	buf := make([]byte, 4096)
	binary.LittleEndian.PutUint64(buf, n)
	return buf
}

func (r *rig) number(name string) uint64 { return binary.LittleEndian.Uint64(r.read(name, 0, 4096)) }

// pair are volumes of two stores, as two arrays have them, and one who writes number n to the
// first and, when that is acknowledged, to the second.
type pair struct {
	*rig
	v     [2]*Volume
	acked atomic.Uint64 // in both
	wg    sync.WaitGroup
	stop  chan struct{}
}

func newPair(t *testing.T) *pair {
	p := &pair{rig: newRig(t), stop: make(chan struct{})}
	for i, name := range []string{"a", "b"} {
		p.disk("disk-"+name, 64*mib)
		p.v[i] = p.volume(p.store("disk-"+name, name, StoreOpts{}), VolumeOpts{Name: "vol", Bytes: 4 * mib})
	}
	return p
}

func (p *pair) start() {
	var h [2]*opened
	for i, v := range p.v {
		h[i] = p.open(v.BdevName())
	}
	p.wg.Go(func() {
		for n := uint64(1); ; n++ {
			for _, o := range h {
				q := &bdev.Request{Op: bdev.OpWrite, Blocks: 1, Iov: [][]byte{numbered(n)}}
				if s := o.do(q); s != nvme.Success {
					p.t.Errorf("write %d: %s", n, s)
					return
				}
			}
			p.acked.Store(n)
			select {
			case <-p.stop:
				return
			default:
			}
		}
	})
}

func (p *pair) end() {
	close(p.stop)
	p.wg.Wait()
}

// TestHeldSnapshotsShowOneMoment: a snapshot of the second volume that shows a write implies
// one of the first that shows the write before it, and neither lacks one that had been
// acknowledged.
func TestHeldSnapshotsShowOneMoment(t *testing.T) {
	const rounds = 20
	p := newPair(t)
	p.start()
	defer p.end()
	for round := range rounds {
		name := fmt.Sprint("s", round)
		for p.acked.Load() < uint64(round) { // it goes on in between
			time.Sleep(time.Millisecond)
		}
		before := p.acked.Load()
		var wg sync.WaitGroup
		errs := make([]error, len(p.v))
		for i, v := range p.v {
			take := func() { _, errs[i] = v.SnapshotHold(name, time.Minute) }
			if round%2 == 0 {
				wg.Go(take)
			} else {
				take()
				time.Sleep(2 * time.Millisecond) // the writer would get far by now
			}
		}
		wg.Wait()
		for i, v := range p.v {
			if held, inForce := v.Release(name); errs[i] != nil || !inForce || held == 0 {
				t.Fatalf("volume %d: %v; held for %v, in force until its release: %v", i, errs[i], held, inForce)
			}
		}
		a, b := p.number("a/"+name), p.number("b/"+name)
		if a < before || b < before || b > a || a > b+1 {
			t.Errorf("the snapshots show numbers %d and %d; %d was acknowledged before", a, b, before)
		}
	}
}

// TestHoldEndsByItself: one whose order's end nobody lives to see holds hosts up for so long
// and no longer, and the release says that its snapshot is of no moment with others.
func TestHoldEndsByItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.disk("d", 64*mib)
		st := r.store("d", "lvs", StoreOpts{})
		v := r.volume(st, VolumeOpts{Name: "vol", Bytes: 4 * mib})
		r.write("lvs/vol", 0, numbered(1))
		if _, err := v.SnapshotHold("s", 2*time.Second); err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		done := make(chan time.Duration, 1)
		go func() {
			r.write("lvs/vol", 0, numbered(2))
			done <- time.Since(begin)
		}()
		synctest.Wait()
		if _, err := v.SnapshotHold("t", time.Second); err == nil {
			t.Error("it is held for two snapshots at once")
		} else {
			wantErrno(t, err, syscall.EBUSY)
		}
		if held, inForce := v.Release("t"); held != 0 || inForce {
			t.Errorf("a hold that there is not: %v, %v", held, inForce)
		}
		if waited := <-done; waited != 2*time.Second {
			t.Errorf("a write waited for %v, want 2s", waited)
		}
		if held, inForce := v.Release("s"); held != 2*time.Second || inForce {
			t.Errorf("the hold was %v long, in force until its release: %v; want 2s, false", held, inForce)
		}
		if n := r.number("lvs/s"); n != 1 {
			t.Errorf("the snapshot shows number %d", n)
		}
		// It can be held again, and goes on at once when it is released.
		if _, err := v.SnapshotHold("t", time.Second); err != nil {
			t.Fatal(err)
		}
		if _, inForce := v.Release("t"); !inForce {
			t.Error("the second hold was not in force")
		}
		if n := r.number("lvs/t"); n != 2 {
			t.Errorf("the second snapshot shows number %d", n)
		}
		if err := st.Unload(); err != nil {
			t.Error(err)
		}
	})
}

// TestSnapshotAfterItsHold: none is made of what is not held any more.
func TestSnapshotAfterItsHold(t *testing.T) {
	r := newRig(t)
	r.disk("d", 64*mib)
	v := r.volume(r.store("d", "lvs", StoreOpts{}), VolumeOpts{Name: "vol", Bytes: 4 * mib})
	h, err := v.blob.Hold(time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	h.Release()
	if _, err := h.Snapshot(nil); err == nil || v.blob.Parent() != nil {
		t.Fatal("there is a snapshot of what was not held")
	} else {
		wantErrno(t, err, syscall.ETIMEDOUT)
	}
}

// stuck is a disk that ends no write until it is let.
type stuck struct {
	*malloc.Device
	on   atomic.Bool
	mu   sync.Mutex
	held []*bdev.Request
}

func (d *stuck) Submit(r *bdev.Request, b *bdev.Batch) {
	if d.on.Load() && r.Op == bdev.OpWrite && r.Retain() {
		d.mu.Lock()
		d.held = append(d.held, r)
		d.mu.Unlock()
		return
	}
	d.Device.Submit(r, b)
}

// TestHoldGivesUp: I/O that does not end, as when the dn of the only leg hangs, is not waited
// for any longer than a hold may last, and what came meanwhile goes on.
func TestHoldGivesUp(t *testing.T) {
	r := newRig(t)
	mem, err := malloc.New(malloc.Config{Name: "d", BlockSize: 4096, Blocks: 64 * mib / 4096})
	if err != nil {
		t.Fatal(err)
	}
	d := &stuck{Device: mem}
	if err := r.reg.Register(d); err != nil {
		t.Fatal(err)
	}
	st := r.store("d", "lvs", StoreOpts{})
	v := r.volume(st, VolumeOpts{Name: "vol", Bytes: 4 * mib})
	r.write("lvs/vol", 0, numbered(1))
	d.on.Store(true)
	var wg sync.WaitGroup
	wg.Go(func() { r.write("lvs/vol", 0, numbered(2)) })
	for stuck := 0; stuck == 0; time.Sleep(time.Millisecond) {
		d.mu.Lock()
		stuck = len(d.held)
		d.mu.Unlock()
	}
	_, err = v.SnapshotHold("s", 20*time.Millisecond)
	wantErrno(t, err, syscall.ETIMEDOUT)
	if n := r.number("lvs/vol"); n != 1 { // a read goes on
		t.Errorf("number %d", n)
	}
	// The write is still under way: no other snapshot may be taken beside it, though it would
	// have time. The write would reach a cluster that is the snapshot's by then.
	d.on.Store(false)
	for _, name := range []string{"s", "t", "u"} {
		_, err = v.SnapshotHold(name, 20*time.Millisecond)
		wantErrno(t, err, syscall.ETIMEDOUT)
	}
	if len(st.Volumes()) != 1 {
		t.Errorf("%d volumes; there should be no snapshot", len(st.Volumes()))
	}
	var b bdev.Batch
	d.mu.Lock()
	for _, q := range d.held {
		d.Device.Submit(q, &b)
	}
	d.mu.Unlock()
	b.Flush()
	wg.Wait()
	if n := r.number("lvs/vol"); n != 2 {
		t.Errorf("number %d", n)
	}
}
