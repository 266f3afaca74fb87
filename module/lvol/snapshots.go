package lvol

import (
	"fmt"

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
