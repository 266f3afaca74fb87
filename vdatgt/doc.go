// Package vdatgt is vda_tgt, the embedded data plane: block device modules,
// the NVMe/TCP target and a JSON-RPC server with SPDK's method names,
// parameters, results and error codes, in one process. It is a drop-in for
// spdk_tgt where SPDK cannot or need not run.
//
// # State
//
// A Target keeps no configuration. It starts empty and anyone who drives it puts
// everything back after a restart (framework_get_config tells what it was, for
// those without an agent); what stays is data, on aio and nvme bdevs,
// in SPDK's on-disk format.
//
// It is in one of two states. With Config.WaitForRPC it starts in the start-up
// state, where options can be set, and framework_start_init takes it to the
// run-time state; without, it starts there. A method that the present state
// does not allow is answered with code -1.
//
// # Methods
//
// Every method is an entry of a table (Methods) with its name, the states it
// works in, its parameters and a sentence; rpc_get_methods and the reference
// documentation come from there. Methods run concurrently, on the goroutine of
// their connection or, slow ones, on one of their own; the modules below are
// safe for that. What a method returned has happened: an lvstore is on disk, a
// removed host cannot write any more.
//
// Methods that SPDK does not have start with vda_.
//
// # Examination
//
// A new bdev is shown to the modules that may find something of theirs on it:
// raid (an array that waits for it) and lvol (an lvstore). That happens by
// itself unless bdev_set_options has set bdev_auto_examine to false; then by
// bdev_examine, before or after the bdev is there. It runs in the background;
// bdev_wait_for_examine returns when nothing is left to do.
//
// # Shutting down
//
// Run returns when its context ends: the socket is closed first, then hosts
// are disconnected and their I/O settled, lvstores are unloaded clean, remote
// controllers detached, and the bdevs closed, newest first. I/O that waits for
// a remote controller that is away does not hold that up for ever: after a few
// seconds it fails, with a path status.
package vdatgt
