package lvol

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/virtual-disk-array/vda/bdev"
	"github.com/virtual-disk-array/vda/nvme"
)

// opened is a handle whose requests are waited for.
type opened struct {
	h *bdev.Handle
	b bdev.Batch
}

func (r *rig) open(name string) *opened {
	r.t.Helper()
	h, err := r.reg.Open(name, nil)
	if err != nil {
		r.t.Fatal(err)
	}
	return &opened{h: h}
}

func (o *opened) do(q *bdev.Request) nvme.Status {
	done := make(chan nvme.Status, 1)
	q.Done = func(q *bdev.Request, _ *bdev.Batch) { done <- q.Status }
	o.h.Submit(q, &o.b)
	o.b.Flush()
	return <-done
}

func TestSteadyIOAllocatesNothing(t *testing.T) {
	r := newRig(t)
	r.disk("d0", 64*mib)
	st := r.store("d0", "lvs", StoreOpts{})
	for _, thin := range []bool{false, true} {
		name := fmt.Sprintf("thin=%v", thin)
		r.volume(st, VolumeOpts{Name: name, Bytes: 8 * mib, Thin: thin})
		r.write("lvs/"+name, 0, make([]byte, 8*mib))
		o := r.open("lvs/" + name)
		q := &bdev.Request{Iov: [][]byte{make([]byte, 16384)}, Blocks: 4, Done: func(*bdev.Request, *bdev.Batch) {}}
		for _, op := range []bdev.Op{bdev.OpRead, bdev.OpWrite} {
			n := testing.AllocsPerRun(1000, func() {
				q.Op, q.Offset = op, 254 // over a cluster's end
				o.h.Submit(q, &o.b)
				q.Offset = 3
				o.h.Submit(q, &o.b)
				o.b.Flush()
			})
			if n >= 1 && !raceEnabled {
				t.Errorf("%s, %s: %v allocations", name, op, n)
			}
		}
		o.h.Close()
	}
}

// TestWritersDuringEverything has writers keep their own counters in the
// blocks of a thin volume while it is snapshotted, inflated, resized, unmapped
// and reads go on. A snapshot must show, for each block, a counter between
// those acknowledged before it began and those begun before it ended.
func TestWritersDuringEverything(t *testing.T) {
	r := newRig(t)
	r.disk("d0", 96*mib)
	st := r.store("d0", "lvs", StoreOpts{ClusterSize: 64 << 10})
	v := r.volume(st, VolumeOpts{Name: "v", Bytes: 4 * mib, Thin: true})
	const blocks = 4 * mib / 4096
	var begun, acked [blocks]atomic.Uint64
	var stop atomic.Bool
	var wg sync.WaitGroup
	const writers = 4
	for w := range writers {
		wg.Go(func() {
			o := r.open("lvs/v")
			defer o.h.Close()
			rng := rand.New(rand.NewPCG(uint64(w), 5))
			for !stop.Load() {
				n := 1 + rng.Uint64N(40)
				at := rng.Uint64N(blocks/writers-n) + uint64(w)*(blocks/writers)
				buf := make([]byte, n*4096)
				for i := range n {
					binary.LittleEndian.PutUint64(buf[i*4096:], begun[at+i].Add(1))
				}
				if s := o.do(&bdev.Request{Op: bdev.OpWrite, Offset: at, Blocks: n, Iov: [][]byte{buf}, Transient: true}); s != nvme.Success {
					t.Errorf("write: %s", s)
					return
				}
				for i := range n {
					acked[at+i].Store(begun[at+i].Load())
				}
			}
		})
	}
	check := func(name string, low, high []uint64) {
		got := r.read("lvs/"+name, 0, 4*mib)
		for i := range uint64(blocks) {
			n := binary.LittleEndian.Uint64(got[i*4096:])
			if n < low[i] || n > high[i] {
				t.Fatalf("%s: block %d holds %d, want %d to %d", name, i, n, low[i], high[i])
			}
			if !bytes.Equal(got[i*4096+8:(i+1)*4096], make([]byte, 4088)) {
				t.Fatalf("%s: block %d is torn", name, i)
			}
		}
	}
	counters := func(of *[blocks]atomic.Uint64) []uint64 {
		out := make([]uint64, blocks)
		for i := range of {
			out[i] = of[i].Load()
		}
		return out
	}
	var snaps []*Volume
	bounds := map[string][2][]uint64{}
	rounds := 12
	if raceEnabled {
		rounds = 5
	}
	for k := range rounds {
		low := counters(&acked)
		s, err := v.Snapshot(fmt.Sprintf("s%d", k))
		if err != nil {
			t.Fatal(err)
		}
		bounds[s.Name()] = [2][]uint64{low, counters(&begun)}
		snaps = append(snaps, s)
		switch k % 4 {
		case 1:
			d := snaps[k%len(snaps)]
			if len(d.blob.Clones()) > 1 {
				wantErrno(t, d.Delete(), syscall.EPERM)
				break
			}
			snaps = slices.DeleteFunc(snaps, func(x *Volume) bool { return x == d })
			if err := d.Delete(); err != nil {
				t.Fatal(err)
			}
		case 2:
			if err := v.DecoupleParent(); err != nil {
				t.Fatal(err)
			}
		case 3:
			if err := v.Inflate(); err != nil {
				t.Fatal(err)
			}
		}
		if err := v.Resize(uint64(4+k%2) * mib); err != nil {
			t.Fatal(err)
		}
		for _, s := range snaps {
			check(s.Name(), bounds[s.Name()][0], bounds[s.Name()][1])
		}
	}
	stop.Store(true)
	wg.Wait()
	last := counters(&acked)
	check("v", last, last)
	if err := v.Resize(4 * mib); err != nil {
		t.Fatal(err)
	}
	if err := st.Unload(); err != nil {
		t.Fatal(err)
	}
	if _, err := r.m.Examine("d0"); err != nil {
		t.Fatal(err)
	}
	check("v", last, last)
	for _, s := range snaps {
		check(s.Name(), bounds[s.Name()][0], bounds[s.Name()][1])
	}
}

