package label_test

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"

	"github.com/virtual-disk-array/vda/module/mirror/label"
)

func id(n byte) label.ID { return label.ID{15: n, 0: 0xb0} }

func sample(seq uint64) label.Label {
	return label.Label{Seq: seq, Confirmed: seq - 2, Term: 3, Gen: 7, DataSize: 10 << 20, RegionSize: 4 << 20, DA: id(1), Mirror: id(2),
		VD: id(10), Source: id(10),
		Members: []label.ID{id(10), id(11)}, Joining: []label.ID{id(12)}, CatchingUp: []label.ID{id(11)}, Epochs: []label.ID{id(20), {}, id(22)},
		Absent: []label.Absent{{VD: id(13), Seq: 4}}}
}

// tail returns the two slots with labels written one after another.
func tail(t *testing.T, labels ...label.Label) []byte {
	t.Helper()
	b := make([]byte, 2*label.SlotSize)
	for _, l := range labels {
		slot, err := l.Encode()
		if err != nil {
			t.Fatal(err)
		}
		copy(b[label.Slot(l.Seq):], slot)
	}
	return b
}

func TestRoundTrip(t *testing.T) {
	clean := sample(9)
	clean.Clean, clean.Source = true, label.ID{}
	for _, l := range []label.Label{sample(8), clean} {
		got, err := label.Decode(tail(t, l))
		if err != nil || !reflect.DeepEqual(got, l) {
			t.Errorf("got %+v, %v; want %+v", got, err, l)
		}
	}
}

func TestTheNewerWholeLabelCounts(t *testing.T) {
	both := tail(t, sample(8), sample(9))
	torn := func(slot, from int) []byte {
		b := slices.Clone(both)
		copy(b[slot*label.SlotSize+from:(slot+1)*label.SlotSize], bytes.Repeat([]byte{0xa5}, label.SlotSize))
		return b
	}
	swapped := slices.Concat(both[label.SlotSize:], both[:label.SlotSize])
	for _, c := range []struct {
		name  string
		slots []byte
		seq   uint64
		err   error
	}{
		{"both", both, 9, nil},
		{"the first alone", tail(t, sample(8)), 8, nil},
		{"the second alone", tail(t, sample(9)), 9, nil},
		{"a newer first", tail(t, sample(9), sample(10)), 10, nil},
		{"the newer is torn", torn(1, 512), 8, nil},
		{"the newer lacks its end", torn(1, 4095), 8, nil},
		{"the older is torn", torn(0, 512), 9, nil},
		{"swapped", swapped, 0, label.ErrDamaged},
		{"zeros", make([]byte, 2*label.SlotSize), 0, label.ErrNone},
		{"something else", bytes.Repeat([]byte("ext4"), 2048), 0, label.ErrDamaged},
	} {
		if l, err := label.Decode(c.slots); !errors.Is(err, c.err) || l.Seq != c.seq {
			t.Errorf("%s: seq %d, %v; want %d, %v", c.name, l.Seq, err, c.seq, c.err)
		}
	}
	if _, err := label.Decode(both[:4096]); err == nil {
		t.Error("one slot alone is taken")
	}
}

func TestImpossibleLabelsAreNotWritten(t *testing.T) {
	for name, change := range map[string]func(l *label.Label){
		"no array":             func(l *label.Label) { l.DA = label.ID{} },
		"no member":            func(l *label.Label) { l.Members = nil },
		"five members":         func(l *label.Label) { l.Members = []label.ID{id(10), id(11), id(14), id(15), id(16)} },
		"a member twice":       func(l *label.Label) { l.Members = []label.ID{id(10), id(10)} },
		"joining and member":   func(l *label.Label) { l.Joining = []label.ID{id(10)} },
		"a member without id":  func(l *label.Label) { l.Members = append(l.Members, label.ID{}) },
		"a source of nobody":   func(l *label.Label) { l.Source = id(12) },
		"no source":            func(l *label.Label) { l.Source = label.ID{} },
		"clean with a source":  func(l *label.Label) { l.Clean = true },
		"catching up, no leg":  func(l *label.Label) { l.CatchingUp = []label.ID{id(13)} },
		"confirmed too early":  func(l *label.Label) { l.Confirmed = 9 },
		"no data":              func(l *label.Label) { l.DataSize = 0 },
		"odd regions":          func(l *label.Label) { l.RegionSize = 3 << 20 },
		"too many regions":     func(l *label.Label) { l.DataSize = 2 << 40 },
		"too many are absent":  func(l *label.Label) { l.Absent = make([]label.Absent, 17) },
		"an epoch is missing":  func(l *label.Label) { l.Epochs = l.Epochs[1:] },
		"too many are joining": func(l *label.Label) { l.Joining = make([]label.ID, 5) },
	} {
		l := sample(8)
		change(&l)
		if _, err := l.Encode(); err == nil {
			t.Errorf("%s: encoded", name)
		}
	}
}

