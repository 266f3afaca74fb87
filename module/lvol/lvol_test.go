package lvol

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"syscall"
	"testing"

	"github.com/virtual-disk-array/vda/bdev"
	"github.com/virtual-disk-array/vda/module/malloc"
	"github.com/virtual-disk-array/vda/nvme"
)

const mib = 1 << 20

// rig is a registry with memory devices and a module on it.
type rig struct {
	t   *testing.T
	reg *bdev.Registry
	m   *Module
}

func newRig(t *testing.T) *rig {
	r := &rig{t: t, reg: bdev.NewRegistry()}
	r.m = New(Config{Registry: r.reg})
	return r
}

func (r *rig) disk(name string, bytes uint64) {
	r.t.Helper()
	d, err := malloc.New(malloc.Config{Name: name, BlockSize: 4096, Blocks: bytes / 4096})
	if err == nil {
		err = r.reg.Register(d)
	}
	if err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) store(base, name string, o StoreOpts) *Store {
	r.t.Helper()
	if o.ClusterSize == 0 {
		o.ClusterSize = mib
	}
	st, err := r.m.CreateStore(base, name, o)
	if err != nil {
		r.t.Fatal(err)
	}
	return st
}

func (r *rig) volume(st *Store, o VolumeOpts) *Volume {
	r.t.Helper()
	v, err := st.CreateVolume(o)
	if err != nil {
		r.t.Fatal(err)
	}
	return v
}

// do runs one request on the bdev called name and returns its status.
func (r *rig) do(name string, q *bdev.Request) nvme.Status {
	r.t.Helper()
	h, err := r.reg.Open(name, nil)
	if err != nil {
		r.t.Fatal(err)
	}
	defer h.Close()
	done := make(chan nvme.Status, 1)
	q.Done = func(q *bdev.Request, _ *bdev.Batch) { done <- q.Status }
	var b bdev.Batch
	h.Submit(q, &b)
	b.Flush()
	return <-done
}

func (r *rig) write(name string, at uint64, data []byte) {
	r.t.Helper()
	if s := r.do(name, &bdev.Request{Op: bdev.OpWrite, Offset: at / 4096, Blocks: uint64(len(data)) / 4096,
		Iov: [][]byte{data}}); s != nvme.Success {
		r.t.Fatalf("write %s at %d: %s", name, at, s)
	}
}

func (r *rig) read(name string, at, n uint64) []byte {
	r.t.Helper()
	buf := bytes.Repeat([]byte{0xee}, int(n))
	if s := r.do(name, &bdev.Request{Op: bdev.OpRead, Offset: at / 4096, Blocks: n / 4096, Iov: [][]byte{buf}}); s != nvme.Success {
		r.t.Fatalf("read %s at %d: %s", name, at, s)
	}
	return buf
}

func noise(seed uint64, n int) []byte {
	rng := rand.New(rand.NewPCG(seed, 1))
	buf := make([]byte, n)
	for i := range buf {
		buf[i] = byte(rng.Uint32())
	}
	return buf
}

func wantErrno(t *testing.T, err error, want syscall.Errno) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("error %v, want %v", err, want)
	}
}

