// Package sim is a whole cluster in one process and in fake time: a portal,
// three monitors, the agents of disk and controller nodes and the SQL store,
// all of them the real code, on a model of machines, network and data planes
// to which a seed does harm. A minute of faults takes a third of a second.
//
// # What is real
//
// portal.Server, monitor.Monitor, syncer and its Pool, gRPC over HTTP/2 and TLS, the
// agents with their state directories, the store on SQLite, vda_db. A bubble of
// testing/synctest makes time jump when everybody waits, so nothing may wait
// on a socket or in the kernel: connections are pipes of package simnet, the
// agents call their data plane through agent.Config.Connect, and the database
// is a file in memory whose calls do not wait.
//
// # What is a model
//
//   - simnet: machines and one-way links between them. A cut loses what is
//     sent, silently, until it heals; TCP sends it again then. Connections keep
//     their order. A dead process resets its connections, a machine without
//     power does not.
//     A process is killed (nothing of it reaches the world any more) or
//     hangs (nothing does until it is continued, and then all that was under
//     way). No process of VDA compares its clock with another's, so a jump of
//     a clock is what a hang is: time that passes while nothing is done.
//   - database: away, slow, or its answer lost after the commit.
//   - agent/planetest: the data planes, with I/O. A command goes from the host
//     through the exporter's namespace, the lvol, the raid0 by strips and the
//     NVMe connection to a block of a vd, waits where a real one would, and goes
//     on at a target that its initiator has given up.
//   - mirrors: data planes of vda_tgt's kind have module/mirror itself, on legs that
//     are the model's connections. Requests on a leg run side by side and end in any
//     order, the same on two legs in two. What has been written without FUA lies in
//     its disk's write cache until a flush, and a power cut loses some of it, block
//     by block. Hosts' writes have FUA; copies and repairs do not. What stands on a
//     mirror keeps its own metadata in the model, not on the legs; the mirror's
//     labels and maps are on the legs, byte for byte.
//   - host: multipath by ANA state, never giving up I/O. Each worker has blocks of
//     its own, in which it writes rising numbers. A path that was there is given up
//     for ever when its target refuses it with Do Not Retry, as by Linux. It makes no
//     reservations: what judges them is nvmf/nvmftgt, of which data planes here have nothing
//     (agent/cn TestRealReservations has it).
//
// One thing is left out on purpose: a disk takes its commands in order of arrival.
// A host that gives a path up without a fence, because only its own link is cut,
// can be overtaken by its own first attempt when a disk is not fair; NVMe leaves it
// to hosts to wait before they try elsewhere.
//
// # Security
//
// The cluster is secured before it has arrays (secure.go): its CA, tokens, enrolment, certificates with their checks,
// roles and revocations are the real code, and so are the agents' keys of hosts and of connections between nodes. The
// model of the data planes compares keys where real ones authenticate, and renewal is not due within a run. Beside
// the faults an administrator revokes certificates and has daemons enrol again, and changes keys of hosts, the one of
// before valid for a while (rekey.go). Somebody on the network (intruder.go) tries what nobody may: calls in the clear,
// without a certificate, with another cluster's and with a copy of a node's, a change with a viewer's token, and each
// subsystem by the NQN of each of its hosts without a key. At the end copies of certificates that were revoked are tried
// at all agents.
//
// # What is checked
//
// Package ledger judges what disks and hosts see:
//
//   - At each write to a disk: no connection of an older term writes once a
//     newer one was admitted (one writer per vd), and no older term is admitted.
//   - At each read of a host: the block holds what was acknowledged last. After
//     a write that took several attempts the block is written once more and
//     then only read for a while.
//   - At each acknowledgement of a mirror: every leg that SQL calls a member holds what
//     is acknowledged.
//   - At each read of a mirrored array, also of blocks that are being written: it is
//     not older than what was acknowledged or read before.
//   - Hosts see path statuses and nothing worse, and are connected by all their paths at the end.
//   - Nobody is served or let in who may not.
//   - No agent removes the subsystem of an exporter that is desired. Arrays and
//     exporters are made and deleted under the same names all the time.
//   - When faults have ended: within Config.Settle all nodes, disks and
//     controllers are without error and at their versions, every array has one
//     primary and all its controllers, every exporter the right ANA state in the
//     data plane, deleted arrays have left neither rows nor lvols nor missing
//     space, no host has been told to give up a path that it should have; then
//     every host reads all its blocks back. All legs are members again, and equal
//     byte for byte wherever their maps do not say that they may differ.
//
// With Config.Changes an administrator changes redundancies beside the faults, drains
// dns and pds, moves vds and calls that off (change.go). At the end each column has as
// many legs as its array's redundancy says, on distinct dns, and none that is to leave.
//
// With Config.Volumes he snapshots arrays, deletes snapshots, rolls back to them and has arrays
// grow (volume.go), on data planes of vda_tgt's kind, whose model has what is written after a
// snapshot in places of its own, and holds I/O while one is taken. A host reads each snapshot at
// the end by an exporter of its own, and its array after a rollback: a block is not older than
// what had been acknowledged or read before the snapshot was asked for, nor newer than what had
// been sent when that was answered, and never changes. What was refused is not there. What is
// added reads as zeros, also after a rollback to what was there before, and all else stays. No
// snapshot, rollback or lvol is left halfway. Snapshots of all arrays are of one instant, which a
// program tells that writes them in turn: all are taken, or none (together.go). Arrays get more disks
// and then grow beyond what they had.
//
// Arrays are cloned, too, by snapshots or as they are, and clones are deleted while they are copied or
// later (clone.go). A clone is made where it likes, of another redundancy and striping, and copied for
// as long as several faults take. Its host reads all of it at once, and then writes to a third of it:
// the rest stays what its source was, whatever happens to either, and a snapshot from which it is
// copied is not deleted until it has all. At the end it has, and what it was copied from has gone.
//
// One more array is thin and grows by itself, with a host that fills it slowly (fill.go). It always has
// the room that it says it has; when all is well it has grown, and when its host goes on it is never
// full below its limit, nor gets more than that.
//
// # Stories
//
// What a seed finds depends on the order of goroutines, so what must happen is not
// left to seeds. A story (story.go, and player_test.go) makes events happen in an order
// that is written down: a gate at the disks holds commands or fails them, a hook
// sees each commit of the database. Each rule that is left out on purpose
// (Config.Break and the like) is found by a story that is about it.
//
// # Seeds
//
// The seed decides the shape of the cluster, the faults, what they hit, when,
// and for how long. It does not decide which of two goroutines runs first, nor
// ids: a run repeats a failure most of the time, not always. Changing the table
// of kinds changes what every seed means.
//
//	make sim SEEDS=1000                                       # which seeds fail
//	make sim SEEDS=1000 CHANGES=1                             # with changes of arrays
//	make sim SEEDS=1000 VOLUMES=1                             # with snapshots, clones and growth
//	go test ./sim -count=1 -run TestSeeds -v -seed 286      # one, with its log
package sim
