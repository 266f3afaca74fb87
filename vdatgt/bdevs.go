package vdatgt

import (
	"github.com/virtual-disk-array/vda/bdev"
	"github.com/virtual-disk-array/vda/module/malloc"
)

// bdevJSON is one element of bdev_get_bdevs, members in SPDK's order.
type bdevJSON struct {
	Name           string     `json:"name"`
	Aliases        []string   `json:"aliases"`
	ProductName    string     `json:"product_name"`
	BlockSize      uint32     `json:"block_size"`
	NumBlocks      uint64     `json:"num_blocks"`
	WriteAlignment uint32     `json:"preferred_write_alignment"`
	WriteGranular  uint32     `json:"preferred_write_granularity"`
	OptimalWrite   uint32     `json:"optimal_write_size"`
	UnmapAlignment uint32     `json:"preferred_unmap_alignment"`
	UnmapGranular  uint32     `json:"preferred_unmap_granularity"`
	UUID           string     `json:"uuid"`
	NumaID         *int       `json:"numa_id,omitempty"`
	Limits         limitsJSON `json:"assigned_rate_limits"`
	Claimed        bool       `json:"claimed"`
	ClaimType      string     `json:"claim_type,omitempty"`
	Zoned          bool       `json:"zoned"`
	SupportedIO    ioTypes    `json:"supported_io_types"`
	DriverSpecific any        `json:"driver_specific"`
}

// limitsJSON are QoS limits; 0 is none. Megabytes are MiB.
type limitsJSON struct {
	RWIOs uint64 `json:"rw_ios_per_sec"`
	RWMB  uint64 `json:"rw_mbytes_per_sec"`
	RMB   uint64 `json:"r_mbytes_per_sec"`
	WMB   uint64 `json:"w_mbytes_per_sec"`
}

// ioTypes says what a bdev can do, in SPDK's words. What this data plane has
// no operation for is always false.
type ioTypes struct {
	Read               bool `json:"read"`
	Write              bool `json:"write"`
	Unmap              bool `json:"unmap"`
	Flush              bool `json:"flush"`
	Reset              bool `json:"reset"`
	NvmeAdmin          bool `json:"nvme_admin"`
	NvmeIO             bool `json:"nvme_io"`
	NvmeIOMd           bool `json:"nvme_io_md"`
	WriteZeroes        bool `json:"write_zeroes"`
	Zcopy              bool `json:"zcopy"`
	GetZoneInfo        bool `json:"get_zone_info"`
	ZoneManagement     bool `json:"zone_management"`
	ZoneAppend         bool `json:"zone_append"`
	Compare            bool `json:"compare"`
	CompareAndWrite    bool `json:"compare_and_write"`
	Abort              bool `json:"abort"`
	SeekHole           bool `json:"seek_hole"`
	SeekData           bool `json:"seek_data"`
	Copy               bool `json:"copy"`
	NvmeIovMd          bool `json:"nvme_iov_md"`
	NvmeNssr           bool `json:"nvme_nssr"`
	WriteUncorrectable bool `json:"write_uncorrectable"`
}

// describe renders the device called name; false when it has gone.
func (t *Target) describe(name string) (bdevJSON, bool) {
	dev, ok := t.reg.Get(name)
	if !ok {
		return bdevJSON{}, false
	}
	info, ok := t.reg.Info(name)
	if !ok {
		return bdevJSON{}, false
	}
	limits, err := t.reg.QoS(name)
	if err != nil {
		return bdevJSON{}, false
	}
	_, mapped := dev.(bdev.Mapper)
	out := bdevJSON{
		Name: info.Name, Aliases: aliases(&info), ProductName: info.Product,
		BlockSize: info.BlockSize, NumBlocks: info.Blocks, UUID: info.UUID.String(),
		OptimalWrite: info.OptimalIO,
		Limits:       limitsJSON(limits),
		SupportedIO: ioTypes{
			Read: info.Ops.Has(bdev.OpRead), Write: info.Ops.Has(bdev.OpWrite),
			Unmap: info.Ops.Has(bdev.OpUnmap), Flush: info.Ops.Has(bdev.OpFlush),
			Reset: info.Ops.Has(bdev.OpReset), WriteZeroes: info.Ops.Has(bdev.OpWriteZeroes),
			Compare: info.Ops.Has(bdev.OpCompare), CompareAndWrite: info.Ops.Has(bdev.OpCompareAndWrite),
			NvmeIO: info.Ops.Has(bdev.OpNVMeIO),
			Zcopy:  mapped,
		},
		DriverSpecific: struct{}{},
	}
	if t.reg.ClaimedBy(name) != "" {
		out.Claimed, out.ClaimType = true, "exclusive_write"
	}
	if _, memory := dev.(*malloc.Device); memory {
		out.NumaID = new(int)
		*out.NumaID = -1
	}
	if d, ok := dev.(bdev.Describer); ok {
		if specific := d.DriverSpecific(); specific != nil {
			out.DriverSpecific = specific
		}
	}
	return out, true
}

// aliases lists the other names. SPDK counts the UUID among them unless it is
// the name, as it is for lvols.
func aliases(i *bdev.Info) []string {
	out := append([]string{}, i.Aliases...)
	id := i.UUID.String()
	if i.Name == id {
		return out
	}
	for _, a := range out {
		if a == id {
			return out
		}
	}
	return append(out, id)
}
