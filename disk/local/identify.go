package local

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/virtual-disk-array/vda/disk"
)

// identify names what st is of, which is at path below dir.
func identify(dir int, path string, st *unix.Stat_t) (disk.ID, error) {
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		id := disk.ID{File: true, Now: fileID(st), Traits: map[string]string{"inode": fmt.Sprint(st.Ino)}}
		var sx unix.Statx_t
		flags := 0
		if path == "" {
			flags = unix.AT_EMPTY_PATH
		}
		if err := unix.Statx(dir, path, flags, unix.STATX_BTIME, &sx); err == nil && sx.Mask&unix.STATX_BTIME != 0 {
			id.Lasting = fmt.Sprintf("%s born %d.%09d", id.Now, sx.Btime.Sec, sx.Btime.Nsec)
			id.Traits["born"] = fmt.Sprintf("%d.%09d", sx.Btime.Sec, sx.Btime.Nsec)
		}
		return id, nil
	case unix.S_IFBLK:
		return blockID(unix.Major(st.Rdev), unix.Minor(st.Rdev)), nil
	}
	return disk.ID{}, fmt.Errorf("%s is neither a file nor a block device", path)
}

func fileID(st *unix.Stat_t) string { return fmt.Sprintf("file %d of file system %d", st.Ino, st.Dev) }

func blockName(number string) string { return "block device " + number }

// blockID reads from sysfs what is known of a block device. What lasts is the
// WWID, the serial number or device mapper's UUID, with the number of the
// partition and the size.
func blockID(major, minor uint32) disk.ID {
	number := fmt.Sprintf("%d:%d", major, minor)
	id := disk.ID{Now: blockName(number), Traits: map[string]string{}}
	sys, err := filepath.EvalSymlinks("/sys/dev/block/" + number)
	if err != nil {
		return id
	}
	part := attr(sys, "partition")
	whole := sys
	if part != "" {
		id.Traits["partition"] = part
		whole = filepath.Dir(sys)
		id.Over = append(id.Over, blockName(attr(whole, "dev")))
	}
	id.WriteCache = attr(whole, "queue/write_cache") == "write back"
	if back := attr(whole, "loop/backing_file"); back != "" {
		var st unix.Stat_t
		if unix.Stat(back, &st) == nil {
			if under, err := identify(unix.AT_FDCWD, back, &st); err == nil {
				id.Over = append(append(id.Over, under.Now), under.Over...)
				for name, v := range under.Traits {
					id.Traits["backing "+name] = v
				}
				if under.Lasting != "" {
					id.Lasting = fmt.Sprintf("loop over %s from %s partition %s", under.Lasting, attr(whole, "loop/offset"), part)
				}
			}
		}
	}
	if slaves, err := os.ReadDir(filepath.Join(whole, "slaves")); err == nil {
		for _, s := range slaves {
			id.Over = append(id.Over, blockName(attr(filepath.Join(whole, "slaves", s.Name()), "dev")))
		}
	}
	for _, name := range []string{"wwid", "device/wwid", "serial", "device/serial", "dm/uuid", "md/uuid"} {
		v := attr(whole, name)
		if v != "" {
			id.Traits[strings.TrimPrefix(name, "device/")] = v
		}
		if v != "" && id.Lasting == "" {
			id.Lasting = fmt.Sprintf("%s %s partition %s of %s sectors", name, v, part, attr(sys, "size"))
		}
	}
	return id
}

// sysfs returns the folder of a block device in sysfs, "" without one.
func sysfs(st *unix.Stat_t) string {
	sys, err := filepath.EvalSymlinks(fmt.Sprintf("/sys/dev/block/%d:%d", unix.Major(st.Rdev), unix.Minor(st.Rdev)))
	if err != nil {
		return ""
	}
	return sys
}

func attr(dir, name string) string {
	v, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(v))
}

// user says who uses a block device, as far as the kernel tells: where it is
// mounted, or what is built on it. "" when it does not.
func user(st *unix.Stat_t) string {
	number := fmt.Sprintf("%d:%d", unix.Major(st.Rdev), unix.Minor(st.Rdev))
	numbers := map[string]bool{number: true}
	sys, err := filepath.EvalSymlinks("/sys/dev/block/" + number)
	if err != nil {
		return ""
	}
	folders := []string{sys}
	if entries, err := os.ReadDir(sys); err == nil {
		for _, e := range entries { // partitions
			if attr(filepath.Join(sys, e.Name()), "partition") != "" {
				folders = append(folders, filepath.Join(sys, e.Name()))
				numbers[attr(filepath.Join(sys, e.Name()), "dev")] = true
			}
		}
	}
	mounts, _ := os.ReadFile("/proc/self/mountinfo")
	for _, line := range strings.Split(string(mounts), "\n") {
		if f := strings.Fields(line); len(f) > 4 && numbers[f[2]] {
			return "it is mounted at " + f[4]
		}
	}
	for _, dir := range folders {
		if holders, err := os.ReadDir(filepath.Join(dir, "holders")); err == nil && len(holders) > 0 {
			return "it is part of " + holders[0].Name()
		}
	}
	return ""
}
