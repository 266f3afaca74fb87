package lvol

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/virtual-disk-array/vda/bdev"
	"github.com/virtual-disk-array/vda/blobstore"
	"github.com/virtual-disk-array/vda/blobstore/check"
	"github.com/virtual-disk-array/vda/blobstore/format"
	"github.com/virtual-disk-array/vda/module/malloc"
	"github.com/virtual-disk-array/vda/nvme"
)

// dying is a memory device that stops at a given write, as when the process
// is killed: what came before is there.
type dying struct {
	*malloc.Device
	writes atomic.Int64
	limit  int64
}

func (d *dying) Submit(r *bdev.Request, b *bdev.Batch) {
	if r.Op != bdev.OpRead && r.Op != bdev.OpFlush && d.writes.Add(1) > d.limit {
		r.Complete(nvme.InternalPathError, b)
		return
	}
	d.Device.Submit(r, b)
}

func (r *rig) dying(name string, bytes uint64, limit int64) *dying {
	r.t.Helper()
	m, err := malloc.New(malloc.Config{Name: name, BlockSize: 4096, Blocks: bytes / 4096})
	d := &dying{Device: m, limit: limit}
	if err == nil {
		err = r.reg.Register(d)
	}
	if err != nil {
		r.t.Fatal(err)
	}
	return d
}

// history runs operations of every kind until one fails.
func history(r *rig, base string) {
	st, err := r.m.CreateStore(base, "lvs", StoreOpts{ClusterSize: 64 << 10})
	var v, s1, s2, c *Volume
	write := func(v **Volume, at uint64, seed uint64) func() error {
		return func() error {
			data := noise(seed, 100<<10&^4095)
			if s := r.do((*v).BdevName(), &bdev.Request{Op: bdev.OpWrite, Offset: at, Blocks: uint64(len(data)) / 4096,
				Iov: [][]byte{data}}); s != nvme.Success {
				return s
			}
			return nil
		}
	}
	for _, step := range []func() error{
		func() error { return err },
		func() error { v, err = st.CreateVolume(VolumeOpts{Name: "v", Bytes: 40 * mib, Thin: true}); return err },
		func() error { _, err = st.CreateVolume(VolumeOpts{Name: "thick", Bytes: 2 * mib}); return err },
		write(&v, 5, 1), write(&v, 9000, 2),
		func() error { s1, err = v.Snapshot("s1"); return err },
		write(&v, 20, 3),
		func() error { s2, err = v.Snapshot("s2"); return err },
		write(&v, 40, 4), write(&v, 5, 5),
		func() error { c, err = s1.Clone("c"); return err },
		write(&c, 9010, 6),
		func() error { return s2.Delete() },
		func() error { return c.DecoupleParent() },
		func() error { return v.Resize(mib) },
		func() error { return s1.Delete() },
		func() error { return v.Inflate() },
		func() error { return v.Rename("w") },
	} {
		if step() != nil {
			return
		}
	}
}

// TestSPDKAfterOurDeath kills a store of ours at writes of a history, and lets
// both SPDK and us load what is left: they must see the same volumes.
func TestSPDKAfterOurDeath(t *testing.T) {
	s := startSPDK(t)
	const size = 64 * mib
	count := newRig(t)
	d := count.dying("d0", size, 1<<40)
	history(count, "d0")
	total := d.writes.Load()
	if v, ok := count.m.Volume("lvs/w"); !ok || v.Describe().IsThinProvisioned {
		t.Fatal("the history does not reach its end")
	}
	for limit := int64(12); limit <= total; limit += 3 {
		r := newRig(t)
		d := r.dying("d0", size, limit)
		history(r, "d0")
		if st, ok := r.m.StoreOn("d0"); ok {
			st.hotRemove()
		}
		mem, _ := d.Map(nil, 0, size/4096)
		file := aioFile(t, size)
		if err := os.WriteFile(file, mem[0], 0o600); err != nil {
			t.Fatal(err)
		}
		// SPDK first: it loads the file as we left it, we the memory.
		name := fmt.Sprintf("a%d", limit)
		s.call("bdev_aio_create", map[string]any{"name": name, "filename": file, "block_size": 4096})
		s.call("bdev_wait_for_examine", nil)
		there := s.lvols()
		d.limit = 1 << 40
		here := map[string]VolumeInfo{}
		st, err := r.m.Examine("d0")
		if err != nil && len(s.stores()) > 0 {
			t.Fatalf("killed at write %d of %d: %v, SPDK loads it", limit, total, err)
		}
		if err == nil {
			for _, v := range st.Volumes() {
				here[v.Name()] = v.Describe()
			}
		}
		if !maps.Equal(here, there) {
			t.Errorf("killed at write %d of %d: here %+v, there %+v", limit, total, here, there)
		}
		t.Logf("killed at write %d of %d: %d volumes", limit, total, len(there))
		s.call("bdev_aio_delete", map[string]any{"name": name})
		// SPDK may have lost clusters, but not used any twice.
		again := newRig(t)
		again.attach(file)
		h, err := again.reg.Open("a0", nil)
		if err != nil {
			t.Fatal(err)
		}
		if report, err := check.Store(h); err == nil {
			for _, p := range report.Problems {
				if p.Severity > format.Leak {
					t.Errorf("killed at write %d of %d, after SPDK: %s", limit, total, p)
				}
			}
		}
		h.Close()
		if err := again.reg.Unregister("a0"); err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
	}
}

