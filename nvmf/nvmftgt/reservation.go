package nvmftgt

import (
	"slices"
	"sync"
	"sync/atomic"

	"github.com/google/uuid"

	"github.com/virtual-disk-array/vda/bdev"
	"github.com/virtual-disk-array/vda/nvme"
)

// reservation is a persistent reservation (base 2.0, section 8.19): a
// namespace's own, or an array's, which all of its namespaces of the target
// share (shared.go). The commands change it under mu, which may take as long as
// it takes to write; every I/O reads a snapshot. A namespace's own outlives the process
// with a file when a host asks for that (CPTPL); without, it is lost with the
// process, which RESCAP says. A host that asks for it all the same is
// registered, for Linux asks always.
type reservation struct {
	id   uuid.UUID // of an array's; zero: a namespace's own
	mu   sync.Mutex
	file *resvFile // nil: cannot be kept in one
	// The present state; nil: as at first.
	state   atomic.Pointer[resvState]
	members atomic.Pointer[[]*namespace]
}

// resvState is never modified.
type resvState struct {
	gen    uint32
	keep   bool // PTPL: the file has this state
	regs   []registrant
	typ    nvme.ReservationType // 0: no reservation
	holder uuid.UUID            // of types that one host holds
	notes  []resvNote           // what the change means for others; not kept
	counts bool                 // the change counts in the generation; not kept
}

type registrant struct {
	host uuid.UUID
	key  uint64
}

// maxRegistrants bounds the hosts registered at a namespace.
const maxRegistrants = 256

// most is how many hosts may be registered.
func (r *reservation) most() int {
	if r.id != uuid.Nil {
		return sharedRegistrants
	}
	return maxRegistrants
}

// reserves reports whether the subsystem offers reservations. One whose
// controller ids are a part of the range shares its namespaces with other
// targets, which would not know of a reservation made here unless
// SetReservations says how.
func (s *Subsystem) reserves() bool {
	if s.discovery {
		return false
	}
	if c := s.resv.Load(); c != nil {
		return c.Offered
	}
	return s.cfg.MinCntlid == 1 && s.cfg.MaxCntlid == nvme.MaxCNTLID
}

func (s *resvState) find(host uuid.UUID) int {
	return slices.IndexFunc(s.regs, func(r registrant) bool { return r.host == host })
}

// holds reports whether the host holds the reservation.
func (s *resvState) holds(host uuid.UUID) bool {
	if s.typ.AllRegistrants() {
		return s.find(host) >= 0
	}
	return s.typ != 0 && s.holder == host
}

// hostID is the host that the command is of: the one that is connected, or the one for
// which that passes it on; zero: it says none.
func (c *cmd) hostID() uuid.UUID {
	if ctrl := c.conn.ctrl; !ctrl.forwards.Load() {
		return ctrl.hostID
	}
	return c.sqe.Host()
}

// conflict is the status that the namespace's reservation gives to a command of the kind
// op, or Success. What another target is to judge passes.
func (c *cmd) conflict(op nvme.Opcode) nvme.Status {
	n := c.ns
	s := n.resv.Load().state.Load()
	if s == nil || s.typ == 0 || n.remote.Load() {
		return nvme.Success
	}
	return s.check(c.hostID(), op)
}

// check is the status that a reservation gives to a host's command, or
// Success.
func (s *resvState) check(host uuid.UUID, op nvme.Opcode) nvme.Status {
	var write bool
	switch op {
	case nvme.IOWrite, nvme.IOWriteZeroes, nvme.IODatasetManagement, nvme.IOFlush, nvme.IOWriteUncorrectable:
		write = true
	case nvme.IORead, nvme.IOCompare, nvme.IOVerify:
	default:
		return nvme.Success // reservation commands look for themselves
	}
	allowed := true
	switch s.typ {
	case nvme.WriteExclusive:
		allowed = !write || s.holder == host
	case nvme.ExclusiveAccess:
		allowed = s.holder == host
	case nvme.WriteExclusiveRegs, nvme.WriteExclusiveAllRegs:
		allowed = !write || s.find(host) >= 0
	case nvme.ExclusiveAccessRegs, nvme.ExclusiveAccessAll:
		allowed = s.find(host) >= 0
	}
	if !allowed {
		return nvme.ReservationConflict | nvme.DNR
	}
	return nvme.Success
}

