// Package bdev is the block device layer of vda_tgt: what a device is, how
// I/O reaches it, and the registry that names devices, hands out handles and
// keeps claims.
//
// # How I/O flows
//
// The submitter fills a Request and calls Handle.Submit. The device completes
// it, perhaps before Submit returns, by Request.Complete, which calls the
// submitter's Done. No goroutine is started and no channel crossed for a
// command: memory devices complete inline, remote devices complete on the
// goroutine that reads their connection.
//
// # Batches
//
// Work that is cheaper done together (sending commands to a remote device,
// sending completions to a host) is marked on the Batch that travels with
// every Submit and Done. The goroutine that owns the Batch calls Batch.Flush
// when it has handled all input it had: one sendmsg for many commands.
//
// # Polling
//
// A goroutine whose input was busy a moment ago polls it for some microseconds
// before it sleeps (Spinner), and meanwhile serves, in their goroutines' place,
// other inputs that were busy a moment ago (Source, Hot, Turn): completions
// from files, and with one processor, where nobody else would, all
// connections.
//
// # What handles do
//
// A device implements what it can do well, and Handle.Submit the rest: it
// checks operation, range and length of the data, counts (bdev_get_iostat,
// latency histograms), holds requests back when the device has a limit
// (SetQoS), cuts what is above Info.MaxIO into pieces, and puts compare,
// compare-and-write and write zeroes together from reads and writes where the
// device lacks them. So every user may rely on Handle.Info().Ops. A
// compare-and-write that is put together has the device for itself meanwhile:
// it is atomic to whatever else goes through handles.
//
// # Memory
//
// A device whose blocks are memory of this process may lend that memory
// (Mapper), so that a read is sent to the host without a copy. Before blocks
// leave the memory lent for them, Registry.Settle has their users finish with
// it: it may be another tenant's next.
//
// Data that must be kept or compared lies in the registry's pool (Pool,
// Registry.Buffers), which bounds it and which the target above shares. A device
// asks the request for it (Request.Buffers, Request.Retain).
//
// # What is of the process
//
// Two registries in one process share nothing but the processors, and therefore
// who polls (polling in spin.go). The other variables of the package are
// constant, a counter that spreads batches over shards, and sync.Pools.
//
// # Life
//
// Registry.Register names a device; Unregister tells the holders of its
// handles Removed, fails new requests with a path status, and returns when
// every handle is closed, everything in flight is done and the device is
// closed. Handle.Close may be called with requests in flight. A device that
// lets requests wait for long implements Retirer. Anyone who builds on a device
// claims it first (Handle.Claim): one writer at a time.
//
// # Rules
//
//   - Submit may be called by many goroutines at once.
//   - Nobody calls Submit, Complete or Done while holding a lock that a
//     completion could take.
//   - A Request belongs to the device from Submit until Done is called, and to
//     the submitter otherwise. It may be reused inside Done.
//   - Buffers in Request.Iov stay valid until Done, except when Transient is
//     set: then only until Submit returns; a device that keeps the request
//     calls Request.Retain first.
package bdev
