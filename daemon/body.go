package daemon

import (
	"context"
	"encoding/binary"
	"io"
)

// body is a gRPC call's over net/http, whose messages gRPC would read as fast
// as they come, whatever their handler does. It takes the call's part of the
// budget before a message's first byte, and ends beyond Limits.Message, of all
// messages of the call together.
type body struct {
	io.ReadCloser
	ctx  context.Context
	call *call

	header [headerLen]byte
	have   int // bytes of header
	left   int // bytes of the message that are still to be read
	total  int // bytes of messages so far
	err    error
}

// Read implements io.Reader.
func (b *body) Read(p []byte) (n int, err error) {
	if b.have == headerLen {
		if b.err = b.begin(); b.err != nil {
			b.have = 0
		}
	}
	switch {
	case b.err != nil:
		return 0, b.err
	case b.left > 0:
		n, err = b.ReadCloser.Read(p[:min(len(p), b.left)])
		b.left -= n
	default:
		n, err = b.ReadCloser.Read(p[:min(len(p), headerLen-b.have)])
		b.have += copy(b.header[b.have:], p[:n])
	}
	return n, err
}

// begin is called between a message's header and the message.
func (b *body) begin() error {
	b.have = 0
	b.left = int(binary.BigEndian.Uint32(b.header[1:]))
	b.total += b.left
	if limit := b.call.g.limits.Message; b.total > limit {
		return &TooLong{Size: b.total, Limit: limit}
	}
	return b.call.grow(b.ctx, b.call.g.estimate(b.total), b.total)
}
