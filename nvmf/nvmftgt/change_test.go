package nvmftgt

import (
	"bytes"
	"errors"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/virtual-disk-array/vda/bdev"
	"github.com/virtual-disk-array/vda/nvme"
)

// gated is a device whose I/O completes when the test says so.
type gated struct {
	bdev.Device
	name string
	mu   sync.Mutex
	open bool
	reqs []*bdev.Request
	seen atomic.Int64
}

func (g *gated) Info() bdev.Info {
	i := g.Device.Info()
	i.Name = g.name
	i.UUID = newUUID()
	return i
}

func (g *gated) Submit(r *bdev.Request, b *bdev.Batch) {
	g.seen.Add(1)
	g.mu.Lock()
	if !g.open {
		if !r.Retain() {
			panic("no buffer")
		}
		g.reqs = append(g.reqs, r)
		g.mu.Unlock()
		return
	}
	g.mu.Unlock()
	g.Device.Submit(r, b)
}

func (g *gated) release() {
	g.mu.Lock()
	g.open = true
	reqs := g.reqs
	g.reqs = nil
	g.mu.Unlock()
	var b bdev.Batch
	for _, r := range reqs {
		g.Device.Submit(r, &b)
	}
	b.Flush()
}

func (g *gated) fail(s nvme.Status) {
	g.mu.Lock()
	reqs := g.reqs
	g.reqs = nil
	g.mu.Unlock()
	var b bdev.Batch
	for _, r := range reqs {
		r.Complete(s, &b)
	}
	b.Flush()
}

func (r *rig) gated(name string, on string) *gated {
	d, ok := r.reg.Get(on)
	if !ok {
		r.t.Fatal(on)
	}
	g := &gated{Device: d, name: name}
	must(r.t, r.reg.Register(g))
	r.t.Cleanup(g.release) // before the target is closed, which waits for it
	return g
}

// nextHost is admitted after another one.
const nextHost = "nqn.2014-08.org.nvmexpress:uuid:2e1f5d4b-7f0c-4e0e-8a53-0d8f1c2a4b99"

// TestRemoveHostSettles: a write at the device holds RemoveHost up, and any host that is
// to be admitted, and nothing of the host reaches the device afterwards.
func TestRemoveHostSettles(t *testing.T) {
	r := newRig(t, func(_ *Config, _ *TransportOpts, s *SubsystemConfig) { s.AllowAnyHost = false })
	r.malloc("m1", 256)
	g := r.gated("g", "m1")
	nsid, err := r.sub.AddNamespace(NamespaceConfig{Bdev: "g"})
	must(t, err)
	must(t, r.sub.AddHost(testHost))
	must(t, r.sub.AddHost(otherHost))
	_, id := r.admin()
	w := r.ioq(id, 1)
	_, otherID := r.admin(func(w *wire) { w.hostnqn = otherHost })
	other := r.ioq(otherID, 1, func(w *wire) { w.hostnqn = otherHost })
	data := pattern(4096, 1)
	s := w.rw(1, 0, 1)
	s[4] = byte(nsid)
	sglIn(s, 4096)
	w.capsule(s, data)
	waitFor(t, func() bool { return g.seen.Load() == 1 })
	half := w.rw(1, 8, 8) // its data never arrives completely
	half[4] = byte(nsid)
	sglOut(half, 8*4096)
	w.capsule(half, nil)
	p, err := w.pdu()
	must(t, err)
	w.write(w.h2cPDU(le.Uint16(half[2:]), le.Uint16(p.hdr[10:]), 0, pattern(4096, 2), false))
	done := make(chan error, 1)
	go func() { done <- r.sub.RemoveHost(testHost) }()
	if _, err := w.pdu(); err == nil {
		t.Fatal("the connection was not cut")
	}
	select {
	case <-done:
		t.Fatal("RemoveHost returned with a write under way")
	case <-time.After(100 * time.Millisecond):
	}
	if err := r.sub.AddHost(nextHost); !errors.Is(err, syscall.EBUSY) { // its caller may not have waited for RemoveHost
		t.Errorf("another host is admitted meanwhile: %v", err)
	}
	g.release()
	must(t, <-done)
	must(t, r.sub.AddHost(nextHost))
	if n := g.seen.Load(); n != 1 {
		t.Errorf("%d requests reached the device", n)
	}
	if n := len(r.sub.Controllers()); n != 1 {
		t.Errorf("%d controllers", n)
	}
	other.read(0, 1)
	if err := r.sub.RemoveHost(testHost); !errors.Is(err, syscall.ENOENT) {
		t.Errorf("second removal: %v", err)
	}
	x := r.dial()
	x.icreq()
	if c := x.connect(0, 0xffff, testNQN); c.status != 0x184 {
		t.Errorf("removed host connects: %03x", c.status)
	}
	r.sub.AllowAnyHost(true)
	r.admin()
	r.sub.AllowAnyHost(false)
	waitFor(t, func() bool { return len(r.sub.Controllers()) == 1 })
}

