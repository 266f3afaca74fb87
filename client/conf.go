package client

import (
	"encoding/json"

	"github.com/virtual-disk-array/vda"
)

// ListenerConf is a listener as dn_listener_conf and cn_listener_conf hold it.
func ListenerConf(l vda.Listener) string { return text(l) }

// PdConf is what a physical disk is, as pd_conf holds it. docs/errors.md has
// the rules.
type PdConf struct {
	// Type is "malloc", "aio" or "nvme".
	Type string `json:"type"`
	// Size is that of a malloc disk, in bytes, and of an aio disk when it shall
	// not be as large as the file or device.
	Size uint64 `json:"size,omitempty"`
	// Filename is the absolute path of an aio disk on its node.
	Filename string `json:"filename,omitempty"`
	// TrAddr is the PCI address of an nvme disk, like 0000:5e:00.0.
	TrAddr string `json:"traddr,omitempty"`
	// ClusterSize is that of the lvstore, in bytes, a power of two from 1 to 64
	// MiB; 0: one that suits the size.
	ClusterSize uint64 `json:"cluster_size,omitempty"`
	// VolatileCache "accepted" has an aio or nvme disk formatted that may lose acknowledged writes at
	// a power cut, on a node whose data plane passes no flush on, as SPDK does not.
	VolatileCache string `json:"volatile_cache,omitempty"`
	// Wipe: what the disk holds may go. Set it only after a create was refused
	// with what was found there, and none of that is needed.
	Wipe bool `json:"wipe,omitempty"`
}

// String is the JSON.
func (c PdConf) String() string { return text(c) }

// DaConf is how an array is striped, as da_conf holds it.
type DaConf struct {
	// StripeCount is the number of disks that a stripe lies on, 1 to 64; 0: 1.
	StripeCount uint32 `json:"stripe_count,omitempty"`
	// StripeSizeKB is the part of a stripe on one disk, in KiB, a power of two
	// from 4 to 1024; 0: 64.
	StripeSizeKB uint32 `json:"stripe_size_kb,omitempty"`
}

// String is the JSON.
func (c DaConf) String() string { return text(c) }

func text(v any) string {
	b, err := json.Marshal(v)
	if err != nil { // strings, numbers and booleans
		panic(err)
	}
	return string(b)
}
