package lvol

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"syscall"

	"github.com/google/uuid"

	"github.com/virtual-disk-array/vda/bdev"
	"github.com/virtual-disk-array/vda/blobstore"
)

// Store is an lvstore.
type Store struct {
	m     *Module
	uuid  uuid.UUID
	base  *bdev.Handle
	bs    *blobstore.Store
	super *blobstore.Blob

	op       sync.Mutex     // held for each operation on the store or a volume
	closed   bool           // guarded by op
	clearing sync.WaitGroup // deleted volumes whose clusters are being cleared; Add under op

	name    string    // guarded by m.mu
	volumes []*Volume // guarded by m.mu
}

// open takes the base device.
func (st *Store) open(bdevName string) error {
	base, err := st.m.reg.Open(bdevName, func(k bdev.EventKind) {
		if k == bdev.Removed {
			go st.hotRemove()
		}
	})
	if err != nil {
		return err
	}
	st.base = base
	base.OnSettle(st.settle)
	return nil
}

// settle is called when blocks of the base device have moved in memory.
func (st *Store) settle() {
	for _, v := range st.Volumes() {
		st.m.reg.Settle(v.bdevName)
	}
}

// UUID identifies the store.
func (st *Store) UUID() uuid.UUID { return st.uuid }

// Name returns the store's name.
func (st *Store) Name() string {
	st.m.mu.Lock()
	defer st.m.mu.Unlock()
	return st.name
}

// ClusterSize is in bytes.
func (st *Store) ClusterSize() uint32 { return st.bs.ClusterSize() }

// Info describes the store.
func (st *Store) Info() StoreInfo {
	failed := ""
	if err := st.bs.Failed(); err != nil {
		failed = err.Error()
	}
	return StoreInfo{
		Failed: failed, UUID: st.uuid, Name: st.Name(), BaseBdev: st.base.Info().Name,
		TotalDataClusters: st.bs.DataClusters(), FreeClusters: st.bs.FreeClusters(),
		BlockSize: st.bs.BlockSize(), ClusterSize: st.bs.ClusterSize(),
	}
}

// Volumes returns the store's volumes, the oldest first.
func (st *Store) Volumes() []*Volume {
	st.m.mu.Lock()
	defer st.m.mu.Unlock()
	return slices.Clone(st.volumes)
}

// begin starts an operation; ENODEV when the store is closed.
func (st *Store) begin() (func(), error) {
	st.op.Lock()
	if st.closed {
		st.op.Unlock()
		return nil, fmt.Errorf("lvstore %q is closed: %w", st.Name(), syscall.ENODEV)
	}
	return st.op.Unlock, nil
}

// registerAll makes bdevs of the volumes of a loaded store. A volume that
// cannot be used is logged and left alone.
func (st *Store) registerAll() {
	end, err := st.begin()
	if err != nil {
		return
	}
	defer end()
	for _, b := range st.bs.Blobs() { // clones of one of them may come before it
		if err := st.supply(b); err != nil {
			st.m.log.Warn("lvols are degraded", "lvstore", st.Name(), "blob", fmt.Sprintf("0x%x", uint64(b.ID())), "external_snapshot",
				b.ExternalID(), "err", err)
		}
	}
	for _, b := range st.bs.Blobs() {
		if b == st.super {
			continue
		}
		v, err := st.volumeOf(b)
		if err == nil {
			err = b.Usable()
		}
		if err == nil {
			err = st.register(v)
		}
		if err != nil {
			st.m.log.Error("lvol not registered", "lvstore", st.Name(), "blob", fmt.Sprintf("0x%x", uint64(b.ID())), "err", err)
		}
	}
}

// register makes a volume's bdev and adds the volume to the store. One that
// lacks its parent outside the store gets its bdev when that appears.
func (st *Store) register(v *Volume) error {
	st.m.mu.Lock()
	st.volumes = append(st.volumes, v)
	st.m.mu.Unlock()
	if v.degraded() {
		return nil
	}
	if err := st.show(v); err != nil {
		st.drop(v)
		return err
	}
	return nil
}

// show makes a volume's bdev.
func (st *Store) show(v *Volume) error {
	err := st.m.reg.Register(v)
	v.registered.Store(err == nil)
	return err
}

func (st *Store) drop(v *Volume) {
	st.m.mu.Lock()
	st.volumes = slices.DeleteFunc(st.volumes, func(x *Volume) bool { return x == v })
	st.m.mu.Unlock()
}

// unregister removes a volume's bdev and returns when nobody uses it.
func (st *Store) unregister(v *Volume) error {
	err := st.m.reg.Unregister(v.bdevName)
	if errors.Is(err, syscall.ENODEV) {
		<-st.m.reg.Gone(v.bdevName) // perhaps somebody else is at it
		return nil
	}
	return err
}

// Rename changes the store's name and the aliases of its volumes. EEXIST when
// another store has the name.
func (st *Store) Rename(name string) error {
	if err := checkName("new_name", name); err != nil {
		return late(err)
	}
	end, err := st.begin()
	if err != nil {
		return late(err)
	}
	defer end()
	if name == st.Name() {
		return nil
	}
	release, err := st.m.reserve(name)
	if err != nil {
		return late(err)
	}
	defer release()
	if err := st.super.SetXattr("name", cString(name)); err != nil {
		return late(err)
	}
	volumes := st.Volumes()
	for _, v := range volumes {
		_ = st.m.reg.RemoveAlias(v.bdevName, v.Alias())
	}
	st.m.mu.Lock()
	st.name = name
	st.m.mu.Unlock()
	for _, v := range volumes {
		if aerr := st.m.reg.AddAlias(v.bdevName, v.Alias()); aerr != nil {
			err = errors.Join(err, aerr)
		}
	}
	return late(err)
}

// Grow makes the space usable by which the base device has grown. ENOSPC when
// the store's metadata has no room to tell of it.
func (st *Store) Grow() error {
	end, err := st.begin()
	if err != nil {
		return late(err)
	}
	defer end()
	return late(st.bs.Grow())
}

// Unload unregisters the volumes, writes the store clean and lets the base
// device go. Nothing is deleted.
func (st *Store) Unload() error { return st.close((*blobstore.Store).Unload) }

// Destroy deletes the volumes, as their clear methods say, and the store.
func (st *Store) Destroy() error {
	return late(st.close(func(bs *blobstore.Store) error {
		for deleted := true; deleted; {
			deleted = false
			for _, b := range bs.Blobs() {
				if b == st.super || len(b.Clones()) > 0 {
					continue
				}
				if err := b.Delete(); err != nil {
					bs.Close()
					return err
				}
				deleted = true
			}
		}
		return bs.Destroy()
	}))
}

// hotRemove closes the store of a device that is going away; its medium is
// not touched.
func (st *Store) hotRemove() {
	_ = st.close(func(bs *blobstore.Store) error {
		st.m.log.Warn("lvstore closed: its device is gone", "lvstore", st.Name(), "bdev", st.base.Info().Name)
		bs.Close()
		return nil
	})
}

// close ends the store: the volumes go, then how does what is left to do.
func (st *Store) close(how func(*blobstore.Store) error) error {
	end, err := st.begin()
	if err != nil {
		return err
	}
	defer end()
	if st.bs == nil {
		return nil // the device went away while the store was being loaded
	}
	st.closed = true
	var wg sync.WaitGroup
	for _, v := range st.Volumes() {
		wg.Go(func() { _ = st.unregister(v) })
	}
	wg.Wait()
	st.clearing.Wait()
	err = how(st.bs)
	st.m.forget(st)
	st.base.Close()
	return err
}
