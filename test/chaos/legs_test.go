//go:build e2e

package chaos

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	vda "github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/bdev"
	"github.com/virtual-disk-array/vda/module/aio"
	"github.com/virtual-disk-array/vda/module/lvol"
	"github.com/virtual-disk-array/vda/sandbox/stamp"
)

// makeDisk makes a disk with the vd "0a" of some blocks, which are at a
// generation, one of them at another one, and a MiB behind them of other bytes.
func makeDisk(t *testing.T, blocks int, other uint64, tail byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "pd0")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.Truncate(path, 64<<20))
	reg := bdev.NewRegistry()
	defer reg.Close()
	dev, err := aio.New(aio.Config{Name: "pd", Filename: path, BlockSize: blockSize})
	must(err)
	must(reg.Register(dev))
	m := lvol.New(lvol.Config{Registry: reg, Log: slog.New(slog.DiscardHandler)})
	store, err := m.CreateStore("pd", "lvs", lvol.StoreOpts{ClusterSize: 1 << 20})
	must(err)
	data := make([]byte, blocks*blockSize+vda.LegTail)
	for i := range data {
		data[i] = tail
	}
	for i := range blocks {
		stamp.Put(data[i*blockSize:(i+1)*blockSize], uint64(i), 3)
	}
	stamp.Put(data[7*blockSize:8*blockSize], 7, other)
	v, err := store.CreateVolume(lvol.VolumeOpts{Name: vda.VDPrefix + "0a", Bytes: uint64(len(data))})
	must(err)
	h, err := reg.Open(v.BdevName(), nil)
	must(err)
	must(transfer(h, bdev.OpWrite, 0, data))
	h.Close()
	must(m.Close())
	return path
}

// TestLegsThatDifferAreFound: a write that one leg lacks is found offline, with
// its place; what lies behind the data is each leg's own.
func TestLegsThatDifferAreFound(t *testing.T) {
	const blocks = 512
	one, same, old := makeDisk(t, blocks, 3, 0x11), makeDisk(t, blocks, 3, 0x22), makeDisk(t, blocks, 2, 0x11)
	if err := compareLeg(one, "0a", same, "0a", blocks*blockSize); err != nil {
		t.Error(err)
	}
	err := compareLeg(one, "0a", old, "0a", blocks*blockSize)
	if err == nil || !strings.Contains(err.Error(), "differ in 1 blocks") || !strings.Contains(err.Error(), "at 28672:") {
		t.Errorf("a lost write of block 7: %v", err)
	}
	if err := compareLeg(one, "0a", same, "0a", (blocks+1)*blockSize); err == nil {
		t.Error("bytes behind the data differ, and that is not found when they are compared")
	}
	if err := compareLeg(one, "0a", same, "0b", blocks*blockSize); err == nil || !strings.Contains(err.Error(), "vd 0b is not in") {
		t.Errorf("a vd that is not there: %v", err)
	}
	if err := compareLeg(one, "0a", same, "0a", 60<<20); err == nil || !strings.Contains(err.Error(), "not 62914560") {
		t.Errorf("a vd that is too short: %v", err)
	}
}
