package lvol

import (
	"bytes"
	"os"
	"testing"

	"github.com/google/uuid"

	"github.com/virtual-disk-array/vda/module/aio"
)

// outsideFile makes a file with data that becomes the bdev "out" with the same
// UUID here and there.
func outsideFile(t *testing.T, data []byte) string {
	t.Helper()
	file := aioFile(t, int64(len(data)))
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func (r *rig) attachOutside(file string, id uuid.UUID) {
	r.t.Helper()
	d, err := aio.New(aio.Config{Name: "out", Filename: file, BlockSize: 4096, UUID: id})
	if err == nil {
		err = r.reg.Register(d)
	}
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = r.reg.Unregister("out") })
}

// loadWithOutside makes both files bdevs there.
func (s *spdk) loadWithOutside(file, out string, id uuid.UUID) {
	s.t.Helper()
	s.call("bdev_aio_create", map[string]any{"name": "out", "filename": out, "block_size": 4096, "uuid": id.String()})
	s.load(file)
}

// TestExternalCloneOfSPDK has SPDK make clones of a bdev outside the store and
// grow the store, goes on with it here, then there again.
func TestExternalCloneOfSPDK(t *testing.T) {
	t.Run("", func(t *testing.T) { externalCloneOfSPDK(t, 4096) })
	t.Run("pages far apart", func(t *testing.T) { externalCloneOfSPDK(t, 16384) })
}

func externalCloneOfSPDK(t *testing.T, pageBytes uint32) {
	s := startSPDK(t)
	id := uuid.New()
	base := noise(1, 8*mib)
	out, file := outsideFile(t, base), aioFile(t, 64*mib)
	s.loadWithOutside(file, out, id)
	s.call("bdev_lvol_create_lvstore", map[string]any{"bdev_name": "a0", "lvs_name": "lvs", "cluster_sz": mib, "md_page_size": pageBytes})
	s.call("bdev_lvol_clone_bdev", map[string]any{"bdev": "out", "lvs_name": "lvs", "clone_name": "clone"})
	s.call("bdev_lvol_clone_bdev", map[string]any{"bdev": "out", "lvs_name": "lvs", "clone_name": "origin"})
	s.call("bdev_lvol_snapshot", map[string]any{"lvol_name": "lvs/origin", "snapshot_name": "snap"})
	if err := os.Truncate(file, 96*mib); err != nil {
		t.Fatal(err)
	}
	s.call("bdev_aio_rescan", map[string]any{"name": "a0"})
	s.call("bdev_lvol_grow_lvstore", map[string]any{"lvs_name": "lvs"})
	ns := s.export("clone", "origin")
	clone, origin := bytes.Clone(base), bytes.Clone(base)
	copy(clone[3*mib-4096:], noise(2, 8192))
	copy(origin[5*mib:], noise(3, 4096))
	writeTo(t, ns["clone"], 3*mib-4096, clone[3*mib-4096:3*mib+4096])
	writeTo(t, ns["origin"], 5*mib, origin[5*mib:5*mib+4096])
	store, lvols := s.stores()[0], s.lvols()
	s.quit()

	r := newRig(t)
	r.attachOutside(out, id)
	r.attach(file)
	st, err := r.m.Examine("a0")
	if err != nil {
		t.Fatal(err)
	}
	if got := st.Info(); got != store {
		t.Errorf("store: here %+v, there %+v", got, store)
	}
	for name, want := range lvols {
		v, ok := r.m.Volume("lvs/" + name)
		if !ok {
			t.Fatalf("no volume %s", name)
		}
		if got := v.Describe(); got != want {
			t.Errorf("%s: here %+v, there %+v", name, got, want)
		}
	}
	r.want("clone", clone)
	r.want("origin", origin)
	r.want("snap", base)

	// Go on here.
	copy(clone[6*mib:], noise(4, 4096))
	r.write("lvs/clone", 6*mib, clone[6*mib:6*mib+4096])
	if _, err := st.CloneBdev("out", "ours"); err != nil {
		t.Fatal(err)
	}
	ours := bytes.Clone(base)
	copy(ours[mib/2:], noise(5, mib))
	r.write("lvs/ours", mib/2, ours[mib/2:mib/2+mib])
	v, _ := r.m.Volume("lvs/ours")
	if _, err := v.Snapshot("snap2"); err != nil {
		t.Fatal(err)
	}
	snap2 := bytes.Clone(ours)
	copy(ours, noise(6, 4096))
	r.write("lvs/ours", 0, ours[:4096])
	snap, _ := r.m.Volume("lvs/snap")
	if err := snap.Delete(); err != nil { // origin reads from outside itself
		t.Fatal(err)
	}
	r.want("origin", origin)
	r.resize(file, 128*mib)
	if err := st.Grow(); err != nil {
		t.Fatal(err)
	}
	infos := map[string]VolumeInfo{}
	for _, v := range st.Volumes() {
		infos[v.Name()] = v.Describe()
	}
	info := st.Info()
	if err := st.Unload(); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"a0", "out"} {
		if err := r.reg.Unregister(name); err != nil {
			t.Fatal(err)
		}
	}

	// And there again.
	s = startSPDK(t)
	s.loadWithOutside(file, out, id)
	if got := s.stores(); len(got) != 1 || got[0] != info {
		t.Errorf("store: there %+v, here %+v\n%s", got, info, s.log.String())
	}
	for name, got := range s.lvols() {
		if got != infos[name] {
			t.Errorf("%s: there %+v, here %+v", name, got, infos[name])
		}
	}
	ns = s.export("clone", "origin", "ours", "snap2")
	for name, want := range map[string][]byte{"clone": clone, "origin": origin, "ours": ours, "snap2": snap2} {
		if got := readFrom(t, ns[name], len(want)); !bytes.Equal(got, want) {
			t.Errorf("%s differs there", name)
		}
	}
	// SPDK finds no metadata page for new clusters in a store of larger pages
	// that has been loaded, be it one of its own (26.05).
	if pageBytes == 4096 {
		s.call("bdev_lvol_inflate", map[string]any{"name": "lvs/clone"})
	}
	s.quit()
}
