package nvme

import "encoding/binary"

// ReservationType is the type of a reservation (NVM command set 1.0, figure
// on reservation types; base 2.0, section 8.19).
type ReservationType uint8

// The types.
const (
	WriteExclusive        ReservationType = 1
	ExclusiveAccess       ReservationType = 2
	WriteExclusiveRegs    ReservationType = 3 // registrants only
	ExclusiveAccessRegs   ReservationType = 4
	WriteExclusiveAllRegs ReservationType = 5 // all registrants hold it
	ExclusiveAccessAll    ReservationType = 6
)

// AllRegistrants reports whether every registrant holds a reservation of the
// type.
func (t ReservationType) AllRegistrants() bool { return t >= WriteExclusiveAllRegs }

// Actions of the reservation commands (dword 10 bits 2:0).
const (
	ResvRegister     = 0
	ResvUnregister   = 1
	ResvReplace      = 2
	ResvAcquire      = 0
	ResvPreempt      = 1
	ResvPreemptAbort = 2
	ResvRelease      = 0
	ResvClear        = 1
)

// Reservation is a reservation command's part of the submission queue entry
// and its data.
type Reservation struct {
	Action    uint8
	IgnoreKey bool // IEKEY
	Type      ReservationType
	Persist   uint8  // CPTPL: 0 no change, 2 do not keep over power loss, 3 keep
	Key       uint64 // CRKEY
	NewKey    uint64 // Register: NRKEY; Acquire: PRKEY
}

// Reservation reads a Reservation Register, Acquire or Release command and its
// data: 16 bytes, 8 for Release.
func (c *Command) Reservation(data []byte) (Reservation, error) {
	v := c.CDW(10)
	r := Reservation{Action: uint8(v) & 7, IgnoreKey: v>>3&1 != 0, Type: ReservationType(v >> 8), Persist: uint8(v >> 30)}
	if len(data) < 8 {
		return r, ErrShort
	}
	r.Key = binary.LittleEndian.Uint64(data)
	if c.Opcode() != IOResvRelease {
		if len(data) < 16 {
			return r, ErrShort
		}
		r.NewKey = binary.LittleEndian.Uint64(data[8:])
	}
	return r, nil
}

// SetReservation sets dword 10 and writes the data into data[:16].
func (c *Command) SetReservation(r Reservation, data []byte) {
	v := uint32(r.Action&7) | uint32(r.Type)<<8 | uint32(r.Persist)<<30
	if r.IgnoreKey {
		v |= 1 << 3
	}
	c.SetCDW(10, v)
	_ = data[15]
	binary.LittleEndian.PutUint64(data, r.Key)
	binary.LittleEndian.PutUint64(data[8:], r.NewKey)
}

// ReservationEvent says what a reservation notification is about.
type ReservationEvent uint8

// The events. Bit n of the notification mask (FeatureResvMask) keeps event n
// back.
const (
	RegistrationPreempted ReservationEvent = 1 // the host's registration is gone
	ReservationReleased   ReservationEvent = 2
	ReservationPreempted  ReservationEvent = 3 // registrations and reservation were cleared
)

// ResvMaskBits are the bits of the notification mask that mean something.
const ResvMaskBits uint32 = 1<<RegistrationPreempted | 1<<ReservationReleased | 1<<ReservationPreempted

// ReservationNotice is the reservation notification log (base 2.0, section
// 5.16.1.28): one notification.
type ReservationNotice struct {
	Count uint64 // number of the notification; 0: there is none
	Event ReservationEvent
	More  uint8 // notifications that wait behind this one, at most 255
	NSID  uint32
}

// ReservationNoticeLen is the length in bytes of that log.
const ReservationNoticeLen = 64

// PutReservationNotice writes n into b[:64].
func PutReservationNotice(b []byte, n ReservationNotice) {
	clear(b[:ReservationNoticeLen])
	binary.LittleEndian.PutUint64(b, n.Count)
	b[8], b[9] = byte(n.Event), n.More
	binary.LittleEndian.PutUint32(b[12:], n.NSID)
}

// DecodeReservationNotice reads the log.
func DecodeReservationNotice(b []byte) (ReservationNotice, error) {
	if len(b) < ReservationNoticeLen {
		return ReservationNotice{}, ErrShort
	}
	le := binary.LittleEndian
	return ReservationNotice{Count: le.Uint64(b), Event: ReservationEvent(b[8]), More: b[9], NSID: le.Uint32(b[12:])}, nil
}

// Registrant is an entry of the reservation status.
type Registrant struct {
	CNTLID uint16 // 0xffff: not connected
	Holder bool
	HostID [16]byte
	Key    uint64
}

// ReservationStatus is what Reservation Report returns.
type ReservationStatus struct {
	Generation  uint32
	Type        ReservationType // 0: no reservation
	Persistent  bool            // PTPLS: kept over a loss of power
	Registrants []Registrant
}

// Values of Reservation.Persist, CPTPL.
const (
	PersistNoChange uint8 = 0
	PersistNot      uint8 = 2
	PersistKeep     uint8 = 3
)

// resvHeaderLen and resvEntryLen are the lengths in bytes of the extended
// status.
const (
	resvHeaderLen = 64
	resvEntryLen  = 64
)

// AppendReservationStatus appends the extended data structure (base 2.0,
// figure on reservation status).
func AppendReservationStatus(b []byte, s ReservationStatus) []byte {
	le := binary.LittleEndian
	at := len(b)
	b = append(b, make([]byte, resvHeaderLen+resvEntryLen*len(s.Registrants))...)
	le.PutUint32(b[at:], s.Generation)
	b[at+4] = byte(s.Type)
	le.PutUint16(b[at+5:], uint16(len(s.Registrants)))
	if s.Persistent {
		b[at+9] = 1
	}
	at += resvHeaderLen
	for _, r := range s.Registrants {
		le.PutUint16(b[at:], r.CNTLID)
		if r.Holder {
			b[at+2] = 1
		}
		le.PutUint64(b[at+8:], r.Key)
		copy(b[at+16:], r.HostID[:])
		at += resvEntryLen
	}
	return b
}

// EditReservationStatus has cntlid choose the controller id of each registrant, as far as
// b reaches.
func EditReservationStatus(b []byte, cntlid func(host [16]byte, id uint16) uint16) {
	if len(b) < resvHeaderLen {
		return
	}
	le := binary.LittleEndian
	n := int(le.Uint16(b[5:]))
	for b = b[resvHeaderLen:]; n > 0 && len(b) >= resvEntryLen; b, n = b[resvEntryLen:], n-1 {
		le.PutUint16(b, cntlid([16]byte(b[16:32]), le.Uint16(b)))
	}
}

// DecodeReservationStatus reads the extended data structure as far as b
// reaches.
func DecodeReservationStatus(b []byte) (ReservationStatus, error) {
	if len(b) < resvHeaderLen {
		return ReservationStatus{}, ErrShort
	}
	le := binary.LittleEndian
	s := ReservationStatus{Generation: le.Uint32(b), Type: ReservationType(b[4]), Persistent: b[9]&1 != 0}
	n := int(le.Uint16(b[5:]))
	b = b[resvHeaderLen:]
	for range n {
		if len(b) < resvEntryLen {
			return s, ErrShort
		}
		s.Registrants = append(s.Registrants, Registrant{CNTLID: le.Uint16(b), Holder: b[2]&1 != 0, Key: le.Uint64(b[8:]),
			HostID: [16]byte(b[16:32])})
		b = b[resvEntryLen:]
	}
	return s, nil
}
