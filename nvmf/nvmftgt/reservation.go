package nvmftgt

import (
	"slices"
	"sync"
	"sync/atomic"

	"github.com/google/uuid"

	"github.com/virtual-disk-array/vda/bdev"
	"github.com/virtual-disk-array/vda/nvme"
)

// reservation is a namespace's persistent reservation (base 2.0, section
// 8.19). The commands change it under mu; every I/O reads a snapshot. With a
// file it outlives the process when a host asks for that (CPTPL); without, it
// is lost with the process, which RESCAP says. A host that asks for it all the
// same is registered, for Linux asks always.
type reservation struct {
	mu    sync.Mutex
	gen   uint32
	keep  bool                      // PTPL: file has what state has
	file  *resvFile                 // nil: cannot be kept
	state atomic.Pointer[resvState] // nil: nobody is registered
}

// resvState is never modified.
type resvState struct {
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

// reserves reports whether the subsystem offers reservations. One whose
// controller ids are a part of the range shares its namespaces with other
// targets, which would not know of a reservation made here.
func (s *Subsystem) reserves() bool {
	return !s.discovery && s.cfg.MinCntlid == 1 && s.cfg.MaxCntlid == nvme.MaxCNTLID
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

// check is the status that a reservation gives to a host's command, or
// Success.
func (r *reservation) check(host uuid.UUID, op nvme.Opcode) nvme.Status {
	s := r.state.Load()
	if s == nil || s.typ == 0 {
		return nvme.Success
	}
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
func (c *cmd) reserve(b *bdev.Batch) {
	host := c.conn.ctrl.hostID
	if host == uuid.Nil { // it names no host: any number of them could share a registration
		c.finish(nvme.HostIDNotSet|nvme.DNR, b)
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
	if c.ns.resv.file == nil {
		c.change(v, b)
		return
	}
	go func() { // a file is written
		var own bdev.Batch
		c.conn.guarded(func() { c.change(v, &own) })
		own.Flush()
	}()
}

// change executes Reservation Register, Acquire or Release.
func (c *cmd) change(v nvme.Reservation, b *bdev.Batch) {
	host, r := c.conn.ctrl.hostID, &c.ns.resv
	switch c.sqe.Opcode() {
	case nvme.IOResvRegister:
		s, notes := r.register(v, host)
		c.ns.notify(notes)
		c.finish(s, b)
	case nvme.IOResvRelease:
		s, notes := r.release(v, host)
		c.ns.notify(notes)
		c.finish(s, b)
	case nvme.IOResvAcquire:
		s, notes, preempted := r.acquire(v, host)
		c.ns.notify(notes)
		if s != nvme.Success || !preempted || v.Action != nvme.ResvPreemptAbort {
			c.finish(s, b)
			return
		}
		// Preempt and abort: what the preempted hosts have under way is
		// waited for; their later commands meet the reservation.
		n := c.ns
		c.to(settling)
		go func() {
			n.quiesce(nil)
			var own bdev.Batch
			c.finish(nvme.Success, &own)
			own.Flush()
		}()
	}
}

// edit applies f to a copy of the state and keeps it when f succeeds, in the
// file first where there is one to be written. persist is what becomes of PTPL.
// It returns what other hosts are to be told.
func (r *reservation) edit(persist uint8, f func(s *resvState) nvme.Status) (nvme.Status, []resvNote) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var s resvState
	if old := r.state.Load(); old != nil {
		s = *old
		s.regs = slices.Clone(old.regs)
	}
	st := f(&s)
	if st != nvme.Success {
		return st, nil
	}
	keep := r.keep
	if persist != nvme.PersistNoChange {
		keep = persist == nvme.PersistKeep && r.file != nil
	}
	if keep || r.keep {
		if err := r.file.save(keep, &s); err != nil {
			r.file.log.Error("nvmf: a reservation cannot be kept", "file", r.file.path, "err", err)
			return nvme.InternalError, nil
		}
	}
	r.keep = keep
	if s.counts {
		r.gen++
	}
	notes := s.notes
	s.notes, s.counts = nil, false
	if len(s.regs) == 0 {
		r.state.Store(nil)
	} else {
		r.state.Store(&s)
	}
	return nvme.Success, notes
}

const resvConflict = nvme.ReservationConflict | nvme.DNR

func (r *reservation) register(v nvme.Reservation, host uuid.UUID) (nvme.Status, []resvNote) {
	if v.Persist == 1 { // reserved
		return nvme.InvalidField | nvme.DNR, nil
	}
	if v.NewKey == 0 && v.Action != nvme.ResvUnregister { // means "no key"
		return nvme.InvalidField | nvme.DNR, nil
	}
	return r.edit(v.Persist, func(s *resvState) nvme.Status {
		i := s.find(host)
		switch v.Action {
		case nvme.ResvRegister:
			switch {
			case i >= 0 && s.regs[i].key != v.NewKey:
				return resvConflict
			case i >= 0:
			case len(s.regs) >= maxRegistrants:
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
			case i < 0 && v.IgnoreKey && len(s.regs) < maxRegistrants:
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
func (r *reservation) acquire(v nvme.Reservation, host uuid.UUID) (st nvme.Status, notes []resvNote, preempted bool) {
	st, notes = r.edit(nvme.PersistNoChange, func(s *resvState) nvme.Status {
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

func (r *reservation) release(v nvme.Reservation, host uuid.UUID) (nvme.Status, []resvNote) {
	return r.edit(nvme.PersistNoChange, func(s *resvState) nvme.Status {
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
	r := &c.ns.resv
	now := c.conn.sub.hostControllers()
	r.mu.Lock()
	out := nvme.ReservationStatus{Generation: r.gen, Persistent: r.keep}
	if s := r.state.Load(); s != nil {
		out.Type = s.typ
		for _, g := range s.regs {
			id, connected := now[g.host]
			if !connected {
				id = nvme.CNTLIDDynamic
			}
			out.Registrants = append(out.Registrants, nvme.Registrant{CNTLID: id, Holder: s.holds(g.host), HostID: g.host, Key: g.key})
		}
	}
	r.mu.Unlock()
	p := make([]byte, c.n)
	copy(p, nvme.AppendReservationStatus(nil, out))
	c.setData(p)
	c.toHost = true
	c.finish(nvme.Success, b)
}

// hostControllers are the lowest controller ids of the hosts that are
// connected now.
func (s *Subsystem) hostControllers() map[uuid.UUID]uint16 {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := map[uuid.UUID]uint16{}
	for id, c := range s.ctrls {
		if was, ok := out[c.hostID]; !ok || id < was {
			out[c.hostID] = id
		}
	}
	return out
}
