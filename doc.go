// Package vda names the things VDA is about: disk nodes and their physical
// disks, controller nodes, disk arrays made of virtual disks, the controllers
// and exporters through which hosts reach them, and the one error type. It
// uses the standard library only; every other package may import it.
//
// The values are rows of the database as the control plane sees them. They
// are plain data: copying one copies it whole.
//
// # Versions
//
// Every node has a Version of its desired state, which grows with each change
// of an object that the node must hold; the object's own Version is the node's
// at that change. Deleted marks a tombstone: the object is gone for users, its
// node still has to remove it, and its row goes when the node has said so.
package vda

import "time"

// Health is what the monitor last saw of an object. The zero value is healthy.
type Health struct {
	Error bool
	Msg   string    // "" without an error
	Since time.Time // UTC, microseconds; when this error was first seen
}
