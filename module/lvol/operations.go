package lvol

import (
	"fmt"
	"syscall"

	"github.com/google/uuid"

	"github.com/virtual-disk-array/vda/bdev"
	"github.com/virtual-disk-array/vda/blobstore"
	"github.com/virtual-disk-array/vda/blobstore/format"
)

// free checks that a volume's name is right and unused in the store.
func (s *Store) free(name string) error {
	if err := checkName("lvol_name", name); err != nil {
		return err
	}
	for _, v := range s.Volumes() {
		if v.Name() == name {
			return fmt.Errorf("lvol %q in lvstore %q: %w", name, s.Name(), syscall.EEXIST)
		}
	}
	return nil
}

// xattrs are what makes a blob a volume. SPDK gives a new volume's name its
// whole field.
func xattrs(name string, id uuid.UUID) []format.Xattr {
	field := make([]byte, nameMax)
	copy(field, name)
	return []format.Xattr{{Name: "name", Value: field}, {Name: "uuid", Value: cString(id.String())}}
}

// clusters rounds a size up to whole clusters.
func (s *Store) clusters(bytes uint64) uint64 {
	size := uint64(s.bs.ClusterSize())
	n := bytes / size
	if bytes%size != 0 {
		n++
	}
	return n
}

// CreateVolume makes a volume and its bdev. EINVAL and EEXIST for the name,
// ENOSPC when a thick volume does not fit.
func (s *Store) CreateVolume(o VolumeOpts) (*Volume, error) {
	end, err := s.begin()
	if err != nil {
		return nil, err
	}
	defer end()
	if err := s.free(o.Name); err != nil {
		return nil, err
	}
	if o.UUID == uuid.Nil {
		o.UUID = uuid.New()
	}
	b, err := s.bs.CreateBlob(blobstore.BlobConfig{Clusters: s.clusters(o.Bytes), Thin: o.Thin, Clear: o.Clear,
		Xattrs: xattrs(o.Name, o.UUID)})
	if err != nil {
		return nil, late(fmt.Errorf("lvol %q: %w", o.Name, err))
	}
	return s.publish(b)
}

// publish registers the volume of a new blob; a blob that cannot be is deleted
// again.
func (s *Store) publish(b *blobstore.Blob) (*Volume, error) {
	v, err := s.volumeOf(b)
	if err == nil {
		err = s.register(v)
	}
	if err != nil {
		if derr := b.Delete(); derr != nil {
			s.m.log.Error("lvol not removed again", "lvstore", s.Name(), "err", derr)
		}
		return nil, late(err)
	}
	return v, nil
}

// begin starts an operation on the volume.
func (v *Volume) begin() (func(), error) {
	end, err := v.st.begin()
	if err != nil {
		return nil, late(err)
	}
	for _, x := range v.st.Volumes() {
		if x == v {
			return end, nil
		}
	}
	end()
	return nil, late(fmt.Errorf("lvol %s is gone: %w", v.bdevName, syscall.ENODEV))
}

// Delete removes the volume: its users are told, and when they have let go
// its clusters are cleared and freed. A snapshot with one clone is merged into
// it; EPERM for one with more.
func (v *Volume) Delete() error {
	clear, err := v.remove()
	if err == nil {
		defer v.st.clearing.Done()
		clear()
	}
	return err
}

// remove is Delete without the clearing, for which others need not wait. It
// counts it in st.clearing.
func (v *Volume) remove() (clear func(), err error) {
	end, err := v.begin()
	if err != nil {
		return nil, err
	}
	defer end()
	clones := v.blob.Clones()
	if len(clones) > 1 {
		return nil, late(fmt.Errorf("lvol %q has %d clones: %w", v.Name(), len(clones), syscall.EPERM))
	}
	if err := v.st.unregister(v); err != nil {
		return nil, late(err)
	}
	if clear, err = v.blob.Remove(); err != nil {
		return nil, late(fmt.Errorf("lvol %q: %w", v.Name(), err))
	}
	v.st.drop(v) // one without a bdev was not closed
	v.st.clearing.Add(1)
	v.st.changed(clones...)
	return clear, nil
}

// changed tells the users of blobs' volumes that their Info is another.
func (s *Store) changed(blobs ...*blobstore.Blob) {
	for _, b := range blobs {
		for _, v := range s.Volumes() {
			if v.blob == b {
				s.m.reg.Resized(v.bdevName)
			}
		}
	}
}

// Rename changes the volume's name and alias. EEXIST when another has it.
func (v *Volume) Rename(name string) error {
	end, err := v.begin()
	if err != nil {
		return err
	}
	defer end()
	if name == v.Name() {
		return nil
	}
	if err := v.st.free(name); err != nil {
		return late(err)
	}
	old := v.Alias()
	if err := v.st.m.reg.AddAlias(v.bdevName, v.st.Name()+"/"+name); err != nil {
		return late(err)
	}
	if err := v.blob.SetXattr("name", cString(name)); err != nil {
		_ = v.st.m.reg.RemoveAlias(v.bdevName, v.st.Name()+"/"+name)
		return late(err)
	}
	v.st.m.mu.Lock()
	v.name = name
	v.st.m.mu.Unlock()
	return late(v.st.m.reg.RemoveAlias(v.bdevName, old))
}

// Resize changes the volume's size, rounded up to whole clusters. ENOSPC when
// a thick volume does not fit, EPERM when it is read only.
func (v *Volume) Resize(bytes uint64) error {
	return v.do(func() error { return v.blob.Resize(v.st.clusters(bytes)) })
}

// Grow is Resize that never makes the volume smaller.
func (v *Volume) Grow(bytes uint64) error {
	return v.do(func() error { return v.blob.Grow(v.st.clusters(bytes)) })
}

// SetReadOnly makes the volume refuse writes for good.
func (v *Volume) SetReadOnly() error { return v.do(v.blob.SetReadOnly) }

// do runs an operation on the blob and tells the users of the volume.
func (v *Volume) do(f func() error) error {
	end, err := v.begin()
	if err != nil {
		return err
	}
	defer end()
	if err := f(); err != nil {
		return late(fmt.Errorf("lvol %q: %w", v.Name(), err))
	}
	v.st.changed(v.blob)
	return nil
}

var (
	_ bdev.Device    = (*Volume)(nil)
	_ bdev.Mapper    = (*Volume)(nil)
	_ bdev.Describer = (*Volume)(nil)
)
