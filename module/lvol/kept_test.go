package lvol

import (
	"bytes"
	"testing"

	"github.com/virtual-disk-array/vda/nvme"
)

// TestRecordsAreKept: a record is on the media when it is kept, whatever ends the store after
// that, and is neither a snapshot's nor the volume's that is deleted.
func TestRecordsAreKept(t *testing.T) {
	for _, how := range []string{"unload", "loss"} {
		t.Run(how, func(t *testing.T) {
			r := newRig(t)
			r.disk("d0", 64*mib)
			st := r.store("d0", "lvs", StoreOpts{})
			v := r.volume(st, VolumeOpts{Name: "vol", Bytes: 10 * mib})
			long := noise(1, 3500)
			for name, record := range map[string][]byte{"a": []byte("one"), "b": long, "c": long, "d": []byte("gone")} {
				if s := v.Keep(name, record); s != nvme.Success {
					t.Fatalf("keep %s: %s", name, s)
				}
			}
			for name, record := range map[string][]byte{"a": []byte("two"), "d": nil, "never": nil} {
				if s := v.Keep(name, record); s != nvme.Success {
					t.Fatalf("keep %s: %s", name, s)
				}
			}
			if _, err := v.Snapshot("snap"); err != nil {
				t.Fatal(err)
			}
			if how == "unload" {
				if err := st.Unload(); err != nil {
					t.Fatal(err)
				}
			} else {
				st.hotRemove()
			}
			if s := v.Keep("a", []byte("late")); s != nvme.InternalPathError {
				t.Errorf("a store that is closed keeps: %s", s)
			}
			st, err := r.m.Examine("d0")
			if err != nil {
				t.Fatal(err)
			}
			if err := st.Rename("other"); err != nil {
				t.Fatal(err)
			}
			v, _ = r.m.Volume("other/vol")
			for name, want := range map[string][]byte{"a": []byte("two"), "b": long, "c": long, "d": nil, "never": nil} {
				if got := v.Kept(name); !bytes.Equal(got, want) || (got == nil) != (want == nil) {
					t.Errorf("record %s: %d bytes, want %d", name, len(got), len(want))
				}
			}
			if got := len(st.Volumes()); got != 2 {
				t.Errorf("%d volumes", got)
			}
		})
	}
}

// TestRecordsMeetSPDK: SPDK opens a store with records, changes it, and leaves them as they are.
func TestRecordsMeetSPDK(t *testing.T) {
	s := startSPDK(t)
	file := aioFile(t, 256*mib)
	r := newRig(t)
	r.attach(file)
	st := r.store("a0", "lvs", StoreOpts{})
	v := r.volume(st, VolumeOpts{Name: "vol", Bytes: 10 * mib})
	long := noise(1, 3500)
	for _, name := range []string{"a", "b", "c"} {
		if st := v.Keep(name, long); st != nvme.Success {
			t.Fatalf("keep %s: %s", name, st)
		}
	}
	if err := st.Unload(); err != nil {
		t.Fatal(err)
	}
	if err := r.reg.Unregister("a0"); err != nil {
		t.Fatal(err)
	}
	s.load(file)
	if l := s.lvols(); len(l) != 1 {
		t.Fatalf("SPDK shows %v", l)
	}
	s.call("bdev_lvol_rename_lvstore", map[string]any{"old_name": "lvs", "new_name": "named"})
	s.call("bdev_lvol_create", map[string]any{"lvs_name": "named", "lvol_name": "more", "size_in_mib": 4})
	s.quit()
	r.attach(file)
	st, err := r.m.Examine("a0")
	if err != nil {
		t.Fatal(err)
	}
	v, ok := r.m.Volume("named/vol")
	if !ok || len(st.Volumes()) != 2 {
		t.Fatalf("the store came back as %q with %d volumes", st.Name(), len(st.Volumes()))
	}
	for _, name := range []string{"a", "b", "c"} {
		if !bytes.Equal(v.Kept(name), long) {
			t.Errorf("record %s is not what it was", name)
		}
	}
}
