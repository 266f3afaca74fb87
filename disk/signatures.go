package disk

import (
	"bytes"
	"context"
)

// signature names what keeps a magic number at a place. It is for messages
// alone: see the package comment.
type signature struct {
	what  string
	magic string
	// at are offsets in bytes, from the end of the disk when negative.
	at []int64
	// round is what the size is rounded down to, in bytes, before a negative
	// offset counts; 0 is 1.
	round uint64
}

const kib, mib = 1 << 10, 1 << 20

// signatures in the order in which they are told: what others are built on or
// look like comes last.
var signatures = []signature{
	{what: "an SPDK blobstore (lvstore)", magic: "SPDKBLOB", at: []int64{0}},
	{what: "an SPDK raid member", magic: "SPDKRAID", at: []int64{0}},
	{what: "a GPT partition table", magic: "EFI PART", at: []int64{512, 4096}},
	{what: "the backup of a GPT partition table at its end", magic: "EFI PART", at: []int64{-512, -4096}},

	// Members of arrays, pools and volume groups.
	{what: "a Linux raid member (version 1.2)", magic: "\xfc\x4e\x2b\xa9", at: []int64{4096}},
	{what: "a Linux raid member (version 1.1)", magic: "\xfc\x4e\x2b\xa9", at: []int64{0}},
	{what: "a Linux raid member (version 1.0)", magic: "\xfc\x4e\x2b\xa9", at: []int64{-8 * kib}, round: 4 * kib},
	{what: "a Linux raid member (version 0.90)", magic: "\xfc\x4e\x2b\xa9", at: []int64{-64 * kib}, round: 64 * kib},
	{what: "a Linux raid member (version 0.90, big endian)", magic: "\xa9\x2b\x4e\xfc", at: []int64{-64 * kib}, round: 64 * kib},
	{what: "an Intel (IMSM) raid member", magic: "Intel Raid ISM Cfg Sig. ", at: []int64{-1024, -8192}},
	{what: "a DDF raid member", magic: "\xde\x11\xde\x11", at: []int64{-512, -257 * 512, -4096}},
	{what: "an LVM physical volume", magic: "LABELONE", at: []int64{0, 512, 1024, 1536}},
	{what: "a DRBD device", magic: "\x83\x74\x02\x6b", at: []int64{-4096 + 60}, round: 4096},
	{what: "a DRBD device", magic: "\x83\x74\x02\x6c", at: []int64{-4096 + 60}, round: 4096},
	{what: "a DRBD device", magic: "\x83\x74\x02\x6d", at: []int64{-4096 + 60}, round: 4096},
	{what: "a Stratis pool", magic: "!Stra0tis\x86\xff\x02^\x41rh", at: []int64{512 + 4, 9*512 + 4}},
	{what: "a VDO volume", magic: "dmvdo001", at: []int64{0, 4096}},
	{what: "a Ceph OSD", magic: "bluestore block device", at: []int64{0}},
	{what: "an Oracle ASM disk", magic: "ORCLDISK", at: []int64{32}},
	{what: "a bcache device", magic: "\xc6\x85\x73\xf6\x4e\x1a\x45\xca\x82\x65\xf5\x7f\x48\xba\x6d\x81", at: []int64{4096 + 24}},

	// Encryption and integrity.
	{what: "a LUKS volume", magic: "LUKS\xba\xbe", at: []int64{0}},
	{what: "the second header of a LUKS2 volume", magic: "SKUL\xba\xbe",
		at: []int64{16 * kib, 32 * kib, 64 * kib, 128 * kib, 256 * kib, 512 * kib, mib, 2 * mib, 4 * mib}},
	{what: "a BitLocker volume", magic: "-FVE-FS-", at: []int64{3}},
	{what: "a dm-integrity device", magic: "integrt\x00", at: []int64{0}},
	{what: "a dm-verity device", magic: "verity\x00\x00", at: []int64{0}},

	// File systems.
	{what: "an XFS file system", magic: "XFSB", at: []int64{0}},
	{what: "a btrfs file system", magic: "_BHRfS_M", at: []int64{64*kib + 0x40, 64*mib + 0x40}},
	{what: "a bcachefs file system", magic: "\xc6\x85\x73\xf6\x66\xce\x90\xa9\xd9\x6a\x60\xcf\x80\x3d\xf7\xef", at: []int64{4096 + 24}},
	{what: "an F2FS file system", magic: "\x10\x20\xf5\xf2", at: []int64{1024}},
	{what: "an NTFS file system", magic: "NTFS    ", at: []int64{3}},
	{what: "an exFAT file system", magic: "EXFAT   ", at: []int64{3}},
	{what: "a ReFS file system", magic: "ReFS\x00\x00\x00\x00", at: []int64{3}},
	{what: "a FAT file system", magic: "FAT32   ", at: []int64{82}},
	{what: "a FAT file system", magic: "FAT1", at: []int64{54}},
	{what: "an OCFS2 file system", magic: "OCFSV2", at: []int64{1024, 2048, 4096, 8192}},
	{what: "a GFS2 file system", magic: "\x01\x16\x19\x70\x00\x00\x00\x01", at: []int64{64 * kib}},
	{what: "a JFS file system", magic: "JFS1", at: []int64{32 * kib}},
	{what: "a ReiserFS file system", magic: "ReIsEr", at: []int64{64*kib + 0x34, 8*kib + 0x34, 8*kib + 20, 64 * kib}},
	{what: "a NILFS2 file system", magic: "\x34\x34", at: []int64{1024 + 6}},
	{what: "an HFS+ file system", magic: "H+\x00\x04", at: []int64{1024}},
	{what: "an HFS+ file system", magic: "HX\x00\x05", at: []int64{1024}},
	{what: "an APFS container", magic: "NXSB", at: []int64{32}},
	{what: "a VMFS volume", magic: "\x0d\xd0\x01\xc0", at: []int64{mib}},
	{what: "a VMFS file system", magic: "\x5e\xf1\xab\x2f", at: []int64{2 * mib}},
	{what: "a UFS file system", magic: "\x54\x19\x01\x00", at: []int64{0x55c, 8*kib + 0x55c, 64*kib + 0x55c, 256*kib + 0x55c}},
	{what: "a UFS file system", magic: "\x00\x01\x19\x54", at: []int64{0x55c, 8*kib + 0x55c, 64*kib + 0x55c, 256*kib + 0x55c}},
	{what: "a UFS2 file system", magic: "\x19\x01\x54\x19", at: []int64{0x55c, 8*kib + 0x55c, 64*kib + 0x55c, 256*kib + 0x55c}},
	{what: "a UFS2 file system", magic: "\x19\x54\x01\x19", at: []int64{0x55c, 8*kib + 0x55c, 64*kib + 0x55c, 256*kib + 0x55c}},
	{what: "a UDF file system", magic: "NSR0", at: []int64{34*kib + 1, 36*kib + 1, 38*kib + 1}},
	{what: "an ISO 9660 file system", magic: "CD001", at: []int64{32*kib + 1}},
	{what: "a squashfs file system", magic: "hsqs", at: []int64{0}},
	{what: "an EROFS file system", magic: "\xe2\xe1\xf5\xe0", at: []int64{1024}},
	{what: "a cramfs file system", magic: "\x45\x3d\xcd\x28", at: []int64{0, 512}},
	{what: "a romfs file system", magic: "-rom1fs-", at: []int64{0}},
	{what: "a swap area", magic: "SWAPSPACE2", at: []int64{4*kib - 10, 8*kib - 10, 16*kib - 10, 64*kib - 10}},
	{what: "a suspended system", magic: "S1SUSPEND", at: []int64{4*kib - 10}},

	// Files.
	{what: "a qcow2 image", magic: "QFI\xfb", at: []int64{0}},
	{what: "a VMDK image", magic: "KDMV", at: []int64{0}},
	{what: "a VMDK descriptor", magic: "# Disk DescriptorFile", at: []int64{0}},
	{what: "a VHDX image", magic: "vhdxfile", at: []int64{0}},
	{what: "a VHD image", magic: "conectix", at: []int64{0, -512}},
	{what: "a VDI image", magic: "\x7f\x10\xda\xbe", at: []int64{64}},
	{what: "an SQLite database", magic: "SQLite format 3\x00", at: []int64{0}},
	{what: "an executable", magic: "\x7fELF", at: []int64{0}},
	{what: "a tar archive", magic: "ustar", at: []int64{257}},
	{what: "a zip archive", magic: "PK\x03\x04", at: []int64{0}},
	{what: "a gzip file", magic: "\x1f\x8b\x08", at: []int64{0}},
	{what: "an xz file", magic: "\xfd7zXZ\x00", at: []int64{0}},
	{what: "a zstd file", magic: "\x28\xb5\x2f\xfd", at: []int64{0}},
	{what: "a script", magic: "#!", at: []int64{0}},

	// Short ones, which other contents have by chance.
	{what: "an ext file system", magic: "\x53\xef", at: []int64{1024 + 0x38}},
	{what: "a minix file system", magic: "\x7f\x13", at: []int64{1024 + 16}},
	{what: "a minix file system", magic: "\x8f\x13", at: []int64{1024 + 16}},
	{what: "a minix file system", magic: "\x68\x24", at: []int64{1024 + 16}},
	{what: "a minix file system", magic: "\x78\x24", at: []int64{1024 + 16}},
	{what: "a minix file system", magic: "\x5a\x4d", at: []int64{1024 + 24}},
	{what: "an HFS file system", magic: "BD", at: []int64{1024}},
	{what: "an MBR partition table or boot sector", magic: "\x55\xaa", at: []int64{510}},
}

