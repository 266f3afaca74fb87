package nvmftgt

import (
	"bytes"
	"errors"
	"maps"
	"sync"
	"syscall"
	"testing"

	"github.com/google/uuid"

	"github.com/virtual-disk-array/vda/bdev"
	"github.com/virtual-disk-array/vda/module/malloc"
	"github.com/virtual-disk-array/vda/nvme"
)

const (
	hopHost    = "nqn.2014-08.org.nvmexpress:hop"
	backNQN    = "nqn.2014-08.org.nvmexpress:back"
	hopsHostID = 77 // hostid[0] of the target that passes commands on
)

// keeper is a disk in memory with a place for records, which outlive it.
type keeper struct {
	*malloc.Device
	mu     sync.Mutex
	medium map[string][]byte
	fail   nvme.Status
	slow   chan chan struct{} // not nil: Keep sends what it waits for
}

func (k *keeper) Keep(name string, record []byte) nvme.Status {
	k.mu.Lock()
	slow := k.slow
	k.mu.Unlock()
	if slow != nil {
		wait := make(chan struct{})
		slow <- wait
		<-wait
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.fail != nvme.Success {
		return k.fail
	}
	k.medium[name] = record
	return nvme.Success
}

func (k *keeper) Kept(name string) []byte {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.medium[name]
}

func (k *keeper) broken(s nvme.Status) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.fail = s
}

// slowly has Keep wait from now on, for what the channel that is returned brings.
func (k *keeper) slowly() chan chan struct{} {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.slow = make(chan chan struct{})
	return k.slow
}

func (r *rig) keeper(name string, medium map[string][]byte) *keeper {
	d, err := malloc.New(malloc.Config{Name: name, BlockSize: 4096, Blocks: 4096})
	must(r.t, err)
	k := &keeper{Device: d, medium: medium}
	must(r.t, r.reg.Register(k))
	return k
}

func part(_ *Config, _ *TransportOpts, s *SubsystemConfig) { s.MinCntlid, s.MaxCntlid = 1001, 2000 }

// primary is a rig whose subsystem has the array, on a medium, and lets hopHost forward.
func primary(t *testing.T, id uuid.UUID, medium map[string][]byte) (*rig, *keeper) {
	r := newRig(t, part)
	must(t, r.sub.RemoveNamespace(1))
	k := r.keeper("k", medium)
	must(t, r.sub.SetReservations(Reservations{ID: id, Offered: true, Forwarders: []string{hopHost}}))
	_, err := r.sub.AddNamespace(NamespaceConfig{NSID: 1, Bdev: "k"})
	must(t, err)
	return r, k
}

// host connects as a host, by its id's first byte.
func (r *rig) host(n byte) *wire {
	set := func(w *wire) { w.hostid[0] = n }
	_, id := r.admin(set)
	return r.ioq(id, 1, set)
}

// hop connects as the target that passes commands on; nqn is whom it says it is.
func (r *rig) hop(nqn string) *wire {
	set := func(w *wire) { w.hostid[0], w.hostnqn = hopsHostID, nqn }
	_, id := r.admin(set)
	return r.ioq(id, 1, set)
}

// as has all commands say that they are of a host; 0: of none.
func (w *wire) as(n byte) *wire {
	v := *w
	v.of = [16]byte{}
	if n != 0 {
		v.of = testHostID
		v.of[0] = n
	}
	return &v
}

// TestForwardedHosts: a command is judged as of the host that a target says that passes it on,
// for each type of reservation, and of nobody else.
func TestForwardedHosts(t *testing.T) {
	for typ := uint32(1); typ <= 6; typ++ {
		r, _ := primary(t, uuid.New(), map[string][]byte{})
		a, hop := r.host(1), r.hop(hopHost)
		liar := r.hop(testHost) // not a forwarder
		if s := a.resv(0x0d, 3<<30, 0, 10); s != 0 {
			t.Fatalf("register here: %03x", s)
		}
		if s := hop.as(2).resv(0x0d, 3<<30, 0, 11); s != 0 {
			t.Fatalf("register there: %03x", s)
		}
		if s := hop.as(2).resv(0x11, typ<<8, 11, 0); s != 0 {
			t.Fatalf("acquire there: %03x", s)
		}
		reads, writes := typ%2 == 1, false // others
		mine := typ >= 3                   // registered ones
		for _, c := range []struct {
			who         string
			w           *wire
			read, write bool
		}{
			{"the holder there", hop.as(2), true, true},
			{"the holder here", r.host(2), true, true},
			{"a registrant here", a, reads || mine, mine},
			{"a registrant there", hop.as(1), reads || mine, mine},
			{"another there", hop.as(3), reads, writes},
			{"another here", r.host(3), reads, writes},
			{"nobody there", hop.as(0), reads, writes},
			{"one that says it is the holder", liar.as(2), reads, writes},
		} {
			if read, write := c.w.can(2), c.w.can(1); read != c.read || write != c.write {
				t.Errorf("type %d: %s: reads %v, writes %v; want %v, %v", typ, c.who, read, write, c.read, c.write)
			}
		}
		if s := liar.as(2).resv(0x15, typ<<8, 11, 0); s != 0x083 {
			t.Errorf("one that says it is the holder releases: %03x", s)
		}
		if s := hop.as(0).resv(0x0d, 0, 0, 5); s != 0x027 {
			t.Errorf("nobody registers: %03x", s)
		}
		if got, _, holders, regs := a.report(); got != byte(typ) || regs != 2 || holders < 1 {
			t.Errorf("type %d: the report has type %d, %d registrants, %d holders", typ, got, regs, holders)
		}
	}
}