func TestRemoveListener(t *testing.T) {
	r := newRig(t)
	must(t, r.sub.AddListener(Addr{Traddr: "::1", Trsvcid: "0"}))
	l6 := r.sub.Listeners()[1]
	if l6.Addr.Adrfam != "IPv6" {
		t.Errorf("adrfam %s", l6.Addr.Adrfam)
	}
	w, _ := r.admin()
	first := r.addr
	r.addr = l6.Addr
	w6, _ := r.admin()
	must(t, r.sub.RemoveListener(first))
	if _, err := w.pdu(); err == nil {
		t.Error("connection over the removed listener lives")
	}
	w6.ok(w6.sqe(0x18, 0), nil)
	if err := r.sub.RemoveListener(first); !errors.Is(err, syscall.ENOENT) {
		t.Errorf("second removal: %v", err)
	}
	if err := r.sub.AddListener(r.addr); !errors.Is(err, syscall.EEXIST) {
		t.Errorf("second listener: %v", err)
	}
	must(t, r.sub.AddListener(first))
	r.addr = first
	r.admin()
}

func TestSwapNamespace(t *testing.T) {
	r := newRig(t)
	r.malloc("m1", 4096)
	r.malloc("m2", 4096)
	g := r.gated("g", "m1")
	nsid, err := r.sub.AddNamespace(NamespaceConfig{Bdev: "g"})
	must(t, err)
	_, id := r.admin()
	w := r.ioq(id, 1)
	old, next := pattern(4096, 1), pattern(4096, 2)
	cmd := func(op byte, data []byte) uint16 {
		s := w.rw(op, 5, 1)
		s[4] = byte(nsid)
		if data != nil {
			sglIn(s, 4096)
		} else {
			sglOut(s, 4096)
		}
		w.capsule(s, data)
		return w.cid
	}
	a := cmd(1, old)
	waitFor(t, func() bool { return g.seen.Load() == 1 })
	done := make(chan error, 1)
	go func() { done <- r.sub.SwapNamespace(nsid, "m2") }()
	waitFor(t, func() bool { n := r.sub.namespace(nsid); n.mu.Lock(); defer n.mu.Unlock(); return n.hold })
	time.Sleep(20 * time.Millisecond)
	b := cmd(1, next) // held, with its data in the capsule
	time.Sleep(20 * time.Millisecond)
	g.release()
	must(t, <-done)
	seen := map[uint16]bool{} // the old device and the swap answer on different goroutines
	for range 2 {
		p, err := w.pdu()
		must(t, err)
		c := parseCQE(p.hdr[8:])
		seen[c.cid] = c.status == 0
	}
	if !seen[a] || !seen[b] {
		t.Errorf("completions %v of commands %d and %d", seen, a, b)
	}
	c := cmd(2, nil)
	if _, in := w.await(c, nil); !bytes.Equal(in, next) {
		t.Error("the held write did not reach the new device")
	}
	if n := g.seen.Load(); n != 1 {
		t.Errorf("%d requests at the old device", n)
	}
	if got := r.sub.Namespaces()[1].Bdev; got != "m2" {
		t.Errorf("namespace on %s", got)
	}
	r.malloc("small", 16)
	if err := r.sub.SwapNamespace(nsid, "small"); !errors.Is(err, syscall.EINVAL) {
		t.Errorf("smaller device: %v", err)
	}
	if err := r.sub.SwapNamespace(nsid, "absent"); !errors.Is(err, syscall.ENODEV) {
		t.Errorf("absent device: %v", err)
	}
}

