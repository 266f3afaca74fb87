package label

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"
)

// ID is an array's, a mirror's or a vd's id. The zero ID is none.
type ID [16]byte

// String is the id as VDA writes ids.
func (id ID) String() string { return fmt.Sprintf("%x", id[:]) }

const (
	// SlotSize is the size of a label slot and of a map page in bytes.
	SlotSize = 4096
	// TailSize is what a leg has behind its data, in bytes.
	TailSize = 1 << 20
	// MaxLegs is how many legs a mirror can have at a time: three, and one that
	// is to replace another.
	MaxLegs = 4
	// MaxAbsent is how many former legs a label can list.
	MaxAbsent = 16

	magic  = "VDAMIRR1"
	format = 1

	flagClean = 1 << 0
)

// Absent is a leg that has been dropped, or a member that has not been there.
type Absent struct {
	VD  ID
	Seq uint64 // of the last label that it had
}

// Label says what a leg is. All legs of a mirror carry the same label but for
// VD.
type Label struct {
	Seq        uint64 // rises with each label
	Confirmed  uint64 // Seq of a label that all members have had, as far as is known
	Term, Gen  uint64 // of the set of members that this is
	Clean      bool   // the legs are equal: nothing is to be repaired
	DataSize   uint64 // bytes
	RegionSize uint64 // bytes
	DA         ID
	Mirror     ID
	VD         ID   // whose label this is
	Source     ID   // member that regions are repaired from; zero when Clean
	Members    []ID // in S, the set that SQL calls good
	Joining    []ID // have all data, and wait for SQL to make them members
	CatchingUp []ID // of both, that may lack writes until the repair is done
	// Epochs are those of Members and then of Joining; zero where it is not known.
	// A leg's epoch is another once its disk node may have lost what it had
	// acknowledged and not flushed.
	Epochs []ID
	Absent []Absent
}

