package node

import (
	"context"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/csi/volume"
)

// Host is the machine's NVMe host. Its methods are safe for concurrent use, and may be
// called again after any failure. Errors are in words.
type Host interface {
	// NQN names the host; exporters let it in.
	NQN() string
	// Connect makes a connection to each address that has none yet, and leaves those that
	// there are alone, whatever state they are in. It fails when none can be made and none
	// was there; missing says of each other address why there is no connection.
	Connect(ctx context.Context, t Target) (missing []error, err error)
	// Device waits for the block device of the namespace, which it finds by UUID.
	Device(ctx context.Context, nqn, uuid string) (Device, error)
	// Find is Device without waiting; false when there is none now. uuid may be "" for the
	// only one of the subsystem.
	Find(nqn, uuid string) (Device, bool, error)
	// Hold keeps the name of a namespace's device from passing on to another device until
	// release is called; uuid as for Find. It fails when the name is another's by now.
	Hold(d Device, nqn, uuid string) (release func(), err error)
	// Controllers are the connections to a subsystem, whatever state they are in.
	Controllers(nqn string) ([]Connection, error)
	// Subsystems are the NQNs of those that have connections.
	Subsystems() ([]string, error)
	// Drop ends a connection that leads nowhere.
	Drop(ctx context.Context, nqn, address string) error
	// Disconnect ends all connections to a subsystem. There are none when it succeeds.
	Disconnect(ctx context.Context, nqn string) error
	// Rescan has the host read the sizes of a subsystem's namespaces again.
	Rescan(nqn string) error
	// Problem is what keeps the host from using several paths, "" for nothing.
	Problem() string
}

// Target is a subsystem, and how it is connected to.
type Target struct {
	NQN       string
	Addresses []string // host:port
	Options   volume.NVMe
	// Keys are what the host and the controllers prove themselves by, when Options say so. Without
	// any the host uses those of the connections that it has to the subsystem.
	Keys vda.KeyPair
}

// Device is a block device.
type Device struct {
	Path  string // in /dev; it may be another after the next connect
	Bytes uint64
}

// Connection is a controller as the host sees it.
type Connection struct {
	Address string // host:port
	Live    bool
}

// FileSystems are the machine's mounts, and what lies on its block devices. Errors are
// in words.
type FileSystems interface {
	// At returns what is mounted at a path; false for nothing.
	At(path string) (Mount, bool, error)
	// Of returns all mounts of a device: of its file system, and of the device itself.
	Of(device string) ([]Mount, error)
	// Mount mounts a device's file system; options as those of mount(8).
	Mount(device, path, fs string, options []string) error
	// Bind has a folder or a block device appear at another path.
	Bind(from, path string, readonly bool) error
	// Unmount ends the mount at a path, and fails while it is in use.
	Unmount(path string) error

	// Probe says what is on a device. The error says what is when it must be left alone.
	Probe(ctx context.Context, device, volumeID string) (Content, error)
	// Format makes a file system on a device, of which Probe has said Blank. When it fails
	// or is killed halfway, Probe says so again.
	Format(ctx context.Context, device, volumeID, fs string, options []string) error
	// Check repairs what a journal leaves.
	Check(ctx context.Context, device, fs string) error
	// Grow lets the file system that is mounted at path take all of its device.
	Grow(ctx context.Context, device, path, fs string) error
	// Flush writes what the machine holds of a device.
	Flush(device string) error
	// Usage counts what is used of the file system at a path.
	Usage(path string) (Usage, error)
}

// Content is what is on a device.
type Content struct {
	Blank bool   // nothing ever written by anyone but Format
	FS    string // else the file system
}

// Mount is an entry of the mount table.
type Mount struct {
	Path   string
	Device string // that it is of
	FS     string // "" of a device itself
	// Readonly is this mount's; Frozen that of the file system, which the kernel makes
	// read-only after an error.
	Readonly, Frozen bool
}

// Usage is what is used of a file system.
type Usage struct {
	Bytes, FreeBytes   int64 // free for programs that are not root's
	Inodes, FreeInodes int64
}
