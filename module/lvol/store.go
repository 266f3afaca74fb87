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
func (s *Store) open(bdevName string) error {
	base, err := s.m.reg.Open(bdevName, func(k bdev.EventKind) {
		if k == bdev.Removed {
			go s.hotRemove()
		}
	})
	if err != nil {
		return err
	}
	s.base = base
	base.OnSettle(s.settle)
	return nil
}

// settle is called when blocks of the base device have moved in memory.
func (s *Store) settle() {
	for _, v := range s.Volumes() {
		s.m.reg.Settle(v.bdevName)
	}
}

// UUID identifies the store.
func (s *Store) UUID() uuid.UUID { return s.uuid }

// Name returns the store's name.
func (s *Store) Name() string {
	s.m.mu.Lock()
	defer s.m.mu.Unlock()
	return s.name
}

// ClusterSize is in bytes.
func (s *Store) ClusterSize() uint32 { return s.bs.ClusterSize() }

// Info describes the store.
func (s *Store) Info() StoreInfo {
	failed := ""
	if err := s.bs.Failed(); err != nil {
		failed = err.Error()
	}
	return StoreInfo{
		Failed: failed, UUID: s.uuid, Name: s.Name(), BaseBdev: s.base.Info().Name,
		TotalDataClusters: s.bs.DataClusters(), FreeClusters: s.bs.FreeClusters(),
		BlockSize: s.bs.BlockSize(), ClusterSize: s.bs.ClusterSize(),
	}
}

// Volumes returns the store's volumes, the oldest first.
func (s *Store) Volumes() []*Volume {
	s.m.mu.Lock()
	defer s.m.mu.Unlock()
	return slices.Clone(s.volumes)
}

// begin starts an operation; ENODEV when the store is closed.
func (s *Store) begin() (func(), error) {
	s.op.Lock()
	if s.closed {
		s.op.Unlock()
		return nil, fmt.Errorf("lvstore %q is closed: %w", s.Name(), syscall.ENODEV)
	}
	return s.op.Unlock, nil
}

// registerAll makes bdevs of the volumes of a loaded store. A volume that
// cannot be used is logged and left alone.
func (s *Store) registerAll() {
	end, err := s.begin()
	if err != nil {
		return
	}
	defer end()
	for _, b := range s.bs.Blobs() { // clones of one of them may come before it
		if err := s.supply(b); err != nil {
			s.m.log.Warn("lvols are degraded", "lvstore", s.Name(), "blob", fmt.Sprintf("0x%x", uint64(b.ID())), "external_snapshot",
				b.ExternalID(), "err", err)
		}
	}
	for _, b := range s.bs.Blobs() {
		if b == s.super {
			continue
		}
		v, err := s.volumeOf(b)
		if err == nil {
			err = b.Usable()
		}
		if err == nil {
			err = s.register(v)
		}
		if err != nil {
			s.m.log.Error("lvol not registered", "lvstore", s.Name(), "blob", fmt.Sprintf("0x%x", uint64(b.ID())), "err", err)
		}
	}
}

// register makes a volume's bdev and adds the volume to the store. One that
// lacks its parent outside the store gets its bdev when that appears.
func (s *Store) register(v *Volume) error {
	s.m.mu.Lock()
	s.volumes = append(s.volumes, v)
	s.m.mu.Unlock()
	if v.degraded() {
		return nil
	}
	if err := s.show(v); err != nil {
		s.drop(v)
		return err
	}
	return nil
}

// show makes a volume's bdev.
func (s *Store) show(v *Volume) error {
	err := s.m.reg.Register(v)
	v.registered.Store(err == nil)
	return err
}

func (s *Store) drop(v *Volume) {
	s.m.mu.Lock()
	s.volumes = slices.DeleteFunc(s.volumes, func(x *Volume) bool { return x == v })
	s.m.mu.Unlock()
}

// unregister removes a volume's bdev and returns when nobody uses it.
func (s *Store) unregister(v *Volume) error {
	err := s.m.reg.Unregister(v.bdevName)
	if errors.Is(err, syscall.ENODEV) {
		<-s.m.reg.Gone(v.bdevName) // perhaps somebody else is at it
		return nil
	}
	return err
}

// Rename changes the store's name and the aliases of its volumes. EEXIST when
// another store has the name.
func (s *Store) Rename(name string) error {
	if err := checkName("new_name", name); err != nil {
		return late(err)
	}
	end, err := s.begin()
	if err != nil {
		return late(err)
	}
	defer end()
	if name == s.Name() {
		return nil
	}
	release, err := s.m.reserve(name)
	if err != nil {
		return late(err)
	}
	defer release()
	if err := s.super.SetXattr("name", cString(name)); err != nil {
		return late(err)
	}
	volumes := s.Volumes()
	for _, v := range volumes {
		_ = s.m.reg.RemoveAlias(v.bdevName, v.Alias())
	}
	s.m.mu.Lock()
	s.name = name
	s.m.mu.Unlock()
	for _, v := range volumes {
		if aerr := s.m.reg.AddAlias(v.bdevName, v.Alias()); aerr != nil {
			err = errors.Join(err, aerr)
		}
	}
	return late(err)
}

// Grow makes the space usable by which the base device has grown. ENOSPC when
// the store's metadata has no room to tell of it.
func (s *Store) Grow() error {
	end, err := s.begin()
	if err != nil {
		return late(err)
	}
	defer end()
	return late(s.bs.Grow())
}

// Unload unregisters the volumes, writes the store clean and lets the base
// device go. Nothing is deleted.
func (s *Store) Unload() error { return s.close((*blobstore.Store).Unload) }

// Destroy deletes the volumes, as their clear methods say, and the store.
func (s *Store) Destroy() error {
	return late(s.close(func(bs *blobstore.Store) error {
		for deleted := true; deleted; {
			deleted = false
			for _, b := range bs.Blobs() {
				if b == s.super || len(b.Clones()) > 0 {
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
func (s *Store) hotRemove() {
	_ = s.close(func(bs *blobstore.Store) error {
		s.m.log.Warn("lvstore closed: its device is gone", "lvstore", s.Name(), "bdev", s.base.Info().Name)
		bs.Close()
		return nil
	})
}

// close ends the store: the volumes go, then how does what is left to do.
func (s *Store) close(how func(*blobstore.Store) error) error {
	end, err := s.begin()
	if err != nil {
		return err
	}
	defer end()
	if s.bs == nil {
		return nil // the device went away while the store was being loaded
	}
	s.closed = true
	var wg sync.WaitGroup
	for _, v := range s.Volumes() {
		wg.Go(func() { _ = s.unregister(v) })
	}
	wg.Wait()
	s.clearing.Wait()
	err = how(s.bs)
	s.m.forget(s)
	s.base.Close()
	return err
}