// TestLostDevice: hosts of a namespace whose device goes away see path
// statuses, never a media error, and go on when a device is back.
func TestLostDevice(t *testing.T) {
	r := newRig(t)
	_, id := r.admin()
	w := r.ioq(id, 1)
	must(t, r.reg.Unregister("m0"))
	s := w.rw(2, 0, 1)
	sglOut(s, 4096)
	if c, _ := w.do(s, nil); c.status != 0x302 {
		t.Errorf("read without device: %03x", c.status)
	}
	if n := len(r.sub.Namespaces()); n != 0 {
		t.Errorf("%d namespaces listed", n)
	}
	r.malloc("m0", 4096)
	nsid, err := r.sub.AddNamespace(NamespaceConfig{Bdev: "m0"})
	must(t, err)
	if nsid != 1 {
		t.Errorf("nsid %d", nsid)
	}
	w.read(0, 1)
	// The same namespace comes back: a write that was under way is executed.
	u := r.sub.Namespaces()[0].UUID
	s = w.rw(1, 0, 4)
	sglOut(s, 16384)
	w.capsule(s, nil)
	p, err := w.pdu()
	must(t, err)
	must(t, r.reg.Unregister("m0"))
	r.malloc("m0", 4096)
	_, err = r.sub.AddNamespace(NamespaceConfig{NSID: 1, Bdev: "m0", UUID: u})
	must(t, err)
	w.write(w.h2cPDU(w.cid, le.Uint16(p.hdr[10:]), 0, pattern(16384, 1), true))
	if c, _ := w.await(w.cid, nil); c.status != 0 {
		t.Errorf("write over the loss of the device: %03x", c.status)
	}
	if !bytes.Equal(w.read(0, 4), pattern(16384, 1)) {
		t.Error("the write is lost")
	}
}

func TestANAStates(t *testing.T) {
	r := newRig(t)
	_, id := r.admin()
	w := r.ioq(id, 1)
	for state, want := range map[ANAState]uint16{ANAOptimized: 0, ANANonOptimized: 0, ANAInaccessible: 0x302} {
		must(t, r.sub.SetANAState(r.addr, 1, state))
		s := w.rw(2, 0, 1)
		sglOut(s, 4096)
		if c, _ := w.do(s, nil); c.status != want {
			t.Errorf("%v: %03x", state, c.status)
		}
	}
	must(t, r.sub.SetANAState(r.addr, 0, ANAInaccessible))
	must(t, r.sub.RemoveNamespace(1))
	s := w.rw(2, 0, 1)
	sglOut(s, 4096)
	if c, _ := w.do(s, nil); c.status != 0x302 {
		t.Errorf("removed namespace of an inaccessible group: %03x", c.status)
	}
	if err := r.sub.SetANAState(Addr{Traddr: "10.0.0.1", Trsvcid: "1"}, 1, ANAOptimized); !errors.Is(err, syscall.ENOENT) {
		t.Errorf("unknown listener: %v", err)
	}
	if err := r.sub.SetANAState(r.addr, 33, ANAOptimized); !errors.Is(err, syscall.EINVAL) {
		t.Errorf("group 33: %v", err)
	}
}

// TestBackendStatus: what a device says goes through unchanged.
func TestBackendStatus(t *testing.T) {
	r := newRig(t)
	r.malloc("m1", 4096)
	g := r.gated("g", "m1")
	nsid, err := r.sub.AddNamespace(NamespaceConfig{Bdev: "g"})
	must(t, err)
	_, id := r.admin()
	w := r.ioq(id, 1)
	for i, s := range []nvme.Status{nvme.InternalPathError, nvme.ANAInaccessible, nvme.HostPathError,
		nvme.WriteFault | nvme.DNR, nvme.CapacityExceeded} {
		q := w.rw(1, 0, 1)
		q[4] = byte(nsid)
		sglIn(q, 4096)
		w.capsule(q, pattern(4096, 1))
		waitFor(t, func() bool { return g.seen.Load() == int64(i+1) })
		g.fail(s)
		if c, _ := w.await(w.cid, nil); c.status != uint16(s) {
			t.Errorf("%v arrives as %03x", s, c.status)
		}
	}
}

