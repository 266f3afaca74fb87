package disk_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/virtual-disk-array/vda/disk"
)

// memory is a disk of zeros on which something was written.
type memory struct {
	size  uint64
	wrote map[uint64][]byte // by offset, bytes
	bad   uint64            // a read of this byte fails, when not 0
}

func newMemory(size uint64) *memory { return &memory{size: size, wrote: map[uint64][]byte{}} }

// put writes at an offset, from the end when it is negative.
func (m *memory) put(off int64, data string) *memory {
	if off < 0 {
		off += int64(m.size)
	}
	m.wrote[uint64(off)] = []byte(data)
	return m
}

func (m *memory) Size() uint64 { return m.size }

func (m *memory) ReadAt(_ context.Context, p []byte, off uint64) error {
	end := off + uint64(len(p))
	if end > m.size {
		return io.ErrUnexpectedEOF
	}
	if m.bad != 0 && off <= m.bad && m.bad < end {
		return syscall.EIO
	}
	clear(p)
	for at, b := range m.wrote {
		if at < end && at+uint64(len(b)) > off {
			lo := max(at, off)
			copy(p[lo-off:], b[lo-at:])
		}
	}
	return nil
}

func (m *memory) Zero(_ context.Context, off, n uint64) error {
	for at, b := range m.wrote {
		lo, hi := max(at, off), min(at+uint64(len(b)), off+n)
		if lo < hi {
			clear(b[lo-at : hi-at])
		}
	}
	return nil
}

// file is a memory that tells where it holds data.
type file struct{ *memory }

func (f file) NextData(off uint64) (start, end uint64, err error) {
	for _, at := range slices.Sorted(maps.Keys(f.wrote)) {
		if to := (at + uint64(len(f.wrote[at])) + 4095) &^ 4095; to > off {
			return max(at&^4095, off), to, nil
		}
	}
	return 0, 0, io.EOF
}

func look(t *testing.T, r disk.Reader) *disk.Content {
	t.Helper()
	c, err := disk.Look(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestZerosAreBlank(t *testing.T) {
	for _, size := range []uint64{0, 1, 4096, 5000, 1 << 20, 64 << 20, 64<<20 + 512, 1 << 30, 20 << 40} {
		if c := look(t, newMemory(size)); !c.Blank() || c.String() != "is blank" {
			t.Errorf("%d bytes: %v", size, c)
		}
	}
}

// A single byte is found anywhere in the first and last MiB of a large disk, at
// each power of two and at the places between.
func TestOneByteIsNotBlank(t *testing.T) {
	for _, size := range []uint64{1<<30 + 512, 10 << 40} {
		at := []int64{0, 511, 4096, 256 << 10, 1<<20 - 1, -1, -512, -4096, -65536, -1 << 20}
		for power := int64(1 << 20); power < int64(size)-1<<20; power *= 2 {
			at = append(at, power, power+65535)
		}
		for i := int64(1); i < disk.Samples; i += 9 {
			at = append(at, int64(size)/disk.Samples*i&^65535)
		}
		for _, off := range at {
			if look(t, newMemory(size).put(off, "x")).Blank() {
				t.Errorf("%d bytes with data at %d are taken for blank", size, off)
			}
		}
	}
}

// Small disks are read as a whole, and so is what a file holds, wherever it is.
func TestNoDataOfAFileIsMissed(t *testing.T) {
	for off := int64(3 << 10); off < 16<<20; off += 1<<19 + 12345 {
		if look(t, newMemory(16<<20).put(off, "x")).Blank() {
			t.Errorf("16 MiB with data at %d are taken for blank", off)
		}
	}
	for _, off := range []int64{3<<20 + 5, 5<<30 + 700000, 77 << 30} {
		if look(t, file{newMemory(100<<30).put(off, "x")}).Blank() {
			t.Errorf("a file with data at %d is taken for blank", off)
		}
	}
	f := file{newMemory(100<<30).put(3<<30+1, string(make([]byte, 1<<20)))}
	if c := look(t, f); !c.Blank() {
		t.Errorf("a file with zeros written to it %v", c)
	}
	f.put(50<<30+1<<20, string(append(make([]byte, 1<<20), 1)))
	if look(t, f).Blank() {
		t.Error("data at the end of an extent is missed")
	}
}

func TestAnUnreadableDiskIsNotBlank(t *testing.T) {
	m := newMemory(1 << 40)
	m.bad = 1<<40 - 5
	_, err := disk.Look(t.Context(), m)
	if !errors.Is(err, syscall.EIO) || !strings.Contains(err.Error(), "cannot be read") {
		t.Errorf("%v", err)
	}
}

func TestWipedPlacesAreBlank(t *testing.T) {
	for _, size := range []uint64{16 << 20, 1 << 40} {
		m := newMemory(size).put(0, strings.Repeat("data", 1<<18)).put(-1<<20, strings.Repeat("more", 1<<18)).put(8<<20, "mirror")
		if err := disk.WipePlaces(t.Context(), m); err != nil {
			t.Fatal(err)
		}
		if c := look(t, m); !c.Blank() {
			t.Errorf("%d bytes: it %v at %d", size, c, c.First)
		}
	}
}

// What was shown may go; what has come since may not.
func TestOnlyWhatWasShownIsCovered(t *testing.T) {
	m := newMemory(1<<40).put(1080, "\x53\xef").put(1<<30, "a file").put(-4096, "a label")
	shown := look(t, m).Marks
	if len(shown) != 3 || !look(t, m).Covered(shown) {
		t.Fatalf("%d marks", len(shown))
	}
	delete(m.wrote, 1<<30) // a wipe that was cut off
	if !look(t, m).Covered(shown) {
		t.Error("a disk is not covered after part of it was wiped")
	}
	for off, data := range map[int64]string{1080: "\x53\xee", 1 << 30: "b", 2 << 30: "new", 70000: "new"} {
		other := newMemory(1<<40).put(1080, "\x53\xef").put(-4096, "a label").put(off, data)
		if look(t, other).Covered(shown) {
			t.Errorf("%q at %d, which was not shown, is covered", data, off)
		}
	}
}

func TestGlanceSeesTheEnds(t *testing.T) {
	for _, size := range []uint64{1 << 20, 1<<30 + 512} {
		for off, blank := range map[int64]bool{0: false, 1<<20 - 1: false, -1: false, -1 << 20: false, int64(size / 2): size > 1<<21} {
			c, err := disk.Glance(t.Context(), newMemory(size).put(off, "x"))
			if err != nil || c.Blank() != blank {
				t.Errorf("%d bytes with data at %d: %v, %v", size, off, c, err)
			}
		}
	}
}

func TestUnknownDataSaysWhere(t *testing.T) {
	c := look(t, newMemory(1<<30).put(256<<10, "plain data"))
	if !strings.Contains(c.String(), fmt.Sprint(256<<10)) || c.First != 256<<10 {
		t.Errorf("it %v", c)
	}
}