// TestSharedAmongSubsystems: a subsystem for forwarders alone has the reservation of the one
// for hosts, and what is preempted there is waited for here.
func TestSharedAmongSubsystems(t *testing.T) {
	id := uuid.New()
	r, _ := primary(t, id, map[string][]byte{})
	back, err := r.tgt.CreateSubsystem(SubsystemConfig{NQN: backNQN, MinCntlid: 1001, MaxCntlid: 2000, AllowAnyHost: true})
	must(t, err)
	must(t, back.SetReservations(Reservations{ID: id, Forwarders: []string{hopHost}}))
	r.malloc("m1", 256)
	g := r.gated("g", "m1")
	_, err = back.AddNamespace(NamespaceConfig{Bdev: "g", NSID: 1})
	must(t, err)
	must(t, back.AddListener(Addr{Traddr: "127.0.0.1", Trsvcid: "0"}))
	b := *r
	b.sub, b.addr = back, back.Listeners()[0].Addr
	b.nqn = backNQN
	hop, x := b.hop(hopHost), r.host(3)
	if s := hop.as(2).resv(0x0d, 0, 0, 11); s != 0x001 {
		t.Errorf("a subsystem that offers none: %03x", s)
	}
	must(t, back.SetReservations(Reservations{ID: id, Offered: true, Forwarders: []string{hopHost}}))
	if s := hop.as(2).resv(0x0d, 0, 0, 11); s != 0 {
		t.Fatalf("register: %03x", s)
	}
	if s := hop.as(2).resv(0x11, 1<<8, 11, 0); s != 0 {
		t.Fatalf("acquire: %03x", s)
	}
	if x.can(1) {
		t.Error("a stranger can write by the other subsystem")
	}
	hold := hop.as(2)
	s := hold.rw(1, 0, 1)
	sglIn(s, 4096)
	hold.capsule(s, make([]byte, 4096))
	waitFor(t, func() bool { return g.seen.Load() == 1 })
	if s := x.resv(0x0d, 0, 0, 12); s != 0 {
		t.Fatalf("register here: %03x", s)
	}
	done := make(chan uint16, 1)
	go func() { done <- x.resv(0x11, 2|1<<8, 12, 11) }()
	waitFor(t, func() bool { st := r.sub.namespace(1).resv.Load().state.Load(); return st.holder[0] == 3 })
	select {
	case s := <-done:
		g.release()
		t.Fatalf("preempt and abort is done (%03x) with a write under way by the other subsystem", s)
	default:
	}
	g.release()
	if s := <-done; s != 0 {
		t.Errorf("preempt and abort: %03x", s)
	}
	if c, _ := hold.await(le.Uint16(s[2:]), nil); c.status != 0 {
		t.Errorf("the write that was under way: %03x", c.status)
	}
	hop.cid += 1000
	if hop.as(2).can(1) {
		t.Error("the preempted host can write")
	}
}