func TestVolumesSurviveUnloadAndLoss(t *testing.T) {
	for _, how := range []string{"unload", "loss"} {
		t.Run(how, func(t *testing.T) {
			r := newRig(t)
			r.disk("d0", 64*mib)
			st := r.store("d0", "lvs", StoreOpts{})
			thick := r.volume(st, VolumeOpts{Name: "thick", Bytes: 10 * mib})
			thin := r.volume(st, VolumeOpts{Name: "thin", Bytes: 700 * mib, Thin: true})
			a, b := noise(1, 3*mib), noise(2, 5*mib/2)
			r.write("lvs/thick", mib/2, a)
			r.write("lvs/thin", 600*mib-mib/4, b)
			if got := thin.Describe().NumAllocated; got != 4 {
				t.Errorf("thin has %d clusters, want 4", got)
			}
			free, id := st.Info().FreeClusters, thick.BdevName()
			if how == "unload" {
				if err := st.Unload(); err != nil {
					t.Fatal(err)
				}
			} else {
				st.hotRemove()
			}
			if got := r.reg.Names(); len(got) != 1 {
				t.Fatalf("bdevs left: %v", got)
			}
			st, err := r.m.Examine("d0")
			if err != nil {
				t.Fatal(err)
			}
			if got := st.Info(); got.FreeClusters != free || got.Name != "lvs" || got.ClusterSize != mib {
				t.Errorf("loaded %+v, want %d free", got, free)
			}
			if got := r.read(id, mib/2, 3*mib); !bytes.Equal(got, a) {
				t.Error("thick volume lost data")
			}
			if got := r.read("lvs/thin", 600*mib-mib/4, 5*mib/2); !bytes.Equal(got, b) {
				t.Error("thin volume lost data")
			}
			if got := r.read("lvs/thin", 599*mib, 3*mib/4); !bytes.Equal(got, make([]byte, 3*mib/4)) {
				t.Error("the rest of a new cluster is not zero")
			}
			if v, _ := r.m.Volume("lvs/thin"); v == nil || v.Info().Blocks != 700*mib/4096 {
				t.Errorf("thin volume came back as %+v", v)
			}
		})
	}
}

func TestNewClusterHidesWhatItHeld(t *testing.T) {
	r := newRig(t)
	r.disk("d0", 16*mib)
	r.write("d0", 0, bytes.Repeat([]byte{0xaa}, 16*mib))
	st := r.store("d0", "lvs", StoreOpts{Clear: ClearNone})
	r.volume(st, VolumeOpts{Name: "v", Bytes: 8 * mib, Thin: true})
	r.write("lvs/v", mib+8192, noise(3, 4096))
	got := r.read("lvs/v", 0, 8*mib)
	copy(got[mib+8192:], make([]byte, 4096))
	if !bytes.Equal(got, make([]byte, 8*mib)) {
		t.Error("old data shows through a thin volume")
	}
}

func TestUnmapReleasesClusters(t *testing.T) {
	r := newRig(t)
	r.disk("d0", 32*mib)
	st := r.store("d0", "lvs", StoreOpts{})
	v := r.volume(st, VolumeOpts{Name: "v", Bytes: 16 * mib, Thin: true})
	data := noise(4, 6*mib)
	r.write("lvs/v", 0, data)
	if s := r.do("lvs/v", &bdev.Request{Op: bdev.OpUnmap, Offset: 128, Blocks: 3 * 256}); s != nvme.Success {
		t.Fatal(s)
	}
	clear(data[mib/2 : mib/2+3*mib])
	if got := r.read("lvs/v", 0, 6*mib); !bytes.Equal(got, data) {
		t.Error("unmap changed the wrong blocks")
	}
	if got := v.Describe().NumAllocated; got != 4 {
		t.Errorf("%d clusters left, want 4", got)
	}
	if s := r.do("lvs/v", &bdev.Request{Op: bdev.OpWriteZeroes, Offset: 10 * 256, Blocks: 256}); s != nvme.Success {
		t.Fatal(s)
	}
	if got := v.Describe().NumAllocated; got != 4 {
		t.Errorf("zeroing a hole allocated: %d clusters", got)
	}
}

func TestNoSpace(t *testing.T) {
	r := newRig(t)
	r.disk("d0", 16*mib)
	st := r.store("d0", "lvs", StoreOpts{})
	data := st.Info().TotalDataClusters
	_, err := st.CreateVolume(VolumeOpts{Name: "big", Bytes: (data + 1) * mib})
	wantErrno(t, err, syscall.ENOSPC)
	if !Late(err) {
		t.Error("SPDK reports this from its callback")
	}
	r.volume(st, VolumeOpts{Name: "v", Bytes: 2 * data * mib, Thin: true})
	r.write("lvs/v", 0, make([]byte, data*mib))
	s := r.do("lvs/v", &bdev.Request{Op: bdev.OpWrite, Offset: data * 256, Blocks: 1, Iov: [][]byte{make([]byte, 4096)}})
	if s != nvme.CapacityExceeded|nvme.DNR {
		t.Errorf("write without space: %s", s)
	}
	if free := st.Info().FreeClusters; free != 0 {
		t.Errorf("%d clusters free", free)
	}
	v, _ := r.m.Volume("lvs/v")
	if err := v.Delete(); err != nil {
		t.Fatal(err)
	}
	if free := st.Info().FreeClusters; free != data {
		t.Errorf("%d clusters free after the delete, want %d", free, data)
	}
}

