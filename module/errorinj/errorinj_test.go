package errorinj_test

import (
	"bytes"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/virtual-disk-array/vda/bdev"
	"github.com/virtual-disk-array/vda/bdev/bdevtest"
	"github.com/virtual-disk-array/vda/module/errorinj"
	"github.com/virtual-disk-array/vda/module/malloc"
	"github.com/virtual-disk-array/vda/nvme"
)

func create(t *testing.T, reg *bdev.Registry) *errorinj.Device {
	t.Helper()
	m, err := malloc.New(malloc.Config{Name: "Malloc0", BlockSize: 512, Blocks: 16384})
	if err != nil {
		t.Fatal(err)
	}
	if err := reg.Register(m); err != nil {
		t.Fatal(err)
	}
	d, err := errorinj.Create(reg, "Malloc0", uuid.Nil)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func open(t *testing.T) (*bdev.Registry, *errorinj.Device, *bdev.Handle) {
	t.Helper()
	reg := bdev.NewRegistry()
	d := create(t, reg)
	h, err := reg.Open("EE_Malloc0", nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close(); reg.Close() })
	return reg, d, h
}

func TestConformance(t *testing.T) {
	bdevtest.Run(t, bdevtest.Subject{New: func(t *testing.T, reg *bdev.Registry) string {
		create(t, reg)
		return "EE_Malloc0"
	}})
}

func block(v byte) [][]byte { return [][]byte{bytes.Repeat([]byte{v}, 512)} }

func TestFaults(t *testing.T) {
	_, d, h := open(t)
	for _, c := range []struct {
		inj  errorinj.Injection
		op   bdev.Op
		want nvme.Status
	}{
		{errorinj.Injection{IOType: "read", Fault: errorinj.Failure, Num: 2}, bdev.OpRead, nvme.UnrecoveredReadError},
		{errorinj.Injection{IOType: "all", Fault: errorinj.Failure, Num: 1}, bdev.OpWrite, nvme.WriteFault},
		{errorinj.Injection{IOType: "flush", Fault: errorinj.NoMem, Num: 3}, bdev.OpFlush, nvme.CommandInterrupted},
		{errorinj.Injection{IOType: "unmap", Fault: errorinj.NVMeFailure, Status: nvme.ANAInaccessible}, bdev.OpUnmap, nvme.ANAInaccessible},
	} {
		if err := d.Inject(c.inj); err != nil {
			t.Fatal(err)
		}
		try := func() nvme.Status {
			r := &bdev.Request{Op: c.op}
			if c.op != bdev.OpFlush {
				r.Blocks = 1
			}
			if c.op == bdev.OpRead || c.op == bdev.OpWrite {
				r.Iov = block(1)
			}
			return bdevtest.Do(h, r)
		}
		for range max(c.inj.Num, 1) {
			if s := try(); s != c.want {
				t.Errorf("%+v: %v", c.inj, s)
			}
		}
		if s := try(); s != nvme.Success {
			t.Errorf("%+v: one request too many failed: %v", c.inj, s)
		}
		if err := d.Inject(errorinj.Injection{IOType: "clear"}); err != nil {
			t.Fatal(err)
		}
	}
}

func TestCorruptData(t *testing.T) {
	_, d, h := open(t)
	data := block(7)
	bdevtest.Write(t, h, 0, data[0])
	if err := d.Inject(errorinj.Injection{IOType: "read", Fault: errorinj.CorruptData, CorruptOffset: 100, CorruptValue: 0x10}); err != nil {
		t.Fatal(err)
	}
	got := bdevtest.Read(t, h, 0, 1)
	if got[100] != 0x17 || got[99] != 7 {
		t.Errorf("read %x, want one byte changed", got[98:102])
	}
	if got = bdevtest.Read(t, h, 0, 1); !bytes.Equal(got, data[0]) {
		t.Error("the medium was changed by a corrupted read")
	}
	if err := d.Inject(errorinj.Injection{IOType: "write", Fault: errorinj.CorruptData, CorruptOffset: 511, CorruptValue: 1}); err != nil {
		t.Fatal(err)
	}
	bdevtest.Write(t, h, 0, data[0])
	if data[0][511] != 7 {
		t.Error("the submitter's data was changed")
	}
	if got = bdevtest.Read(t, h, 0, 1); got[511] != 6 {
		t.Errorf("byte 511 is %d, want 6", got[511])
	}
}

// hang submits a write that hangs.
func hang(t *testing.T, d *errorinj.Device, h *bdev.Handle) chan nvme.Status {
	t.Helper()
	if err := d.Inject(errorinj.Injection{IOType: "write", Fault: errorinj.Pending}); err != nil {
		t.Fatal(err)
	}
	out := make(chan nvme.Status, 1)
	p := block(9)
	var b bdev.Batch
	h.Submit(&bdev.Request{Op: bdev.OpWrite, Blocks: 1, Iov: p, Transient: true, Done: func(r *bdev.Request,
		_ *bdev.Batch) {
		out <- r.Status
	}}, &b)
	clear(p[0])
	b.Flush()
	select {
	case s := <-out:
		t.Fatalf("does not hang: %v", s)
	case <-time.After(5 * time.Millisecond):
	}
	return out
}

func TestPending(t *testing.T) {
	reg, d, h := open(t)
	out := hang(t, d, h)
	d.Resume()
	if s := <-out; s != nvme.Success {
		t.Error(s)
	}
	if got := bdevtest.Read(t, h, 0, 1); got[0] != 9 {
		t.Error("the resumed write did not reach the base")
	}
	out = hang(t, d, h)
	if s := bdevtest.Do(h, &bdev.Request{Op: bdev.OpReset}); s != nvme.Success {
		t.Error(s)
	}
	if s := <-out; s != nvme.AbortRequested {
		t.Errorf("after a reset: %v", s)
	}
	out = hang(t, d, h)
	h.Close()
	if err := reg.Unregister("EE_Malloc0"); err != nil {
		t.Error(err)
	}
	if s := <-out; !s.IsPath() {
		t.Errorf("after the removal: %v", s)
	}
}

func TestBadInjection(t *testing.T) {
	_, d, h := open(t)
	for _, i := range []errorinj.Injection{
		{IOType: "compare", Fault: errorinj.Failure},
		{IOType: "read", Fault: "explosion"},
		{IOType: "read", Fault: errorinj.CorruptData},
		{IOType: "read", Fault: errorinj.NVMeFailure},
	} {
		if err := d.Inject(i); !bdev.IsErrno(err, syscall.EINVAL) {
			t.Errorf("%+v: %v", i, err)
		}
	}
	bdevtest.Read(t, h, 0, 1)
}
