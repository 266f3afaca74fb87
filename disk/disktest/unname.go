package disktest

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"os"
	"testing"
)

// Unname makes the blobstore in a file one that names no super blob, as it is
// when the making of an lvstore is cut off.
func Unname(t testing.TB, file string) {
	t.Helper()
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	page := make([]byte, 4096)
	_, err = f.ReadAt(page, 0)
	binary.LittleEndian.PutUint64(page[20:], 1<<64-1)
	binary.LittleEndian.PutUint32(page[4092:], crc32.Checksum(page[:4092], crc32.MakeTable(crc32.Castagnoli)))
	_, writeErr := f.WriteAt(page, 0)
	if err := errors.Join(err, writeErr, f.Close()); err != nil {
		t.Fatal(err)
	}
}
