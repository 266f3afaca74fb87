package local

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/virtual-disk-array/vda/disk"
)

// TestDisksOfAMachine: disks, partitions and volumes by names that last, without what nobody stores
// on, paths of a multipath device, and devices of another machine.
func TestDisksOfAMachine(t *testing.T) {
	root := t.TempDir()
	put := func(path, text string) {
		t.Helper()
		path = filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	link := func(name, to string) {
		t.Helper()
		name = filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(to, name); err != nil {
			t.Fatal(err)
		}
	}
	for name, sectors := range map[string]string{"sda": "2048", "sda/sda1": "1024", "nvme0n1": "4096", "nvme0c0n1": "4096", "sr0": "8",
		"ram0": "8", "loop0": "0", "loop1": "8", "dm-0": "512", "cciss!c0d0": "16", "sdz": "8", "sdempty": "0"} {
		put("sys/block/"+name+"/size", sectors)
		if name != "sdz" { // which has no node here
			put("dev/"+strings.ReplaceAll(strings.TrimPrefix(name, "sda/"), "!", "/"), "")
		}
	}
	put("sys/block/sda/sda1/partition", "1")
	put("sys/block/sda/device/model", "Model A   ")
	put("sys/block/nvme0n1/device/model", "VDA_CONTROLLER")
	put("sys/block/nvme0n1/device/serial", "S1")
	put("sys/block/nvme0c0n1/hidden", "1")
	put("sys/block/loop1/loop/backing_file", "/x")
	link("dev/disk/by-id/wwn-0x5", "../../sda")
	link("dev/disk/by-id/ata-MODEL_SERIAL", "../../sda")
	link("dev/disk/by-id/wwn-0x5-part1", "../../sda1")
	link("dev/disk/by-id/dm-name-vg-data", "../../dm-0")
	link("dev/mapper/vg-data", "../dm-0")
	got, err := kernel{filepath.Join(root, "sys"), ""}.disks(filepath.Join(root, "dev"))
	if err != nil {
		t.Fatal(err)
	}
	have := map[string]string{}
	for _, c := range got {
		rel := func(p string) string {
			p, err := filepath.Rel(root, p)
			if err != nil {
				t.Fatal(err)
			}
			return p
		}
		have[rel(c.Device)] = fmt.Sprint(rel(c.Path), " ", c.Kind, " ", c.Size, " ", c.Model, " ", c.Serial)
	}
	want := map[string]string{
		"dev/sda":        "dev/disk/by-id/ata-MODEL_SERIAL disk 1048576 Model A ",
		"dev/sda1":       "dev/disk/by-id/wwn-0x5-part1 partition 524288 Model A ",
		"dev/nvme0n1":    "dev/nvme0n1 disk 2097152 VDA_CONTROLLER S1",
		"dev/loop1":      "dev/loop1 loop 4096  ",
		"dev/dm-0":       "dev/mapper/vg-data volume 262144  ",
		"dev/cciss/c0d0": "dev/cciss/c0d0 disk 8192  ",
	}
	for device, is := range want {
		if have[device] != is {
			t.Errorf("%s is %q, want %q", device, have[device], is)
		}
	}
	if len(have) != len(want) {
		t.Errorf("%v", have)
	}
	if _, err := (kernel{filepath.Join(root, "none"), ""}).disks("/dev"); err == nil {
		t.Error("no error without a sysfs")
	}
}

// TestFilesOfFolders are those in the folders themselves.
func TestFilesOfFolders(t *testing.T) {
	dir := t.TempDir()
	for f, text := range map[string]string{"disk0": "x", "disk1": "x", "below/disk2": "x", "empty": ""} {
		path := filepath.Join(dir, f)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	all, err := Machine{Folders: []string{dir, filepath.Join(dir, "none")}}.List()
	if err != nil {
		t.Fatal(err)
	}
	var files []string
	for _, c := range all {
		if c.Kind == disk.KindFile {
			files = append(files, c.Path)
		}
	}
	if len(files) != 2 || files[0] != filepath.Join(dir, "disk0") || files[1] != filepath.Join(dir, "disk1") {
		t.Errorf("%v", files)
	}
}