// TestUnmapAgainstWrites has unmaps of whole clusters race with writes to
// them: what is acknowledged last is there, and no cluster is lost.
func TestUnmapAgainstWrites(t *testing.T) {
	r := newRig(t)
	r.disk("d0", 32*mib)
	st := r.store("d0", "lvs", StoreOpts{ClusterSize: 64 << 10})
	r.volume(st, VolumeOpts{Name: "v", Bytes: 2 * mib, Thin: true})
	r.volume(st, VolumeOpts{Name: "w", Bytes: 2 * mib, Thin: true})
	rounds := 300
	if raceEnabled {
		rounds = 80
	}
	var wg sync.WaitGroup
	for _, name := range []string{"v", "w"} {
		for k := range uint64(2) {
			wg.Go(func() {
				o := r.open("lvs/" + name)
				defer o.h.Close()
				rng := rand.New(rand.NewPCG(k, 9))
				buf := bytes.Repeat([]byte(name), 4096/len(name)*16)
				for range rounds {
					q := &bdev.Request{Op: bdev.OpWrite, Offset: rng.Uint64N(31) * 16, Blocks: 16, Iov: [][]byte{buf}}
					switch rng.IntN(3) {
					case 0:
						q.Op, q.Iov = bdev.OpUnmap, nil
						q.Blocks = 32
					case 1:
						in := make([]byte, len(buf))
						q.Op, q.Iov = bdev.OpRead, [][]byte{in}
					}
					if s := o.do(q); s != nvme.Success {
						t.Errorf("%s: %s", q.Op, s)
						return
					}
					if q.Op == bdev.OpRead {
						for _, c := range q.Iov[0] {
							if c != 0 && c != name[0] {
								t.Errorf("%s shows %q", name, c)
								return
							}
						}
					}
				}
			})
		}
	}
	wg.Wait()
	for _, name := range []string{"v", "w"} {
		v, _ := r.m.Volume("lvs/" + name)
		if err := v.Delete(); err != nil {
			t.Fatal(err)
		}
	}
	if i := st.Info(); i.FreeClusters != i.TotalDataClusters {
		t.Errorf("%d clusters free of %d", i.FreeClusters, i.TotalDataClusters)
	}
}

func BenchmarkRead4K(b *testing.B) {
	t := &testing.T{}
	r := newRig(t)
	r.disk("d0", 64*mib)
	st := r.store("d0", "lvs", StoreOpts{})
	r.volume(st, VolumeOpts{Name: "v", Bytes: 32 * mib})
	o := r.open("lvs/v")
	q := &bdev.Request{Op: bdev.OpRead, Iov: [][]byte{make([]byte, 4096)}, Blocks: 1, Done: func(*bdev.Request, *bdev.Batch) {}}
	b.ReportAllocs()
	for i := range b.N {
		q.Offset = uint64(i) * 37 % 8192
		o.h.Submit(q, &o.b)
		o.b.Flush()
	}
}
