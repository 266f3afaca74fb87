package bdevnvme

import (
	"encoding/json"
	"errors"
	"strings"
	"syscall"
	"testing"

	"github.com/google/uuid"
	"go.uber.org/goleak"

	"github.com/virtual-disk-array/vda/bdev"
	"github.com/virtual-disk-array/vda/bdev/bdevtest"
	"github.com/virtual-disk-array/vda/module/malloc"
	"github.com/virtual-disk-array/vda/nvme"
	"github.com/virtual-disk-array/vda/nvmf/nvmftgt"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestConformance runs the suite of all block devices over NVMe/TCP.
func TestConformance(t *testing.T) {
	bdevtest.Run(t, bdevtest.Subject{MaxCompareAndWrite: 1, New: func(t *testing.T, reg *bdev.Registry) string {
		r := newRig(t, 1)
		m := New(reg, quiet)
		t.Cleanup(m.Close)
		c := r.config(r.addrs[0])
		names, err := m.Attach(t.Context(), c)
		r.ok(err)
		if len(names) != 1 {
			t.Fatalf("bdevs %v", names)
		}
		return names[0]
	}})
}

func TestAttachRefusals(t *testing.T) {
	r := newRig(t, 2)
	r.attach(0, nil)
	free := r.addrs[1]
	for name, v := range map[string]struct {
		set   func(*AttachConfig)
		errno syscall.Errno
		msg   string
	}{
		"in use": {func(c *AttachConfig) {}, syscall.EALREADY, "A controller named Nv0 already exists with the specified network path"},
		"no multipath": {func(c *AttachConfig) { c.Multipath = MultipathDisable }, syscall.EALREADY,
			"A controller named Nv0 already exists and multipath is disabled"},
		"other subsystem": {func(c *AttachConfig) { c.Trsvcid = free.Trsvcid; c.SubNQN += "x" }, syscall.EINVAL,
			"A controller named Nv0 already exists, but uses a different subnqn (" + nqn + ")"},
		"other host": {func(c *AttachConfig) { c.Trsvcid = free.Trsvcid; c.HostNQN = "nqn.2016-06.io.spdk:other" }, syscall.EINVAL,
			"but uses a different hostnqn"},
		"refused":          {func(c *AttachConfig) { c.Name, c.Trsvcid = "Nv1", "1" }, syscall.EIO, "Input/output error"},
		"no such nqn":      {func(c *AttachConfig) { c.Name, c.SubNQN = "Nv1", nqn+"x" }, syscall.EIO, "Input/output error"},
		"trtype":           {func(c *AttachConfig) { c.TrType = "RDMA" }, syscall.EINVAL, "Failed to parse trtype: RDMA"},
		"adrfam":           {func(c *AttachConfig) { c.AdrFam = "ib" }, syscall.EINVAL, "Failed to parse adrfam: ib"},
		"address":          {func(c *AttachConfig) { c.Traddr = "nowhere" }, syscall.EINVAL, "traddr"},
		"delay alone":      {func(c *AttachConfig) { c.CtrlrLossTimeoutSec = 0 }, syscall.EINVAL, "Invalid argument"},
		"loss alone":       {func(c *AttachConfig) { c.ReconnectDelaySec = 0 }, syscall.EINVAL, "Invalid argument"},
		"delay above loss": {func(c *AttachConfig) { c.ReconnectDelaySec = 11 }, syscall.EINVAL, "Invalid argument"},
		"fast above loss":  {func(c *AttachConfig) { c.FastIOFailTimeoutSec = 11 }, syscall.EINVAL, "Invalid argument"},
		"fast below delay": {func(c *AttachConfig) { c.ReconnectDelaySec, c.FastIOFailTimeoutSec = 5, 3 }, syscall.EINVAL, "Invalid argument"},
		"loss below -1":    {func(c *AttachConfig) { c.CtrlrLossTimeoutSec = -2 }, syscall.EINVAL, "Invalid argument"},
	} {
		c := r.config(r.addrs[0])
		v.set(&c)
		_, err := r.m.Attach(t.Context(), c)
		if !errors.Is(err, v.errno) || !strings.Contains(err.Error(), v.msg) {
			t.Errorf("%s: %v, want %v %q", name, err, v.errno, v.msg)
		}
	}
	if l := r.m.List(); len(l) != 1 || len(l[0].Ctrlrs) != 1 {
		t.Errorf("refusals left something: %+v", l)
	}
	if err := r.m.Detach("Nv1", nil); !errors.Is(err, syscall.ENODEV) || err.Error() != "No such device" {
		t.Errorf("detach of nothing: %v", err)
	}
	if err := r.m.Detach("Nv0", &Path{Trsvcid: "9"}); !errors.Is(err, syscall.ENODEV) {
		t.Errorf("detach of no path: %v", err)
	}
}

// TestList compares with a reply of SPDK, byte for byte.
func TestList(t *testing.T) {
	r := newRig(t, 1)
	r.attach(0, func(c *AttachConfig) {
		c.HostNQN = "nqn.2014-08.org.nvmexpress:uuid:99de7d27-c204-4b26-aca8-456feb7927ad"
	})
	got, err := json.Marshal(r.m.List())
	r.ok(err)
	want := `[{"name":"Nv0","ctrlrs":[{"state":"enabled","trid":{"trtype":"TCP","adrfam":"IPv4","traddr":"127.0.0.1","trsvcid":"` + r.addrs[0].Trsvcid +
		`","subnqn":"` + nqn + `"},"cntlid":1,"host":{"nqn":"nqn.2014-08.org.nvmexpress:uuid:99de7d27-c204-4b26-aca8-456feb7927ad","addr":"","svcid":"","no_shn_notification":false}}]}]`
	if string(got) != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	d, _ := r.front.Get("Nv0n1")
	s, err := json.Marshal(d.(bdev.Describer).DriverSpecific())
	r.ok(err)
	for _, part := range []string{`"mp_policy":"active_passive"`, `"ana_state":"optimized"`, `"cntlid":1`} {
		if !strings.Contains(string(s), part) {
			t.Errorf("driver_specific lacks %s: %s", part, s)
		}
	}
}

// TestNamespaceIDTaken: a namespace whose NGUID is the UUID of a local bdev
// is attached without one.
func TestNamespaceIDTaken(t *testing.T) {
	r := newRig(t, 1)
	id := uuid.New()
	r.disk("back1", 256)
	_, err := r.sub.AddNamespace(nvmftgt.NamespaceConfig{NSID: 2, Bdev: "back1", UUID: uuid.New(), NGUID: id})
	r.ok(err)
	d, err := malloc.New(malloc.Config{Name: "local", UUID: id, BlockSize: 4096, Blocks: 16})
	r.ok(err)
	r.ok(r.front.Register(d))
	if names := r.attach(0, nil); len(names) != 1 || names[0] != "Nv0n1" {
		t.Fatalf("bdevs %v", names)
	}
}

// TestNamespacesFollow has namespaces come, grow and go under an attached
// controller.
func TestNamespacesFollow(t *testing.T) {
	r := newRig(t, 1)
	r.attach(0, nil)
	r.disk("back2", 512)
	r.export("back2", 2)
	r.eventually("Nv0n2 appears", func() bool { _, ok := r.front.Get("Nv0n2"); return ok })
	h := r.open("Nv0n2")
	if s := bdevtest.Do(h, &bdev.Request{Op: bdev.OpWrite, Blocks: 1, Iov: [][]byte{make([]byte, 4096)}}); s != nvme.Success {
		t.Fatal(s)
	}
	r.ok(r.sub.RemoveNamespace(2))
	r.eventually("Nv0n2 goes", func() bool { _, ok := r.front.Get("Nv0n2"); return !ok })
	r.export("back2", 2) // another UUID: another bdev of the same name
	r.eventually("Nv0n2 is back", func() bool { _, ok := r.front.Get("Nv0n2"); return ok })
	if _, ok := r.front.Get("Nv0n1"); !ok {
		t.Fatal("Nv0n1 is gone, too")
	}
}

func TestDetach(t *testing.T) {
	r := newRig(t, 1)
	for i := range 3 {
		r.attach(0, nil)
		h := r.open("Nv0n1")
		for range 100 {
			req := &bdev.Request{Op: bdev.OpRead, Blocks: 4, Iov: [][]byte{make([]byte, 16384)}}
			req.Done = func(q *bdev.Request, _ *bdev.Batch) {
				if q.Status != nvme.Success && !q.Status.IsPath() {
					t.Errorf("status %v", q.Status)
				}
			}
			var b bdev.Batch
			h.Submit(req, &b)
			b.Flush()
		}
		r.ends("detach", func() { r.ok(r.m.Detach("Nv0", nil)) })
		if len(r.m.List()) != 0 || len(r.front.Names()) != 0 {
			t.Fatalf("round %d left %v, %v", i, r.m.List(), r.front.Names())
		}
		r.eventually("target forgets the host", func() bool { return len(r.sub.Controllers()) == 0 })
	}
}

func TestIPv6(t *testing.T) {
	r := newRig(t, 0)
	r.ok(r.sub.AddListener(nvmftgt.Addr{Trtype: "TCP", Adrfam: "IPv6", Traddr: "::1", Trsvcid: "0"}))
	r.addrs = []nvmftgt.Addr{r.sub.Listeners()[0].Addr}
	r.attach(0, func(c *AttachConfig) { c.AdrFam, c.HostAddr = "", "::1" })
	p := r.m.List()[0].Ctrlrs[0]
	if p.TrID.AdrFam != "IPv6" || p.TrID.Traddr != "::1" || p.Host.Addr != "::1" {
		t.Fatalf("%+v", p)
	}
	c := r.config(r.addrs[0])
	c.Name, c.AdrFam = "Nv1", "ipv4"
	if _, err := r.m.Attach(t.Context(), c); !errors.Is(err, syscall.EINVAL) {
		t.Errorf("an IPv6 address as ipv4: %v", err)
	}
}

// TestCloseDuringAttach: an attempt that is going on while the module is
// closed leaves nothing behind, and Detach does not wait for one.
func TestCloseDuringAttach(t *testing.T) {
	r := newRig(t, 1)
	p := newProxy(t, r.addrs[0])
	p.hold(true)
	r.addrs[0] = p.addr()
	end := make(chan error, 1)
	go func() {
		_, err := r.m.Attach(t.Context(), r.config(r.addrs[0]))
		end <- err
	}()
	r.eventually("the attempt has begun", func() bool { return r.m.find("Nv0") != nil })
	r.ends("detach", func() {
		if err := r.m.Detach("Nv0", nil); !errors.Is(err, syscall.ENODEV) {
			t.Errorf("detach: %v", err)
		}
	})
	r.m.Close()
	p.hold(false)
	if err := <-end; err == nil {
		t.Error("attached to a closed module")
	}
	if len(r.front.Names()) != 0 || len(r.m.List()) != 0 {
		t.Errorf("left %v, %v", r.front.Names(), r.m.List())
	}
}

// shape is a device of another shape than the one below it.
type shape struct {
	bdev.Device
	set func(*bdev.Info)
}

func (s *shape) Info() bdev.Info {
	i := s.Device.Info()
	i.Name, i.UUID = "shape", uuid.New()
	s.set(&i)
	return i
}

// TestShapeIsPassedOn: a path through another node shows the same unit of
// deallocation and the same write protection.
func TestShapeIsPassedOn(t *testing.T) {
	r := newRig(t, 1)
	r.disk("back2", 512)
	d, _ := r.back.Get("back2")
	r.ok(r.back.Register(&shape{d, func(i *bdev.Info) {
		i.UnmapUnit = 256
		i.Ops &^= bdev.Ops(bdev.OpWrite, bdev.OpUnmap, bdev.OpWriteZeroes)
	}}))
	r.export("shape", 2)
	r.attach(0, nil)
	i, ok := r.front.Info("Nv0n2")
	if !ok || i.UnmapUnit != 256 || i.Ops.Has(bdev.OpWrite) || i.Ops.Has(bdev.OpUnmap) || i.Ops.Has(bdev.OpWriteZeroes) ||
		!i.Ops.Has(bdev.OpRead) {
		t.Errorf("%v %+v", ok, i)
	}
	if i, _ := r.front.Info("Nv0n1"); !i.Ops.Has(bdev.OpWrite) {
		t.Errorf("%+v", i)
	}
}
