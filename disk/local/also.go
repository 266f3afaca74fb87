package local

import (
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/virtual-disk-array/vda/disk"
)

// also says by what else the blocks of an open disk are in use although it
// could be opened exclusively: a loop device over a file takes no lock on it,
// nor does the swap. "" when nothing is known.
func also(st *unix.Stat_t) string {
	if st.Mode&unix.S_IFMT == unix.S_IFREG {
		for _, l := range loopsOver(st) {
			return fmt.Sprintf("it is behind %s (losetup -d detaches that)", l.dev)
		}
		if swapped(st) {
			return "it is swapped on"
		}
		return ""
	}
	sys := sysfs(st)
	if attr(sys, "partition") != "" {
		sys = filepath.Dir(sys)
	}
	own, ok := loopAt(sys)
	if !ok {
		return ""
	}
	var under unix.Stat_t
	if unix.Stat(own.file, &under) != nil {
		return ""
	}
	for _, l := range loopsOver(&under) {
		if l.dev != own.dev && l.from < own.to && own.from < l.to {
			return fmt.Sprintf("%s is over the same blocks of %s", l.dev, own.file)
		}
	}
	if locked(own.file) {
		return fmt.Sprintf("another process has locked %s, which is behind it", own.file)
	}
	return ""
}

// loop is a loop device with its part of a file, bytes.
type loop struct {
	dev, file string
	from, to  uint64
}

// loopAt reads the loop device of a folder of sysfs; false when it is none, or
// has no file.
func loopAt(sys string) (loop, bool) {
	l := loop{dev: filepath.Join("/dev", filepath.Base(sys)), file: attr(sys, "loop/backing_file"), to: math.MaxUint64}
	l.from, _ = strconv.ParseUint(attr(sys, "loop/offset"), 10, 64)
	if n, err := strconv.ParseUint(attr(sys, "loop/sizelimit"), 10, 64); err == nil && n > 0 {
		l.to = l.from + n
	}
	return l, l.file != ""
}

// loopsOver lists the loop devices over a file.
func loopsOver(file *unix.Stat_t) []loop {
	all, _ := filepath.Glob("/sys/block/loop*")
	var over []loop
	for _, sys := range all {
		var st unix.Stat_t
		if l, ok := loopAt(sys); ok && unix.Stat(l.file, &st) == nil && st.Dev == file.Dev && st.Ino == file.Ino {
			over = append(over, l)
		}
	}
	return over
}

func swapped(file *unix.Stat_t) bool {
	swaps, _ := os.ReadFile("/proc/swaps")
	for _, line := range strings.Split(string(swaps), "\n") {
		var st unix.Stat_t
		f := strings.Fields(line)
		if len(f) > 1 && f[1] == "file" && unix.Stat(f[0], &st) == nil && st.Dev == file.Dev && st.Ino == file.Ino {
			return true
		}
	}
	return false
}

// locked reports that somebody holds a lock on a file with which Open would
// have found it in use.
func locked(path string) bool {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	lock := unix.Flock_t{Type: unix.F_WRLCK, Whence: io.SeekStart}
	return unix.FcntlFlock(uintptr(fd), unix.F_OFD_GETLK, &lock) == nil && lock.Type != unix.F_UNLCK
}

// inUse is the error of a disk that somebody else has.
func inUse(path, by string) error {
	return fmt.Errorf("%s %w: %s", path, disk.ErrInUse, by)
}
