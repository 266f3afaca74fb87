package delay_test

import (
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/virtual-disk-array/vda/bdev"
	"github.com/virtual-disk-array/vda/bdev/bdevtest"
	"github.com/virtual-disk-array/vda/module/delay"
	"github.com/virtual-disk-array/vda/module/malloc"
	"github.com/virtual-disk-array/vda/nvme"
)

func base(t *testing.T, reg *bdev.Registry) {
	t.Helper()
	d, err := malloc.New(malloc.Config{Name: "Malloc0", BlockSize: 4096, Blocks: 2048})
	if err != nil {
		t.Fatal(err)
	}
	if err := reg.Register(d); err != nil {
		t.Fatal(err)
	}
}

func TestConformance(t *testing.T) {
	for _, l := range []time.Duration{0, 50 * time.Microsecond} {
		bdevtest.Run(t, bdevtest.Subject{New: func(t *testing.T, reg *bdev.Registry) string {
			base(t, reg)
			if _, err := delay.Create(reg, delay.Config{Name: "Delay0", Base: "Malloc0", AvgRead: l, P99Read: l, AvgWrite: l,
				P99Write: 2 * l}); err != nil {
				t.Fatal(err)
			}
			return "Delay0"
		}})
	}
}

func TestLatency(t *testing.T) {
	reg := bdev.NewRegistry()
	defer reg.Close()
	base(t, reg)
	d, err := delay.Create(reg, delay.Config{Name: "Delay0", Base: "Malloc0", AvgRead: 20 * time.Millisecond, P99Read: 20 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	h, err := reg.Open("Delay0", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	p := make([]byte, 4096)
	took := func(op bdev.Op) time.Duration {
		begin := time.Now()
		if s := bdevtest.Do(h, &bdev.Request{Op: op, Blocks: 1, Iov: [][]byte{p}}); s != nvme.Success {
			t.Fatal(s)
		}
		return time.Since(begin)
	}
	if l := took(bdev.OpRead); l < 20*time.Millisecond {
		t.Errorf("a read took %v, want 20 ms or more", l)
	}
	if l := took(bdev.OpWrite); l > 15*time.Millisecond {
		t.Errorf("a write took %v, is not delayed", l)
	}
	// Reads at the same time are delayed at the same time.
	begin := time.Now()
	done := make(chan struct{}, 32)
	var b bdev.Batch
	for range cap(done) {
		h.Submit(&bdev.Request{Op: bdev.OpRead, Blocks: 1, Iov: [][]byte{p}, Done: func(*bdev.Request, *bdev.Batch) { done <- struct{}{} }}, &b)
	}
	for range cap(done) {
		<-done
	}
	if l := time.Since(begin); l < 20*time.Millisecond || l > 200*time.Millisecond {
		t.Errorf("32 reads together took %v", l)
	}
	for _, kind := range []string{"avg_read", "p99_read"} {
		if err := d.SetLatency(kind, 0); err != nil {
			t.Fatal(err)
		}
	}
	if l := took(bdev.OpRead); l > 15*time.Millisecond {
		t.Errorf("a read took %v after the delay was set to 0", l)
	}
	if err := d.SetLatency("median_read", 0); !bdev.IsErrno(err, syscall.EINVAL) {
		t.Errorf("an unknown kind: %v", err)
	}
}

// One request in a hundred, more or less, takes the longer time.
func TestP99(t *testing.T) {
	reg := bdev.NewRegistry()
	defer reg.Close()
	base(t, reg)
	if _, err := delay.Create(reg, delay.Config{Name: "Delay0", Base: "Malloc0", P99Write: 2 * time.Millisecond}); err != nil {
		t.Fatal(err)
	}
	h, err := reg.Open("Delay0", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	const n = 5000
	slow := 0
	p := make([]byte, 4096)
	for range n {
		inline := false
		done := make(chan struct{})
		var b bdev.Batch
		h.Submit(&bdev.Request{Op: bdev.OpWrite, Blocks: 1, Iov: [][]byte{p}, Done: func(*bdev.Request, *bdev.Batch) { close(done) }}, &b)
		select {
		case <-done:
			inline = true
		default:
		}
		if !inline {
			slow++
			<-done
		}
	}
	// Five standard deviations around 50.
	if slow < 15 || slow > 85 {
		t.Errorf("%d of %d writes were slow, want about %d", slow, n, n/100)
	}
}

func TestBadConfig(t *testing.T) {
	reg := bdev.NewRegistry()
	defer reg.Close()
	base(t, reg)
	ms := time.Millisecond
	for _, c := range []struct {
		conf delay.Config
		want syscall.Errno
	}{
		{delay.Config{Name: "d", Base: "Malloc0", AvgRead: ms}, syscall.EINVAL},
		{delay.Config{Name: "d", Base: "Malloc0", AvgWrite: 2 * ms, P99Write: ms}, syscall.EINVAL},
		{delay.Config{Base: "Malloc0"}, syscall.EINVAL},
		{delay.Config{Name: "d", Base: "nobody"}, syscall.ENODEV},
		{delay.Config{Name: "Malloc0", Base: "Malloc0"}, syscall.EEXIST},
	} {
		if _, err := delay.Create(reg, c.conf); !bdev.IsErrno(err, c.want) {
			t.Errorf("%+v: %v, want %v", c.conf, err, c.want)
		}
	}
	if c := reg.ClaimedBy("Malloc0"); c != "" {
		t.Errorf("a failed create left a claim of %s", c)
	}
}

// The device goes when its base goes.
func TestBaseRemoval(t *testing.T) {
	reg := bdev.NewRegistry()
	base(t, reg)
	if _, err := delay.Create(reg, delay.Config{Name: "Delay0", Base: "Malloc0"}); err != nil {
		t.Fatal(err)
	}
	gone := make(chan struct{})
	h, err := reg.Open("Delay0", func(bdev.EventKind) { close(gone) })
	if err != nil {
		t.Fatal(err)
	}
	go func() { <-gone; h.Close() }()
	if err := reg.Unregister("Malloc0"); err != nil {
		t.Fatal(err)
	}
	<-reg.Gone("Delay0")
	if n := reg.Names(); len(n) != 0 {
		t.Errorf("left: %v", n)
	}
}

// hosted is a disk that leads to another target: it notes of which host the last request was, and
// which command.
type hosted struct {
	*malloc.Device
	host uuid.UUID
	sent *nvme.Command
}

func (d *hosted) Info() bdev.Info {
	i := d.Device.Info()
	i.Ops |= bdev.Ops(bdev.OpNVMeIO)
	return i
}

func (d *hosted) Submit(r *bdev.Request, b *bdev.Batch) {
	d.host, d.sent = r.Host, r.NVMe
	if r.Op == bdev.OpNVMeIO {
		r.Complete(nvme.Success, b)
		return
	}
	d.Device.Submit(r, b)
}

// TestHostsAndCommandsArePassedOn: a device around one that leads to another target says of which host a
// request is, and hands on the commands that it says it takes.
func TestHostsAndCommandsArePassedOn(t *testing.T) {
	reg := bdev.NewRegistry()
	defer reg.Close()
	m, err := malloc.New(malloc.Config{Name: "Malloc0", BlockSize: 4096, Blocks: 2048})
	if err != nil {
		t.Fatal(err)
	}
	base := &hosted{Device: m}
	if err := reg.Register(base); err != nil {
		t.Fatal(err)
	}
	if _, err := delay.Create(reg, delay.Config{Name: "Delay0", Base: "Malloc0"}); err != nil {
		t.Fatal(err)
	}
	h, err := reg.Open("Delay0", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	if !h.Info().Ops.Has(bdev.OpNVMeIO) {
		t.Fatal("it does not take commands")
	}
	for _, host := range []uuid.UUID{uuid.New(), uuid.New(), {}} {
		var c nvme.Command
		for _, r := range []*bdev.Request{{Op: bdev.OpNVMeIO, NVMe: &c}, {Op: bdev.OpWrite, Blocks: 1, Iov: [][]byte{make([]byte, 4096)}}} {
			r.Host = host
			if s := bdevtest.Do(h, r); s != nvme.Success {
				t.Fatal(r.Op, s)
			}
			if base.host != host || base.sent != r.NVMe {
				t.Errorf("%v of host %s came as one of %s, with command %p, want %p", r.Op, host, base.host, base.sent, r.NVMe)
			}
		}
	}
}
