// Package nvmftgt is the NVMe/TCP target: subsystems with namespaces on block
// devices, reached by hosts over listeners.
//
// # Objects
//
// A Target has one TCP transport (the limits of every connection), portals
// (listening sockets), a discovery subsystem and any number of Subsystems. A
// Subsystem has namespaces, a host allow-list, listeners, each with one ANA
// state per group, and the controllers of the hosts that are connected now. A controller
// is an admin connection and its I/O connections; a connection is a queue
// pair, in three parts: a receiver, the queue, and a sender (conn.go).
//
// # Goroutines
//
// Every connection has one reader goroutine. It receives without blocking,
// handles every complete PDU inline, flushes its bdev.Batch (one sendmsg for
// all replies of the pass), polls for a few microseconds if it was just busy,
// and then parks in the runtime's poller. While it is parked another that polls
// may serve the connection in its place (PollSource); all that a reader owns
// belongs to the one that has the connection's turn. A block device that completes on
// another goroutine appends the reply to the connection under the
// connection's lock and marks it on that goroutine's Batch.
//
// # Locks, in the order in which they are taken
//
//	Target.mu > Subsystem.mu > controller.mu > namespace.mu > conn.mu
//
// No lock is held while a request is submitted or a socket is used.
//
// # A command
//
// Each slot of a connection has a state (state.go), which one method changes.
// What a command counts for follows from its state alone: while it is counted
// its connection does not settle, and while it is inside its namespace's gate
// the device stays.
//
//	free ──> taken ──> entering ──> starting ──> away ──> replying ──> free
//	                   ├────────── counted ─────────┤
//	                                ├─── inside ────┤
//
//	taken    ─> waiting ─> receiving ─> taken   a write without a buffer; its data is asked for, and is here
//	taken    ─> receiving ─> taken              a write with one
//	taken    ─> pairing ─> entering, replying   fused: until the other one is here; the second ends after the first
//	taken    ─> event ─> replying, free         an Asynchronous Event Request; a reset frees it
//	taken    ─> replying                        admin commands, and what is refused at once
//	waiting  ─> replying                        an Abort; no memory
//	entering ─> held ─> entering                during a swap of the device
//	entering ─> replying                        ANA, a reservation, no device
//	starting ─> waiting ─> entering             a read without a buffer
//	starting ─> settling ─> replying            a reservation is changed: outside, and counted, also until those inside have ended
//	starting ─> replying, entering              nothing for the device to do; Flush of all goes on
//	away     ─> entering                        Flush of the next namespace; the rest, when the device changes
//	away     ─> showing ─> free                 the reply is the device's own memory: inside until it is sent
//
// When the connection closes each becomes dropped: by the one that has it where
// it is counted, held or an event, by the connection otherwise.
//
// # Settling
//
// RemoveHost, RemoveListener, RemoveNamespace, SwapNamespace and
// DeleteSubsystem return when nothing that they cut off can write any more:
// a connection is settled when its reader has ended and every request that it
// submitted is done. A write whose data had not arrived completely is dropped
// before it is submitted.
//
// # A host that comes back
//
// A Connect is answered when what the same host (by its NQN) had sent in an
// association that has ended is settled, so that nothing of it lands after the
// host's next command; after Config.ReturnTime it is refused with Controller Busy,
// which hosts retry. Several associations of a host that are alive are nothing to
// each other, unless SetSingleAssociation says that it has one at most: then each
// Connect ends the one before. former.go has the rules.
//
// # Promises
//
// What CAP and Identify tell hosts is put together from one table (promise.go),
// and the log pages, commands and features that controllers have from three
// others (pages.go), by which they are dispatched as well. The tests go through
// the tables: each promise is kept on the wire, what is listed is answered, and
// what is not is refused. A new field of Identify is a new line there, and
// needs a test of its name.
//
// # Errors
//
// Methods return errors that wrap an errno: EEXIST, ENOENT (no such object in
// the target), ENODEV (no such bdev), EINVAL, EBUSY.
package nvmftgt
