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