// TestSPDKLoadsRepaired kills a store of ours at each write of a history,
// repairs what is left, as vda_tgt check --repair does, and lets SPDK load it:
// without the repair it crashes on some of them.
func TestSPDKLoadsRepaired(t *testing.T) {
	s := startSPDK(t)
	const size = 64 * mib
	count := newRig(t)
	d := count.dying("d0", size, 1<<40)
	history(count, "d0")
	total, finished := d.writes.Load(), 0
	file := aioFile(t, size)
	for limit := int64(12); limit <= total; limit++ {
		r := newRig(t)
		d := r.dying("d0", size, limit)
		history(r, "d0")
		if st, ok := r.m.StoreOn("d0"); ok {
			st.hotRemove()
		}
		d.limit = 1 << 40
		h, err := r.reg.Open("d0", nil)
		if err != nil {
			t.Fatal(err)
		}
		if st, err := blobstore.Load(h, format.LvstoreType, slog.New(slog.DiscardHandler)); err == nil {
			if len(st.Unfinished()) > 0 {
				finished++
			}
			if err := errors.Join(st.Repair(), st.Unload()); err != nil {
				t.Fatalf("killed at write %d of %d: repair: %v", limit, total, err)
			}
		}
		h.Close()
		mem, _ := d.Map(nil, 0, size/4096)
		if err := os.WriteFile(file, mem[0], 0o600); err != nil {
			t.Fatal(err)
		}
		name := fmt.Sprintf("a%d", limit)
		s.call("bdev_aio_create", map[string]any{"name": name, "filename": file, "block_size": 4096})
		s.call("bdev_wait_for_examine", nil)
		if stores := s.stores(); len(stores) == 1 {
			if st, err := r.m.Examine("d0"); err != nil || st.Info().FreeClusters != stores[0].FreeClusters {
				t.Errorf("killed at write %d of %d: %v; SPDK has %d free clusters", limit, total, err, stores[0].FreeClusters)
			}
		}
		s.call("bdev_aio_delete", map[string]any{"name": name})
	}
	if finished == 0 {
		t.Error("nothing was ever left to finish")
	}
	t.Logf("%d of %d cuts left something to finish", finished, total-11)
}

// TestAfterSPDKsDeath kills spdk_tgt in the middle of operations; what is left
// must load here, with the volumes that were not touched as they were.
func TestAfterSPDKsDeath(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 3))
	for k := range 4 {
		s := startSPDK(t)
		file := aioFile(t, 256*mib)
		s.load(file)
		s.call("bdev_lvol_create_lvstore", map[string]any{"bdev_name": "a0", "lvs_name": "lvs", "cluster_sz": 64 << 10})
		s.call("bdev_lvol_create", map[string]any{"lvs_name": "lvs", "lvol_name": "v", "size_in_mib": 60, "thin_provision": true})
		ns := s.export("v")["v"]
		data := noise(uint64(k), 8*mib)
		writeTo(t, ns, 0, data)
		s.call("bdev_lvol_snapshot", map[string]any{"lvol_name": "lvs/v", "snapshot_name": "keep"})
		kill := time.AfterFunc(time.Duration(rng.IntN(60))*time.Millisecond, func() { _ = s.cmd.Process.Kill() })
		for i := 0; ; i++ { // until it dies
			step := []map[string]any{
				{"method": "bdev_lvol_snapshot", "lvol_name": "lvs/v", "snapshot_name": fmt.Sprintf("s%d", i)},
				{"method": "bdev_lvol_clone", "snapshot_name": "lvs/keep", "clone_name": fmt.Sprintf("c%d", i)},
				{"method": "bdev_lvol_delete", "name": fmt.Sprintf("lvs/s%d", i-2)},
				{"method": "bdev_lvol_inflate", "name": fmt.Sprintf("lvs/c%d", i-2)},
			}[i%4]
			method := step["method"].(string)
			delete(step, "method")
			if !s.alive(method, step) {
				break
			}
		}
		kill.Stop()
		s.kill()
		r := newRig(t)
		r.attach(file)
		if _, err := r.m.Examine("a0"); err != nil {
			t.Fatal(err)
		}
		r.want("keep", data)
		r.want("v", data)
		if err := r.m.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// alive makes a call whose result does not matter; false when SPDK is dead.
func (s *spdk) alive(method string, params map[string]any) bool {
	p := slices.Collect(maps.Keys(params))
	slices.Sort(p)
	var b bytes.Buffer
	fmt.Fprintf(&b, `{"jsonrpc":"2.0","id":1,"method":%q,"params":{`, method)
	for i, k := range p {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, "%q:%q", k, params[k])
	}
	b.WriteString("}}")
	if _, err := s.conn.Write(b.Bytes()); err != nil {
		return false
	}
	var reply any
	return s.dec.Decode(&reply) == nil
}
