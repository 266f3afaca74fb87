package format

import (
	"encoding/binary"
	"fmt"
	"syscall"
)

// maxPeek bounds the chain of a super blob that Peek follows, pages. That of
// an lvstore has one, and more where vda_tgt keeps records in it.
const maxPeek = 256

// Peek reads the super block of a device of deviceBytes and the attributes of
// the super blob that it names, by read and without loading anything. The
// attributes are nil when it names none, as in a store whose making was cut
// off. EILSEQ when there is no super block, or when it or the super blob is
// damaged; any other error is read's.
func Peek(deviceBytes uint64, read func(p []byte, off uint64) error) (SuperBlock, []Xattr, error) {
	page := make([]byte, PageSize)
	if deviceBytes < PageSize {
		return SuperBlock{}, nil, fmt.Errorf("%d bytes are no device for a blobstore: %w", deviceBytes, syscall.EILSEQ)
	}
	if err := read(page, 0); err != nil {
		return SuperBlock{}, nil, err
	}
	sb, err := DecodeSuperBlock(page, deviceBytes)
	if err != nil || sb.SuperBlob == NoBlob || sb.SuperBlob == 0 {
		return sb, nil, err
	}
	var pages [][]byte
	for at := sb.SuperBlob.Root(); at != noPage; {
		off := sb.Layout.MDOffset(at)
		if at >= sb.Layout.MDLen || len(pages) == maxPeek || off > deviceBytes-PageSize {
			return sb, nil, fmt.Errorf("the super blob leads to metadata page %d of %d: %w", at, sb.Layout.MDLen, syscall.EILSEQ)
		}
		p := make([]byte, PageSize)
		if err := read(p, off); err != nil {
			return sb, nil, err
		}
		if !PageIntact(p) {
			return sb, nil, fmt.Errorf("the checksum of metadata page %d is wrong: %w", at, syscall.EILSEQ)
		}
		pages = append(pages, p)
		at = binary.LittleEndian.Uint32(p[PageNext:])
	}
	m, err := DecodeChain(sb.SuperBlob, pages)
	if err != nil {
		return sb, nil, fmt.Errorf("%w: %w", err, syscall.EILSEQ)
	}
	return sb, m.Xattrs, nil
}