var (
	// ErrNone says that there is no label: the slots are zeros.
	ErrNone = errors.New("the leg has no label")
	// ErrDamaged says that neither slot can be read.
	ErrDamaged = errors.New("both labels of the leg are damaged")
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// sum is the checksum of a slot or page, whose own field at off counts as zeros.
func sum(b []byte, off int) uint32 {
	c := crc32.Update(0, castagnoli, b[:off])
	c = crc32.Update(c, castagnoli, make([]byte, 4))
	return crc32.Update(c, castagnoli, b[off+4:])
}

// Slot returns the offset in the tail of the slot that a label of this seq is
// written to.
func Slot(seq uint64) int64 { return int64(seq&1) * SlotSize }

// Encode returns the slot of a label. It fails when the label does not fit or
// says impossible things.
func (l *Label) Encode() ([]byte, error) {
	if err := l.check(); err != nil {
		return nil, err
	}
	b := make([]byte, SlotSize)
	copy(b, magic)
	le := binary.LittleEndian
	le.PutUint16(b[12:], format)
	if l.Clean {
		le.PutUint16(b[14:], flagClean)
	}
	for i, v := range []uint64{l.Seq, l.Term, l.Gen, l.DataSize, l.RegionSize} {
		le.PutUint64(b[16+8*i:], v)
	}
	le.PutUint64(b[832:], l.Confirmed)
	for i, id := range []ID{l.DA, l.Mirror, l.VD, l.Source} {
		copy(b[56+16*i:], id[:])
	}
	for i, ids := range [][]ID{l.Members, l.Joining, l.CatchingUp} {
		b[120+i] = byte(len(ids))
		for j, id := range ids {
			copy(b[128+64*i+16*j:], id[:])
		}
	}
	b[123] = byte(len(l.Absent))
	for i, id := range l.Epochs {
		copy(b[704+16*i:], id[:])
	}
	for i, a := range l.Absent {
		copy(b[320+24*i:], a.VD[:])
		le.PutUint64(b[336+24*i:], a.Seq)
	}
	le.PutUint32(b[8:], sum(b, 8))
	return b, nil
}

// Epoch returns the epoch of a member or joining leg, zero when it is not known.
func (l *Label) Epoch(vd ID) ID {
	if i := slices.Index(slices.Concat(l.Members, l.Joining), vd); i >= 0 {
		return l.Epochs[i]
	}
	return ID{}
}

// check refuses a label that Encode could not write or that contradicts itself.
func (l *Label) check() error {
	switch {
	case l.DA == ID{} || l.Mirror == ID{} || l.VD == ID{}:
		return errors.New("label: an id of the array, the mirror or the vd is missing")
	case len(l.Members) == 0 || len(l.Members) > MaxLegs:
		return fmt.Errorf("label: %d members; a mirror has 1 to %d", len(l.Members), MaxLegs)
	case len(l.Joining) > MaxLegs || len(l.CatchingUp) > MaxLegs || len(l.Absent) > MaxAbsent:
		return fmt.Errorf("label: %d joining, %d catching up, %d absent; there is room for %d, %d and %d",
			len(l.Joining), len(l.CatchingUp), len(l.Absent), MaxLegs, MaxLegs, MaxAbsent)
	case len(l.Epochs) != len(l.Members)+len(l.Joining):
		return fmt.Errorf("label: %d epochs of %d members and %d joining", len(l.Epochs), len(l.Members), len(l.Joining))
	case l.RegionSize == 0 || l.RegionSize%SlotSize != 0 || l.RegionSize&(l.RegionSize-1) != 0:
		return fmt.Errorf("label: %d bytes per region; it must be a power of two of at least %d", l.RegionSize, SlotSize)
	case l.Confirmed > l.Seq:
		return fmt.Errorf("label: seq %d is confirmed before seq %d is written", l.Confirmed, l.Seq)
	case l.DataSize == 0 || Regions(l.DataSize, l.RegionSize) > MaxRegions:
		return fmt.Errorf("label: %d bytes of data in regions of %d; there is room for 1 to %d regions", l.DataSize, l.RegionSize, MaxRegions)
	case !l.Clean && !slices.Contains(l.Members, l.Source):
		return fmt.Errorf("label: the source %v is not a member", l.Source)
	case l.Clean && l.Source != ID{}:
		return fmt.Errorf("label: the mirror is clean, and yet has a source %v", l.Source)
	}
	seen := map[ID]bool{{}: true}
	for _, id := range slices.Concat(l.Members, l.Joining) {
		if seen[id] {
			return fmt.Errorf("label: vd %v is twice a leg, or no id", id)
		}
		seen[id] = true
	}
	for _, id := range l.CatchingUp {
		if !seen[id] || id == (ID{}) {
			return fmt.Errorf("label: vd %v is catching up, and neither a member nor joining", id)
		}
	}
	return nil
}

// decode reads one slot. ok is false when it is damaged, or is not a label of
// that slot.
func decode(b []byte, slot int64) (l Label, ok bool) {
	le := binary.LittleEndian
	if len(b) != SlotSize || string(b[:8]) != magic || le.Uint32(b[8:]) != sum(b, 8) || le.Uint16(b[12:]) != format {
		return l, false
	}
	flags := le.Uint16(b[14:])
	l.Clean = flags&flagClean != 0
	for i, v := range []*uint64{&l.Seq, &l.Term, &l.Gen, &l.DataSize, &l.RegionSize} {
		*v = le.Uint64(b[16+8*i:])
	}
	l.Confirmed = le.Uint64(b[832:])
	for i, id := range []*ID{&l.DA, &l.Mirror, &l.VD, &l.Source} {
		copy(id[:], b[56+16*i:])
	}
	if flags&^flagClean != 0 || Slot(l.Seq) != slot || b[120] > MaxLegs || b[121] > MaxLegs || b[122] > MaxLegs || b[123] > MaxAbsent {
		return l, false
	}
	for i, ids := range []*[]ID{&l.Members, &l.Joining, &l.CatchingUp} {
		for j := range int(b[120+i]) {
			*ids = append(*ids, ID(b[128+64*i+16*j:]))
		}
	}
	for i := range len(l.Members) + len(l.Joining) {
		l.Epochs = append(l.Epochs, ID(b[704+16*i:]))
	}
	for i := range int(b[123]) {
		l.Absent = append(l.Absent, Absent{VD: ID(b[320+24*i:]), Seq: le.Uint64(b[336+24*i:])})
	}
	return l, l.check() == nil
}

// Decode reads the label of a leg from the two slots at the start of its tail:
// the one with the higher seq of those that are whole. ErrNone when both slots
// are zeros, ErrDamaged when neither can be read.
func Decode(slots []byte) (Label, error) {
	if len(slots) < 2*SlotSize {
		return Label{}, fmt.Errorf("label: %d bytes are less than two slots", len(slots))
	}
	slots = slots[:2*SlotSize]
	first, ok0 := decode(slots[:SlotSize], 0)
	second, ok1 := decode(slots[SlotSize:], SlotSize)
	switch {
	case ok0 && ok1 && second.Seq > first.Seq, ok1 && !ok0:
		return second, nil
	case ok0:
		return first, nil
	case len(bytes.Trim(slots, "\x00")) == 0:
		return Label{}, ErrNone
	}
	return Label{}, ErrDamaged
}
