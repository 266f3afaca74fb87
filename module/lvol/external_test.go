package lvol

import (
	"bytes"
	"syscall"
	"testing"

	"github.com/google/uuid"

	"github.com/virtual-disk-array/vda/bdev"
	"github.com/virtual-disk-array/vda/module/malloc"
	"github.com/virtual-disk-array/vda/nvme"
)

// outsider makes a device with noise on it, of 512-byte blocks, which a store
// of 4096 can stand on.
func (r *rig) outsider(name string, data []byte) *malloc.Device {
	r.t.Helper()
	d, err := malloc.New(malloc.Config{Name: name, BlockSize: 512, Blocks: uint64(len(data)) / 512})
	if err == nil {
		err = r.reg.Register(d)
	}
	if err != nil {
		r.t.Fatal(err)
	}
	if s := r.do(name, &bdev.Request{Op: bdev.OpWrite, Blocks: uint64(len(data)) / 512, Iov: [][]byte{data}}); s != nvme.Success {
		r.t.Fatal(s)
	}
	return d
}

func (r *rig) check(name string, want []byte) {
	r.t.Helper()
	if got := r.read(name, 0, uint64(len(want))); !bytes.Equal(got, want) {
		at := 0
		for got[at] == want[at] {
			at++
		}
		r.t.Errorf("%s differs from byte %d on", name, at)
	}
}

// TestExternalClone follows a clone of a bdev outside the store through all
// that can be done to it.
func TestExternalClone(t *testing.T) {
	r := newRig(t)
	r.disk("d0", 128*mib)
	st := r.store("d0", "lvs", StoreOpts{})
	base := noise(1, 8*mib)
	r.outsider("out", base)
	v, err := st.CloneBdev("out", "clone")
	if err != nil {
		t.Fatal(err)
	}
	if i := v.Describe(); !i.IsEsnapClone || i.IsDegraded || i.NumAllocated != 0 || i.IsClone || !i.IsThinProvisioned {
		t.Errorf("%+v", i)
	}
	r.check("lvs/clone", base)

	clone := bytes.Clone(base)
	put := func(at int, data []byte) {
		copy(clone[at:], data)
		r.write("lvs/clone", uint64(at), data)
	}
	put(3*mib-8192, noise(2, 16384)) // in two clusters, of which the rest is copied
	if s := r.do("lvs/clone", &bdev.Request{Op: bdev.OpWriteZeroes, Offset: 5 * mib / 4096, Blocks: 2}); s != nvme.Success {
		t.Fatal(s)
	}
	clear(clone[5*mib : 5*mib+8192])
	r.check("lvs/clone", clone)
	if s := r.do("lvs/clone", &bdev.Request{Op: bdev.OpUnmap, Offset: 2 * mib / 4096, Blocks: mib / 4096}); s != nvme.Success {
		t.Fatal(s) // must not show the parent again
	}
	if got := r.read("lvs/clone", 2*mib, mib); !bytes.Equal(got, make([]byte, mib)) && !bytes.Equal(got, clone[2*mib:3*mib]) {
		t.Error("an unmap shows what was before the clone")
	} else {
		copy(clone[2*mib:], got)
	}

	// A snapshot takes the parent over, a clone of it reads through both.
	snap := bytes.Clone(clone)
	sv, err := v.Snapshot("snap")
	if err != nil {
		t.Fatal(err)
	}
	if !sv.Describe().IsEsnapClone || v.Describe().IsEsnapClone || !v.Describe().IsClone {
		t.Errorf("snapshot %+v, clone %+v", sv.Describe(), v.Describe())
	}
	put(7*mib, noise(3, 4096))
	other, err := sv.Clone("other")
	if err != nil {
		t.Fatal(err)
	}
	r.check("lvs/clone", clone)
	r.check("lvs/snap", snap)
	r.check("lvs/other", snap)
	if err := other.DecoupleParent(); err != nil {
		t.Fatal(err)
	}
	if !other.Describe().IsEsnapClone {
		t.Errorf("decoupled of a snapshot: %+v", other.Describe())
	}
	r.check("lvs/other", snap)

	// Of a clone and its snapshot the older blob is the clone.
	if err := st.Unload(); err != nil {
		t.Fatal(err)
	}
	if st, err = r.m.Examine("d0"); err != nil {
		t.Fatal(err)
	}
	r.check("lvs/clone", clone)
	r.check("lvs/other", snap)
	other, _ = r.m.Volume("lvs/other")

	// Growing shows zeros; the device outside is shorter.
	if err := other.Resize(10 * mib); err != nil {
		t.Fatal(err)
	}
	r.check("lvs/other", append(bytes.Clone(snap), make([]byte, 2*mib)...))

	// All of it comes back, with the parent there or later.
	if err := st.Unload(); err != nil {
		t.Fatal(err)
	}
	out := base
	if err := r.reg.Unregister("out"); err != nil {
		t.Fatal(err)
	}
	if _, err = r.m.Examine("d0"); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"clone", "snap", "other"} {
		if _, ok := r.reg.Get("lvs/" + name); ok {
			t.Errorf("%s has a bdev without its parent", name)
		}
		if v, ok := r.m.Volume("lvs/" + name); !ok || !v.Describe().IsDegraded {
			t.Errorf("%s is not degraded", name)
		}
	}
	d, err := malloc.New(malloc.Config{Name: "again", UUID: sv.outsideUUID(t, r), BlockSize: 512, Blocks: uint64(len(out)) / 512})
	if err == nil {
		err = r.reg.Register(d)
	}
	if err != nil {
		t.Fatal(err)
	}
	if s := r.do("again", &bdev.Request{Op: bdev.OpWrite, Blocks: uint64(len(out)) / 512, Iov: [][]byte{out}}); s != nvme.Success {
		t.Fatal(s)
	}
	_, err = r.m.Examine("again")
	wantErrno(t, err, syscall.EILSEQ) // no store on it
	r.check("lvs/clone", clone)
	r.check("lvs/snap", snap)
	if h, _ := r.reg.Open("again", nil); h.Claim("somebody") == nil {
		t.Error("the parent can be claimed for writing")
	} else {
		h.Close()
	}

	// The snapshot goes: the clone reads from outside itself.
	sv, _ = r.m.Volume("lvs/snap")
	if err := sv.Delete(); err != nil {
		t.Fatal(err)
	}
	v, _ = r.m.Volume("lvs/clone")
	if !v.Describe().IsEsnapClone {
		t.Errorf("after its snapshot went: %+v", v.Describe())
	}
	r.check("lvs/clone", clone)

	// The parent goes while it is in use, and comes back.
	if err := r.reg.Unregister("again"); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 4096)
	if s := r.do("lvs/clone", &bdev.Request{Op: bdev.OpRead, Blocks: 1, Iov: [][]byte{buf}}); s != nvme.InternalPathError {
		t.Errorf("read of a parent that is gone: %v", s)
	}
	if s := r.do("lvs/clone", &bdev.Request{Op: bdev.OpRead, Offset: 7 * mib / 4096, Blocks: 1, Iov: [][]byte{buf}}); s != nvme.Success {
		t.Errorf("read of the clone's own: %v", s)
	}
	d, _ = malloc.New(malloc.Config{Name: "third", UUID: d.Info().UUID, BlockSize: 512, Blocks: uint64(len(out)) / 512})
	if err := r.reg.Register(d); err != nil {
		t.Fatal(err)
	}
	r.do("third", &bdev.Request{Op: bdev.OpWrite, Blocks: uint64(len(out)) / 512, Iov: [][]byte{out}})
	_, _ = r.m.Examine("third")
	r.check("lvs/clone", clone)

	// Independent at last.
	if err := v.Inflate(); err != nil {
		t.Fatal(err)
	}
	other, _ = r.m.Volume("lvs/other")
	if err := other.Delete(); err != nil {
		t.Fatal(err)
	}
	if err := r.reg.Unregister("third"); err != nil {
		t.Fatal(err)
	}
	if i := v.Describe(); i.IsEsnapClone || i.IsDegraded || i.IsThinProvisioned || i.NumAllocated != 8 {
		t.Errorf("inflated: %+v", i)
	}
	r.check("lvs/clone", clone)
}

