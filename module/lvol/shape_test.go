package lvol

import (
	"testing"

	"github.com/virtual-disk-array/vda/bdev"
	"github.com/virtual-disk-array/vda/nvme"
)

// TestShape: what a host may rely on: how much is freed at once, what a thin
// volume takes, and that a snapshot takes no writes.
func TestShape(t *testing.T) {
	r := newRig(t)
	r.disk("d0", 64*mib)
	st := r.store("d0", "lvs", StoreOpts{ClusterSize: 2 * mib})
	v := r.volume(st, VolumeOpts{Name: "v", Bytes: 16 * mib, Thin: true})
	thick := r.volume(st, VolumeOpts{Name: "thick", Bytes: 4 * mib})
	if got := v.Info().UnmapUnit; got != 512 {
		t.Errorf("%d blocks are freed at once, want the cluster's 512", got)
	}
	if used, ok := thick.Used(); ok {
		t.Errorf("a thick volume counts its blocks: %d", used)
	}
	r.write("lvs/v", 3*mib, noise(1, 4*mib)) // clusters 1 to 3
	h, err := r.reg.Open("lvs/v", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	if used, ok := h.Used(); !ok || used != 3*512 {
		t.Errorf("%d blocks used, %v; want %d", used, ok, 3*512)
	}
	if _, err := v.Snapshot("snap"); err != nil {
		t.Fatal(err)
	}
	for _, op := range []bdev.Op{bdev.OpWrite, bdev.OpWriteZeroes, bdev.OpUnmap} {
		q := &bdev.Request{Op: op, Blocks: 1}
		if op == bdev.OpWrite {
			q.Iov = [][]byte{make([]byte, 4096)}
		}
		if s := r.do("lvs/snap", q); s != nvme.WriteProtected|nvme.DNR {
			t.Errorf("%v on a snapshot: %v", op, s)
		}
	}
}
