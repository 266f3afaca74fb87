package aio

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/virtual-disk-array/vda/bdev"
	"github.com/virtual-disk-array/vda/nvme"
)

func scratch(t *testing.T, reg *bdev.Registry) *Device {
	t.Helper()
	name := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(name, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	d, err := New(Config{Name: "Aio0", Filename: name, BlockSize: 4096, Registry: reg})
	if err != nil {
		t.Fatal(err)
	}
	if err := reg.Register(d); err != nil {
		t.Fatal(err)
	}
	return d
}

func TestErrnoBecomesStatus(t *testing.T) {
	reg := bdev.NewRegistry()
	defer reg.Close()
	d := scratch(t, reg)
	for _, c := range []struct {
		op   bdev.Op
		e    syscall.Errno
		want nvme.Status
	}{
		{bdev.OpRead, 0, nvme.Success},
		{bdev.OpRead, syscall.EIO, nvme.UnrecoveredReadError},
		{bdev.OpWrite, syscall.EIO, nvme.WriteFault},
		{bdev.OpFlush, syscall.EIO, nvme.WriteFault},
		{bdev.OpRead, syscall.ENODATA, nvme.UnrecoveredReadError}, // how Linux says "medium error"
		{bdev.OpWrite, syscall.ENOSPC, nvme.CapacityExceeded},
		{bdev.OpWrite, syscall.EDQUOT, nvme.CapacityExceeded},
		{bdev.OpWrite, syscall.EFBIG, nvme.CapacityExceeded},
		{bdev.OpRead, syscall.ENOMEM, nvme.CommandInterrupted},
		{bdev.OpWrite, syscall.EROFS, nvme.WriteProtected | nvme.DNR},
		{bdev.OpUnmap, syscall.EOPNOTSUPP, nvme.InvalidOpcode | nvme.DNR},
		{bdev.OpWrite, syscall.EBADE, nvme.ReservationConflict},
		{bdev.OpRead, syscall.EDOM, nvme.InternalError},
	} {
		if s := d.status(c.op, c.e); s != c.want {
			t.Errorf("%v with %v: %v, want %v", c.op, c.e, s, c.want)
		}
	}
}

// A device that is no longer there says so by a path status, from then on for
// everything, and unregisters itself.
func TestVanishing(t *testing.T) {
	reg := bdev.NewRegistry()
	d := scratch(t, reg)
	told := make(chan struct{})
	h, err := reg.Open("Aio0", func(bdev.EventKind) { close(told) })
	if err != nil {
		t.Fatal(err)
	}
	if s := d.status(bdev.OpRead, syscall.ENXIO); !s.IsPath() {
		t.Errorf("ENXIO: %v", s)
	}
	select {
	case <-told:
	case <-time.After(time.Minute):
		t.Fatal("not unregistered")
	}
	got := make(chan nvme.Status, 1)
	var b bdev.Batch
	d.Submit(&bdev.Request{Op: bdev.OpFlush, Done: func(r *bdev.Request, _ *bdev.Batch) { got <- r.Status }}, &b)
	if s := <-got; !s.IsPath() {
		t.Errorf("a flush afterwards: %v", s)
	}
	h.Close()
	<-reg.Gone("Aio0")
}
