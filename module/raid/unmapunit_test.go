package raid

import (
	"testing"

	"github.com/virtual-disk-array/vda/bdev"
)

// TestUnmapUnit: what is unmapped frees whole units of the bases. One that is
// larger than a strip lies beside those of the other bases in the array.
func TestUnmapUnit(t *testing.T) {
	for _, c := range []struct {
		level      Level
		units      [2]uint32
		want       uint32
		stripShift uint
	}{
		{Raid0, [2]uint32{0, 0}, 0, 4}, {Raid0, [2]uint32{256, 256}, 512, 4}, {Raid0, [2]uint32{256, 128}, 512, 4},
		{Raid0, [2]uint32{8, 8}, 8, 4}, {Concat, [2]uint32{256, 256}, 256, 4},
	} {
		g := newGeometry(c.level, c.stripShift, []uint64{4096, 4096})
		var i bdev.Info
		g.info(&i, []*bdev.Info{{BlockSize: 4096, Blocks: 4096, UnmapUnit: c.units[0]}, {BlockSize: 4096, Blocks: 4096, UnmapUnit: c.units[1]}})
		if i.UnmapUnit != c.want {
			t.Errorf("%v of %v: %d blocks, want %d", c.level, c.units, i.UnmapUnit, c.want)
		}
	}
}
