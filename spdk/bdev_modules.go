package spdk

import (
	"context"
	"encoding/json"

	jsonv2 "github.com/go-json-experiment/json"
)

// MallocCreate are the parameters of bdev_malloc_create.
type MallocCreate struct {
	Name      string `json:"name,omitempty"` // "": Malloc0, Malloc1, …
	BlockSize uint32 `json:"block_size"`     // bytes, a multiple of 512
	NumBlocks uint64 `json:"num_blocks"`
	UUID      string `json:"uuid,omitempty"`
}

// BdevMallocCreate makes a memory bdev and returns its name.
func (a API) BdevMallocCreate(ctx context.Context, p MallocCreate) (string, error) {
	return ask[string](ctx, a, "bdev_malloc_create", p)
}

// BdevMallocDelete removes a memory bdev and its data.
func (a API) BdevMallocDelete(ctx context.Context, bdev string) error {
	return a.do(ctx, "bdev_malloc_delete", name{bdev})
}

// AioCreate are the parameters of bdev_aio_create.
type AioCreate struct {
	Name      string `json:"name"`
	Filename  string `json:"filename"` // file or block device
	BlockSize uint32 `json:"block_size,omitempty"`
	Readonly  bool   `json:"readonly,omitempty"`
	Fallocate bool   `json:"fallocate,omitempty"` // unmap and write zeroes by fallocate
	UUID      string `json:"uuid,omitempty"`
}

// BdevAioCreate makes a bdev of a file or block device and returns its name.
func (a API) BdevAioCreate(ctx context.Context, p AioCreate) (string, error) {
	return ask[string](ctx, a, "bdev_aio_create", p)
}

// BdevAioDelete removes the bdev; the file stays.
func (a API) BdevAioDelete(ctx context.Context, bdev string) error {
	return a.do(ctx, "bdev_aio_delete", name{bdev})
}

// RaidCreate are the parameters of bdev_raid_create. A base bdev that does not
// exist is not an error: the raid waits for it in state configuring.
type RaidCreate struct {
	Name        string   `json:"name"`
	StripSizeKB uint32   `json:"strip_size_kb,omitempty"` // KiB, a power of two
	RaidLevel   string   `json:"raid_level"`              // raid0, raid1, concat
	BaseBdevs   []string `json:"base_bdevs"`
	UUID        string   `json:"uuid,omitempty"`
	Superblock  bool     `json:"superblock,omitempty"`
}

// Raid is one element of bdev_raid_get_bdevs.
type Raid struct {
	Name                    string     `json:"name"`
	UUID                    string     `json:"uuid"`
	StripSizeKB             uint32     `json:"strip_size_kb"`
	State                   string     `json:"state"` // online, configuring, offline
	RaidLevel               string     `json:"raid_level"`
	Superblock              bool       `json:"superblock"`
	NumBaseBdevs            int        `json:"num_base_bdevs"`
	NumBaseBdevsDiscovered  int        `json:"num_base_bdevs_discovered"`
	NumBaseBdevsOperational int        `json:"num_base_bdevs_operational"`
	BaseBdevs               []RaidBase `json:"base_bdevs_list"`
}

// RaidBase is one member of a raid.
type RaidBase struct {
	Name         *string `json:"name"` // nil for a member that was removed
	UUID         string  `json:"uuid"`
	IsConfigured bool    `json:"is_configured"`
	DataOffset   uint64  `json:"data_offset"` // blocks
	DataSize     uint64  `json:"data_size"`   // blocks
}

// UnmarshalJSON takes the form before SPDK 24.01 as well: the name alone, or
// null.
func (b *RaidBase) UnmarshalJSON(text []byte) error {
	*b = RaidBase{}
	if len(text) > 0 && text[0] == '{' {
		type plain RaidBase
		return json.Unmarshal(text, (*plain)(b))
	}
	err := json.Unmarshal(text, &b.Name)
	b.IsConfigured = b.Name != nil
	return err
}

// BdevRaidCreate makes a raid.
func (a API) BdevRaidCreate(ctx context.Context, p RaidCreate) error {
	return a.do(ctx, "bdev_raid_create", p)
}

// VdaRaidAppend puts one more base behind those of a concat that is in use. -22 when the
// base would make it another device than its users know, -1 when it is claimed; dry only
// tells.
func (a API) VdaRaidAppend(ctx context.Context, raid, base string, dry bool) error {
	return a.do(ctx, "vda_raid_append", struct {
		Name string `json:"name"`
		Base string `json:"base_bdev"`
		Dry  bool   `json:"dry_run,omitempty"`
	}{raid, base, dry})
}

// BdevRaidDelete removes a raid; its base bdevs keep their data.
func (a API) BdevRaidDelete(ctx context.Context, raid string) error {
	return a.do(ctx, "bdev_raid_delete", name{raid})
}

// BdevRaidGetBdevs lists the raids of a category: all, online, configuring or
// offline.
func (a API) BdevRaidGetBdevs(ctx context.Context, category string) ([]Raid, error) {
	r, l := askRaids(category)
	err := a.Call(ctx, r.Method, r.Params, r.Result)
	return *l, err
}

func askRaids(category string) (Request, *[]Raid) {
	l := new([]Raid)
	return Request{"bdev_raid_get_bdevs", struct {
		Category string `json:"category"`
	}{category}, l}, l
}

// Raid returns the raid that a bdev is, from its DriverSpecific; nil for other
// bdevs, and for SPDK before 23.01, which writes it in another way.
func (b *Bdev) Raid() *Raid {
	var d struct {
		Raid *Raid `json:"raid"`
	}
	if jsonv2.Unmarshal(b.DriverSpecific, &d, lenient) != nil || d.Raid == nil || d.Raid.State == "" {
		return nil
	}
	d.Raid.Name = b.Name
	return d.Raid
}
