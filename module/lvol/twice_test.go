package lvol

import (
	"errors"
	"syscall"
	"testing"

	"github.com/virtual-disk-array/vda/bdev"
	"github.com/virtual-disk-array/vda/module/malloc"
	"github.com/virtual-disk-array/vda/nvme"
)

// disk is a memory device that two programs, each with a registry of its own,
// have open at once.
type disk struct{ *malloc.Device }

func (disk) Close() error { return nil }

// TestTwoProgramsOnOneDisk: the lvol that one makes is there after it was
// killed, though the other had the same disk and was told to stop meanwhile;
// and one that is overtaken by the other says so and writes nothing.
func TestTwoProgramsOnOneDisk(t *testing.T) {
	m, err := malloc.New(malloc.Config{Name: "d0", BlockSize: 4096, Blocks: 64 * mib / 4096})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	program := func() *rig {
		r := newRig(t)
		if err := r.reg.Register(disk{m}); err != nil {
			t.Fatal(err)
		}
		return r
	}
	examine := func(r *rig) *Store {
		t.Helper()
		st, err := r.m.Examine("d0")
		if err != nil {
			t.Fatal(err)
		}
		return st
	}
	a := program()
	st, err := a.m.CreateStore("d0", "lvs", StoreOpts{ClusterSize: mib})
	if err != nil {
		t.Fatal(err)
	}
	a.volume(st, VolumeOpts{Name: "one", Bytes: mib})
	onlooker, stale := program(), program()
	examine(onlooker)
	late := examine(stale)
	if err := onlooker.m.Close(); err != nil {
		t.Fatal(err)
	}
	a.volume(st, VolumeOpts{Name: "two", Bytes: mib})

	one, _ := stale.m.Volume("lvs/one")
	if s := stale.do(one.BdevName(), &bdev.Request{Op: bdev.OpWrite, Blocks: 1,
		Iov: [][]byte{make([]byte, 4096)}}); s != nvme.InternalPathError {
		t.Errorf("write by a program that has been overtaken: %s", s)
	}
	if late.Info().Failed == "" {
		t.Error("its lvstore does not say that it has failed")
	}
	if _, err := late.CreateVolume(VolumeOpts{Name: "three", Bytes: mib}); !errors.Is(err, syscall.ESTALE) {
		t.Errorf("create: %v", err)
	}

	if err := a.reg.Unregister("d0"); err != nil { // as if killed
		t.Fatal(err)
	}
	b := program()
	if st := examine(b); st.Info().Failed != "" {
		t.Error(st.Info().Failed)
	}
	for _, name := range []string{"one", "two"} {
		if _, ok := b.m.Volume("lvs/" + name); !ok {
			t.Errorf("lvol %s is gone", name)
		}
	}
}
