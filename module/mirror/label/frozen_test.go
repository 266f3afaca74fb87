package label_test

import (
	"bytes"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/virtual-disk-array/vda/module/mirror/label"
)

// The format is on users' disks: what these tests say of its bytes stays. Another
// format has another number, and this one is still read.

// at is bytes at an offset of a slot or page whose others are zero.
type at struct {
	off int
	hex string
}

func blockOf(t *testing.T, parts []at) []byte {
	t.Helper()
	b := make([]byte, label.SlotSize)
	for _, p := range parts {
		raw, err := hex.DecodeString(strings.ReplaceAll(p.hex, " ", ""))
		if err != nil {
			t.Fatal(err)
		}
		copy(b[p.off:], raw)
	}
	return b
}

// same compares bytes, and says where they differ.
func same(t *testing.T, what string, got, want []byte) {
	t.Helper()
	for i := 0; i < len(want) && len(got) == len(want); i += 8 {
		if g, w := got[i:i+8], want[i:i+8]; !bytes.Equal(g, w) {
			t.Errorf("%s at %d: %x; the format has %x", what, i, g, w)
		}
	}
	if len(got) != len(want) {
		t.Errorf("%s: %d bytes; the format has %d", what, len(got), len(want))
	}
}

func frozenID(b byte) label.ID { return label.ID{0: b, 15: b + 1} }

// TestLabelBytesAreFrozen: a label is written and read byte for byte as ever.
func TestLabelBytesAreFrozen(t *testing.T) {
	l := label.Label{Seq: 0x0102030405060708, Confirmed: 0x0102030405060707, Term: 9, Gen: 10, DataSize: 16 << 20, RegionSize: 4 << 20,
		DA: frozenID(0xd0), Mirror: frozenID(0xa0), VD: frozenID(0x10), Source: frozenID(0x10),
		Members: []label.ID{frozenID(0x10), frozenID(0x20)}, Joining: []label.ID{frozenID(0x30)}, CatchingUp: []label.ID{frozenID(0x20)},
		Epochs: []label.ID{frozenID(0x51), frozenID(0x52), frozenID(0x53)},
		Absent: []label.Absent{{VD: frozenID(0x40), Seq: 7}}}
	want := blockOf(t, []at{
		{0, "5644414d49525231"}, {8, "78333844"}, {12, "0100 0000"},
		{16, "0807060504030201"}, {24, "09"}, {32, "0a"}, {40, "00000001"}, {48, "00004000"},
		{56, "d00000000000000000000000000000d1"}, {72, "a00000000000000000000000000000a1"},
		{88, "10000000000000000000000000000011"}, {104, "10000000000000000000000000000011"}, {120, "02010101"},
		{128, "10000000000000000000000000000011 20000000000000000000000000000021"},
		{192, "30000000000000000000000000000031"}, {256, "20000000000000000000000000000021"},
		{320, "40000000000000000000000000000041 0700000000000000"},
		{704, "51000000000000000000000000000052 52000000000000000000000000000053 53000000000000000000000000000054"},
		{832, "0707060504030201"},
	})
	got, err := l.Encode()
	if err != nil {
		t.Fatal(err)
	}
	same(t, "label", got, want)
	slots := append(want, make([]byte, label.SlotSize)...)
	if read, err := label.Decode(slots); err != nil || read.Seq != l.Seq || read.Absent[0] != l.Absent[0] || read.Epochs[2] != l.Epochs[2] {
		t.Errorf("read as %+v: %v", read, err)
	}
}

// TestMapBytesAreFrozen: so is a page of the map.
func TestMapBytesAreFrozen(t *testing.T) {
	m := label.NewMap(2 * label.PageRegions)
	for _, r := range []int{0, 9, label.PageRegions - 1} {
		m.Set(label.PageRegions + r)
	}
	want := blockOf(t, []at{{0, "22138701"}, {4, "01000000"}, {8, "a000000000000000"}, {16, "0102"}, {4095, "80"}})
	got := make([]byte, label.SlotSize)
	m.EncodePage(got, frozenID(0xa0), 1)
	same(t, "page", got, want)
	read := label.NewMap(2 * label.PageRegions)
	if read.DecodePage(want, frozenID(0xa0), 1); read.Count() != 3 || !read.Has(label.PageRegions+9) {
		t.Errorf("%d bits are read of 3", read.Count())
	}
}

// TestLayoutIsFrozen: so is where labels and pages are.
func TestLayoutIsFrozen(t *testing.T) {
	if label.SlotSize != 4096 || label.TailSize != 1<<20 || label.Slot(6) != 0 || label.Slot(7) != 4096 || label.PageOffset(0) != 8192 ||
		label.PageOffset(8) != 8192+8*4096 || label.PageRegions != 32640 {
		t.Error("labels or pages are elsewhere")
	}
	for data, region := range map[uint64]uint64{4096: 4 << 20, 1 << 40: 4 << 20, 1<<40 + 4096: 8 << 20, 1 << 42: 16 << 20} {
		if got := label.RegionSize(data); got != region {
			t.Errorf("regions of %d bytes of %d of data; the format has %d", got, data, region)
		}
	}
}
