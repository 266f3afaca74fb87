package lvol

import (
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/virtual-disk-array/vda/blobstore"
	"github.com/virtual-disk-array/vda/blobstore/format"
)

// Snapshot makes a read-only volume with the present contents of v, which
// becomes its clone. EINVAL and EEXIST for the name, EINVAL for a read-only
// volume, EBUSY while another operation is under way.
func (v *Volume) Snapshot(name string) (*Volume, error) {
	return v.derive(name, v.blob.Snapshot)
}

// SnapshotHold is Snapshot that holds the volume's I/O from the snapshot's moment until
// Release, for limit at most. EBUSY while it is held for another snapshot, ETIMEDOUT when
// I/O under way has not ended within limit, or the snapshot was not made within it.
func (v *Volume) SnapshotHold(name string, limit time.Duration) (*Volume, error) {
	end, err := v.begin()
	if err != nil {
		return nil, err
	}
	defer end()
	if h, _ := v.held(); h != nil && !h.Ended() {
		return nil, late(fmt.Errorf("lvol %q: %w", v.Name(), blobstore.ErrMDBusy))
	}
	if err := v.st.free(name); err != nil {
		return nil, late(err)
	}
	h, err := v.blob.Hold(limit)
	if err != nil {
		return nil, late(fmt.Errorf("lvol %q: %w", v.Name(), err))
	}
	v.st.m.mu.Lock()
	v.hold, v.heldFor = h, name
	v.st.m.mu.Unlock()
	s, err := v.deriveNamed(name, h.Snapshot)
	if err != nil {
		h.Release()
	}
	return s, err
}

// Release ends the hold that SnapshotHold began for a snapshot. It returns for how long the
// volume's I/O was held, and whether it was until now; false also when there is no such
// hold, as in a process that began since.
func (v *Volume) Release(snapshot string) (held time.Duration, inForce bool) {
	h, name := v.held()
	if h == nil || name != snapshot {
		return 0, false
	}
	return h.Release()
}

func (v *Volume) held() (*blobstore.Hold, string) {
	v.st.m.mu.Lock()
	defer v.st.m.mu.Unlock()
	return v.hold, v.heldFor
}

// Clone makes a volume that reads as the snapshot v until it is written to.
// Errors are as of Snapshot, but v must be read only.
func (v *Volume) Clone(name string) (*Volume, error) {
	return v.derive(name, v.blob.Clone)
}

func (v *Volume) derive(name string, how func([]format.Xattr) (*blobstore.Blob, error)) (*Volume, error) {
	end, err := v.begin()
	if err != nil {
		return nil, err
	}
	defer end()
	if err := v.st.free(name); err != nil {
		return nil, late(err)
	}
	return v.deriveNamed(name, how)
}

// deriveNamed is derive with a name that is free, within an operation of the store.
func (v *Volume) deriveNamed(name string, how func([]format.Xattr) (*blobstore.Blob, error)) (*Volume, error) {
	b, err := how(xattrs(name, uuid.New()))
	if err != nil {
		return nil, late(fmt.Errorf("lvol %q: %w", v.Name(), err))
	}
	d, err := v.st.publish(b)
	v.st.changed(v.blob)
	return d, err
}

// Inflate makes a thin volume thick and independent of its parent. Its users
// go on meanwhile. ENOSPC, EBUSY.
func (v *Volume) Inflate() error { return v.do(v.blob.Inflate) }

// DecoupleParent makes a clone independent of its parent and a clone of the
// parent's parent, if that has one. EINVAL when v has no parent.
func (v *Volume) DecoupleParent() error { return v.do(v.blob.Decouple) }
