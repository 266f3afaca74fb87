package linux

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/csi/node"
	"github.com/virtual-disk-array/vda/csi/volume"
)

// program runs one of the machine's programs, which ends with this process.
func (f *FileSystems) program(ctx context.Context, name string, args ...string) (out string, exit int, err error) {
	for _, dir := range []string{"/usr/sbin", "/sbin", "/usr/bin", "/bin"} {
		path := filepath.Join(dir, name)
		if _, err := os.Stat(filepath.Join(f.root, path)); err != nil {
			continue
		}
		cmd := exec.CommandContext(ctx, path, args...)
		cmd.Path, cmd.Err = path, nil // as it is in the root
		cmd.Env = []string{"PATH=/usr/sbin:/sbin:/usr/bin:/bin", "LC_ALL=C"}
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		if f.root != "/" {
			cmd.SysProcAttr.Chroot, cmd.Dir = f.root, "/"
		}
		runtime.LockOSThread() // the signal comes when the thread ends that has started it
		b, err := cmd.CombinedOutput()
		runtime.UnlockOSThread()
		text := strings.Join(strings.Fields(string(b)), " ")
		if e := (*exec.ExitError)(nil); errors.As(err, &e) && e.ExitCode() >= 0 {
			return text, e.ExitCode(), nil
		}
		if err != nil {
			return text, 0, fmt.Errorf("%s was ended: %w", name, err)
		}
		return string(b), 0, nil
	}
	return "", 0, vda.Errorf(vda.FailedPrecondition, "this node has no program %s: install it there", name)
}

// The programs' exit statuses.
const (
	blkidNothing   = 2 // blkid(8)
	e2fsckUnmended = 4 // e2fsck(8); bits below say what was mended
)

// Where a volume is looked at.
const (
	edge    = 1 << 20 // bytes at its begin and its end, which mkfs does not write to at first
	samples = 64
	block   = 4096
)

const stampMark = "vda_csi is formatting the volume "

// stamp is the last block of a volume while it is formatted.
func stamp(volumeID string) []byte {
	b := make([]byte, block)
	copy(b, stampMark+volume.Hash(volumeID)+" "+vda.Shorten(volumeID, 512))
	return b
}

// Probe says what is on a device.
func (f *FileSystems) Probe(ctx context.Context, device, volumeID string) (node.Content, error) {
	d, size, err := open(device, os.O_RDONLY)
	if err != nil {
		return node.Content{}, err
	}
	defer d.Close()
	last := make([]byte, block)
	if _, err := d.ReadAt(last, size-block); err != nil {
		return node.Content{}, err
	}
	if bytes.Equal(last, stamp(volumeID)) {
		return node.Content{Blank: true}, nil
	}
	out, exit, err := f.program(ctx, "blkid", "-p", "-o", "export", device)
	switch {
	case err != nil:
		return node.Content{}, err
	case exit == 0:
		return known(out)
	case exit != blkidNothing:
		return node.Content{}, fmt.Errorf("blkid cannot say what is on it, exit status %d: %s", exit, vda.Shorten(out, 200))
	}
	if at, err := firstData(d, size); err != nil || at >= 0 {
		if err == nil {
			err = fmt.Errorf("nobody knows what is on it, but it is not blank: there are data at byte %d; "+
				"if they are not needed, overwrite the volume with zeros", at)
		}
		return node.Content{}, err
	}
	return node.Content{Blank: true}, nil
}

// known reads what blkid has found.
func known(out string) (node.Content, error) {
	found := map[string]string{}
	for line := range strings.Lines(out) {
		if k, v, ok := strings.Cut(strings.TrimSpace(line), "="); ok {
			found[k] = v
		}
	}
	if found["USAGE"] == "filesystem" && found["TYPE"] != "" && found["PTTYPE"] == "" {
		return node.Content{FS: found["TYPE"]}, nil
	}
	what := found["TYPE"]
	if what == "" && found["PTTYPE"] != "" {
		what = "a partition table, " + found["PTTYPE"]
	}
	return node.Content{}, fmt.Errorf("it holds something that is not a file system of ours: %s", what)
}

// firstData is where something other than zero is found, -1 for nowhere.
func firstData(d io.ReaderAt, size int64) (int64, error) {
	buf := make([]byte, edge)
	look := func(at, n int64) (int64, error) {
		at, n = max(at, 0), min(n, size)
		if _, err := d.ReadAt(buf[:n], min(at, size-n)); err != nil {
			return -1, err
		}
		if i := slices.IndexFunc(buf[:n], func(b byte) bool { return b != 0 }); i >= 0 {
			return min(at, size-n) + int64(i), nil
		}
		return -1, nil
	}
	for i := range int64(samples) {
		if at, err := look(size/samples*i&^(block-1), block); err != nil || at >= 0 {
			return at, err
		}
	}
	if at, err := look(0, edge); err != nil || at >= 0 {
		return at, err
	}
	return look(size-edge, edge)
}

