package lvol

import (
	"bytes"
	"errors"
	"testing"
)

// TestEndsAsSPDK: a clone that is longer than a snapshot in its line reads the
// same here and in spdk_tgt, also after the snapshots have gone.
func TestEndsAsSPDK(t *testing.T) {
	want := append(bytes.Repeat([]byte{0xaa}, 3*mib), make([]byte, 5*mib)...)
	for name, then := range map[string]func(r *rig) error{
		"nothing":   func(*rig) error { return nil },
		"delete s2": func(r *rig) error { return r.named("s2").Delete() },
		"delete s1": func(r *rig) error { return r.named("s1").Delete() },
		"decouple":  func(r *rig) error { return r.named("v").DecoupleParent() },
		"inflate":   func(r *rig) error { return r.named("v").Inflate() },
		"snapshot, delete s2": func(r *rig) error {
			_, err := r.named("v").Snapshot("s3")
			return errors.Join(err, r.named("s2").Delete())
		},
	} {
		t.Run(name, func(t *testing.T) {
			file := aioFile(t, 64*mib)
			r := newRig(t)
			r.attach(file)
			st, err := r.m.CreateStore("a0", "lvs", StoreOpts{ClusterSize: mib})
			if err != nil {
				t.Fatal(err)
			}
			v := r.volume(st, VolumeOpts{Name: "v", Bytes: 6 * mib, Thin: true})
			r.write("lvs/v", 0, bytes.Repeat([]byte{0xaa}, 6*mib))
			_, err1 := v.Snapshot("s1")
			err2 := v.Resize(3 * mib)
			_, err3 := v.Snapshot("s2")
			if err := errors.Join(err1, err2, err3, v.Resize(8*mib), then(r)); err != nil {
				t.Fatal(err)
			}
			r.want("v", want)
			if err := st.Unload(); err != nil {
				t.Fatal(err)
			}
			if err := r.reg.Unregister("a0"); err != nil {
				t.Fatal(err)
			}
			s := startSPDK(t)
			s.load(file)
			if got := readFrom(t, s.export("v")["v"], len(want)); !bytes.Equal(got, want) {
				t.Error("v differs in spdk_tgt")
			}
			s.quit()
		})
	}
}

// named finds a volume of lvstore "lvs".
func (r *rig) named(name string) *Volume {
	r.t.Helper()
	v, ok := r.m.Volume("lvs/" + name)
	if !ok {
		r.t.Fatalf("no volume %s", name)
	}
	return v
}
