package local_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/virtual-disk-array/vda/disk"
	"github.com/virtual-disk-array/vda/disk/disktest"
	"github.com/virtual-disk-array/vda/disk/local"
	"github.com/virtual-disk-array/vda/module/aio"
)

// folder returns a folder and the machine whose disks lie there, and in /dev.
func folder(t *testing.T) (string, local.Machine) {
	dir := t.TempDir()
	return dir, local.Machine{Folders: []string{dir, "/dev"}}
}

func file(t *testing.T, path string, size int64) string {
	t.Helper()
	if err := errors.Join(os.WriteFile(path, nil, 0o600), os.Truncate(path, size)); err != nil {
		t.Fatal(err)
	}
	return path
}

func open(t *testing.T, m local.Machine, path string) disk.Device {
	t.Helper()
	d, err := m.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	return d
}

func TestOnlyDisksInAllowedFolders(t *testing.T) {
	dir, m := folder(t)
	outside := file(t, filepath.Join(t.TempDir(), "shadow"), 1<<20)
	inside := file(t, filepath.Join(dir, "disk"), 1<<20)
	out, in, loop := filepath.Join(dir, "out"), filepath.Join(filepath.Dir(outside), "in"), filepath.Join(dir, "loop")
	for _, err := range []error{os.Symlink(outside, out), os.Symlink(inside, in), os.Symlink(loop, loop),
		unix.Mkfifo(filepath.Join(dir, "fifo"), 0o600)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for path, says := range map[string][]string{
		outside:                         {outside, "--aio-dir", dir},
		out:                             {out, outside, "--aio-dir"},
		"/proc/self/root" + outside:     {outside, "--aio-dir"},
		dir:                             {"--aio-dir"},
		dir + "x":                       {"there is", dir + "x", "--aio-dir"},
		filepath.Join(dir, "none"):      {"does not exist"},
		filepath.Join(dir, "a/b"):       {"does not exist", "no folder"},
		filepath.Join(dir, "fifo"):      {"neither a file nor a block device"},
		"/dev/null":                     {"neither a file nor a block device"},
		"/dev/../etc/passwd":            {"/etc/passwd", "--aio-dir"},
		loop:                            {"too many"},
		filepath.Join(outside, "below"): {""},
	} {
		_, err := m.Open(path)
		if err == nil {
			t.Errorf("%s is opened", path)
			continue
		}
		for _, w := range says {
			if !strings.Contains(err.Error(), w) && w != "there is" {
				t.Errorf("%s: %q does not say %q", path, err, w)
			}
		}
	}
	for _, path := range []string{inside, in, "/proc/self/root" + inside} {
		if d := open(t, m, path); d.Path() != inside {
			t.Errorf("%s comes to %s", path, d.Path())
		} else {
			_ = d.Close()
		}
	}
}

func TestMakeLooksAtTheSpace(t *testing.T) {
	dir, m := folder(t)
	path := filepath.Join(dir, "new")
	if err := m.Make(path, 1<<60); err == nil || !strings.Contains(err.Error(), "bytes free") ||
		!strings.Contains(err.Error(), "1152921504606846976") {
		t.Errorf("%v", err)
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("something was made: %v", err)
	}
	if err := m.Make(path, 1<<20); err != nil {
		t.Fatal(err)
	}
	if fi, err := os.Stat(path); err != nil || fi.Size() != 1<<20 {
		t.Errorf("%v, %v", fi, err)
	}
	if err := m.Make(path, 1<<20); !errors.Is(err, os.ErrExist) {
		t.Errorf("made again: %v", err)
	}
	if err := m.Make(filepath.Join(t.TempDir(), "outside"), 1<<20); err == nil || !strings.Contains(err.Error(), "--aio-dir") {
		t.Errorf("outside: %v", err)
	}
}

func TestADiskInUseIsNotOpened(t *testing.T) {
	dir, m := folder(t)
	path := file(t, filepath.Join(dir, "disk"), 16<<20)
	t.Run("a bdev's file", func(t *testing.T) {
		d, err := aio.New(aio.Config{Name: "a", Filename: path, BlockSize: 4096})
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		if _, err := m.Open(path); !errors.Is(err, disk.ErrInUse) || !strings.Contains(err.Error(), path) {
			t.Errorf("%v", err)
		}
	})
	t.Run("and the other way round", func(t *testing.T) {
		d := open(t, m, path)
		defer d.Close()
		if _, err := aio.New(aio.Config{Name: "a", Filename: path, BlockSize: 4096}); !errors.Is(err, syscall.EBUSY) {
			t.Errorf("%v", err)
		}
	})
	t.Run("a read-only block device", func(t *testing.T) {
		dev := disktest.Loop(t, path, "--read-only")
		d, err := m.Open(dev)
		if err == nil || !strings.Contains(err.Error(), dev+" is read-only") || !strings.Contains(err.Error(), "blockdev --setrw "+dev) {
			t.Errorf("%v, %v; want what to do", d, err)
		}
	})
	t.Run("a block device", func(t *testing.T) {
		dev := disktest.Loop(t, path)
		fd, err := unix.Open(dev, unix.O_RDONLY|unix.O_EXCL, 0)
		if err != nil {
			t.Fatal(err)
		}
		_, err = m.Open(dev)
		unix.Close(fd)
		if !errors.Is(err, disk.ErrInUse) {
			t.Errorf("%v", err)
		}
		d := open(t, m, dev)
		defer d.Close()
		if _, err := unix.Open(dev, unix.O_RDONLY|unix.O_EXCL, 0); !errors.Is(err, unix.EBUSY) {
			t.Errorf("another program has it exclusively too: %v", err)
		}
	})
}

// TestAMountedDiskIsNotOpened: not by any name while a file system on it is mounted, which the error
// names, and again when it is not.
func TestAMountedDiskIsNotOpened(t *testing.T) {
	dir, m := folder(t)
	img, at := file(t, filepath.Join(dir, "disk"), 16<<20), t.TempDir()
	dev := disktest.Loop(t, img)
	run := func(name string, args ...string) {
		t.Helper()
		if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
			t.Fatalf("%s %v: %v, %s", name, args, err, out)
		}
	}
	run("mkfs.ext4", "-q", dev)
	run("mount", dev, at)
	mounted := true
	unmount := func() {
		if mounted {
			mounted = false
			run("umount", at)
		}
	}
	defer unmount()
	soft := filepath.Join(dir, "soft")
	if err := os.Symlink(dev, soft); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{dev, soft} {
		if d, err := m.Open(name); !errors.Is(err, disk.ErrInUse) || !strings.Contains(err.Error(), "it is mounted at "+at) {
			t.Errorf("%s, which is mounted: %v, %v", name, d, err)
		}
	}
	if d := open(t, m, img); !strings.Contains(d.ID().Also, dev) {
		t.Errorf("the file behind it is said to be in use by %q", d.ID().Also)
	}
	unmount()
	open(t, m, dev)
}