// reserve executes a reservation command at the gate of its namespace.
func (c *cmd) reserve(h *bdev.Handle, b *bdev.Batch) {
	if c.hostID() == uuid.Nil { // it names no host: any number of them could share a registration
		c.finish(nvme.HostIDNotSet|nvme.DNR, b)
		return
	}
	if c.ns.remote.Load() {
		c.passOn(h, b)
		return
	}
	if c.sqe.Opcode() == nvme.IOResvReport {
		c.reservationReport(b)
		return
	}
	var data [16]byte
	sent := bdev.IovAt(c.iov, 0)
	sent.Gather(data[:])
	v, err := c.sqe.Reservation(data[:])
	if err != nil {
		c.finish(nvme.InvalidField|nvme.DNR, b)
		return
	}
	// Outside of the gate: what is written may have to wait for somebody who waits until
	// nobody is inside.
	c.to(settling)
	go func() {
		var own bdev.Batch
		c.conn.guarded(func() { c.finish(c.change(v), &own) })
		own.Flush()
	}()
}

// change executes Reservation Register, Acquire or Release.
func (c *cmd) change(v nvme.Reservation) nvme.Status {
	host, n, r := c.hostID(), c.ns, c.ns.resv.Load()
	var s nvme.Status
	var notes []resvNote
	preempted := false
	switch c.sqe.Opcode() {
	case nvme.IOResvRegister:
		s, notes = r.register(n, v, host)
	case nvme.IOResvRelease:
		s, notes = r.release(n, v, host)
	case nvme.IOResvAcquire:
		s, notes, preempted = r.acquire(n, v, host)
	}
	r.notify(notes)
	if s == nvme.Success && preempted && v.Action == nvme.ResvPreemptAbort {
		// What the preempted hosts have under way is waited for, by whatever way it came;
		// their later commands meet the reservation.
		for _, m := range *r.members.Load() {
			m.quiesce(nil)
		}
	}
	return s
}

// edit applies f to a copy of the state and keeps it when f succeeds, where it outlives
// the process first. persist is what becomes of PTPL. n is the namespace by which the
// change comes. It returns what other hosts are to be told.
func (r *reservation) edit(n *namespace, persist uint8, f func(s *resvState) nvme.Status) (nvme.Status, []resvNote) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if n.resv.Load() != r { // it has got another one since the command came
		return nvme.InternalPathError, nil
	}
	var s resvState
	old := r.state.Load()
	if old != nil {
		s = *old
		s.regs = slices.Clone(old.regs)
	}
	if st := f(&s); st != nvme.Success {
		return st, nil
	}
	if s.counts {
		s.gen++
	}
	notes := s.notes
	s.notes, s.counts = nil, false
	if st := r.save(n, persist, &s); st != nvme.Success {
		return st, nil
	}
	r.state.Store(&s)
	return nvme.Success, notes
}

// save has a new state outlive the process, where it is to.
func (r *reservation) save(n *namespace, persist uint8, s *resvState) nvme.Status {
	if r.id != uuid.Nil {
		return n.keepRecord(r.id, s)
	}
	was := s.keep
	if persist != nvme.PersistNoChange {
		s.keep = persist == nvme.PersistKeep && r.file != nil
	}
	if s.keep || was {
		if err := r.file.save(s); err != nil {
			r.file.log.Error("nvmf: a reservation cannot be kept", "file", r.file.path, "err", err)
			return nvme.InternalError
		}
	}
	return nvme.Success
}

