package lvol

import (
	"testing"

	"github.com/virtual-disk-array/vda/bdev"
	"github.com/virtual-disk-array/vda/bdev/bdevtest"
	"github.com/virtual-disk-array/vda/module/malloc"
)

// TestConformance runs the suite of block devices on volumes of every kind.
func TestConformance(t *testing.T) {
	kinds := []string{"clone", "thick", "thin", "thin on 512", "thin on a file"}
	if raceEnabled {
		kinds = kinds[:1] // it has most of the others' code
	}
	for _, kind := range kinds {
		t.Run(kind, func(t *testing.T) {
			var m *Module
			bdevtest.Run(t, bdevtest.Subject{
				New: func(t *testing.T, reg *bdev.Registry) string {
					r := &rig{t: t, reg: reg}
					m = New(Config{Registry: reg})
					r.m = m
					switch kind {
					case "thin on 512":
						d, err := malloc.New(malloc.Config{Name: "base", BlockSize: 512, Blocks: 64 * mib / 512})
						if err == nil {
							err = reg.Register(d)
						}
						if err != nil {
							t.Fatal(err)
						}
					case "thin on a file":
						r.attach(aioFile(t, 64*mib))
					default:
						r.disk("base", 64*mib)
					}
					base := "base"
					if kind == "thin on a file" {
						base = "a0"
					}
					st := r.store(base, "lvs", StoreOpts{ClusterSize: 64 << 10})
					v := r.volume(st, VolumeOpts{Name: "v", Bytes: 16 * mib, Thin: kind != "thick"})
					if kind != "clone" {
						return v.BdevName()
					}
					s, err := v.Snapshot("s")
					if err != nil {
						t.Fatal(err)
					}
					c, err := s.Clone("c")
					if err != nil {
						t.Fatal(err)
					}
					return c.BdevName()
				},
				Resize: func(t *testing.T, _ *bdev.Registry, name string) {
					v, _ := m.Volume(name)
					if err := v.Resize(20 * mib); err != nil {
						t.Fatal(err)
					}
				},
			})
		})
	}
}
