package spdktest

import "context"

// NullCreate are the parameters of bdev_null_create.
type NullCreate struct {
	Name      string `json:"name"`
	BlockSize uint32 `json:"block_size"` // bytes
	NumBlocks uint64 `json:"num_blocks"`
	UUID      string `json:"uuid,omitempty"`
}

// BdevNullCreate makes a bdev that drops writes and returns its name.
func (m Methods) BdevNullCreate(ctx context.Context, p NullCreate) (string, error) {
	return ask[string](ctx, m, "bdev_null_create", p)
}

// BdevNullDelete removes it.
func (m Methods) BdevNullDelete(ctx context.Context, bdev string) error {
	return m.do(ctx, "bdev_null_delete", name{bdev})
}

// BdevAioRescan takes notice of a file that grew.
func (m Methods) BdevAioRescan(ctx context.Context, bdev string) error {
	return m.do(ctx, "bdev_aio_rescan", name{bdev})
}

// BdevSetQoSLimit are the parameters of bdev_set_qos_limit; nil leaves a
// limit as it is, 0 lifts it. At least one must be given (-22 otherwise).
// rw_ios_per_sec is rounded up to a multiple of 1000 by SPDK.
type BdevSetQoSLimit struct {
	Name           string  `json:"name"`
	RWIOsPerSec    *uint64 `json:"rw_ios_per_sec,omitempty"`
	RWMbytesPerSec *uint64 `json:"rw_mbytes_per_sec,omitempty"`
	RMbytesPerSec  *uint64 `json:"r_mbytes_per_sec,omitempty"`
	WMbytesPerSec  *uint64 `json:"w_mbytes_per_sec,omitempty"`
}

// BdevSetQoSLimit changes a bdev's limits while it is in use.
func (m Methods) BdevSetQoSLimit(ctx context.Context, p BdevSetQoSLimit) error {
	return m.do(ctx, "bdev_set_qos_limit", p)
}