const resvConflict = nvme.ReservationConflict | nvme.DNR

func (r *reservation) register(n *namespace, v nvme.Reservation, host uuid.UUID) (nvme.Status, []resvNote) {
	if v.Persist == 1 || v.Persist == nvme.PersistNot && r.id != uuid.Nil { // reserved; an array's is kept always
		return nvme.InvalidField | nvme.DNR, nil
	}
	if v.NewKey == 0 && v.Action != nvme.ResvUnregister { // means "no key"
		return nvme.InvalidField | nvme.DNR, nil
	}
	return r.edit(n, v.Persist, func(s *resvState) nvme.Status {
		i := s.find(host)
		switch v.Action {
		case nvme.ResvRegister:
			switch {
			case i >= 0 && s.regs[i].key != v.NewKey:
				return resvConflict
			case i >= 0:
			case len(s.regs) >= r.most():
				return nvme.InternalError | nvme.DNR
			default:
				s.regs = append(s.regs, registrant{host: host, key: v.NewKey})
			}
		case nvme.ResvUnregister:
			if i < 0 || !v.IgnoreKey && s.regs[i].key != v.Key {
				return resvConflict
			}
			s.drop(i)
		case nvme.ResvReplace:
			switch {
			case i < 0 && v.IgnoreKey && len(s.regs) < r.most():
				s.regs = append(s.regs, registrant{host: host, key: v.NewKey})
			case i < 0 || !v.IgnoreKey && s.regs[i].key != v.Key:
				return resvConflict
			default:
				s.regs[i].key = v.NewKey
			}
		default:
			return nvme.InvalidField | nvme.DNR
		}
		s.counts = true // also when nothing else has changed
		return nvme.Success
	})
}

// drop removes a registrant; a reservation that only it held goes with it,
// which the others are told where it was theirs to use.
func (s *resvState) drop(i int) {
	host := s.regs[i].host
	s.regs = slices.Delete(s.regs, i, i+1)
	if len(s.regs) == 0 || !s.typ.AllRegistrants() && s.holder == host {
		if s.typ == nvme.WriteExclusiveRegs || s.typ == nvme.ExclusiveAccessRegs {
			s.tell(nvme.ReservationReleased, host)
		}
		s.typ, s.holder = 0, uuid.UUID{}
	}
}

// acquire executes Reservation Acquire and reports whether somebody was
// preempted.
func (r *reservation) acquire(n *namespace, v nvme.Reservation, host uuid.UUID) (st nvme.Status, notes []resvNote,
	preempted bool) {
	st, notes = r.edit(n, nvme.PersistNoChange, func(s *resvState) nvme.Status {
		i := s.find(host)
		switch {
		case v.IgnoreKey || v.Type < nvme.WriteExclusive || v.Type > nvme.ExclusiveAccessAll || v.Action > nvme.ResvPreemptAbort:
			return nvme.InvalidField | nvme.DNR
		case i < 0 || s.regs[i].key != v.Key:
			return resvConflict
		case v.Action == nvme.ResvAcquire:
			switch {
			case s.typ == 0:
				s.typ, s.holder = v.Type, host
			case !s.holds(host) || s.typ != v.Type:
				return resvConflict
			}
			return nvme.Success
		}
		return s.preempt(v, host, &preempted)
	})
	return st, notes, preempted
}

