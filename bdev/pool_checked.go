//go:build race

package bdev

import "unsafe"

// ownership knows which buffers are out, and panics when one is put back
// twice, or was never got: in builds with the race detector only.
type ownership struct{ out map[*byte]struct{} }

func (o *ownership) took(buf []byte) {
	if o.out == nil {
		o.out = map[*byte]struct{}{}
	}
	o.out[unsafe.SliceData(buf)] = struct{}{}
}

func (o *ownership) gave(buf []byte) {
	if _, ok := o.out[unsafe.SliceData(buf)]; !ok {
		panic("bdev: Pool.Put of a buffer that is not out")
	}
	delete(o.out, unsafe.SliceData(buf))
	// Anyone who still uses it shall notice.
	for i := range buf {
		buf[i] = 0xdb
	}
}
