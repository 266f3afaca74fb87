// Package chaos runs a whole cluster as real processes on hosts of package
// lab, breaks it in every way a rack breaks, and proves with a host's eyes
// that nothing is lost.
//
// The cluster: a PostgreSQL, a portal, two monitors, two disk nodes with aio
// disks, three controller nodes, and a host on a machine of its own. The
// processes are restarted by a supervisor as a service manager would.
//
// With a redundancy the array is mirrored and there are more disk nodes, one more
// than a mirror has legs. Then faults of disk nodes are many, most of them on an
// array that has all its legs. At the end the array must become whole, with no more
// help than a restart of the monitors, which makes them forget how often legs were
// lost: such legs wait for minutes. Then the legs of each mirror are compared byte by
// byte on the disks (legs.go).
//
// The disks of such a cluster can be made to fail (disk.go), where the kernel has FUSE:
// each is a file that a process of the test serves (fuse.go), with media errors, without
// space, hanging, or not there any more.
//
// With CHANGES=1 such an array is also converted, its vds move and its dns are drained,
// each with a fault in the middle (change.go). All of that must come to its end.
//
// The host (host.go) joins the array's controllers as Linux multipath does: it
// knows ANA states, sends a command that ended with a path status on another
// way, and reconnects for ever. It writes blocks that carry their address and
// a sequence number (block.go), on the optimized path mostly and on the others
// too, and reads them back; a ledger (ledger.go) knows for each block which
// sequence numbers may be read: the last acknowledged one, or a later one that
// was sent. It runs as a process in the network of its host (load.go) and
// reports I/O that took long as JSON lines.
//
// Faults (fault.go) follow from a seed. Each is held for a while and healed;
// then the host's I/O must flow again and all paths must come back by
// themselves. The report (reports.go) has a line for each kind of fault with
// the longest I/O that the host saw around it.
//
// BREACH is the path of a vda_tgt for the controller nodes that was built with
// -tags breach: its mirrors take a leg that is back for one that lacks nothing. A run
// with it must fail.
//
// With VOLUMES=1 a user takes snapshots, clones them, rolls the array back and lets it grow,
// each with a fault in the middle (volume.go). The host knows what it had written when
// (moment.go): a snapshot holds all that was acknowledged before it, nothing that was sent
// after it, and is of one moment; a clone is the same from the beginning, and when it is
// copied; after a rollback the array is that, and nothing that was written in between ever
// comes back; what grows is zeros. The test tells the host by lines (wish.go).
//
// It needs root, and Debian's postgresql and nftables. MINUTES, SEED and REDUNDANCY
// are taken from the environment; VDA_BIN is the folder of the programs under
// test, ../../bin when unset.
package chaos
