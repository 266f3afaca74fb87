package blobstore

import (
	"bytes"
	"fmt"
	"sort"
	"sync/atomic"

	"github.com/virtual-disk-array/vda/blobstore/format"
	"github.com/virtual-disk-array/vda/nvme"
)

// Blob is one blob of a running store. I/O goes through Submit; all methods
// are safe for concurrent use. What describes the blob without naming xattrs
// never waits for the device.
type Blob struct {
	store *Store
	id    format.BlobID
	gate  gate

	// What I/O looks at.
	clusters  atomic.Pointer[format.ClusterMap]
	parent    atomic.Pointer[Blob]
	readOnly  atomic.Bool
	thin      atomic.Bool
	outerID   atomic.Pointer[string] // what the parent outside the store is called; nil: it has none there
	outer     atomic.Pointer[outside]
	keep      atomic.Bool  // unmap must not release clusters
	mapped    atomic.Bool  // Map has given out memory
	onMoved   func()       // see OnMoved
	allocated atomic.Int64 // clusters that are there

	// Guarded by store.md.
	meta      format.Metadata    // Table and Runs are not kept up to date
	chain     []uint32           // metadata pages of the chain, the root first
	table     []uint32           // extent pages, 0: none
	clones    map[*Blob]struct{} // changed with store.family held, too
	busy      bool               // a long operation is under way
	committed uint64             // changes that have become durable since the load
	uncertain bool               // a failed write leaves open which root is on disk
	attempt   []uint32           // pages of the change that left it open
	unusable  error              // why it cannot be used
	absorbed  uint64             // clusters from the first on that it has, or that are zeros outside and it is thin: see Absorb
}

func newBlob(s *Store, im *format.BlobImage) *Blob {
	b := &Blob{store: s, id: im.ID, meta: im.Metadata, chain: im.Chain, table: im.Table, clones: map[*Blob]struct{}{}}
	b.meta.Table, b.meta.Runs = nil, nil
	b.show(im.Clusters)
	return b
}

// show makes what the metadata says visible to I/O.
func (b *Blob) show(m *format.ClusterMap) {
	if b.clusters.Load() != m {
		n := int64(0)
		m.Each(func(uint64, uint32) { n++ })
		b.clusters.Store(m)
		b.allocated.Store(n)
	}
	ro := b.meta.DataROFlags&format.FlagReadOnly != 0 || b.meta.DataROFlags&^format.KnownDataROFlags != 0
	b.readOnly.Store(ro)
	b.thin.Store(b.meta.Thin())
	var outer *string
	if b.meta.Parent() == format.ExternalParent {
		id := string(bytes.TrimRight(b.meta.InternalXattr(format.XattrExternalParent), "\x00"))
		outer = &id
	}
	b.outerID.Store(outer)
}

// adopt makes p the parent; nil: none.
func (b *Blob) adopt(p *Blob) {
	b.store.family.Lock()
	defer b.store.family.Unlock()
	if old := b.parent.Load(); old != nil {
		delete(old.clones, b)
	}
	b.parent.Store(p)
	if p != nil {
		p.clones[b] = struct{}{}
	}
}

// ID returns the blob's id.
func (b *Blob) ID() format.BlobID { return b.id }

// Usable returns nil, or why the blob cannot be used.
func (b *Blob) Usable() error {
	b.store.md.Lock()
	defer b.store.md.Unlock()
	for at := b; at != nil; at = at.parent.Load() {
		if at.unusable != nil {
			return fmt.Errorf("blob 0x%x: %w", uint64(at.id), at.unusable)
		}
	}
	return nil
}

// Clusters is the blob's length in clusters.
func (b *Blob) Clusters() uint64 { return b.clusters.Load().Clusters }

// Blocks is the blob's length in blocks of the store.
func (b *Blob) Blocks() uint64 { return b.Clusters() * b.store.unitsPerCluster }

// Allocated is how many clusters the blob has of its own.
func (b *Blob) Allocated() uint64 { return uint64(b.allocated.Load()) }

// Thin reports whether clusters may be missing.
func (b *Blob) Thin() bool { return b.thin.Load() }