// ZFS keeps four labels of 256 KiB, two at each end, and in the second half of
// each a ring of uberblocks.
const (
	zfsLabel = 256 * kib
	zfsMagic = "\x0c\xb1\xba\x00\x00\x00\x00\x00" // little endian; reversed on the other kind of machine
)

// recognise names what is on a disk: the first signature that fits, and the
// copies at the end of the disk that stay when only its start is wiped.
func recognise(ctx context.Context, r Reader) ([]string, error) {
	w := window{ctx: ctx, r: r}
	var found []string
	started := false // a signature that counts from the start fits
	for _, s := range signatures {
		for _, at := range s.at {
			if started && at >= 0 {
				continue
			}
			round := max(s.round, 1)
			off := at
			if at < 0 {
				off += int64(r.Size() / round * round)
			}
			ok, err := w.holds(off, s.magic)
			if err != nil {
				return nil, err
			}
			if ok {
				found = append(found, s.what)
				started = started || at >= 0
				break
			}
		}
	}
	if len(found) > 0 {
		return found, nil
	}
	end := int64(r.Size()) &^ (zfsLabel - 1)
	for _, label := range []int64{0, zfsLabel, end - 2*zfsLabel, end - zfsLabel} {
		for off := label + zfsLabel/2; off < label+zfsLabel; off += kib {
			for _, magic := range []string{zfsMagic, "\x00\x00\x00\x00\x00\xba\xb1\x0c"} {
				if ok, err := w.holds(off, magic); err != nil || ok {
					return []string{"a ZFS pool member"}, err
				}
			}
		}
	}
	return nil, nil
}

// window reads a disk in pieces and keeps the last.
type window struct {
	ctx context.Context
	r   Reader
	at  int64
	buf []byte
}

// holds reports that magic stands at off, in bytes.
func (w *window) holds(off int64, magic string) (bool, error) {
	end := off + int64(len(magic))
	if off < 0 || end > int64(w.r.Size()) {
		return false, nil
	}
	if w.buf == nil || off < w.at || end > w.at+int64(len(w.buf)) {
		w.at = off &^ (4096 - 1)
		w.buf = make([]byte, min(piece, int64(w.r.Size())-w.at))
		if err := w.r.ReadAt(w.ctx, w.buf, uint64(w.at)); err != nil {
			return false, err
		}
	}
	return bytes.Equal(w.buf[off-w.at:end-w.at], []byte(magic)), nil
}
