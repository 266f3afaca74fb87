package local

import (
	"os"
	"path/filepath"
	"testing"
)

// TestTheDiskThatTheMachineRunsFrom is told for each of its partitions, also when the root is on a
// logical volume or on btrfs, whose number is not that of a disk; others are not.
func TestTheDiskThatTheMachineRunsFrom(t *testing.T) {
	sys := t.TempDir()
	put := func(path, text string) {
		t.Helper()
		path = filepath.Join(sys, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	block := func(number, path string, partition string) {
		t.Helper()
		put(path+"/dev", number)
		if partition != "" {
			put(path+"/partition", partition)
		}
		link := filepath.Join(sys, "dev/block", number)
		if err := os.MkdirAll(filepath.Dir(link), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(filepath.Join(sys, path), link); err != nil {
			t.Fatal(err)
		}
	}
	block("8:0", "block/sda", "")
	block("8:1", "block/sda/sda1", "1")
	block("8:2", "block/sda/sda2", "2")
	block("8:3", "block/sda/sda3", "3")
	block("8:16", "block/sdb", "")
	block("8:17", "block/sdb/sdb1", "1")
	block("8:18", "block/sdb/sdb2", "2")
	block("253:0", "block/dm-0", "")
	put("block/sda/sda2/holders/dm-0", "")
	for _, row := range []struct {
		name, mounts, swaps, number, want string
	}{
		{"the root", "26 1 8:1 / / rw - ext4 /dev/sda1 rw", "", "8:3", "sda1 of sda is mounted at /"},
		{"the root itself", "26 1 8:1 / / rw - ext4 /dev/sda1 rw", "", "8:1", "sda1 of sda is mounted at /"},
		{"the root, another disk", "26 1 8:1 / / rw - ext4 /dev/sda1 rw", "", "8:17", ""},
		{"the root, the disk as a whole", "26 1 8:1 / / rw - ext4 /dev/sda1 rw", "", "8:0", ""},
		{"the boot loader", "30 1 8:1 / /boot/efi rw - vfat /dev/sda1 rw", "", "8:3", "sda1 of sda is mounted at /boot/efi"},
		{"a logical volume", "26 1 253:0 / / rw - xfs /dev/mapper/vg-root rw", "", "8:3", "dm-0 of sda is mounted at /"},
		{"btrfs", "26 1 0:35 /@ / rw shared:1 - btrfs /dev/sda2 rw,subvol=/@", "", "8:3", "sda2 of sda is mounted at /"},
		{"of a container", "40 1 8:1 /x/hosts /etc/hosts rw - ext4 /dev/sda1 rw", "", "8:3", "sda1 of sda is mounted at /etc/hosts"},
		{"the swap", "", "Filename Type Size Used Priority\n/dev/sdb2 partition 1 0 -2", "8:17", "sdb2 of sdb is swapped on"},
		{"data", "26 1 8:1 / /srv rw - ext4 /dev/sda1 rw", "Filename Type Size\n/srv/swap file 1 0 -2", "8:3", ""},
		{"of the network", "26 1 0:40 / / rw - nfs server:/sda1 rw", "", "8:3", ""},
		{"not there", "26 1 8:1 / / rw - ext4 /dev/sda1 rw", "", "9:9", ""},
	} {
		proc := t.TempDir()
		if err := os.Mkdir(filepath.Join(proc, "self"), 0o755); err != nil {
			t.Fatal(err)
		}
		for path, text := range map[string]string{"self/mountinfo": row.mounts, "swaps": row.swaps} {
			if err := os.WriteFile(filepath.Join(proc, path), []byte(text+"\n"), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if got := (kernel{sys, proc}).system(row.number); got != row.want {
			t.Errorf("%s: %s is %q, want %q", row.name, row.number, got, row.want)
		}
	}
}