// ReadOnly reports whether the blob takes no writes.
func (b *Blob) ReadOnly() bool { return b.readOnly.Load() }

// Parent returns the snapshot that missing clusters are read from, or nil.
func (b *Blob) Parent() *Blob { return b.parent.Load() }

// Clones returns the blobs whose parent this one is, in the order of their
// ids.
func (b *Blob) Clones() []*Blob {
	b.store.family.Lock()
	defer b.store.family.Unlock()
	out := make([]*Blob, 0, len(b.clones))
	for c := range b.clones {
		out = append(out, c)
	}
	sort.Slice(out, func(i, k int) bool { return out[i].id < out[k].id })
	return out
}

// External reports whether the parent is a device outside the store.
func (b *Blob) External() bool { return b.outerID.Load() != nil }

// ClearMethod is how the blob's clusters are cleared when they are given back.
func (b *Blob) ClearMethod() format.ClearMethod {
	b.store.md.Lock()
	defer b.store.md.Unlock()
	return b.clearMethod()
}

func (b *Blob) clearMethod() format.ClearMethod {
	return format.ClearMethod(b.meta.MDROFlags & format.ClearMethodMask)
}

// Xattr returns the value of a user's extended attribute.
func (b *Blob) Xattr(name string) ([]byte, bool) {
	b.store.md.Lock()
	defer b.store.md.Unlock()
	for _, x := range b.meta.Xattrs {
		if x.Name == name {
			return x.Value, true
		}
	}
	return nil, false
}

// SetXattr sets an extended attribute, or removes it when value is nil. EPERM
// for a read-only blob.
func (b *Blob) SetXattr(name string, value []byte) error {
	return b.update(func(c *change) error {
		c.meta.Xattrs = format.SetXattr(c.meta.Xattrs, name, value)
		return nil
	})
}

// Keep is SetXattr for records that hosts change: what goes wrong is a status for them.
// What the disk is known to have already is not written again.
func (b *Blob) Keep(name string, value []byte) nvme.Status {
	if have, ok := b.Xattr(name); ok == (value != nil) && bytes.Equal(have, value) && !b.inDoubt() {
		return nvme.Success
	}
	return statusOf(b.SetXattr(name, value))
}

// inDoubt reports that a failed write has left open whether the disk has the blob's state.
func (b *Blob) inDoubt() bool {
	b.store.md.Lock()
	defer b.store.md.Unlock()
	return b.uncertain
}

// SetReadOnly makes the blob refuse writes and changes for good.
func (b *Blob) SetReadOnly() error {
	if b.ReadOnly() {
		return nil
	}
	b.store.md.Lock()
	defer b.store.md.Unlock()
	if err := b.store.ready(); err != nil {
		return err
	}
	c := b.change()
	c.meta.DataROFlags |= format.FlagReadOnly
	b.gate.freeze()
	defer b.store.thaw(b)
	return b.store.commit(c)
}

// update changes the metadata of a blob that may be changed.
func (b *Blob) update(f func(c *change) error) error {
	b.store.md.Lock()
	defer b.store.md.Unlock()
	if err := b.mutable(); err != nil {
		return err
	}
	if err := b.store.ready(); err != nil {
		return err
	}
	c := b.change()
	if err := f(c); err != nil {
		return err
	}
	return b.store.commit(c)
}

// present returns nil when the store is open, has the blob and can use it. The
// store's md is held.
func (b *Blob) present() error {
	switch {
	case b.store.closed.Load():
		return ErrClosed
	case b.store.blobs[b.id] != b:
		return fmt.Errorf("blob 0x%x: %w", uint64(b.id), ErrNotFound)
	}
	return b.unusable
}

// mutable returns nil when the blob's metadata may be changed.
func (b *Blob) mutable() error {
	if err := b.present(); err != nil {
		return err
	}
	if b.readOnly.Load() || b.meta.MDROFlags&^format.KnownMDROFlags != 0 {
		return fmt.Errorf("blob 0x%x: %w", uint64(b.id), ErrReadOnly)
	}
	return nil
}
