package disk_test

import (
	"encoding/binary"
	"fmt"
	"strings"
	"testing"
)

const size = 256<<20 + 12288 // of the images, bytes

func le32(v uint32) string { return string(binary.LittleEndian.AppendUint32(nil, v)) }
func be32(v uint32) string { return string(binary.BigEndian.AppendUint32(nil, v)) }

// images are the least that makes programs take a disk for one of these, from
// the descriptions of their formats.
var images = []struct {
	says string
	off  int64 // from the end when negative
	data string
}{
	{"blobstore", 0, "SPDKBLOB"},
	{"SPDK raid", 0, "SPDKRAID"},
	{"GPT", 512, "EFI PART\x00\x00\x01\x00"},
	{"GPT", 4096, "EFI PART\x00\x00\x01\x00"},
	{"backup of a GPT", -512, "EFI PART\x00\x00\x01\x00"},
	{"raid member (version 0.90)", (size>>16)<<16 - 65536, le32(0xa92b4efc)},
	{"raid member (version 0.90, big", (size>>16)<<16 - 65536, be32(0xa92b4efc)},
	{"raid member (version 1.0)", (size/512 - 16) &^ 7 * 512, le32(0xa92b4efc)},
	{"raid member (version 1.1)", 0, le32(0xa92b4efc)},
	{"raid member (version 1.2)", 4096, le32(0xa92b4efc)},
	{"IMSM", -1024, "Intel Raid ISM Cfg Sig. 1.3.00"},
	{"DDF", -512, be32(0xde11de11)},
	{"LVM", 0, "LABELONE"},
	{"LVM", 512, "LABELONE"},
	{"LVM", 1024, "LABELONE"},
	{"LVM", 1536, "LABELONE"},
	{"DRBD", -4096 + 60, be32(0x8374026b)},
	{"DRBD", -4096 + 60, be32(0x8374026d)},
	{"Stratis", 512, "\x8e\x30\x1c\x33!Stra0tis\x86\xff\x02\x5e\x41\x72\x68"},
	{"VDO", 0, "dmvdo001"},
	{"Ceph", 0, "bluestore block device\n"},
	{"ASM", 32, "ORCLDISK"},
	{"bcache", 4096 + 24, "\xc6\x85\x73\xf6\x4e\x1a\x45\xca\x82\x65\xf5\x7f\x48\xba\x6d\x81"},
	{"LUKS", 0, "LUKS\xba\xbe\x00\x02"},
	{"second header of a LUKS2", 0x4000, "SKUL\xba\xbe\x00\x02"},
	{"second header of a LUKS2", 0x400000, "SKUL\xba\xbe\x00\x02"},
	{"BitLocker", 0, "\xeb\x58\x90-FVE-FS-"},
	{"dm-integrity", 0, "integrt\x00"},
	{"dm-verity", 0, "verity\x00\x00"},
	{"XFS", 0, "XFSB\x00\x00\x10\x00"},
	{"btrfs", 0x10040, "_BHRfS_M"},
	{"btrfs", 0x4000040, "_BHRfS_M"},
	{"bcachefs", 4096 + 24, "\xc6\x85\x73\xf6\x66\xce\x90\xa9\xd9\x6a\x60\xcf\x80\x3d\xf7\xef"},
	{"F2FS", 1024, le32(0xf2f52010)},
	{"NTFS", 0, "\xeb\x52\x90NTFS    "},
	{"exFAT", 0, "\xeb\x76\x90EXFAT   "},
	{"FAT", 0, "\xeb\x58\x90mkfs.fat" + strings.Repeat("\x00", 71) + "FAT32   "},
	{"OCFS2", 2 * 4096, "OCFSV2\x00\x00"},
	{"GFS2", 65536, be32(0x01161970) + be32(1)},
	{"JFS", 32768, "JFS1\x01\x00\x00\x00"},
	{"ReiserFS", 65536 + 52, "ReIsEr2Fs"},
	{"ReiserFS", 8192 + 52, "ReIsErFs"},
	{"NILFS2", 1024 + 6, "\x34\x34"},
	{"HFS+", 1024, "H+\x00\x04"},
	{"HFS+", 1024, "HX\x00\x05"},
	{"HFS", 1024, "BD"},
	{"APFS", 32, "NXSB"},
	{"VMFS", 0x100000, le32(0xc001d00d)},
	{"VMFS", 0x200000, le32(0x2fabf15e)},
	{"UFS file system", 8192 + 0x55c, le32(0x00011954)},
	{"UFS2", 65536 + 0x55c, le32(0x19540119)},
	{"UFS2", 262144 + 0x55c, be32(0x19540119)},
	{"UDF", 32768 + 2048, "\x00NSR02\x01"},
	{"UDF", 32768 + 4096, "\x00NSR03\x01"},
	{"ISO 9660", 32768, "\x01CD001\x01"},
	{"squashfs", 0, le32(0x73717368)},
	{"EROFS", 1024, le32(0xe0f5e1e2)},
	{"cramfs", 0, le32(0x28cd3d45)},
	{"romfs", 0, "-rom1fs-"},
	{"swap", 4096 - 10, "SWAPSPACE2"},
	{"qcow2", 0, "QFI\xfb\x00\x00\x00\x03"},
	{"VMDK", 0, "KDMV\x01\x00\x00\x00"},
	{"VHDX", 0, "vhdxfile"},
	{"VHD", -512, "conectix"},
	{"VDI", 64, le32(0xbeda107f)},
	{"SQLite", 0, "SQLite format 3\x00"},
	{"executable", 0, "\x7fELF\x02\x01\x01"},
	{"tar", 0, "etc/passwd" + strings.Repeat("\x00", 247) + "ustar\x0000"},
	{"zip", 0, "PK\x03\x04"},
	{"gzip", 0, "\x1f\x8b\x08\x00"},
	{"xz", 0, "\xfd7zXZ\x00"},
	{"zstd", 0, le32(0xfd2fb528)},
	{"script", 0, "#!/bin/sh\n"},
	{"ext", 1024 + 56, "\x53\xef"},
	{"minix", 1024 + 16, "\x7f\x13"},
	{"minix", 1024 + 16, "\x78\x24"},
	{"minix", 1024 + 24, "\x5a\x4d"},
	{"MBR", 510, "\x55\xaa"},
	{"ZFS", 128 << 10, "\x0c\xb1\xba\x00\x00\x00\x00\x00"},
	{"ZFS", size&^(256<<10-1) - 512<<10 + 128<<10, "\x0c\xb1\xba\x00\x00\x00\x00\x00"},
	{"ZFS", size&^(256<<10-1) - 128<<10 + 5<<10, "\x00\x00\x00\x00\x00\xba\xb1\x0c"},
	{"not known", 256 << 10, "plain data"},
	{"not known", -700000, "plain data"},
}

func TestWhatIsFoundIsNamed(t *testing.T) {
	for _, i := range images {
		t.Run(fmt.Sprintf("%s at %d", i.says, i.off), func(t *testing.T) {
			c := look(t, newMemory(size).put(i.off, i.data))
			if c.Blank() || !strings.Contains(c.String(), i.says) {
				t.Errorf("it %v; want %q", c, i.says)
			}
		})
	}
}

// Anyone who wipes the start alone is told what is still at the end.
func TestAllThatIsFoundIsTold(t *testing.T) {
	c := look(t, newMemory(size).put(0, "XFSB").put(-512, "EFI PART"))
	if s := c.String(); !strings.Contains(s, "XFS") || !strings.Contains(s, "backup of a GPT") {
		t.Errorf("it %s", s)
	}
}
