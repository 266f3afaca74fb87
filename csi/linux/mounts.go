package linux

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/virtual-disk-array/vda/csi/node"
)

// FileSystems are the machine's mounts, and what lies on its block devices.
type FileSystems struct {
	root string // of the machine's programs
}

var _ node.FileSystems = (*FileSystems)(nil)

// NewFileSystems returns the machine's. Its root, with its programs, is at root, "/" when
// the driver is not in a container.
func NewFileSystems(root string) *FileSystems { return &FileSystems{root} }

// entry is a line of the mount table (proc(5), /proc/self/mountinfo).
type entry struct {
	device  string // major:minor
	path    string
	fs      string
	options []string // of the mount
	super   []string // of the file system
}

func table() (all []entry, err error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		if e, ok := parseEntry(s.Text()); ok {
			all = append(all, e)
		}
	}
	return all, nil
}

func parseEntry(line string) (e entry, ok bool) {
	before, after, ok := strings.Cut(line, " - ")
	a, b := strings.Fields(before), strings.Fields(after)
	if !ok || len(a) < 6 || len(b) < 3 {
		return e, false
	}
	return entry{device: a[2], path: unescape(a[4]), fs: b[0], options: strings.Split(a[5], ","), super: strings.Split(b[2], ",")}, true
}

// unescape undoes the kernel's \040 and the like.
func unescape(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}

// mount is an entry as the driver sees it; "" for the device of one that is not of a
// block device.
func (e entry) mount() node.Mount {
	m := node.Mount{Path: e.path, FS: e.fs, Readonly: slices.Contains(e.options, "ro"), Frozen: slices.Contains(e.super, "ro")}
	number := e.device
	var st unix.Stat_t
	if strings.HasPrefix(e.device, "0:") && unix.Lstat(e.path, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFBLK {
		number = fmt.Sprintf("%d:%d", unix.Major(st.Rdev), unix.Minor(st.Rdev)) // a device node, bound there
		m.FS, m.Frozen = "", false
	}
	b, err := os.ReadFile("/sys/dev/block/" + number + "/uevent")
	if err != nil {
		return m
	}
	for line := range strings.Lines(string(b)) {
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), "DEVNAME="); ok {
			m.Device = "/dev/" + name
		}
	}
	return m
}

// real is a path without symbolic links, as the mount table has it.
func real(path string) string {
	if p, err := filepath.EvalSymlinks(path); err == nil {
		return p
	}
	if dir, err := filepath.EvalSymlinks(filepath.Dir(path)); err == nil {
		return filepath.Join(dir, filepath.Base(path))
	}
	return filepath.Clean(path)
}

// At is what is mounted at a path, the last if there are several.
func (f *FileSystems) At(path string) (m node.Mount, there bool, err error) {
	all, err := table()
	want := real(path)
	for _, e := range slices.Backward(all) {
		if e.path == want {
			m = e.mount()
			m.Path = path
			return m, true, err
		}
	}
	return m, false, err
}

// Of are all mounts of a device.
func (f *FileSystems) Of(device string) (list []node.Mount, err error) {
	all, err := table()
	for _, e := range all {
		if m := e.mount(); m.Device == device {
			list = append(list, m)
		}
	}
	return list, err
}

// flags are the options of mount(8) that are not the file system's own.
var flags = map[string]uintptr{"ro": unix.MS_RDONLY, "rw": 0, "defaults": 0, "noatime": unix.MS_NOATIME, "relatime": unix.MS_RELATIME,
	"strictatime": unix.MS_STRICTATIME, "nodiratime": unix.MS_NODIRATIME, "lazytime": unix.MS_LAZYTIME, "nosuid": unix.MS_NOSUID,
	"nodev": unix.MS_NODEV, "noexec": unix.MS_NOEXEC, "sync": unix.MS_SYNCHRONOUS, "dirsync": unix.MS_DIRSYNC}

// Mount mounts a file system. ext4 becomes read-only after an error, rather than going on;
// xfs may have the UUID of another, as copies have.
func (f *FileSystems) Mount(device, path, fs string, options []string) error {
	var set uintptr
	var own []string
	for _, o := range options {
		if flag, is := flags[o]; is {
			set |= flag
		} else {
			own = append(own, o)
		}
	}
	switch {
	case fs == "ext4" && !slices.ContainsFunc(own, func(o string) bool { return strings.HasPrefix(o, "errors=") }):
		own = append(own, "errors=remount-ro")
	case fs == "xfs" && !slices.Contains(own, "nouuid"):
		own = append(own, "nouuid")
	}
	err := unix.Mount(device, path, fs, set, strings.Join(own, ","))
	switch {
	case errors.Is(err, unix.EINVAL):
		return fmt.Errorf("the kernel refuses it with the options %s: one of them is not known, or the file system is damaged; see its log",
			strings.Join(options, ","))
	case errors.Is(err, unix.EROFS):
		return errors.New("the device takes no writes")
	}
	return err
}

// Bind shows a folder or a device at another path, in one step.
func (f *FileSystems) Bind(from, path string, readonly bool) error {
	tree, err := unix.OpenTree(unix.AT_FDCWD, from, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return err
	}
	defer unix.Close(tree)
	if readonly {
		attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}
		if err := unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH, &attr); err != nil {
			return err
		}
	}
	return unix.MoveMount(tree, "", unix.AT_FDCWD, path, unix.MOVE_MOUNT_F_EMPTY_PATH)
}

// Unmount ends a mount that nobody uses.
func (f *FileSystems) Unmount(path string) error {
	err := unix.Unmount(path, unix.UMOUNT_NOFOLLOW)
	if errors.Is(err, unix.EBUSY) {
		return errors.New("programs have files open there")
	}
	return err
}

// Usage counts what is used.
func (f *FileSystems) Usage(path string) (node.Usage, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(path, &s); err != nil {
		return node.Usage{}, err
	}
	return node.Usage{Bytes: int64(s.Blocks) * s.Bsize, FreeBytes: int64(s.Bavail) * s.Bsize, Inodes: int64(s.Files),
		FreeInodes: int64(s.Ffree)}, nil
}
