package lvol

import (
	"bytes"
	"syscall"
	"testing"
)

// TestPagesFarApart: a store whose metadata pages are larger than what they
// hold, as devices with larger sectors want them.
func TestPagesFarApart(t *testing.T) {
	for _, size := range []uint32{4096, 8192, 65536} {
		r := newRig(t)
		r.disk("d0", 64*mib)
		st := r.store("d0", "lvs", StoreOpts{MDPageSize: size})
		v := r.volume(st, VolumeOpts{Name: "v", Bytes: 600 * mib, Thin: true}) // two extent pages
		data := noise(1, mib)
		r.write("lvs/v", 550*mib, data)
		if _, err := v.Snapshot("snap"); err != nil {
			t.Fatal(err)
		}
		r.write("lvs/v", 0, data)
		info := st.Info()
		for _, how := range []func() error{func() error { st.hotRemove(); return nil }, func() error { return st.Unload() }} {
			if err := how(); err != nil {
				t.Fatal(err)
			}
			var err error
			if st, err = r.m.Examine("d0"); err != nil {
				t.Fatalf("pages of %d bytes: %v", size, err)
			}
			if got := st.Info(); got != info {
				t.Errorf("pages of %d bytes: loaded %+v, was %+v", size, got, info)
			}
			for name, at := range map[string]uint64{"v": 550 * mib, "snap": 550 * mib} {
				if !bytes.Equal(r.read("lvs/"+name, at, mib), data) {
					t.Errorf("pages of %d bytes: %s lost data", size, name)
				}
			}
		}
	}
	r := newRig(t)
	r.disk("d0", 64*mib)
	for _, size := range []uint32{512, 4097, 12288, 131072} {
		_, err := r.m.CreateStore("d0", "lvs", StoreOpts{MDPageSize: size})
		wantErrno(t, err, syscall.EINVAL)
	}
	_, err := r.m.CreateStore("d0", "lvs", StoreOpts{MDPageSize: 65536, ClusterSize: 32768})
	wantErrno(t, err, syscall.EINVAL)
}