func TestNamesAndErrnos(t *testing.T) {
	r := newRig(t)
	r.disk("d0", 16*mib)
	r.disk("d1", 16*mib)
	_, err := r.m.CreateStore("nosuch", "lvs", StoreOpts{})
	wantErrno(t, err, syscall.ENODEV)
	_, err = r.m.CreateStore("d0", "", StoreOpts{})
	wantErrno(t, err, syscall.EINVAL)
	_, err = r.m.Examine("d0")
	wantErrno(t, err, syscall.EILSEQ)
	st := r.store("d0", "lvs", StoreOpts{})
	_, err = r.m.CreateStore("d0", "lvs2", StoreOpts{})
	wantErrno(t, err, syscall.EPERM)
	_, err = r.m.CreateStore("d1", "lvs", StoreOpts{})
	wantErrno(t, err, syscall.EEXIST)
	if got := r.reg.ClaimedBy("d1"); got != "" {
		t.Errorf("d1 stays claimed by %q", got)
	}
	v := r.volume(st, VolumeOpts{Name: "v", Bytes: mib})
	_, err = st.CreateVolume(VolumeOpts{Name: "v", Bytes: mib})
	wantErrno(t, err, syscall.EEXIST)
	if err := v.Rename("w"); err != nil {
		t.Fatal(err)
	}
	if err := st.Rename("lvs3"); err != nil {
		t.Fatal(err)
	}
	if got, ok := r.m.Volume("lvs3/w"); !ok || got != v {
		t.Error("the alias did not follow the names")
	}
	if err := v.SetReadOnly(); err != nil {
		t.Fatal(err)
	}
	wantErrno(t, v.Resize(2*mib), syscall.EPERM)
	wantErrno(t, v.Rename("x"), syscall.EPERM)
	if err := r.m.Close(); err != nil {
		t.Fatal(err)
	}
	if st, err = r.m.Examine("d0"); err != nil {
		t.Fatal(err)
	}
	if v, ok := r.m.Volume("lvs3/w"); !ok || !v.blob.ReadOnly() {
		t.Error("read only or the names did not last")
	}
	if err := st.Destroy(); err != nil {
		t.Fatal(err)
	}
	_, err = r.m.Examine("d0")
	wantErrno(t, err, syscall.EILSEQ)
}

func TestResize(t *testing.T) {
	r := newRig(t)
	r.disk("d0", 2048*mib)
	st := r.store("d0", "lvs", StoreOpts{})
	for _, thin := range []bool{false, true} {
		v := r.volume(st, VolumeOpts{Name: "v", Bytes: 3 * mib, Thin: thin})
		free := st.Info().FreeClusters
		data := noise(5, 3*mib)
		r.write("lvs/v", 0, data)
		for _, n := range []uint64{700, 513, 512, 511, 5, 700, 3} {
			if err := v.Resize(n * mib); err != nil {
				t.Fatal(err)
			}
			st.hotRemove()
			var err error
			if st, err = r.m.Examine("d0"); err != nil {
				t.Fatalf("after a resize to %d: %v", n, err)
			}
			v, _ = r.m.Volume("lvs/v")
			if got := v.Info().Blocks; got != n*256 {
				t.Fatalf("%d blocks, want %d", got, n*256)
			}
			if got := r.read("lvs/v", 0, 3*mib); !bytes.Equal(got, data) {
				t.Fatalf("data changed by a resize to %d", n)
			}
		}
		if got := st.Info().FreeClusters; !thin && got != free {
			t.Errorf("%d clusters free, want %d", got, free)
		}
		if err := v.Delete(); err != nil {
			t.Fatal(err)
		}
	}
}
