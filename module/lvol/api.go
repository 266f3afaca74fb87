package lvol

import (
	"errors"
	"log/slog"

	"github.com/google/uuid"

	"github.com/virtual-disk-array/vda/bdev"
	"github.com/virtual-disk-array/vda/blobstore/format"
)

// ClearMethod says how clusters are cleared: when a store is created, the
// whole device; when a volume is deleted, its clusters.
type ClearMethod = format.ClearMethod

// The clear methods; ClearDefault is unmap.
const (
	ClearDefault     = format.ClearDefault
	ClearNone        = format.ClearNone
	ClearUnmap       = format.ClearUnmap
	ClearWriteZeroes = format.ClearWriteZeroes
)

// Config of a Module.
type Config struct {
	Registry *bdev.Registry // where base devices are and volumes go
	Log      *slog.Logger   // nil: slog.Default()
}

// StoreOpts are the choices of a new lvstore.
type StoreOpts struct {
	ClusterSize uint32      // bytes; 0: 4 MiB
	Clear       ClearMethod // of the device; ClearDefault: unmap
	MDRatio     uint32      // metadata pages per 100 clusters; 0: 100
	MDPageSize  uint32      // distance of metadata pages, bytes, a power of two from 4096 to 65536; 0: 4096
	UUID        uuid.UUID   // zero: a random one
}

// StoreInfo is one element of bdev_lvol_get_lvstores' reply.
type StoreInfo struct {
	UUID              uuid.UUID `json:"uuid"`
	Name              string    `json:"name"`
	BaseBdev          string    `json:"base_bdev"`
	TotalDataClusters uint64    `json:"total_data_clusters"`
	FreeClusters      uint64    `json:"free_clusters"`
	BlockSize         uint32    `json:"block_size"`   // bytes
	ClusterSize       uint32    `json:"cluster_size"` // bytes

	// Failed says why the store does no I/O any more: another program has
	// written to its device. SPDK has no such thing.
	Failed string `json:"failed,omitempty"`
}

// VolumeOpts are the choices of a new volume.
type VolumeOpts struct {
	Name  string      // 1 to 63 bytes, unique in the store
	Bytes uint64      // rounded up to whole clusters
	Thin  bool        // allocate clusters when they are first written
	Clear ClearMethod // on delete
	UUID  uuid.UUID   // zero: a random one
}

// VolumeInfo is one element of bdev_lvol_get_lvols' reply.
type VolumeInfo struct {
	Alias             string    `json:"alias"`
	UUID              uuid.UUID `json:"uuid"`
	Name              string    `json:"name"`
	IsThinProvisioned bool      `json:"is_thin_provisioned"`
	IsSnapshot        bool      `json:"is_snapshot"`
	IsClone           bool      `json:"is_clone"`
	IsEsnapClone      bool      `json:"is_esnap_clone"`
	IsDegraded        bool      `json:"is_degraded"`
	NumAllocated      uint64    `json:"num_allocated_clusters"`
	Store             struct {
		Name string    `json:"name"`
		UUID uuid.UUID `json:"uuid"`
	} `json:"lvs"`
}

// Lvol is the "lvol" object of a volume's driver_specific.
type Lvol struct {
	StoreUUID     uuid.UUID `json:"lvol_store_uuid"`
	BaseBdev      string    `json:"base_bdev"`
	ThinProvision bool      `json:"thin_provision"`
	NumAllocated  uint64    `json:"num_allocated_clusters"`
	Snapshot      bool      `json:"snapshot"`
	Clone         bool      `json:"clone"`
	BaseSnapshot  string    `json:"base_snapshot,omitempty"` // name of a clone's parent
	Clones        []string  `json:"clones,omitempty"`        // names of a snapshot's clones
	EsnapClone    bool      `json:"esnap_clone"`

	ExternalSnapshot string `json:"external_snapshot_name,omitempty"` // UUID of an external clone's parent
}

// DriverSpecific is a volume's driver_specific.
type DriverSpecific struct {
	Lvol Lvol `json:"lvol"`
}

// lateError marks an error that SPDK meets only while the operation runs.
type lateError struct{ error }

func (e lateError) Unwrap() error { return e.error }

// Late reports whether SPDK finds this error only while the operation runs.
// Its JSON-RPC reply then has code -32602 (Invalid parameters) and the text
// of the errno, instead of the negated errno as the code.
func Late(err error) bool {
	var l lateError
	return errors.As(err, &l)
}

func late(err error) error {
	if err == nil || Late(err) {
		return err
	}
	return lateError{err}
}