func TestConfigurationErrors(t *testing.T) {
	r := newRig(t)
	r.malloc("m1", 16)
	r.malloc("m2", 16)
	h, err := r.reg.Open("m2", nil)
	must(t, err)
	must(t, h.Claim("somebody"))
	defer h.Close()
	cases := map[string]struct {
		err  error
		want syscall.Errno
	}{
		"second transport":    {r.tgt.CreateTransport(TransportOpts{}), syscall.EEXIST},
		"RDMA":                {r.tgt.CreateTransport(TransportOpts{Trtype: "RDMA"}), syscall.EINVAL},
		"odd io size":         {r.tgt.CreateTransport(TransportOpts{MaxIOSize: 5000}), syscall.EINVAL},
		"duplicate subsystem": {second(r.tgt.CreateSubsystem(SubsystemConfig{NQN: testNQN})), syscall.EEXIST},
		"bad NQN":             {second(r.tgt.CreateSubsystem(SubsystemConfig{NQN: "x"})), syscall.EINVAL},
		"long serial": {second(r.tgt.CreateSubsystem(SubsystemConfig{NQN: "nqn.2016-06.io.spdk:b", Serial: "123456789012345678901"})),
			syscall.EINVAL},
		"cntlid order": {second(r.tgt.CreateSubsystem(SubsystemConfig{NQN: "nqn.2016-06.io.spdk:b", MinCntlid: 5, MaxCntlid: 4})),
			syscall.EINVAL},
		"delete unknown":   {r.tgt.DeleteSubsystem("nqn.x"), syscall.ENOENT},
		"delete discovery": {r.tgt.DeleteSubsystem(nvme.DiscoveryNQN), syscall.EINVAL},
		"unknown bdev":     {second(r.sub.AddNamespace(NamespaceConfig{Bdev: "nope"})), syscall.ENODEV},
		// by its UUID; another subsystem may share it
		"bdev twice":       {second(r.sub.AddNamespace(NamespaceConfig{Bdev: "m0"})), syscall.EEXIST},
		"nsid in use":      {second(r.sub.AddNamespace(NamespaceConfig{Bdev: "m1", NSID: 1})), syscall.EEXIST},
		"nsid 33":          {second(r.sub.AddNamespace(NamespaceConfig{Bdev: "m1", NSID: 33})), syscall.EINVAL},
		"same UUID":        {second(r.sub.AddNamespace(NamespaceConfig{Bdev: "m1", UUID: r.sub.Namespaces()[0].UUID})), syscall.EEXIST},
		"remove nsid 7":    {r.sub.RemoveNamespace(7), syscall.ENOENT},
		"host without nqn": {r.sub.AddHost("me"), syscall.EINVAL},
		"bad address":      {r.sub.AddListener(Addr{Traddr: "localhost", Trsvcid: "1"}), syscall.EINVAL},
		"bad port":         {r.sub.AddListener(Addr{Traddr: "127.0.0.1", Trsvcid: "70000"}), syscall.EINVAL},
		"family":           {r.sub.AddListener(Addr{Traddr: "127.0.0.1", Adrfam: "IPv6", Trsvcid: "1"}), syscall.EINVAL},
		"foreign address":  {r.sub.AddListener(Addr{Traddr: "192.0.2.1", Trsvcid: "4420"}), syscall.EADDRNOTAVAIL},
	}
	for name, c := range cases {
		if !errors.Is(c.err, c.want) {
			t.Errorf("%s: %v, want %v", name, c.err, c.want)
		}
	}
	if by := r.reg.ClaimedBy("m1"); by != "" {
		t.Errorf("a refused namespace left a claim of %s", by)
	}
	must(t, r.tgt.DeleteSubsystem(testNQN))
	if by := r.reg.ClaimedBy("m0"); by != "" {
		t.Errorf("a deleted subsystem left a claim of %s", by)
	}
}

func second[T any](_ T, err error) error { return err }
