package blobstore

import (
	"encoding/binary"
	"log/slog"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/virtual-disk-array/vda/bdev"
	"github.com/virtual-disk-array/vda/blobstore/format"
	"github.com/virtual-disk-array/vda/nvme"
)

// FuzzDecodeChain reads arbitrary pages as a chain; what decodes must encode
// to something that decodes to the same.
func FuzzDecodeChain(f *testing.F) {
	id := format.BlobIDOf(7)
	for _, m := range []format.Metadata{
		{ID: id},
		{ID: id, InvalidFlags: format.FlagThin | format.FlagExtentTable, UseTable: true, Clusters: 1000,
			Table: []uint32{0, 9}, Xattrs: named("x")},
		{ID: id, InvalidFlags: format.FlagThin, Clusters: 30, Runs: []format.Run{{Cluster: 5, Length: 10}, {Length: 20}},
			Internal: []format.Xattr{{Name: "SNAP", Value: make([]byte, 8)}}},
	} {
		pages, err := m.Encode()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(pages[0][format.PageDescriptors:format.PageNext])
	}
	f.Fuzz(func(t *testing.T, descriptors []byte) {
		p := format.NewPage(id, 0)
		copy(p[format.PageDescriptors:format.PageNext], descriptors)
		m, err := format.DecodeChain(id, [][]byte{p})
		if err != nil {
			return
		}
		pages, err := m.Encode()
		if err != nil {
			return // an xattr without a name
		}
		again, err := format.DecodeChain(id, pages)
		if err != nil {
			t.Fatalf("what was encoded does not decode: %v", err)
		}
		if again.Clusters != m.Clusters || len(again.Table) != len(m.Table) || len(again.Xattrs) != len(m.Xattrs) ||
			len(again.Internal) != len(m.Internal) {
			t.Fatalf("decoded %+v, encoded and decoded again %+v", m, again)
		}
	})
}

// FuzzExtentPage reads arbitrary pages as extent pages.
func FuzzExtentPage(f *testing.F) {
	p := make([]byte, format.PageSize)
	format.EncodeExtentPage(p, format.BlobIDOf(3), 512, []uint32{1, 2, 3})
	f.Add(p, uint64(512))
	f.Fuzz(func(t *testing.T, data []byte, first uint64) {
		p := make([]byte, format.PageSize)
		copy(p, data)
		format.SealPage(p)
		var list [format.ExtentsPerPage]uint32
		if n, err := format.DecodeExtentPage(p, first, &list); err == nil && (n < 1 || n > format.ExtentsPerPage) {
			t.Fatalf("a list of %d", n)
		}
	})
}

// FuzzLoad damages a store in places that the fuzzer chooses, with right
// checksums, loads it and uses what loads. Nothing may panic or hang, and what
// loads must agree with itself.
func FuzzLoad(f *testing.F) {
	const size = 2 << 20
	rng := rand.New(rand.NewPCG(1, 2))
	w := newWorld(f, size, rng.IntN)
	for range 60 {
		w.step()
	}
	if err := w.store.Unload(); err != nil {
		f.Fatal(err)
	}
	image := append([]byte(nil), w.dev.view...)
	f.Add([]byte{0, 0, 16, 0, 9})
	f.Add([]byte{1, 0, 16, 1, 255, 7, 0, 40, 0, 9})
	f.Fuzz(func(t *testing.T, edits []byte) {
		d := newCrashDevice(size)
		copy(d.view, image)
		// An edit is a page, an offset in it and a byte; the page is one of
		// the super block, the masks and the metadata.
		for e := edits; len(e) >= 5; e = e[5:] {
			page := (uint32(e[0]) | uint32(e[1])<<8) % 260
			at := (uint32(e[2]) | uint32(e[3])<<8) % format.PageSize
			p := d.view[page*format.PageSize : (page+1)*format.PageSize]
			p[at] = e[4]
			if binary.LittleEndian.Uint64(p) != 0 {
				format.SealPage(p)
			}
		}
		copy(d.durable, d.view)
		hang := time.AfterFunc(20*time.Second, func() { panic("hangs") })
		defer hang.Stop()
		s, err := Load(openDevice(t, d), "", slog.New(slog.DiscardHandler))
		if err != nil {
			return
		}
		defer s.Close()
		w := &world{t: t, store: s}
		buf := make([]byte, format.PageSize)
		for _, b := range s.Blobs() {
			if b.Usable() != nil || b.Blocks() == 0 {
				continue
			}
			if st := w.io(b, bdev.OpRead, b.Blocks()-1, 1, buf); st != nvme.Success {
				t.Fatalf("read: %s", st)
			}
			st := w.io(b, bdev.OpWrite, b.Blocks()/2, 1, buf)
			if st != nvme.Success && st != nvme.CapacityExceeded|nvme.DNR && st != nvme.WriteProtected|nvme.DNR {
				t.Fatalf("write: %s", st)
			}
			if len(b.Clones()) < 2 {
				if err := b.Delete(); err != nil {
					t.Fatalf("delete: %v", err)
				}
			}
		}
	})
}
