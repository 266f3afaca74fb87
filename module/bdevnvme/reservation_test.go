package bdevnvme

import (
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/virtual-disk-array/vda/bdev"
	"github.com/virtual-disk-array/vda/nvme"
	"github.com/virtual-disk-array/vda/nvmf/host"
	"github.com/virtual-disk-array/vda/nvmf/nvmftgt"
)

const hopNQN = "nqn.2014-08.org.nvmexpress:hop"

// reserve sends a reservation command, and returns its status.
func reserve(ns *host.Namespace, op nvme.Opcode, v nvme.Reservation) nvme.Status {
	var c nvme.Command
	data := make([]byte, 16)
	c.Init(op, 0)
	c.SetReservation(v, data)
	if op == nvme.IOResvRelease {
		data = data[:8]
	}
	return <-submit(ns, &bdev.Request{Op: bdev.OpNVMeIO, NVMe: &c, Iov: [][]byte{data}}) &^ nvme.DNR
}

// reported asks for a Reservation Report.
func reported(t *testing.T, ns *host.Namespace) nvme.ReservationStatus {
	t.Helper()
	var c nvme.Command
	data := make([]byte, 4096)
	c.Init(nvme.IOResvReport, 0)
	c.SetCDW(10, uint32(len(data)/4-1))
	c.SetCDW(11, 1)
	if s := <-submit(ns, &bdev.Request{Op: bdev.OpNVMeIO, NVMe: &c, Iov: [][]byte{data}}); s != nvme.Success {
		t.Fatalf("report: %v", s)
	}
	r, err := nvme.DecodeReservationStatus(data)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestReservationOverTwoHops: hosts of two targets, one of which leads to the other, have one
// reservation. Whatever a host sends by either is judged as its own.
func TestReservationOverTwoHops(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1)
	id := uuid.New()
	r.ok(r.sub.SetReservations(nvmftgt.Reservations{ID: id, Offered: true, Forwarders: []string{hopNQN}}))
	r.attach(0, func(c *AttachConfig) {
		c.HostNQN, c.CtrlrLossTimeoutSec, c.ReconnectDelaySec, c.FastIOFailTimeoutSec = hopNQN, -1, 1, 1
	})
	front, _ := chain(r)
	r.ok(front.SetReservations(nvmftgt.Reservations{ID: id, Offered: true}))
	connect := func(a nvmftgt.Addr, sub string, who byte) *host.Namespace {
		c, err := host.Connect(t.Context(), host.Config{Traddr: a.Traddr, Trsvcid: a.Trsvcid, SubNQN: sub, Log: quiet,
			HostNQN: "nqn.2014-08.org.nvmexpress:host" + string('0'+rune(who)), HostID: uuid.UUID{15: who}})
		r.ok(err)
		t.Cleanup(c.Close)
		return c.Namespace(1)
	}
	near, far := r.addrs[0], front.Listeners()[0].Addr
	// Hosts 1 and 2 by the array's own target, 2 and 3 by the other one.
	n1, n2, f2, f3 := connect(near, nqn, 1), connect(near, nqn, 2), connect(far, front.NQN(), 2), connect(far, front.NQN(), 3)
	want := func(what string, got, want nvme.Status) {
		t.Helper()
		if got != want {
			t.Errorf("%s: %v, want %v", what, got, want)
		}
	}
	all := func(who string, ns *host.Namespace, status nvme.Status) {
		t.Helper()
		for _, op := range []bdev.Op{bdev.OpRead, bdev.OpWrite, bdev.OpFlush, bdev.OpUnmap, bdev.OpWriteZeroes, bdev.OpCompare,
			bdev.OpCompareAndWrite} {
			q := &bdev.Request{Op: op, Offset: 8, Blocks: 4}
			switch op {
			case bdev.OpRead, bdev.OpWrite, bdev.OpCompare:
				q.Blocks = 128 // in pieces
				q.Iov = [][]byte{make([]byte, q.Blocks*4096)}
			case bdev.OpCompareAndWrite:
				q.Blocks = 1
				q.Iov = [][]byte{make([]byte, 8192)}
			case bdev.OpFlush:
				q.Offset, q.Blocks = 0, 0
			}
			want(who+": "+op.String(), <-submit(ns, q)&^nvme.DNR, status)
		}
	}
	want("register 2 there", reserve(f2, nvme.IOResvRegister, nvme.Reservation{NewKey: 22, Persist: nvme.PersistKeep}), nvme.Success)
	want("register 1 here", reserve(n1, nvme.IOResvRegister, nvme.Reservation{NewKey: 11}), nvme.Success)
	want("acquire there", reserve(f2, nvme.IOResvAcquire, nvme.Reservation{Key: 22, Type: nvme.ExclusiveAccess}), nvme.Success)
	all("the holder there", f2, nvme.Success)
	all("the holder here", n2, nvme.Success)
	all("a registrant here", n1, nvme.ReservationConflict)
	all("a stranger there", f3, nvme.ReservationConflict)
	for name, ns := range map[string]*host.Namespace{"here": n1, "there": f3} {
		got := reported(t, ns)
		if got.Type != nvme.ExclusiveAccess || len(got.Registrants) != 2 || !got.Persistent {
			t.Errorf("reported %s: %+v", name, got)
		}
	}
	want("a release with another's key", reserve(f3, nvme.IOResvRelease, nvme.Reservation{Key: 22, Type: nvme.ExclusiveAccess}),
		nvme.ReservationConflict)
	want("preempt here", reserve(n1, nvme.IOResvAcquire, nvme.Reservation{Key: 11, NewKey: 22, Action: nvme.ResvPreemptAbort,
		Type: nvme.WriteExclusiveRegs}), nvme.Success)
	want("a write of the preempted host there", <-submit(f2, &bdev.Request{Op: bdev.OpWrite, Blocks: 1,
		Iov: [][]byte{make([]byte, 4096)}})&^nvme.DNR, nvme.ReservationConflict)
	want("register 3 there", reserve(f3, nvme.IOResvRegister, nvme.Reservation{NewKey: 33}), nvme.Success)
	all("a registrant there", f3, nvme.Success)

	// While there is no way from one target to the other, hosts may try elsewhere.
	r.ok(r.sub.RemoveListener(near))
	select {
	case s := <-submit(f3, releaseOf(33)):
		if !s.IsPath() || s&nvme.DNR != 0 {
			t.Errorf("a command without a way: %v, want a path status that can be retried", s)
		}
	case <-time.After(2 * time.Minute):
		t.Fatal("a command without a way never ends")
	}
}

func releaseOf(key uint64) *bdev.Request {
	var c nvme.Command
	data := make([]byte, 16)
	c.Init(nvme.IOResvRelease, 0)
	c.SetReservation(nvme.Reservation{Key: key, Type: nvme.WriteExclusiveRegs}, data)
	return &bdev.Request{Op: bdev.OpNVMeIO, NVMe: &c, Iov: [][]byte{data[:8]}}
}
