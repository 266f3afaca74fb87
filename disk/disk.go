package disk

import (
	"context"
	"errors"
	"maps"
	"slices"
)

// Reader reads a disk.
type Reader interface {
	Size() uint64 // bytes
	// ReadAt fills p from off on. Look asks for multiples of 4096 bytes at
	// multiples of 4096, except at the end of a disk whose size is none.
	ReadAt(ctx context.Context, p []byte, off uint64) error
}

// Extents is what a Reader has in addition whose disk is a file.
type Extents interface {
	// NextData returns the first extent of data at off or later, in bytes;
	// io.EOF when there is none, errors.ErrUnsupported when the file system
	// does not tell.
	NextData(off uint64) (start, end uint64, err error)
}

// Device is a disk of this machine, opened so that nobody else who asks can
// use it at the same time.
type Device interface {
	Reader
	// Path is its name without symbolic links.
	Path() string
	// ID is what it is.
	ID() ID
	// Wipe makes it blank. It is durable when Wipe returns.
	Wipe(ctx context.Context) error
	Close() error
}

// ID tells disks apart.
type ID struct {
	// Now is the same for all names of one file or block device, until the
	// machine restarts.
	Now string
	// Lasting names the medium over restarts, and changes when another is put
	// in its place: a WWID or serial number and the size, or a file's inode
	// and birth. "" when nothing is known that lasts.
	Lasting string
	// Traits are what the medium is recognised by for as long as it lives, by
	// name: "wwid", "serial", "inode", "born" and so on. They stay when a disk
	// grows or its device gets another number. Nil when nothing is known.
	Traits map[string]string
	// Over is the Now of the file or disk that it is only a view of, such as
	// that of the file behind a loop device or the disk of a partition.
	Over []string
	// Also says what else its blocks are in use by, such as a loop device over
	// a file, which does not keep it from being opened: it must not be written
	// to unless it is known to be ours. "" when nothing is known; only a Device
	// knows.
	Also string
	// System says what the machine itself needs on the disk that this is a partition of, such as
	// what is mounted at /: nothing there is wiped. "" when nothing is known; only a Device knows.
	System string
	// WriteCache says that the kernel knows a block device to acknowledge writes that a
	// power cut may lose, unless it is flushed.
	WriteCache bool
	// File says that it is a regular file, the extents of which are safe only after it is flushed.
	File bool
}

// Differs names the first trait, in the order of the alphabet, that two media
// both have with different values; "" when they may be the same. Traits that
// only one of them has say nothing: a newer kernel may know more.
func Differs(a, b map[string]string) string {
	for _, name := range slices.Sorted(maps.Keys(a)) {
		if v, ok := b[name]; ok && v != a[name] {
			return name
		}
	}
	return ""
}

// Errors of a Machine, to be found by errors.Is.
var (
	// ErrNotFound: nothing has the name.
	ErrNotFound = errors.New("does not exist")
	// ErrInUse: somebody else has it open exclusively.
	ErrInUse = errors.New("is in use")
)

// Machine finds the disks of a machine by path.
type Machine interface {
	// Open opens a file or block device that lies in an allowed folder.
	Open(path string) (Device, error)
	// Identify says what a path leads to without opening it.
	Identify(path string) (ID, error)
	// Make makes a file of zeros of that many bytes, which must fit into its
	// file system.
	Make(path string, size uint64) error
	// List returns what may be disks: the block devices of the machine that have a size, and
	// the files that lie in allowed folders themselves, by Path. It opens none of them.
	List() ([]Candidate, error)
	// Room says how much of a file has space already, and what there is for the rest.
	Room(path string) (Room, error)
}

// Candidate is what may be a disk to use, by what is known without opening it.
type Candidate struct {
	// Path is the name to use it by: of a block device one that lasts over restarts, where udev
	// has made one.
	Path string
	// Device is the kernel's name, such as /dev/sdb; a file's Path.
	Device string
	Kind   Kind
	Size   uint64 // bytes
	// Model and Serial are of the disk; "" when nothing is known.
	Model, Serial string
}

// Kind says what a Candidate is.
type Kind string

// Kinds of candidates. A volume is one of device mapper or md.
const (
	KindDisk      Kind = "disk"
	KindPartition Kind = "partition"
	KindVolume    Kind = "volume"
	KindLoop      Kind = "loop"
	KindFile      Kind = "file"
)

// Room is the space of a regular file, in bytes. It is zero for what is none.
type Room struct {
	Size, Allocated int64
	Left            int64 // in its file system
}
