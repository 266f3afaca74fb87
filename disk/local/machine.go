package local

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/virtual-disk-array/vda/disk"
)

// Machine is the machine that the process runs on.
type Machine struct {
	// Folders are the absolute paths of the folders below which disks may
	// lie.
	Folders []string
}

var _ disk.Machine = Machine{}

// resolve returns the path without symbolic links when it lies in an allowed
// folder.
func (m Machine) resolve(path string) (string, error) {
	real, err := filepath.EvalSymlinks(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		// The folder says whether the name is one to look at at all.
		folder, folderErr := filepath.EvalSymlinks(filepath.Dir(path))
		if folderErr != nil {
			return path, fmt.Errorf("%s %w: there is no folder %s", path, disk.ErrNotFound, filepath.Dir(path))
		}
		real = filepath.Join(folder, filepath.Base(path))
		if err := m.allow(path, real); err != nil {
			return real, err
		}
		return real, fmt.Errorf("%s %w", path, disk.ErrNotFound)
	case err != nil:
		return path, fmt.Errorf("%s: %w", path, cause(err))
	}
	return real, m.allow(path, real)
}

func (m Machine) allow(path, real string) error {
	for _, f := range m.Folders {
		folder, err := filepath.EvalSymlinks(f)
		if err != nil {
			continue
		}
		if rel, err := filepath.Rel(folder, real); err == nil && rel != "." && rel != ".." && !strings.HasPrefix(rel, "../") {
			return nil
		}
	}
	what := path
	if real != path {
		what = fmt.Sprintf("%s leads to %s, which", path, real)
	}
	return fmt.Errorf("%s is not below a folder in which this node may use disks (%s); start its agent with --aio-dir to allow another", what,
		strings.Join(m.Folders, ", "))
}

// Identify says what a path leads to without opening it. The path need not
// lie in an allowed folder.
func (m Machine) Identify(path string) (disk.ID, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		if errors.Is(err, unix.ENOENT) {
			return disk.ID{}, fmt.Errorf("%s %w", path, disk.ErrNotFound)
		}
		return disk.ID{}, fmt.Errorf("%s: %w", path, err)
	}
	return identify(unix.AT_FDCWD, path, &st)
}

// Room says how much of a file has space already, and what there is for the rest.
// disk.ErrNotFound when nothing is there.
func (m Machine) Room(path string) (disk.Room, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		if errors.Is(err, unix.ENOENT) {
			return disk.Room{}, fmt.Errorf("%s %w", path, disk.ErrNotFound)
		}
		return disk.Room{}, fmt.Errorf("%s: %w", path, err)
	}
	var fs unix.Statfs_t
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return disk.Room{}, nil
	}
	if err := unix.Statfs(path, &fs); err != nil {
		return disk.Room{}, fmt.Errorf("%s: %w", path, err)
	}
	return disk.Room{Size: st.Size, Allocated: st.Blocks * 512, Left: int64(fs.Bavail) * fs.Bsize}, nil
}

// Make makes a file of that many bytes, without any of them written. Its file
// system must have that much space free.
func (m Machine) Make(path string, size uint64) error {
	real, err := m.resolve(path)
	switch {
	case err == nil:
		return fmt.Errorf("%s: %w", path, os.ErrExist)
	case !errors.Is(err, disk.ErrNotFound):
		return err
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(filepath.Dir(real), &fs); err != nil {
		return fmt.Errorf("%s: the folder cannot be looked at: %w", path, err)
	}
	if free := fs.Bavail * uint64(fs.Bsize); size > free {
		return fmt.Errorf("%s: size is %d bytes, but the file system of %s has %d bytes free", path, size, filepath.Dir(real), free)
	}
	f, err := os.OpenFile(real, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("%s cannot be made: %w", path, cause(err))
	}
	if err := errors.Join(f.Truncate(int64(size)), f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("%s cannot be made: %w", path, errors.Join(cause(err), os.Remove(real)))
	}
	return syncFolder(filepath.Dir(real))
}

func syncFolder(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// cause is an error without the system call and path that os puts before it.
func cause(err error) error {
	var p *os.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}