// FuzzDecode: whatever stands on a leg, decoding ends, and what it takes for a
// label can be written again as it was.
func FuzzDecode(f *testing.F) {
	l := sample(9)
	slot, err := l.Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(slices.Concat(make([]byte, label.SlotSize), slot))
	f.Fuzz(func(t *testing.T, b []byte) {
		l, err := label.Decode(b)
		if err != nil {
			return
		}
		again, err := l.Encode()
		if err != nil {
			t.Fatalf("%+v does not encode: %v", l, err)
		}
		if l2, err := label.Decode(slices.Concat(again, again)); err != nil || !reflect.DeepEqual(l, l2) {
			t.Fatalf("%+v became %+v, %v", l, l2, err)
		}
	})
}

func TestRegionSize(t *testing.T) {
	for _, c := range []struct{ data, size uint64 }{
		{1, 4 << 20}, {4 << 20, 4 << 20}, {1 << 40, 4 << 20}, {1<<40 + 1, 8 << 20}, {2 << 40, 8 << 20}, {100 << 40, 512 << 20},
	} {
		if got := label.RegionSize(c.data); got != c.size {
			t.Errorf("%d bytes: regions of %d, want %d", c.data, got, c.size)
		}
		if n := label.Regions(c.data, label.RegionSize(c.data)); n > label.MaxRegions {
			t.Errorf("%d bytes: %d regions", c.data, n)
		}
	}
	if end := label.PageOffset(label.MaxPages); end > label.TailSize {
		t.Errorf("the map ends at %d of %d", end, label.TailSize)
	}
}

func TestMap(t *testing.T) {
	const regions = 2*label.PageRegions + 100
	rng := rand.New(rand.NewPCG(1, 2))
	m, want := label.NewMap(regions), map[int]bool{}
	for range 5000 {
		r := rng.IntN(regions)
		if rng.IntN(3) == 0 {
			m.Clear(r)
			delete(want, r)
		} else {
			m.Set(r)
			want[r] = true
		}
	}
	m.Set(regions - 1)
	want[regions-1] = true
	check := func(what string, m *label.Map) {
		t.Helper()
		n := 0
		for r := m.Next(0); r >= 0; r = m.Next(r + 1) {
			if !want[r] {
				t.Fatalf("%s: bit %d is set", what, r)
			}
			n++
		}
		if n != len(want) || m.Count() != n {
			t.Errorf("%s: %d bits, counted as %d; want %d", what, n, m.Count(), len(want))
		}
	}
	check("as set", m)
	read, pages := label.NewMap(regions), make([]byte, label.Pages(regions)*label.SlotSize)
	for i := range label.Pages(regions) {
		page := pages[i*label.SlotSize : (i+1)*label.SlotSize]
		m.EncodePage(page, id(2), i)
		if !read.DecodePage(page, id(2), i) {
			t.Errorf("page %d is damaged", i)
		}
	}
	check("as read", read)
	for name, bad := range map[string]func() bool{
		"of another mirror": func() bool { return label.NewMap(regions).DecodePage(pages[:4096], label.ID{1}, 0) },
		"another page":      func() bool { return label.NewMap(regions).DecodePage(pages[:4096], id(2), 1) },
		"zeros":             func() bool { return label.NewMap(regions).DecodePage(make([]byte, 4096), id(2), 0) },
	} {
		if bad() {
			t.Errorf("a page %s is taken", name)
		}
	}
	torn := label.NewMap(regions)
	torn.DecodePage(slices.Concat(pages[:2048], make([]byte, 2048)), id(2), 0)
	if torn.Count() != label.PageRegions {
		t.Errorf("a torn page has %d ones, not %d", torn.Count(), label.PageRegions)
	}
	full := label.NewMap(regions)
	full.SetAll()
	full.Or(m)
	if full.Count() != regions {
		t.Errorf("%d of %d", full.Count(), regions)
	}
}

// FuzzPage: a page of a map is taken as it was written, or counts as all ones, for
// maps of any size.
func FuzzPage(f *testing.F) {
	m := label.NewMap(100)
	m.Set(3)
	page := make([]byte, label.SlotSize)
	m.EncodePage(page, id(2), 0)
	f.Add(page, uint(100), uint(0))
	f.Add(make([]byte, label.SlotSize), uint(label.PageRegions+1), uint(1))
	f.Fuzz(func(t *testing.T, b []byte, regions, page uint) {
		n := int(regions%label.MaxRegions) + 1
		i := int(page) % label.Pages(n)
		m := label.NewMap(n)
		whole := m.DecodePage(b, id(2), i)
		from, to := i*label.PageRegions, min((i+1)*label.PageRegions, n)
		if first := m.Next(0); first >= 0 && first < from || m.Next(to) >= 0 {
			t.Fatalf("page %d of %d regions set bits of others", i, n)
		}
		if !whole {
			if m.Count() != to-from {
				t.Fatalf("a damaged page has %d of %d bits", m.Count(), to-from)
			}
			return
		}
		again, back := make([]byte, label.SlotSize), label.NewMap(n)
		m.EncodePage(again, id(2), i)
		if !back.DecodePage(again, id(2), i) || back.Count() != m.Count() {
			t.Fatalf("page %d became another: %d bits of %d", i, back.Count(), m.Count())
		}
	})
}
