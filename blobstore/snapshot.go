package blobstore

import (
	"fmt"
	"syscall"
)

// mergeIntoClone is replaced below.
func (s *Store) mergeIntoClone(b *Blob) error {
	return fmt.Errorf("snapshot 0x%x has a clone: %w", uint64(b.id), syscall.EBUSY)
}
