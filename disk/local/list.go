package local

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/virtual-disk-array/vda/disk"
)

// maxFiles bounds the files of one folder that List returns.
const maxFiles = 1000

// List returns the block devices of the machine that have a size, and the files in its Folders.
// What nobody stores on is left out: RAM disks, optical drives, and the paths of which the
// kernel makes one multipath device.
func (m Machine) List() ([]disk.Candidate, error) {
	all, err := kernel{"/sys", "/proc"}.disks("/dev")
	if err != nil {
		return nil, err
	}
	for _, folder := range m.Folders {
		if folder == "/dev" {
			continue
		}
		entries, err := os.ReadDir(folder)
		if err != nil {
			continue // it need not be there yet
		}
		files := 0
		for _, e := range entries {
			fi, err := e.Info()
			if err != nil || !fi.Mode().IsRegular() || fi.Size() == 0 || files == maxFiles {
				continue
			}
			files++
			path := filepath.Join(folder, e.Name())
			all = append(all, disk.Candidate{Path: path, Device: path, Kind: disk.KindFile, Size: uint64(fi.Size())})
		}
	}
	slices.SortFunc(all, func(a, b disk.Candidate) int {
		return cmp.Or(cmp.Compare(a.Path, b.Path), cmp.Compare(a.Device, b.Device))
	})
	return slices.CompactFunc(all, func(a, b disk.Candidate) bool { return a.Device == b.Device }), nil
}

// disks are the block devices that have a node in dev.
func (k kernel) disks(dev string) ([]disk.Candidate, error) {
	entries, err := os.ReadDir(filepath.Join(k.sys, "block"))
	if err != nil {
		return nil, fmt.Errorf("the block devices of this machine cannot be listed: %w", cause(err))
	}
	lasting := lastingNames(dev)
	var all []disk.Candidate
	add := func(sys string, c disk.Candidate) {
		sectors, err := strconv.ParseUint(attr(sys, "size"), 10, 64)
		if err != nil || sectors == 0 {
			return
		}
		c.Size = sectors * 512 // whatever its sectors are
		c.Device = filepath.Join(dev, strings.ReplaceAll(filepath.Base(sys), "!", "/"))
		if _, err := os.Lstat(c.Device); err != nil {
			return // of another machine, to a container
		}
		c.Path = cmp.Or(lasting[c.Device], c.Device)
		all = append(all, c)
	}
	for _, e := range entries {
		sys, err := filepath.EvalSymlinks(filepath.Join(k.sys, "block", e.Name()))
		if err != nil {
			continue
		}
		c := disk.Candidate{Kind: disk.KindDisk, Model: attr(sys, "device/model"),
			Serial: cmp.Or(attr(sys, "serial"), attr(sys, "device/serial"))}
		switch name := e.Name(); {
		case attr(sys, "hidden") == "1", hasPrefix(name, "ram", "zram", "sr", "fd"):
			continue
		case hasPrefix(name, "dm-", "md"):
			c.Kind = disk.KindVolume
		case hasPrefix(name, "loop"):
			if c.Kind = disk.KindLoop; attr(sys, "loop/backing_file") == "" {
				continue
			}
		}
		add(sys, c)
		parts, _ := filepath.Glob(filepath.Join(sys, "*", "partition"))
		for _, p := range parts {
			part := c
			part.Kind = disk.KindPartition
			add(filepath.Dir(p), part)
		}
	}
	return all, nil
}

func hasPrefix(name string, prefixes ...string) bool {
	return slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(name, p) })
}

// lastingNames are names of block devices that are the same after a restart, by the kernel's: those
// with a model and a serial number before those with mere digits.
func lastingNames(dev string) map[string]string {
	names := map[string]string{}
	for _, folder := range []string{"mapper", "disk/by-id"} {
		entries, _ := os.ReadDir(filepath.Join(dev, folder))
		for _, e := range entries {
			path := filepath.Join(dev, folder, e.Name())
			to, err := filepath.EvalSymlinks(path)
			if err != nil || to == path {
				continue
			}
			if old, has := names[to]; !has || rank(path) < rank(old) {
				names[to] = path
			}
		}
	}
	return names
}

// rank orders the names of one device; the least is the best.
func rank(path string) int {
	switch name := filepath.Base(path); {
	case filepath.Base(filepath.Dir(path)) == "mapper":
		return 0
	case hasPrefix(name, "wwn-", "nvme-eui.", "nvme-uuid.", "nvme-nvme.", "dm-uuid-", "md-uuid-", "lvm-pv-uuid-", "scsi-3"):
		return 2
	}
	return 1
}
