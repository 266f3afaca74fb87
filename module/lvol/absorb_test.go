package lvol

import (
	"bytes"
	"fmt"
	"syscall"
	"testing"

	"github.com/virtual-disk-array/vda/bdev"
	"github.com/virtual-disk-array/vda/module/malloc"
	"github.com/virtual-disk-array/vda/nvme"
)

// TestAbsorb: an external clone gets what is outside in parts, also across a reload in the
// middle; what was written to it stays, and when it is independent the bdev outside may go.
func TestAbsorb(t *testing.T) {
	for _, thick := range []bool{false, true} {
		t.Run(fmt.Sprint("thick=", thick), func(t *testing.T) {
			r := newRig(t)
			r.disk("d0", 64*mib)
			st := r.store("d0", "lvs", StoreOpts{ClusterSize: mib})
			base := noise(1, 8*mib)
			clear(base[2*mib : 3*mib])
			clear(base[6*mib : 7*mib])
			r.outsider("out", base)
			v, err := st.CloneBdev("out", "clone")
			if err != nil {
				t.Fatal(err)
			}
			if err := v.Resize(10 * mib); err != nil { // it is larger than its source
				t.Fatal(err)
			}
			want := append(bytes.Clone(base), make([]byte, 2*mib)...)
			put := func(at int, data []byte) {
				t.Helper()
				copy(want[at:], data)
				r.write("lvs/clone", uint64(at), data)
				r.check("lvs/clone", want)
			}
			step := func(mb uint64) (independent bool) {
				t.Helper()
				before := v.Describe().NumAllocated
				a, err := v.Absorb(mb*mib, thick)
				if err != nil {
					t.Fatal(err)
				}
				if now := v.Describe(); a.Done > a.Total || now.IsEsnapClone == a.Independent || now.NumAllocated > before+mb {
					t.Errorf("%+v, %+v; before, it had %d clusters", a, now, before)
				}
				r.check("lvs/clone", want)
				return a.Independent
			}
			put(7*mib+4096, noise(2, 8192)) // before it is its turn
			put(9*mib-4096, noise(3, 8192)) // beyond the source
			step(1)
			step(2)
			put(mib+8192, noise(4, 4096)) // in what was copied
			if s := r.do("lvs/clone", &bdev.Request{Op: bdev.OpUnmap, Offset: 0, Blocks: mib / 4096}); s != nvme.Success {
				t.Fatal(s)
			}
			copy(want, r.read("lvs/clone", 0, mib)) // zeros or what there was: either way it stays so
			if err := st.Unload(); err != nil {
				t.Fatal(err)
			}
			if st, err = r.m.Examine("d0"); err != nil {
				t.Fatal(err)
			}
			v, _ = r.m.Volume("lvs/clone")
			r.check("lvs/clone", want)
			steps := 1
			for ; !step(1); steps++ {
				if steps == 20 {
					t.Fatal("it does not come to an end")
				}
			}
			allocated := v.Describe().NumAllocated
			if thick && (allocated != 10 || v.Describe().IsThinProvisioned) || !thick && allocated > 9 {
				t.Errorf("%d clusters, %+v", allocated, v.Describe())
			}
			if err := r.reg.Unregister("out"); err != nil {
				t.Fatal(err)
			}
			r.check("lvs/clone", want)
			if !step(1) { // and so it stays
				t.Error("it is not independent any more")
			}
			if err := st.Unload(); err != nil {
				t.Fatal(err)
			}
			if _, err = r.m.Examine("d0"); err != nil {
				t.Fatal(err)
			}
			r.check("lvs/clone", want)
		})
	}
}

// TestAbsorbRefused: nothing is taken for zeros while what is outside is missing, and a
// snapshot that has taken the parent over is not passed by.
func TestAbsorbRefused(t *testing.T) {
	r := newRig(t)
	r.disk("d0", 64*mib)
	st := r.store("d0", "lvs", StoreOpts{ClusterSize: mib})
	base := noise(1, 4*mib)
	r.outsider("out", base)
	v, err := st.CloneBdev("out", "clone")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := v.Absorb(mib, false); err != nil {
		t.Fatal(err)
	}
	if err := r.reg.Unregister("out"); err != nil {
		t.Fatal(err)
	}
	for _, thick := range []bool{false, true} {
		if a, err := v.Absorb(8*mib, thick); a.Independent {
			t.Errorf("thick %v: %+v, %v", thick, a, err)
		} else {
			wantErrno(t, err, syscall.ENODEV)
		}
	}
	for _, op := range []bdev.Op{bdev.OpRead, bdev.OpWrite} { // the rest of a written cluster is missing, too
		q := &bdev.Request{Op: op, Offset: 2 * mib / 4096, Blocks: 1, Iov: [][]byte{make([]byte, 4096)}}
		if s := r.do("lvs/clone", q); !s.IsPath() {
			t.Errorf("operation %v on what is missing: %v", op, s)
		}
	}
	out2 := r.outsider("out2", base) // another bdev with another UUID is not its parent
	if !v.Describe().IsDegraded {
		t.Error("another bdev is taken for the parent")
	}
	id := out2.Info().UUID
	snapped, err := st.CloneBdev("out2", "snapped")
	if err == nil {
		_, err = snapped.Snapshot("snap")
	}
	if err != nil {
		t.Fatal(err)
	}
	_, err = snapped.Absorb(8*mib, true)
	wantErrno(t, err, syscall.EINVAL)

	// A store that is loaded while the parent is missing has no bdev of the clone; it comes
	// with the parent, which nobody examines.
	if err := st.Unload(); err != nil {
		t.Fatal(err)
	}
	if err := r.reg.Unregister("out2"); err != nil {
		t.Fatal(err)
	}
	if _, err = r.m.Examine("d0"); err != nil {
		t.Fatal(err)
	}
	late, ok := r.m.Volume("lvs/snapped")
	if _, shown := r.reg.Get("lvs/snapped"); !ok || shown {
		t.Fatalf("without its parent: a volume %v, a bdev %v", ok, shown)
	}
	again, err := malloc.New(malloc.Config{Name: "out3", BlockSize: 4096, Blocks: 4 * mib / 4096, UUID: id})
	if err == nil {
		err = r.reg.Register(again)
	}
	if err != nil {
		t.Fatal(err)
	}
	r.write("out3", 0, base)
	_, err = late.Absorb(mib, true)
	wantErrno(t, err, syscall.EINVAL) // it is a snapshot's by now
	r.check("lvs/snapped", base)
}
