package lvol

import (
	"fmt"
	"strings"
	"syscall"

	"github.com/google/uuid"

	"github.com/virtual-disk-array/vda/bdev"
	"github.com/virtual-disk-array/vda/blobstore"
)

// claimOutside is what the parent of external clones is claimed by: it is read
// only, by as many clones as like.
const claimOutside = "lvol external snapshot"

// CloneBdev makes a volume that reads as the bdev, which is outside the store
// and must not be written to any more, until it is written to. EINVAL for a
// size that is not whole clusters or blocks that do not fit, EPERM for a bdev
// that somebody writes to, else as CreateVolume.
func (s *Store) CloneBdev(bdevName, name string) (*Volume, error) {
	end, err := s.begin()
	if err != nil {
		return nil, late(err)
	}
	defer end()
	if err := s.free(name); err != nil {
		return nil, late(err)
	}
	h, err := s.openOutside(bdevName)
	if err != nil {
		return nil, late(err)
	}
	i := h.Info()
	size, cluster := i.Blocks*uint64(i.BlockSize), uint64(s.bs.ClusterSize())
	switch {
	case size == 0 || size%cluster != 0:
		err = fmt.Errorf("bdev %q has %d bytes, which is not a multiple of the cluster size %d: %w", bdevName, size, cluster, syscall.EINVAL)
	case i.UUID == uuid.Nil:
		err = fmt.Errorf("bdev %q has no UUID: %w", bdevName, syscall.EINVAL)
	case s.bs.BlockSize()%i.BlockSize != 0:
		err = fmt.Errorf("bdev %q has blocks of %d bytes, the lvstore of %d: %w", bdevName, i.BlockSize, s.bs.BlockSize(), syscall.EINVAL)
	}
	var b *blobstore.Blob
	if err == nil {
		b, err = s.bs.CreateBlob(blobstore.BlobConfig{Clusters: size / cluster, External: cString(i.UUID.String()),
			Xattrs: xattrs(name, uuid.New())})
	}
	if err == nil {
		err = b.SetOutside(h)
	}
	if err != nil {
		h.Close()
		if b != nil {
			_ = b.Delete()
		}
		return nil, late(fmt.Errorf("lvol %q: %w", name, err))
	}
	return s.publish(b)
}

// Absorb copies most bytes at most of what an external clone reads from outside the
// store, and lets its parent go with the last of them, as blobstore's Absorb does. thick:
// it gets all its clusters. When its parent is missing it is looked for, by its UUID, and a
// volume that had no bdev for want of it gets one: nobody has to examine the parent's bdev
// for that, whose contents may look like an lvstore.
func (v *Volume) Absorb(most uint64, thick bool) (done blobstore.Absorbed, err error) {
	end, err := v.begin()
	if err != nil {
		return done, err
	}
	defer end()
	if o := v.blob.Origin(); o != nil && !o.HasOutside() {
		if err := v.st.supply(o); err != nil {
			return done, late(fmt.Errorf("lvol %q: its external snapshot: %w", v.Name(), err))
		}
	}
	if !v.degraded() && !v.registered.Load() {
		if err := v.st.show(v); err != nil {
			return done, late(err)
		}
	}
	was := v.blob.External()
	if done, err = v.blob.Absorb(most, thick); err != nil {
		return done, late(fmt.Errorf("lvol %q: %w", v.Name(), err))
	}
	if was && done.Independent {
		v.st.changed(v.blob)
	}
	return done, nil
}

// openOutside opens a bdev as the parent of an external clone.
func (s *Store) openOutside(name string) (*bdev.Handle, error) {
	h, err := s.m.reg.Open(name, func(k bdev.EventKind) {
		if k == bdev.Removed {
			go s.outsideGone(name)
		}
	})
	if err != nil {
		return nil, err
	}
	if err := h.ClaimShared(claimOutside); err != nil {
		h.Close()
		return nil, err
	}
	return h, nil
}

// outsideGone lets every handle go that blobs of the store have on a bdev that
// is being removed. What they show of it fails from then on, until it is back.
func (s *Store) outsideGone(name string) {
	s.m.log.Warn("lvol: an external snapshot is gone", "lvstore", s.Name(), "bdev", name)
	s.bs.LoseOutside(func(h *bdev.Handle) bool { return h.Removed() })
}

// supply gives an external clone its parent when that is there.
func (s *Store) supply(b *blobstore.Blob) error {
	id := b.ExternalID()
	if id == "" || b.HasOutside() {
		return nil
	}
	if _, err := uuid.Parse(id); err != nil {
		return fmt.Errorf("the external snapshot is called %q, which is not a UUID: %w", id, syscall.EINVAL)
	}
	h, err := s.openOutside(id)
	if err != nil {
		return err
	}
	if err = b.SetOutside(h); err != nil {
		h.Close()
	} else if h.Removed() { // and perhaps told so too early
		s.outsideGone(id)
	}
	return err
}

// degraded reports whether the volume reads from a bdev that is missing.
func (v *Volume) degraded() bool {
	o := v.blob.Origin()
	return o != nil && !o.HasOutside()
}

// appeared looks whether a new bdev is the parent that volumes lack, and
// registers those.
func (m *Module) appeared(name string) {
	i, ok := m.reg.Info(name)
	if !ok || i.UUID == uuid.Nil {
		return
	}
	for _, st := range m.Stores() {
		end, err := st.begin()
		if err != nil {
			continue
		}
		for _, v := range st.Volumes() {
			if !v.degraded() || !strings.EqualFold(v.blob.Origin().ExternalID(), i.UUID.String()) {
				continue
			}
			err := st.supply(v.blob.Origin())
			if err == nil && !v.registered.Load() {
				err = st.show(v)
			}
			if err != nil {
				m.log.Error("lvol stays degraded", "lvstore", st.Name(), "lvol", v.Name(), "bdev", name, "err", err)
			}
		}
		for _, v := range st.Volumes() { // clones of what has its parent now
			if !v.degraded() && !v.registered.Load() {
				if err := st.show(v); err != nil {
					m.log.Error("lvol not registered", "lvstore", st.Name(), "lvol", v.Name(), "err", err)
				}
			}
		}
		end()
	}
}
