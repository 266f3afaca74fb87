package bdevnvme

import (
	"errors"
	"syscall"
	"testing"

	"github.com/virtual-disk-array/vda/bdev"
	"github.com/virtual-disk-array/vda/bdev/bdevtest"
	"github.com/virtual-disk-array/vda/nvme"
)

// TestFailAtOnceIsSetLive: what waits for a lost connection, and would for an hour, ends once
// the controller is told to have I/O fail at once; and what is told so waits once it is not.
func TestFailAtOnceIsSetLive(t *testing.T) {
	r := newRig(t, 1)
	r.attach(0, func(c *AttachConfig) {
		c.Resilience = Resilience{CtrlrLossTimeoutSec: -1, ReconnectDelaySec: 1, FastIOFailTimeoutSec: 3600}
	})
	dev, _ := r.front.Get("Nv0n1")
	d := dev.(*disk)
	h := r.open("Nv0n1")
	defer h.Close()
	do := func() nvme.Status {
		return bdevtest.Do(h, &bdev.Request{Op: bdev.OpRead, Blocks: 1, Iov: [][]byte{make([]byte, 4096)}})
	}
	waits := func() bool {
		d.mu.Lock()
		defer d.mu.Unlock()
		return len(d.waiting) > 0
	}
	r.tgt.Close()
	ended := make(chan nvme.Status, 1)
	go func() { ended <- do() }()
	r.eventually("it waits", waits)
	r.ok(r.m.SetFailAtOnce("Nv0", true))
	if s := <-ended; s != nvme.InternalPathError {
		t.Errorf("it ends with %v", s)
	}
	if s := do(); s != nvme.InternalPathError {
		t.Errorf("the next one ends with %v", s)
	}
	if c, err := r.m.Get("Nv0"); err != nil || !c.Ctrlrs[0].FailAtOnce || !r.m.Attachments()[0].FailAtOnce {
		t.Errorf("shown are %+v and %+v, %v", c, r.m.Attachments(), err)
	}
	r.ok(r.m.SetFailAtOnce("Nv0", false))
	go func() { ended <- do() }()
	r.eventually("it waits again", waits)
	r.ok(r.m.SetFailAtOnce("Nv0", true))
	<-ended
	if err := r.m.SetFailAtOnce("none", true); !errors.Is(err, syscall.ENODEV) {
		t.Errorf("of a controller that there is not: %v", err)
	}
}
