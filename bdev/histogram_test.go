package bdev

import (
	"encoding/base64"
	"encoding/binary"
	"testing"
	"time"

	"github.com/virtual-disk-array/vda/nvme"
)

// The table of spdk/histogram_data.h.
func TestHistogramBuckets(t *testing.T) {
	for _, c := range []struct {
		value uint64
		rng   int
		index int
	}{
		{0, 0, 0}, {127, 0, 127}, {128, 1, 0}, {255, 1, 127}, {256, 2, 0}, {257, 2, 0}, {258, 2, 1}, {511, 2, 127},
		{512, 3, 0}, {515, 3, 0}, {516, 3, 1}, {1 << 61, 55, 0}, {1<<63 - 1, 56, 127}, {1 << 63, 57, 0}, {^uint64(0), 57, 127},
	} {
		b := histBucket(c.value)
		if b>>histGranularity != c.rng || b&127 != c.index {
			t.Errorf("%d is in range %d, bucket %d, want %d, %d", c.value, b>>histGranularity, b&127, c.rng, c.index)
		}
		if up := histUpper(b); up < c.value || histBucket(up) != b {
			t.Errorf("bucket of %d ends at %d", c.value, up)
		}
		if up := histUpper(b); up != ^uint64(0) && histBucket(up+1) != b+1 {
			t.Errorf("bucket of %d ends at %d, but the next value is in bucket %d", c.value, up, histBucket(up+1))
		}
	}
}

type slow struct{ info Info }

func (d *slow) Info() Info { return d.info }
func (d *slow) Submit(r *Request, b *Batch) {
	b.Flush() // a new pass, whose clock is read again
	time.Sleep(2 * time.Millisecond)
	r.Complete(nvme.Success, b)
}
func (d *slow) Close() error { return nil }

func TestHistogramCounts(t *testing.T) {
	reg := NewRegistry()
	defer reg.Close()
	if err := reg.Register(&slow{Info{Name: "s", BlockSize: 512, Blocks: 8, Ops: Ops(OpFlush, OpUnmap)}}); err != nil {
		t.Fatal(err)
	}
	if _, err := reg.Histogram("s"); !IsErrno(err, ErrNoHistogram) {
		t.Errorf("a histogram that is not enabled: %v", err)
	}
	if err := reg.EnableHistogram("s", true, OpUnmap); err != nil {
		t.Fatal(err)
	}
	h, err := reg.Open("s", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	var b Batch
	for _, op := range []Op{OpUnmap, OpUnmap, OpFlush} {
		h.Submit(&Request{Op: op, Done: func(*Request, *Batch) {}}, &b)
	}
	s, err := reg.Histogram("s")
	if err != nil {
		t.Fatal(err)
	}
	if q := s.Quantile(0.5); q < uint64(2*time.Millisecond) || q > uint64(time.Second) {
		t.Errorf("median %v, slept 2 ms", time.Duration(q))
	}
	raw, err := base64.StdEncoding.DecodeString(s.JSON().Histogram)
	if err != nil || len(raw) != 8*58*128 {
		t.Fatalf("%d bytes, %v", len(raw), err)
	}
	sum := uint64(0)
	for ; len(raw) > 0; raw = raw[8:] {
		sum += binary.LittleEndian.Uint64(raw)
	}
	if sum != 2 {
		t.Errorf("%d requests counted, want 2", sum)
	}
}

func TestPool(t *testing.T) {
	p := NewPool(1 << 20)
	if p.Get(4<<20+1) != nil {
		t.Error("a buffer above the largest class")
	}
	var all [][]byte
	for {
		buf := p.Get(100 << 10)
		if buf == nil {
			break
		}
		if len(buf) != 100<<10 || cap(buf) != 128<<10 {
			t.Fatalf("%d bytes of %d", len(buf), cap(buf))
		}
		for i := range buf {
			buf[i] = byte(len(all))
		}
		all = append(all, buf)
	}
	if len(all) != 8 || p.InUse() != 8 {
		t.Errorf("%d buffers of 128 KiB from 1 MiB, %d in use", len(all), p.InUse())
	}
	if p.Get(1) != nil {
		t.Error("more than the limit")
	}
	for n, buf := range all {
		for _, x := range buf {
			if x != byte(n) {
				t.Fatal("buffers overlap")
			}
		}
		p.Put(buf)
	}
	if p.InUse() != 0 || p.Get(70<<10) == nil {
		t.Error("what was put back is not there")
	}
	p.SetLimit(2 << 20)
	if p.Get(4096) == nil {
		t.Error("nothing after the limit was raised")
	}
}