func TestNamesOfOneDiskAreTheSame(t *testing.T) {
	dir, m := folder(t)
	path, other := file(t, filepath.Join(dir, "disk"), 16<<20), file(t, filepath.Join(dir, "other"), 16<<20)
	hard, soft := filepath.Join(dir, "hard"), filepath.Join(dir, "soft")
	if err := errors.Join(os.Link(path, hard), os.Symlink(path, soft)); err != nil {
		t.Fatal(err)
	}
	identify := func(path string) disk.ID {
		t.Helper()
		id, err := m.Identify(path)
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	id := identify(path)
	for _, name := range []string{hard, soft, "/proc/self/root" + path} {
		if got := identify(name); got.Now != id.Now || got.Lasting != id.Lasting || got.Lasting == "" {
			t.Errorf("%s: %+v, want %+v", name, got, id)
		}
	}
	if got := identify(other); got.Now == id.Now || got.Lasting == id.Lasting {
		t.Errorf("another file: %+v", got)
	}
	if d := open(t, m, hard); d.ID().Now != id.Now || d.ID().Lasting != id.Lasting {
		t.Errorf("opened: %+v, want %+v", d.ID(), id)
	}
	// A file put in the place of another is another, also with its inode.
	if err := errors.Join(os.Remove(path), os.WriteFile(path, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	if got := identify(path); got.Lasting == id.Lasting {
		t.Errorf("a new file: %+v", got)
	}
	dev := disktest.Loop(t, other)
	if got := identify(dev); len(got.Over) == 0 || got.Over[0] != identify(other).Now {
		t.Errorf("a loop device over %+v: %+v", identify(other), got)
	}
}

func TestWipe(t *testing.T) {
	dir, m := folder(t)
	path := file(t, filepath.Join(dir, "disk"), 100<<20)
	write := func() {
		t.Helper()
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, off := range []int64{0, 70 << 20, 100<<20 - 512} {
			if _, err := f.WriteAt([]byte("EFI PART"), off); err != nil {
				t.Fatal(err)
			}
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	wiped := func(t *testing.T, name string) {
		t.Helper()
		write()
		d := open(t, m, name)
		defer d.Close()
		if c, err := disk.Look(t.Context(), d); err != nil || c.Blank() {
			t.Fatalf("before: %v, %v", c, err)
		}
		if err := d.Wipe(t.Context()); err != nil {
			t.Fatal(err)
		}
		if c, err := disk.Look(t.Context(), d); err != nil || !c.Blank() {
			t.Errorf("after: %v, %v", c, err)
		}
	}
	t.Run("file", func(t *testing.T) {
		wiped(t, path)
		if fi, err := os.Stat(path); err != nil || fi.Size() != 100<<20 {
			t.Errorf("%v, %v", fi, err)
		}
	})
	t.Run("block device", func(t *testing.T) { wiped(t, disktest.Loop(t, path)) })
}

// TestTraits: a disk is recognised under another name, after a move within its
// file system and when it has grown; a copy of it is not.
func TestTraits(t *testing.T) {
	dir, m := folder(t)
	path := file(t, filepath.Join(dir, "disk"), 16<<20)
	traits := func(path string) map[string]string {
		t.Helper()
		id, err := m.Identify(path)
		if err != nil || len(id.Traits) == 0 {
			t.Fatalf("%+v, %v", id, err)
		}
		return id.Traits
	}
	was := traits(path)
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	moved, copied := filepath.Join(dir, "moved"), filepath.Join(dir, "copied")
	if err := errors.Join(os.WriteFile(copied, raw, 0o600), os.Rename(path, moved), os.Rename(copied, path),
		os.Truncate(moved, 32<<20)); err != nil {
		t.Fatal(err)
	}
	if d := disk.Differs(was, traits(moved)); d != "" {
		t.Errorf("the moved disk has another %s", d)
	}
	if d := disk.Differs(was, traits(path)); d == "" {
		t.Errorf("the copy is taken for the disk: %v", traits(path))
	}
	for _, x := range []struct {
		a, b map[string]string
		want string
	}{
		{map[string]string{"wwid": "1", "serial": "2"}, map[string]string{"serial": "2"}, ""},
		{map[string]string{"wwid": "1", "serial": "2"}, map[string]string{"wwid": "1", "serial": "3"}, "serial"},
		{nil, map[string]string{"serial": "3"}, ""},
	} {
		if got := disk.Differs(x.a, x.b); got != x.want {
			t.Errorf("%v and %v: %q, want %q", x.a, x.b, got, x.want)
		}
	}
	dev := disktest.Loop(t, moved)
	if traits(dev)["backing inode"] != was["inode"] {
		t.Errorf("a loop device over it: %v", traits(dev))
	}
}