// TestSharedIsKept: what was answered is there for the target that has the device next, before the
// first command; what could not be written was not answered with success.
func TestSharedIsKept(t *testing.T) {
	id, medium := uuid.New(), map[string][]byte{}
	r, k := primary(t, id, medium)
	a := r.host(1)
	for i, w := range []*wire{a, r.host(2)} {
		if s := w.resv(0x0d, 3<<30, 0, uint64(10+i)); s != 0 {
			t.Fatalf("register: %03x", s)
		}
	}
	if s := a.resv(0x11, 3<<8, 10, 0); s != 0 {
		t.Fatalf("acquire: %03x", s)
	}
	if s := a.resv(0x0d, 2<<30, 0, 10); s != 0x002 {
		t.Errorf("not to be kept: %03x", s)
	}
	k.broken(nvme.InternalPathError)
	if s := a.resv(0x15, 3<<8, 10, 0); s != uint16(nvme.InternalPathError) {
		t.Errorf("a release that cannot be kept: %03x", s)
	}
	k.broken(nvme.Success)
	if p := a.reportPage(); p[9] != 1 {
		t.Errorf("PTPLS %d", p[9])
	}
	_, gen, _, _ := a.report()
	r.tgt.Close()

	r, _ = primary(t, id, maps.Clone(medium))
	typ, now, holders, regs := r.host(1).report()
	if typ != 3 || holders != 1 || regs != 2 || now != gen {
		t.Errorf("the next target reports type %d, generation %d, %d holders, %d registrants", typ, now, holders, regs)
	}
	if r.host(3).can(1) || !r.host(2).can(1) {
		t.Error("the next target does not hold to it")
	}
	must(t, r.tgt.ForgetReservation("k", id))
	must(t, r.sub.RemoveNamespace(1))
	_, err := r.sub.AddNamespace(NamespaceConfig{NSID: 1, Bdev: "k"})
	must(t, err)
	if _, _, _, regs := r.host(1).report(); regs != 0 {
		t.Errorf("%d registrants after it was forgotten", regs)
	}

	for name, bad := range map[string][]byte{"empty": {}, "short": {1, 0, 0}, "another version": make([]byte, 22),
		"no holder": append([]byte{1, 1}, make([]byte, 20)...)} {
		r := newRig(t, part)
		must(t, r.sub.RemoveNamespace(1))
		r.keeper("k", map[string][]byte{recordName(id): bad})
		must(t, r.sub.SetReservations(Reservations{ID: id}))
		if _, err := r.sub.AddNamespace(NamespaceConfig{NSID: 1, Bdev: "k"}); !errors.Is(err, syscall.EILSEQ) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// onward is the namespace of another target: it takes commands, and says by whom they come.
type onward struct {
	*malloc.Device
	mu     sync.Mutex
	hosts  map[bdev.Op]uuid.UUID
	sent   nvme.Command
	report []byte
	end    nvme.Status
}

func (o *onward) Info() bdev.Info {
	i := o.Device.Info()
	i.Ops |= bdev.Ops(bdev.OpNVMeIO)
	return i
}

func (o *onward) Submit(r *bdev.Request, b *bdev.Batch) {
	o.mu.Lock()
	o.hosts[r.Op] = r.Host
	if r.Op != bdev.OpNVMeIO {
		o.mu.Unlock()
		o.Device.Submit(r, b)
		return
	}
	o.sent = *r.NVMe
	if r.NVMe.Opcode() == nvme.IOResvReport {
		copy(r.Iov[0], o.report)
	}
	end := o.end
	o.mu.Unlock()
	r.Complete(end, b)
}

// TestCommandsArePassedOn: a target that has not the array judges nothing, and says of whom
// commands are; when it gets the array, what is on the medium holds from the first command on.
func TestCommandsArePassedOn(t *testing.T) {
	r := newRig(t, part)
	must(t, r.sub.RemoveNamespace(1))
	d, err := malloc.New(malloc.Config{Name: "o", BlockSize: 4096, Blocks: 4096})
	must(t, err)
	o := &onward{Device: d, hosts: map[bdev.Op]uuid.UUID{}}
	must(t, r.reg.Register(o))
	id := uuid.New()
	must(t, r.sub.SetReservations(Reservations{ID: id, Offered: true}))
	_, err = r.sub.AddNamespace(NamespaceConfig{NSID: 1, Bdev: "o"})
	must(t, err)
	adm, cntlid := r.admin(func(w *wire) { w.hostid[0] = 1 })
	if _, p := adm.identify(0, 1); p[31] != 0xff {
		t.Errorf("RESCAP %x", p[31])
	}
	w := r.ioq(cntlid, 1, func(w *wire) { w.hostid[0] = 1 })
	me := uuid.UUID(testHostID)
	me[0] = 1
	if !w.can(1) || !w.as(9).can(2) {
		t.Error("it judged by itself")
	}
	o.mu.Lock()
	if o.hosts[bdev.OpWrite] != me || o.hosts[bdev.OpRead] != me {
		t.Errorf("passed on as of %v", o.hosts)
	}
	o.end = nvme.ReservationConflict | nvme.DNR
	o.mu.Unlock()
	if s := w.resv(0x11, 2|5<<8, 7, 8); s != 0x083 {
		t.Errorf("the other target's conflict became %03x", s)
	}
	other := me
	other[0] = 2
	o.mu.Lock()
	if o.sent.Opcode() != nvme.IOResvAcquire || o.sent.CDW(10) != 2|5<<8 || o.hosts[bdev.OpNVMeIO] != me {
		t.Errorf("passed on: % x of %s", o.sent[:], o.hosts[bdev.OpNVMeIO])
	}
	o.end = nvme.Success
	o.report = nvme.AppendReservationStatus(nil, nvme.ReservationStatus{Generation: 7, Type: 5, Registrants: []nvme.Registrant{
		{CNTLID: nvme.CNTLIDDynamic, HostID: me, Key: 1}, {CNTLID: 17, HostID: other, Key: 2}}})
	o.mu.Unlock()
	p := w.reportPage()
	got, err := nvme.DecodeReservationStatus(p)
	if err != nil || got.Generation != 7 || len(got.Registrants) != 2 ||
		got.Registrants[0].CNTLID != cntlid || got.Registrants[1].CNTLID != 17 {
		t.Errorf("report %+v, %v; this controller is %d", got, err, cntlid)
	}

	medium := map[string][]byte{recordName(id): encodeRecord(&resvState{typ: nvme.ExclusiveAccess, holder: other,
		regs: []registrant{{other, 5}}})}
	r.keeper("k", medium)
	must(t, r.sub.SwapNamespace(1, "k"))
	if w.can(1) || w.can(2) {
		t.Error("the array came without its reservation")
	}
	must(t, r.sub.SwapNamespace(1, "o"))
	if !w.can(1) || !w.can(2) {
		t.Error("it judges by the array that it had")
	}
}

// TestReservationThatTheNamespaceHasNoMore: a command that came when the namespace had another reservation changes
// neither that nor the one that it has, here or on the medium.
func TestReservationThatTheNamespaceHasNoMore(t *testing.T) {
	first, second := uuid.New(), uuid.New()
	medium := map[string][]byte{}
	r, k := primary(t, first, medium)
	if s := r.host(1).resv(0x0d, 3<<30, 0, 10); s != 0 {
		t.Fatalf("register: %03x", s)
	}
	n := r.sub.namespace(1)
	was := n.resv.Load()
	must(t, r.sub.SetReservations(Reservations{ID: second, Offered: true}))
	if s := r.host(2).resv(0x0d, 3<<30, 0, 20); s != 0 {
		t.Fatalf("register: %03x", s)
	}
	kept := func() map[string][]byte {
		k.mu.Lock()
		defer k.mu.Unlock()
		return maps.Clone(medium)
	}
	before := kept()
	if s, _ := was.register(n, nvme.Reservation{Action: nvme.ResvRegister, NewKey: 5}, uuid.New()); s != nvme.InternalPathError {
		t.Errorf("a late command: %v", s)
	}
	if now := kept(); !maps.EqualFunc(before, now, bytes.Equal) {
		t.Errorf("the medium had %x and has %x", before, now)
	}
	if _, _, _, regs := r.host(2).report(); regs != 1 {
		t.Errorf("%d registrants", regs)
	}
}

// TestReservationOfARemovedNamespace: a command that is being kept while its namespace is removed, and made again with what
// was on the medium until then, does not succeed: the namespace that is there knows nothing of it.
func TestReservationOfARemovedNamespace(t *testing.T) {
	r, k := primary(t, uuid.New(), map[string][]byte{})
	slow := k.slowly()
	w := r.host(1)
	done := make(chan uint16, 1)
	go func() { done <- w.resv(0x0d, 3<<30, 0, 10) }()
	wait := <-slow
	must(t, r.sub.RemoveNamespace(1))
	_, err := r.sub.AddNamespace(NamespaceConfig{NSID: 1, Bdev: "k"})
	must(t, err)
	close(wait)
	if s := <-done; s != uint16(nvme.InternalPathError) {
		t.Errorf("the command: %03x", s)
	}
	go func() { close(<-slow) }()
	if s := w.resv(0x0d, 3<<30, 0, 10); s != 0 {
		t.Errorf("the same again: %03x", s)
	}
	if _, _, _, regs := w.report(); regs != 1 {
		t.Errorf("%d registrants", regs)
	}
}

// TestOneReservationPerArray: namespaces that come and go have one reservation as long as any of them is there,
// and the next ones another.
func TestOneReservationPerArray(t *testing.T) {
	r := newRig(t, part)
	id := uuid.New()
	var ns []*namespace
	for range 3 {
		n := &namespace{sub: r.sub}
		n.own()
		ns = append(ns, n)
	}
	ns[0].join(id)
	ns[1].join(id)
	was := ns[0].resv.Load()
	ns[0].leave()
	ns[2].join(id)
	if ns[1].resv.Load() != was || ns[2].resv.Load() != was || len(*was.members.Load()) != 2 {
		t.Error("one that has come has another reservation")
	}
	ns[1].leave()
	ns[2].leave()
	if len(r.tgt.shared) != 0 {
		t.Errorf("the target keeps %d reservations of nobody", len(r.tgt.shared))
	}
	ns[0].join(id)
	ns[1].join(id)
	if now := ns[0].resv.Load(); now == was || ns[1].resv.Load() != now || r.tgt.shared[id] != now {
		t.Error("the next ones have not one reservation, made for them")
	}
}
