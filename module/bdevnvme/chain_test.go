package bdevnvme

import (
	"bytes"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/virtual-disk-array/vda/bdev"
	"github.com/virtual-disk-array/vda/nvme"
	"github.com/virtual-disk-array/vda/nvmf/host"
	"github.com/virtual-disk-array/vda/nvmf/nvmftgt"
)

// chain puts a second target in front of a rig's module: host, target,
// bdev, host, target, memory.
func chain(r *rig) (*nvmftgt.Subsystem, *host.Controller) {
	r.Helper()
	tgt := nvmftgt.New(nvmftgt.Config{Registry: r.front, Log: quiet, Spin: -1})
	r.Cleanup(tgt.Close)
	r.ok(tgt.CreateTransport(nvmftgt.TransportOpts{Trtype: "TCP"}))
	sub, err := tgt.CreateSubsystem(nvmftgt.SubsystemConfig{NQN: nqn + "-front", AllowAnyHost: true})
	r.ok(err)
	_, err = sub.AddNamespace(nvmftgt.NamespaceConfig{NSID: 1, Bdev: "Nv0n1", UUID: uuid.New()})
	r.ok(err)
	r.ok(sub.AddListener(nvmftgt.Addr{Trtype: "TCP", Adrfam: "IPv4", Traddr: "127.0.0.1", Trsvcid: "0"}))
	a := sub.Listeners()[0].Addr
	c, err := host.Connect(r.Context(), host.Config{Traddr: a.Traddr, Trsvcid: a.Trsvcid, SubNQN: sub.NQN(), Log: quiet})
	r.ok(err)
	r.Cleanup(c.Close)
	return sub, c
}

func submit(ns *host.Namespace, r *bdev.Request) <-chan nvme.Status {
	done := make(chan nvme.Status, 1)
	r.Done = func(q *bdev.Request, _ *bdev.Batch) { done <- q.Status }
	var b bdev.Batch
	ns.Submit(r, nil, &b)
	b.Flush()
	return done
}

// TestChain writes through two hops; when the backend is gone the host in
// front sees a path status for reads and writes of any size, not an error of
// the medium, and no connection of its own is lost.
func TestChain(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1)
	r.attach(0, func(c *AttachConfig) { c.CtrlrLossTimeoutSec, c.ReconnectDelaySec, c.FastIOFailTimeoutSec = -1, 1, 1 })
	sub, c := chain(r)
	ns := c.Namespace(1)
	data := bytes.Repeat([]byte{1, 2, 3, 4}, 50*1024)
	r.ok(ns.WriteAt(t.Context(), data, 4096))
	got := make([]byte, len(data))
	r.ok(ns.ReadAt(t.Context(), got, 4096))
	if !bytes.Equal(got, data) {
		t.Fatal("data came back different over two hops")
	}
	r.ok(r.sub.RemoveListener(r.addrs[0]))
	var ends []<-chan nvme.Status
	for i, op := range []bdev.Op{bdev.OpRead, bdev.OpWrite, bdev.OpWriteZeroes, bdev.OpRead, bdev.OpWrite} {
		q := &bdev.Request{Op: op, Offset: uint64(i), Blocks: 1}
		if i > 2 {
			q.Blocks = 32
		}
		if op != bdev.OpWriteZeroes {
			q.Iov = [][]byte{make([]byte, q.Blocks*4096)}
		}
		ends = append(ends, submit(ns, q))
	}
	for i, e := range ends {
		select {
		case s := <-e:
			if !s.IsPath() || s == nvme.HostPathError || s&nvme.DNR != 0 {
				t.Errorf("request %d: %v, want a path status that can be retried", i, s)
			}
		case <-time.After(2 * time.Minute):
			t.Fatalf("request %d never ends", i)
		}
	}
	if c.State() != host.Enabled {
		t.Errorf("the host's own connection is %v", c.State())
	}
	r.listen(r.addrs[0].Trsvcid)
	r.eventually("I/O works again", func() bool { return ns.ReadAt(t.Context(), got, 4096) == nil })
	if !bytes.Equal(got, data) {
		t.Fatal("data changed while the backend was away")
	}
	_ = sub
}

// TestChainDetach takes the bdev away under a target that exports it, with
// requests in flight to a backend that does not answer.
func TestChainDetach(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1)
	p := newProxy(t, r.addrs[0])
	r.addrs[0] = p.addr()
	r.attach(0, func(c *AttachConfig) { c.CtrlrLossTimeoutSec, c.ReconnectDelaySec = -1, 1 })
	sub, c := chain(r)
	p.hold(true)
	end := submit(c.Namespace(1), &bdev.Request{Op: bdev.OpRead, Blocks: 1, Iov: [][]byte{make([]byte, 4096)}})
	time.Sleep(100 * time.Millisecond) // until it is in flight on both hops
	r.ends("detach", func() { r.ok(r.m.Detach("Nv0", nil)) })
	select {
	case s := <-end:
		if s == nvme.Success || s.Type() == 2 {
			t.Errorf("status %v", s)
		}
	case <-time.After(time.Minute):
		t.Fatal("the request never ends")
	}
	r.ends("removing the namespace", func() { _ = sub.RemoveNamespace(1) })
}
