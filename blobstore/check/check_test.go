package check

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"strings"
	"syscall"
	"testing"

	"github.com/virtual-disk-array/vda/bdev"
	"github.com/virtual-disk-array/vda/blobstore"
	"github.com/virtual-disk-array/vda/blobstore/format"
	"github.com/virtual-disk-array/vda/module/malloc"
)

const page = format.PageSize

// disk makes an unloaded lvstore of two volumes, of which the second is a
// clone of a snapshot, and returns its device and memory.
func disk(t *testing.T) (*bdev.Handle, []byte) {
	t.Helper()
	reg := bdev.NewRegistry()
	d, err := malloc.New(malloc.Config{Name: "d0", BlockSize: page, Blocks: 4096})
	if err == nil {
		err = reg.Register(d)
	}
	if err != nil {
		t.Fatal(err)
	}
	h, err := reg.Open("d0", nil)
	if err != nil {
		t.Fatal(err)
	}
	s, err := blobstore.Format(h, blobstore.Config{Type: format.LvstoreType, ClusterSize: 64 << 10})
	if err != nil {
		t.Fatal(err)
	}
	blob := func(name string, c blobstore.BlobConfig) *blobstore.Blob {
		c.Xattrs = identity(name)
		b, err := s.CreateBlob(c)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	super := blob("lvs", blobstore.BlobConfig{})
	if err := s.SetSuperBlob(super.ID()); err != nil {
		t.Fatal(err)
	}
	blob("one", blobstore.BlobConfig{Clusters: 5})
	two := blob("two", blobstore.BlobConfig{Clusters: 600, Thin: true})
	if _, err := two.Snapshot(identity("snap")); err != nil {
		t.Fatal(err)
	}
	if err := s.Unload(); err != nil {
		t.Fatal(err)
	}
	mem, ok := h.Map(nil, 0, 4096)
	if !ok || len(mem) != 1 {
		t.Fatal("no memory")
	}
	return h, mem[0]
}

func identity(name string) []format.Xattr {
	return []format.Xattr{{Name: "name", Value: []byte(name + "\x00")}, {Name: "uuid", Value: []byte("id-" + name + "\x00")}}
}

// root returns metadata page i.
func root(mem []byte, i uint32) []byte {
	start := binary.LittleEndian.Uint32(mem[48:])
	return mem[(start+i)*page:][:page]
}

func seal(p []byte) {
	binary.LittleEndian.PutUint32(p[page-4:], crc32.Checksum(p[:page-4], crc32.MakeTable(crc32.Castagnoli)))
}

func TestHealthy(t *testing.T) {
	h, _ := disk(t)
	r, err := Store(h)
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	if err := r.Print(&text); err != nil {
		t.Fatal(err)
	}
	if !r.Healthy() || !r.Clean || len(r.Blobs) != 4 || r.Name != "lvs" || len(r.Problems) != 0 {
		t.Errorf("%+v", r)
	}
	for _, want := range []string{`lvolstore "lvs" id-lvs, unloaded`, `"one" id-one: 5 of 5 clusters, thick`, `"two" id-two: 0 of 600 clusters, thin, clone of`, `"snap" id-snap: 0 of 600 clusters, thin, read only`, "healthy"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("no %q in\n%s", want, text.String())
		}
	}
}

func TestDamage(t *testing.T) {
	// The store has its blobs in metadata pages 0 (its own), 1 and the extent
	// page 2 (one), 3 (two), 4 (snap).
	for _, c := range []struct {
		name   string
		damage func(mem []byte)
		want   string
		grade  format.Severity
	}{
		{"flipped bit in a chain", func(mem []byte) { root(mem, 1)[100] ^= 1 },
			"blob 0x100000001: metadata page 1 of the chain: checksum is wrong", format.Corrupt},
		{"flipped bit in an extent page", func(mem []byte) { root(mem, 2)[30] ^= 1 },
			"blob 0x100000001: extent page 0, metadata page 2: checksum is wrong", format.Corrupt},
		{"cluster used twice", func(mem []byte) {
			p := root(mem, 2)
			copy(p[25:29], p[29:33])
			seal(p)
		}, "blob 0x100000001: cluster 1 of the blob", format.Corrupt},
		{"cluster in the metadata", func(mem []byte) {
			p := root(mem, 2)
			binary.LittleEndian.PutUint32(p[25:], 1)
			seal(p)
		}, "cluster 0 is in cluster 1 of the device", format.Corrupt},
		{"cluster leaked", func(mem []byte) {
			start := binary.LittleEndian.Uint32(mem[40:])
			mem[start*page+5+20] |= 0x80
		}, "used cluster mask: 1 are marked and not used", format.Leak},
		{"no parent", func(mem []byte) {
			p := root(mem, 3)
			p[strings.Index(string(p), "SNAP")+4] = 9
			seal(p)
		}, "the parent 0x100000009 of 0x100000003 is missing", format.Unusable},
		{"unknown feature", func(mem []byte) {
			p := root(mem, 1)
			p[16+5+1] |= 0x80
			seal(p)
		}, "flags 0x8000", format.Unusable},
		{"one name twice", func(mem []byte) {
			p := root(mem, 1)
			copy(p[strings.Index(string(p), "name")+4:], "two\x00")
			seal(p)
		}, `has the name "two"`, format.Unusable},
	} {
		t.Run(c.name, func(t *testing.T) {
			h, mem := disk(t)
			c.damage(mem)
			r, err := Store(h)
			if err != nil {
				t.Fatal(err)
			}
			if r.Healthy() {
				t.Error("healthy")
			}
			for _, p := range r.Problems {
				if strings.Contains(p.String(), c.want) && p.Severity == c.grade {
					return
				}
			}
			t.Errorf("no %q among %v", c.want, r.Problems)
		})
	}
}

func TestNoStore(t *testing.T) {
	h, mem := disk(t)
	mem[0] ^= 1
	if _, err := Store(h); !errors.Is(err, syscall.EILSEQ) || !IsNoStore(err) {
		t.Errorf("error %v", err)
	}
}
