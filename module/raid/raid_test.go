package raid_test

import (
	"fmt"
	"testing"

	"github.com/virtual-disk-array/vda/bdev"
	"github.com/virtual-disk-array/vda/bdev/bdevtest"
	"github.com/virtual-disk-array/vda/module/malloc"
	"github.com/virtual-disk-array/vda/module/null"
	"github.com/virtual-disk-array/vda/module/raid"
)

// bases registers memory devices of the given sizes in blocks of 4096 bytes.
func bases(t testing.TB, reg *bdev.Registry, blocks ...uint64) []string {
	t.Helper()
	var names []string
	for i, n := range blocks {
		d, err := malloc.New(malloc.Config{Name: fmt.Sprintf("Malloc%d", i), BlockSize: 4096, Blocks: n})
		if err != nil {
			t.Fatal(err)
		}
		if err := reg.Register(d); err != nil {
			t.Fatal(err)
		}
		names = append(names, d.Info().Name)
	}
	return names
}

func TestConformance(t *testing.T) {
	for _, c := range []struct {
		level raid.Level
		strip uint32
		sizes []uint64
	}{
		{raid.Raid0, 64, []uint64{1024, 1024}},
		{raid.Raid0, 4, []uint64{700, 701, 900}},
		{raid.Raid0, 128, []uint64{2048}},
		{raid.Concat, 64, []uint64{1000, 400, 1024}},
	} {
		t.Run(fmt.Sprintf("%s-%d-%d", c.level, c.strip, len(c.sizes)), func(t *testing.T) {
			bdevtest.Run(t, bdevtest.Subject{New: func(t *testing.T, reg *bdev.Registry) string {
				_, err := raid.New(reg).Create(raid.Config{Name: "Raid0", Level: c.level, StripSizeKB: c.strip, Bases: bases(t, reg, c.sizes...)})
				if err != nil {
					t.Fatal(err)
				}
				return "Raid0"
			}})
		})
	}
}

func TestResize(t *testing.T) {
	for _, level := range []raid.Level{raid.Raid0, raid.Concat} {
		bdevtest.Run(t, bdevtest.Subject{
			Discards: true,
			New: func(t *testing.T, reg *bdev.Registry) string {
				for i := range 2 {
					d, err := null.New(null.Config{Name: fmt.Sprintf("Null%d", i), BlockSize: 4096, Blocks: 1024})
					if err != nil {
						t.Fatal(err)
					}
					if err := reg.Register(d); err != nil {
						t.Fatal(err)
					}
				}
				if _, err := raid.New(reg).Create(raid.Config{Name: "R", Level: level, StripSizeKB: 64,
					Bases: []string{"Null0", "Null1"}}); err != nil {
					t.Fatal(err)
				}
				return "R"
			},
			Resize: func(t *testing.T, reg *bdev.Registry, name string) {
				for _, base := range []string{"Null1", "Null0"} {
					d, _ := reg.Get(base)
					if base == "Null0" && level == raid.Concat {
						continue
					}
					if err := d.(*null.Device).Resize(2048); err != nil {
						t.Fatal(err)
					}
					reg.Resized(base)
				}
			},
		})
	}
}