// outsideUUID is the UUID of the parent, as the metadata has it.
func (v *Volume) outsideUUID(t *testing.T, r *rig) uuid.UUID {
	t.Helper()
	w, ok := r.m.Volume("lvs/" + v.Name())
	if !ok {
		t.Fatalf("%s is gone", v.Name())
	}
	id, err := uuid.Parse(w.blob.ExternalID())
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func TestExternalCloneRefused(t *testing.T) {
	r := newRig(t)
	r.disk("d0", 32*mib)
	st := r.store("d0", "lvs", StoreOpts{})
	r.disk("odd", mib+4096)
	r.disk("used", 2*mib)
	r.outsider("good", make([]byte, mib))
	h, err := r.reg.Open("used", nil)
	if err == nil {
		err = h.Claim("somebody")
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		bdev, name string
		want       syscall.Errno
	}{
		{"odd", "v", syscall.EINVAL}, {"used", "v", syscall.EPERM}, {"none", "v", syscall.ENODEV}, {"good", "",
			syscall.EINVAL}, {"d0", "v", syscall.EPERM},
	} {
		_, err := st.CloneBdev(c.bdev, c.name)
		wantErrno(t, err, c.want)
	}
	free := st.Info().FreeClusters
	if _, err := st.CloneBdev("good", "v"); err != nil {
		t.Fatal(err)
	}
	_, err = st.CloneBdev("good", "v")
	wantErrno(t, err, syscall.EEXIST)
	if st.Info().FreeClusters != free {
		t.Error("a clone takes clusters before it is written to")
	}
}