// open opens a block device and tells its size.
func open(device string, mode int) (*os.File, int64, error) {
	d, err := os.OpenFile(device, mode, 0)
	if err != nil {
		if errors.Is(err, syscall.EBUSY) {
			err = errors.New("it is in use on this node")
		}
		return nil, 0, err
	}
	size, err := d.Seek(0, io.SeekEnd)
	if err == nil && size < 2*edge {
		err = fmt.Errorf("%s has %d bytes; %d are the least", device, size, 2*edge)
	}
	if err != nil {
		return nil, 0, errors.Join(err, d.Close())
	}
	return d, size, nil
}

// Format makes a file system.
func (f *FileSystems) Format(ctx context.Context, device, volumeID, fs string, options []string) error {
	d, size, err := open(device, os.O_RDWR|syscall.O_EXCL)
	if err != nil {
		return err
	}
	_, err = d.WriteAt(stamp(volumeID), size-block)
	if err := errors.Join(err, d.Sync(), d.Close()); err != nil {
		return err
	}
	bytes := fmt.Sprint(size - edge)
	var args []string
	switch fs {
	case "ext4":
		args = slices.Concat([]string{"-q", "-F", "-E", "nodiscard"}, options, []string{device, fmt.Sprint((size-edge)>>10) + "k"})
	case "xfs":
		args = slices.Concat([]string{"-q", "-f", "-K", "-d", "size=" + bytes}, options, []string{device})
	default:
		return fmt.Errorf("there is no file system %q", fs)
	}
	out, exit, err := f.program(ctx, "mkfs."+fs, args...)
	if err != nil {
		return err
	}
	if exit != 0 {
		return vda.Errorf(vda.InvalidArgument, "mkfs.%s says: %s", fs, vda.Shorten(out, 500))
	}
	if d, size, err = open(device, os.O_RDWR|syscall.O_EXCL); err != nil {
		return err
	}
	err = d.Sync() // all of the file system before the stamp goes
	if err == nil {
		_, err = d.WriteAt(make([]byte, block), size-block)
	}
	return errors.Join(err, d.Sync(), d.Close())
}

// Check repairs an ext4 by its journal. The kernel does that for xfs when it is mounted.
func (f *FileSystems) Check(ctx context.Context, device, fs string) error {
	if fs != "ext4" {
		return nil
	}
	out, exit, err := f.program(ctx, "e2fsck", "-p", device)
	if err == nil && exit >= e2fsckUnmended {
		err = vda.Errorf(vda.FailedPrecondition, "e2fsck -p cannot repair it, which takes a person: %s", vda.Shorten(out, 500))
	}
	return err
}

// The ioctls by which file systems grow while they are mounted (ext4.h, xfs_fs.h).
const (
	ext4ResizeFS = 0x40086610 // _IOW('f', 16, u64)
	xfsGeometry  = 0x80705864 // _IOR('X', 100, struct xfs_fsop_geom_v1)
	xfsGrowData  = 0x4010586e // _IOW('X', 110, struct xfs_growfs_data)
)

// Grow lets a mounted file system take all of its device.
func (f *FileSystems) Grow(_ context.Context, device, path, fs string) error {
	d, size, err := open(device, os.O_RDONLY)
	if err != nil {
		return err
	}
	_ = d.Close() // it was only asked
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	defer dir.Close()
	ioctl := func(request uintptr, arg unsafe.Pointer) error {
		if _, _, no := unix.Syscall(unix.SYS_IOCTL, dir.Fd(), request, uintptr(arg)); no != 0 {
			return no
		}
		return nil
	}
	switch fs {
	case "ext4":
		var s unix.Statfs_t
		if err := unix.Fstatfs(int(dir.Fd()), &s); err != nil {
			return err
		}
		blocks := uint64(size / s.Bsize)
		return ioctl(ext4ResizeFS, unsafe.Pointer(&blocks))
	case "xfs":
		var g struct { // xfs_fsop_geom_v1, of which this is of use
			BlockSize  uint32
			_          [6]uint32
			MaxPercent uint32
			DataBlocks uint64
			_          [72]byte
		}
		if err := ioctl(xfsGeometry, unsafe.Pointer(&g)); err != nil {
			return err
		}
		grow := struct {
			Blocks     uint64
			MaxPercent uint32
			_          uint32
		}{uint64(size) / uint64(g.BlockSize), g.MaxPercent, 0}
		if grow.Blocks <= g.DataBlocks {
			return nil
		}
		return ioctl(xfsGrowData, unsafe.Pointer(&grow))
	}
	return fmt.Errorf("there is no file system %q", fs)
}

// Flush writes what the kernel holds of a device.
func (f *FileSystems) Flush(device string) error {
	d, err := os.OpenFile(device, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
