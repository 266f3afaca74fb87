package aio_test

import (
	"os"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/virtual-disk-array/vda/bdev"
	"github.com/virtual-disk-array/vda/disk/disktest"
	"github.com/virtual-disk-array/vda/module/aio"
)

// A file or block device is one bdev's until that is closed; bdevs that only
// read share it.
func TestAFileHasOneWriter(t *testing.T) {
	path := file(t, 1<<20)
	link := path + "-link"
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	oneWriter(t, path, link)
}

func TestABlockDeviceHasOneUser(t *testing.T) {
	dev := disktest.Loop(t, file(t, 16<<20))
	oneWriter(t, dev, dev)
	fd, err := unix.Open(dev, unix.O_RDONLY|unix.O_EXCL, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if _, err := aio.New(aio.Config{Name: "mounted", Filename: dev, BlockSize: 4096}); !bdev.IsErrno(err, syscall.EBUSY) {
		t.Errorf("%v, want EBUSY for a device that another program has", err)
	}
}

func oneWriter(t *testing.T, path, again string) {
	for _, buffered := range []bool{false, true} {
		first, err := aio.New(aio.Config{Name: "a", Filename: path, BlockSize: 4096, Buffered: buffered})
		if err != nil {
			t.Fatal(err)
		}
		for _, readOnly := range []bool{false, true} {
			if _, err := aio.New(aio.Config{Name: "b", Filename: again, BlockSize: 4096, ReadOnly: readOnly}); !bdev.IsErrno(err, syscall.EBUSY) {
				t.Errorf("a second bdev (read-only %v) on %s: %v, want EBUSY", readOnly, again, err)
			}
		}
		if err := first.Close(); err != nil {
			t.Fatal(err)
		}
		second, err := aio.New(aio.Config{Name: "b", Filename: again, BlockSize: 4096})
		if err != nil {
			t.Fatalf("after the first was closed: %v", err)
		}
		if err := second.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestReadersShareAFile(t *testing.T) {
	path := file(t, 1<<20)
	for _, name := range []string{"a", "b"} {
		d, err := aio.New(aio.Config{Name: name, Filename: path, BlockSize: 4096, ReadOnly: true})
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
	}
	if _, err := aio.New(aio.Config{Name: "c", Filename: path, BlockSize: 4096}); !bdev.IsErrno(err, syscall.EBUSY) {
		t.Errorf("a writer beside readers: %v, want EBUSY", err)
	}
}
