// Package core decides what a mirror does: pure, without goroutines, clocks or
// I/O. Events go in, actions come out; the module of the data plane and the
// simulation carry the actions out and report how they ended.
//
// # Words
//
// A leg is a vd. S is the set of legs that SQL calls members: each has every
// acknowledged write. D is the set of legs that a write waits for here. All
// rests on D ⊇ S at all times: what was acknowledged is on all of D, hence on
// all of S, anyone who reads S next.
//
//	Absent    not attached. It may lack writes. Never read.
//	Target    attached: gets all writes and is copied to by its map. Never read,
//	          and nobody waits for it: when it fails it is absent.
//	Joining   a target that lacks nothing any more. In D, and labels say so, so
//	          that SQL may make it a member at any time. Not read.
//	Member    in S and in D; may be read.
//
// # What is in which file
//
//	core.go    roles, events and actions, the state
//	start.go   from labels and maps to a mirror that is online
//	order.go   which I/O may run beside which
//	io.go      the life of a read, a write, a flush
//	intent.go  the write-intent map: set before data, cleared behind flushes
//	legs.go    a leg that is lost, dropped, attached, joining; labels
//	copy.go    repair after an unclean end, copying to targets
//
// # Rules (mirror invariants that this package keeps)
//
//   - A write is acknowledged when all of D have it (M2). When a leg of D fails,
//     all I/O waits until SQL has dropped the leg and labels on all members say
//     so (M3), or until the leg is back.
//   - Reads are served by members only, and only while each of them was heard of
//     a moment ago (M4).
//   - The bit of a region is durable on all of D before data are written to it.
//     It is cleared when the region is idle, all legs have flushed, and no leg is
//     absent that could lack the data (M5).
//   - A region that legs may differ in is repaired from one source before it is
//     read, or while it is (M6): what was read once stays.
//   - Overlapping writes have one order on all legs, and no read overlaps a
//     write (M12).
//   - A target or a joining leg never counts as the last member (M14).
package core
