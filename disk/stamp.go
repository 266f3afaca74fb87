package disk

import (
	"bytes"
	"context"
	"errors"
	"syscall"

	"github.com/virtual-disk-array/vda/blobstore/format"
)

// Store is an SPDK blobstore on a disk.
type Store struct {
	// Name is the lvstore's, "" when there is none: the blobstore is another
	// program's, damaged, or the making of an lvstore was cut off.
	Name string
	// MetaEnd is where the metadata ends and the clusters of volumes begin,
	// bytes; 0 when the super block does not decode.
	MetaEnd uint64
	// Damaged says what does not decode, "" when all does.
	Damaged string
}

// Stamp reads the name of the lvstore on a disk, without loading it. It is nil
// when the disk carries no blobstore. The error is the Reader's.
func Stamp(ctx context.Context, r Reader) (*Store, error) {
	sb, attrs, err := format.Peek(r.Size(), func(p []byte, off uint64) error { return r.ReadAt(ctx, p, off) })
	s := &Store{MetaEnd: sb.Layout.Meta * uint64(sb.Layout.ClusterSize)}
	if errors.Is(err, syscall.EILSEQ) || errors.Is(err, syscall.EINVAL) {
		if carries, err := startsWith(ctx, r, format.Signature); err != nil || !carries {
			return nil, err
		}
		s.Damaged = err.Error()
		return s, nil
	}
	if err != nil {
		return nil, err
	}
	for _, a := range attrs {
		if a.Name == "name" && sb.Type == format.LvstoreType {
			s.Name = string(bytes.TrimRight(a.Value, "\x00"))
		}
	}
	return s, nil
}

func startsWith(ctx context.Context, r Reader, magic string) (bool, error) {
	if r.Size() < 4096 {
		return false, nil
	}
	head := make([]byte, 4096)
	err := r.ReadAt(ctx, head, 0)
	return bytes.HasPrefix(head, []byte(magic)), err
}
