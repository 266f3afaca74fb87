package dn

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"

	"vda/agent"
)

// signatures are what the first bytes of a disk in use look like.
var signatures = []struct {
	what   string
	offset int
	magic  string
}{
	{"an SPDK blobstore (lvstore)", 0, "SPDKBLOB"},
	{"an SPDK raid member", 0, "SPDKRAID"},
	{"a GPT partition table", 512, "EFI PART"},
	{"a GPT partition table", 4096, "EFI PART"},
	{"an XFS file system", 0, "XFSB"},
	{"an ext file system", 1024 + 0x38, "\x53\xef"},
	{"a btrfs file system", 64<<10 + 0x40, "_BHRfS_M"},
	{"an F2FS file system", 1024, "\x10\x20\xf5\xf2"},
	{"an NTFS file system", 3, "NTFS    "},
	{"an exFAT file system", 3, "EXFAT   "},
	{"a LUKS volume", 0, "LUKS\xba\xbe"},
	{"an LVM physical volume", 512, "LABELONE"},
	{"a Linux raid member", 4096, "\xfc\x4e\x2b\xa9"},
	{"a Linux raid member", 0, "\xfc\x4e\x2b\xa9"},
	{"a Ceph OSD", 0, "bluestore block device"},
	{"a swap area", 4096 - 10, "SWAPSPACE2"},
	{"a bcache device", 4096 + 24, "\xc6\x85\x73\xf6\x4e\x1a\x45\xca\x82\x65\xf5\x7f\x48\xba\x6d\x81"},
	{"an MBR partition table or boot sector", 510, "\x55\xaa"},
}

// blank returns an error that says what was found on a disk that is in use.
// Data that nothing is known to start with counts as left over.
func blank(ctx context.Context, d agent.RawDisk) error {
	head := make([]byte, min(256<<10, d.Size()))
	if err := d.ReadAt(ctx, head, 0); err != nil {
		return fmt.Errorf("its first bytes cannot be read: %w", err)
	}
	if what := recognise(head); what != "" {
		return fmt.Errorf("it carries %s; if that is not needed, wipe it (wipefs -a) and try again", what)
	}
	return nil
}

// recognise names what a disk starts with, "" when it is nothing known.
func recognise(head []byte) string {
	for _, s := range signatures {
		if len(head) >= s.offset+len(s.magic) && bytes.Equal(head[s.offset:s.offset+len(s.magic)], []byte(s.magic)) {
			return s.what
		}
	}
	// ZFS: an uberblock in one of the 128 slots from 128 KiB on.
	for off := 128 << 10; off+8 <= len(head); off += 1 << 10 {
		if binary.LittleEndian.Uint64(head[off:]) == 0x00bab10c {
			return "a ZFS pool"
		}
	}
	return ""
}