// preempt executes the preempting actions of Reservation Acquire (base 2.0,
// section 8.19.5). A host that takes the reservation over stays registered;
// one that only removes registrants and names its own key removes itself.
func (s *resvState) preempt(v nvme.Reservation, host uuid.UUID, preempted *bool) nvme.Status {
	takes, all := false, false
	switch {
	case s.typ == 0:
	case s.typ.AllRegistrants():
		takes = v.NewKey == 0
		all = takes
	default:
		if h := s.find(s.holder); h >= 0 && s.regs[h].key == v.NewKey {
			takes = true
		} else if v.NewKey == 0 {
			return nvme.InvalidField | nvme.DNR
		}
	}
	found := false
	for i := len(s.regs) - 1; i >= 0; i-- {
		g := s.regs[i]
		if !all && g.key != v.NewKey {
			continue
		}
		found = true
		switch {
		case g.host != host:
			s.notes = append(s.notes, resvNote{g.host, nvme.RegistrationPreempted})
			s.regs = slices.Delete(s.regs, i, i+1)
		case !takes:
			s.regs = slices.Delete(s.regs, i, i+1)
		}
	}
	if !found {
		return resvConflict
	}
	switch {
	case takes:
		if s.typ != v.Type {
			s.tell(nvme.ReservationReleased, host)
		}
		s.typ, s.holder = v.Type, host
	case len(s.regs) == 0:
		s.typ, s.holder = 0, uuid.UUID{}
	}
	*preempted = true
	s.counts = true
	return nvme.Success
}

func (r *reservation) release(n *namespace, v nvme.Reservation, host uuid.UUID) (nvme.Status, []resvNote) {
	return r.edit(n, nvme.PersistNoChange, func(s *resvState) nvme.Status {
		i := s.find(host)
		if v.IgnoreKey {
			return nvme.InvalidField | nvme.DNR
		}
		if i < 0 || s.regs[i].key != v.Key {
			return resvConflict
		}
		switch v.Action {
		case nvme.ResvRelease:
			if !s.holds(host) {
				return nvme.Success
			}
			if v.Type != s.typ {
				return nvme.InvalidField | nvme.DNR
			}
			if s.typ != nvme.WriteExclusive && s.typ != nvme.ExclusiveAccess {
				s.tell(nvme.ReservationReleased, host)
			}
			s.typ, s.holder = 0, uuid.UUID{}
		case nvme.ResvClear:
			s.tell(nvme.ReservationPreempted, host)
			s.regs, s.typ, s.holder = nil, 0, uuid.UUID{}
			s.counts = true
		default:
			return nvme.InvalidField | nvme.DNR
		}
		return nvme.Success
	})
}

// reservationReport answers Reservation Report. Fabrics hosts have 128-bit
// ids, which only the extended structure holds.
func (c *cmd) reservationReport(b *bdev.Batch) {
	if c.sqe.CDW(11)&1 == 0 {
		c.finish(nvme.HostIDInconsistent|nvme.DNR, b)
		return
	}
	r := c.ns.resv.Load()
	now := r.hostControllers()
	out := nvme.ReservationStatus{Persistent: r.id != uuid.Nil}
	if s := r.state.Load(); s != nil {
		out.Generation, out.Type, out.Persistent = s.gen, s.typ, out.Persistent || s.keep
		for _, g := range s.regs {
			id, connected := now[g.host]
			if !connected {
				id = nvme.CNTLIDDynamic
			}
			out.Registrants = append(out.Registrants, nvme.Registrant{CNTLID: id, Holder: s.holds(g.host), HostID: g.host, Key: g.key})
		}
	}
	p := make([]byte, c.n)
	copy(p, nvme.AppendReservationStatus(nil, out))
	c.setData(p)
	c.toHost = true
	c.finish(nvme.Success, b)
}

// hostControllers are the lowest controller ids of the hosts that are
// connected now to a namespace of this target that has the reservation.
func (r *reservation) hostControllers() map[uuid.UUID]uint16 {
	out := map[uuid.UUID]uint16{}
	for _, n := range *r.members.Load() {
		n.sub.hostControllers(out)
	}
	return out
}

func (s *Subsystem) hostControllers(out map[uuid.UUID]uint16) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, c := range s.ctrls {
		if was, ok := out[c.hostID]; !c.forwards.Load() && (!ok || id < was) {
			out[c.hostID] = id
		}
	}
}
