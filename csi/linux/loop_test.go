//go:build e2e

package linux

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/virtual-disk-array/vda/csi/node"
)

// loop makes a block device of a file.
func loop(t *testing.T, bytes int64) (device, file string) {
	t.Helper()
	file = filepath.Join(t.TempDir(), "disk")
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(bytes); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("losetup", "-f", "--show", file).CombinedOutput()
	if err != nil {
		t.Fatalf("losetup: %v: %s", err, out)
	}
	device = strings.TrimSpace(string(out))
	t.Cleanup(func() { _ = exec.Command("losetup", "-d", device).Run() })
	return device, file
}

func write(t *testing.T, device string, b []byte, at int64) {
	t.Helper()
	d, err := os.OpenFile(device, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if _, err := d.WriteAt(b, at); err != nil {
		t.Fatal(err)
	}
	if err := d.Sync(); err != nil {
		t.Fatal(err)
	}
}

// mayResize reports that the test has the capability to resize an ext4, CAP_SYS_RESOURCE,
// which containers lack. test/e2e does it in a machine that has it.
func mayResize(t *testing.T) bool {
	t.Helper()
	var set [2]unix.CapUserData
	if err := unix.Capget(&unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, &set[0]); err != nil {
		t.Fatal(err)
	}
	return set[0].Effective&(1<<unix.CAP_SYS_RESOURCE) != 0
}

// TestFileSystem: a blank device is formatted, mounted, shown elsewhere, and grows.
func TestFileSystem(t *testing.T) {
	f := NewFileSystems("/")
	for _, fs := range []string{"ext4", "xfs"} {
		t.Run(fs, func(t *testing.T) {
			if _, err := exec.LookPath("mkfs." + fs); err != nil {
				if os.Getenv("CI") == "true" {
					t.Fatal(err)
				}
				t.Skip(err)
			}
			const size = 320 << 20 // xfs has no smaller ones
			device, file := loop(t, size)
			if c, err := f.Probe(t.Context(), device, "vol"); err != nil || !c.Blank {
				t.Fatalf("new: %v, %v", c, err)
			}
			if err := f.Format(t.Context(), device, "vol", fs, nil); err != nil {
				t.Fatal(err)
			}
			for range 2 {
				if c, err := f.Probe(t.Context(), device, "vol"); err != nil || c != (node.Content{FS: fs}) {
					t.Fatalf("formatted: %v, %v", c, err)
				}
			}
			if err := f.Check(t.Context(), device, fs); err != nil {
				t.Fatal(err)
			}
			dir := t.TempDir()
			at, bound := filepath.Join(dir, "a b"), filepath.Join(dir, "bound")
			for _, d := range []string{at, bound} {
				if err := os.Mkdir(d, 0o755); err != nil {
					t.Fatal(err)
				}
			}
			if err := f.Mount(device, at, fs, []string{"noatime"}); err != nil {
				t.Fatal(err)
			}
			if m, there, err := f.At(at); err != nil || !there || m != (node.Mount{Path: at, Device: device, FS: fs}) {
				t.Errorf("%+v, %v, %v", m, there, err)
			}
			if err := f.Bind(at, bound, true); err != nil {
				t.Fatal(err)
			}
			if m, there, err := f.At(bound); err != nil || !there || m != (node.Mount{Path: bound, Device: device, FS: fs, Readonly: true}) {
				t.Errorf("%+v, %v, %v", m, there, err)
			}
			if all, err := f.Of(device); err != nil || len(all) != 2 {
				t.Errorf("%v, %v", all, err)
			}
			t.Cleanup(func() { _ = exec.Command("umount", bound, at).Run() })
			grow := func() {
				t.Helper()
				if err := f.Grow(t.Context(), device, at, fs); err != nil && !(fs == "ext4" && !mayResize(t)) {
					t.Fatal(err)
				}
			}
			grow()
			before, err := f.Usage(at)
			if err != nil || before.Inodes == 0 || before.Bytes < size/2 {
				t.Errorf("%+v, %v", before, err)
			}
			if err := os.Truncate(file, 2*size); err != nil {
				t.Fatal(err)
			}
			if out, err := exec.Command("losetup", "-c", device).CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			grow()
			grow()
			if after, err := f.Usage(at); err != nil || after.Bytes < before.Bytes+size/2 && (fs != "ext4" || mayResize(t)) {
				t.Errorf("%+v, %v, before %+v", after, err, before)
			}
			open, err := os.Create(filepath.Join(at, "file"))
			if err != nil {
				t.Fatal(err)
			}
			if err := f.Unmount(bound); err != nil {
				t.Error(err)
			}
			if err := f.Unmount(at); err == nil || !strings.Contains(err.Error(), "files open") {
				t.Errorf("unmounted in use: %v", err)
			}
			if err := open.Close(); err != nil {
				t.Error(err)
			}
			if err := f.Unmount(at); err != nil {
				t.Error(err)
			}
			if err := f.Flush(device); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestOnlyBlank: what is not blank is not formatted, no matter who has written it.
func TestOnlyBlank(t *testing.T) {
	f := NewFileSystems("/")
	device, _ := loop(t, 64<<20)
	blank := func(want string) {
		t.Helper()
		c, err := f.Probe(t.Context(), device, "vol")
		if want == "" != (err == nil && c.Blank) || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%+v, %v, want %q", c, err, want)
		}
	}
	blank("")
	for _, at := range []int64{0, 5000, 1<<20 - 1, 32 << 20, 63 << 20, 64<<20 - 1} {
		write(t, device, []byte("x"), at)
		blank(fmt.Sprintf("data at byte %d", at))
		write(t, device, []byte{0}, at)
	}
	blank("")

	// One whose format was begun by a driver that died, with anything on it.
	write(t, device, bytes.Repeat([]byte("half"), 1<<20), 0)
	write(t, device, stamp("vol"), 64<<20-block)
	blank("")
	write(t, device, stamp("another"), 64<<20-block)
	blank("data at byte")
	write(t, device, make([]byte, 64<<20), 0)
	if err := f.Format(t.Context(), device, "vol", "ext4", []string{"-O", "nonsense"}); err == nil || !strings.Contains(err.Error(),
		"nonsense") {
		t.Errorf("a bad option: %v", err)
	}
	blank("")
	write(t, device, make([]byte, 64<<20), 0)
	if out, err := exec.Command("mkswap", device).CombinedOutput(); err != nil {
		t.Fatalf("mkswap: %v: %s", err, out)
	}
	blank("swap")
	write(t, device, make([]byte, 64<<20), 0)
	mbr := make([]byte, 512) // one partition of Linux
	copy(mbr[446:], "\x00\x00\x02\x00\x83\x00\x01\x01\x00\x08\x00\x00\x00\x10\x00\x00")
	copy(mbr[510:], "\x55\xaa")
	write(t, device, mbr, 0)
	blank("partition table")
	write(t, device, make([]byte, 64<<20), 0)

	// Nor what is mounted.
	if err := f.Format(t.Context(), device, "vol", "ext4", nil); err != nil {
		t.Fatal(err)
	}
	at := t.TempDir()
	if err := f.Mount(device, at, "ext4", nil); err != nil {
		t.Fatal(err)
	}
	if err := f.Format(t.Context(), device, "vol", "ext4", nil); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("a mounted one is formatted: %v", err)
	}
	if err := f.Unmount(at); err != nil {
		t.Error(err)
	}
}
