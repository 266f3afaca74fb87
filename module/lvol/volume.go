package lvol

import (
	"fmt"
	"sync/atomic"
	"syscall"

	"github.com/google/uuid"

	"github.com/virtual-disk-array/vda/bdev"
	"github.com/virtual-disk-array/vda/blobstore"
	"github.com/virtual-disk-array/vda/blobstore/format"
)

// Volume is an lvol: a blob as a bdev.
type Volume struct {
	st       *Store
	blob     *blobstore.Blob
	uuid     uuid.UUID // zero when the blob has none
	bdevName string

	registered atomic.Bool // there is a bdev

	name string // guarded by st.m.mu
	// The last hold, and for which snapshot; guarded by st.m.mu.
	hold    *blobstore.Hold
	heldFor string
}

// volumeOf reads a volume's identity. A blob without a UUID is called after
// the store and its id, as SPDK does.
func (s *Store) volumeOf(b *blobstore.Blob) (*Volume, error) {
	v := &Volume{st: s, blob: b}
	value, ok := b.Xattr("name")
	if !ok || len(value) > nameMax {
		return nil, fmt.Errorf("lvol name %q: %w", value, syscall.EINVAL)
	}
	v.name = goString(value)
	value, _ = b.Xattr("uuid")
	id, err := uuid.Parse(goString(value))
	if err == nil && id != uuid.Nil {
		v.uuid, v.bdevName = id, id.String()
	} else {
		v.bdevName = fmt.Sprintf("%s_%d", s.uuid, uint64(b.ID()))
	}
	b.OnMoved(func() { s.m.reg.Settle(v.bdevName) })
	return v, nil
}

// Store returns the volume's lvstore.
func (v *Volume) Store() *Store { return v.st }

// BdevName is the name of the volume's bdev, its UUID.
func (v *Volume) BdevName() string { return v.bdevName }

// UUID identifies the volume.
func (v *Volume) UUID() uuid.UUID { return v.uuid }

// Name is the volume's name in its store.
func (v *Volume) Name() string {
	v.st.m.mu.Lock()
	defer v.st.m.mu.Unlock()
	return v.name
}

// Alias is "lvs_name/lvol_name".
func (v *Volume) Alias() string {
	v.st.m.mu.Lock()
	defer v.st.m.mu.Unlock()
	return v.st.name + "/" + v.name
}

// Info describes the volume's bdev.
func (v *Volume) Info() bdev.Info {
	base, bs := v.st.base.Info(), v.st.bs
	ratio := bs.BlockSize() / base.BlockSize
	i := bdev.Info{
		Name: v.bdevName, Aliases: []string{v.Alias()}, Product: "Logical Volume", UUID: v.uuid,
		BlockSize: bs.BlockSize(), Blocks: v.blob.Blocks(), Align: base.Align,
		WriteCache: base.WriteCache, Ops: bs.Ops(), OptimalIO: base.OptimalIO / ratio, MaxIO: base.MaxIO / ratio,
		UnmapUnit: bs.ClusterSize() / bs.BlockSize(),
		// A hole of a clone shows its parent.
		UnmapZeroes: base.UnmapZeroes && v.blob.Parent() == nil && !v.blob.External(),
	}
	if v.blob.ReadOnly() {
		i.Ops &^= bdev.Ops(bdev.OpWrite, bdev.OpUnmap, bdev.OpWriteZeroes)
	}
	return i
}

// Used is how many blocks of a thin volume take space, or of a clone, whose
// others are its parent's; see bdev.Thin.
func (v *Volume) Used() (uint64, bool) {
	bs := v.st.bs
	if !v.blob.Thin() {
		return 0, false
	}
	return v.blob.Allocated() * uint64(bs.ClusterSize()/bs.BlockSize()), true
}

// Submit starts an I/O; see blobstore.Blob.Submit.
func (v *Volume) Submit(r *bdev.Request, b *bdev.Batch) { v.blob.Submit(r, b) }

// Map returns the memory of a volume on a memory device; see bdev.Mapper.
func (v *Volume) Map(dst [][]byte, offset, blocks uint64) ([][]byte, bool) {
	return v.blob.Map(dst, offset, blocks)
}

// Close is called by the registry when the bdev is gone.
func (v *Volume) Close() error {
	v.st.drop(v)
	return nil
}

// DriverSpecific is what bdev_get_bdevs says of an lvol beyond what it says of
// every bdev.
func (v *Volume) DriverSpecific() any {
	parent, clones := v.blob.Parent(), v.blob.Clones()
	l := Lvol{
		StoreUUID: v.st.uuid, BaseBdev: v.st.base.Info().Name,
		ThinProvision: v.blob.Thin(), NumAllocated: v.blob.Allocated(),
		Snapshot: len(clones) > 0, Clone: parent != nil, EsnapClone: v.blob.External(),
	}
	var names map[format.BlobID]string
	if parent != nil || len(clones) > 0 { // a store may have very many volumes
		names = v.st.names()
	}
	if parent != nil {
		l.BaseSnapshot = names[parent.ID()]
	}
	l.ExternalSnapshot = v.blob.ExternalID()
	for _, c := range clones {
		l.Clones = append(l.Clones, names[c.ID()])
	}
	return DriverSpecific{Lvol: l}
}

// names maps blobs to the names of their volumes.
func (s *Store) names() map[format.BlobID]string {
	s.m.mu.Lock()
	defer s.m.mu.Unlock()
	out := make(map[format.BlobID]string, len(s.volumes))
	for _, v := range s.volumes {
		out[v.blob.ID()] = v.name
	}
	return out
}

// Describe returns what bdev_lvol_get_lvols answers about the volume.
func (v *Volume) Describe() VolumeInfo {
	i := VolumeInfo{
		Alias: v.Alias(), UUID: v.uuid, Name: v.Name(),
		IsThinProvisioned: v.blob.Thin(), IsSnapshot: len(v.blob.Clones()) > 0,
		IsClone: v.blob.Parent() != nil, IsEsnapClone: v.blob.External(), IsDegraded: v.degraded(), NumAllocated: v.blob.Allocated(),
	}
	i.Store.Name, i.Store.UUID = v.st.Name(), v.st.uuid
	return i
}
