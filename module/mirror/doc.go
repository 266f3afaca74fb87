// Package mirror is the block device module of mirrored arrays: a mirror has up
// to four legs, each a bdev with TailSize bytes behind the data, and every write
// is on all legs that the control plane calls members before it is acknowledged.
// SPDK has no such module; the methods are vda_mirror_*.
//
// What a mirror does is decided by package core, what stands on its legs is
// package label's. This package carries the decisions out on handles of bdevs:
//
//	module.go   the mirrors of a registry: create, delete, the clock
//	mirror.go   one mirror: events into the core, actions out of it
//	io.go       requests of its users and of the core
//	legs.go     opening legs, reading their tails, attaching and resuming them
//	status.go   what is reported, and waiting for it to change
//
// A mirror never decides alone that a leg is not needed: when a member fails, all
// I/O waits until Set says that the leg is no member any more, or until the leg
// is back. Anyone who uses the module waits for changes of the status, has the
// control plane decide, and calls Set.
package mirror
