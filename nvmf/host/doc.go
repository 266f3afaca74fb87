// Package host is an NVMe/TCP initiator: it connects to a subsystem, keeps
// the association alive, and runs I/O over it without allocating per command.
//
// # Parts
//
// A Controller is what a user holds from Connect to Close. While it is
// connected it has a session: one admin queue and some I/O queues, each a TCP
// connection with a goroutine that reads it. When any of these connections
// fails the whole session is torn down, all its commands complete with
// nvme.HostPathError, and the controller makes a new session as Config's
// time-outs say. A Namespace keeps its identity over sessions.
//
// # Path of a command
//
//	Submit ─ slot, capsule header in the queue's send list ─┐
//	Batch.Flush ─ one sendmsg for everything that gathered ─┘
//	reader ─ recvmsg, all complete PDUs inline ─ Completer/Done ─ its Batch.Flush
//
// Data is sent from and received into the request's own buffers. Reads larger
// than the reader's buffer are received straight into them; smaller ones are
// copied once. A request completes only when nothing points at its buffers any
// more: not the send list, not the reader.
//
// # Errors
//
// A status that the controller sent is passed on as it is. Everything that
// happens to the connection (reset, silence, a peer that breaks the protocol,
// a header digest that is wrong) ends the session and is a path status, never
// a media error. A wrong data digest fails its command alone, with
// nvme.TransientTransport.
//
// # Cost
//
// A connection has two goroutines and about 250 bytes for each command that
// its depth allows; while it receives, a buffer of 128 KiB that idle ones do
// not hold. A controller with one I/O queue of 128 commands comes to about
// 60 KiB when idle. Requests beyond the depth wait in a ring of their own.
//
// # Trust
//
// The controller is not trusted: each PDU is checked against the commands in
// flight before a byte of it is used, and what it can make the host keep is
// bounded by the commands in flight.
package host
