// Package cn is the controller node's agent. Its object is the controller
// (cntlr) of a disk array, with the exporters (exp) through which hosts reach
// the array; the state of one exporter on this node is reported under its es
// id.
//
// # Primary
//
//	vd ─ NVMe/TCP ─ vda-vd-<vd>n1 ─ mirror vda-mir-<mirror> ┐
//	vd ─ NVMe/TCP ─ vda-vd-<vd>n1 ─ mirror vda-mir-<mirror> ┴ raid0 vda-grp-<grp>
//	     ─ concat vda-da-<da> ─ lvstore vda-da-<da> ─ lvol vda-vol-<da>
//
// On vda_tgt each column is a mirror, also that of one vd, and the concat is there also
// for one group: then legs and groups can come and go while the array serves. On SPDK
// raids stand on the vds, and only several groups have a concat; such an array has no
// column of several legs. The bytes on the disks are the same (form.go).
//
// Which legs a mirror has is decided in SQL: the primary attaches
// those that are members or targets, tells the data plane what the spec says, and
// monitors what the data plane says (mirrors.go, report.go). It drops no leg by
// itself. I/O waits for a member that is lost until that is back or not a member
// any more; that closes no path.
//
// The lvol stands behind every exporter's subsystem, ANA optimized; vda_tgt
// lets it stand behind several, SPDK behind one only, because its namespaces
// claim their bdev: there further exporters connect to the one before
// (vda-link-<exp>n1, chain.go). Beside the initiator the subsystem admits the
// secondaries. Nothing is exported before the volume is there.
//
// The lvstore and the volume are made only while the array has never been up
// (CntlrSpec.create), and then only when the disks are blank; else they are
// loaded, and when they are not found that is an error.
//
// # One pass, in the order of the files
//
// A Sync changes the desired set and kicks the unit of each controller that it
// names (agent.go). The loop runs a pass over the unit (agent/loop.go):
//
//  1. pass.go: run waits for its turn under the names that it acts under
//     (turn.go), looks at what the data plane holds of this controller, and takes
//     the exporters that are this controller's own (owner.go). What follows
//     depends on what the controller is.
//  2. stack.go, a primary: climb has the array taken down when one of its rungs
//     holds what is not wanted, and makes what is missing, from the lowest rung
//     up: connections to the vds (connections.go), a mirror per column
//     (mirrors.go), a raid per group and the concat (raids.go), the lvstore and the volume in it (volume.go).
//     The uppermost rung exports the volume (exporters.go), where need be by a
//     chain (chain.go).
//  3. secondary.go, a secondary: what only a primary has is taken down, from the
//     uppermost rung (stack.go); then each exporter gets a proxy. A secondary
//     whose primary is about to move stands by (standby.go).
//  4. pass.go, a tombstone: drop takes the exporters away and then the rungs.
//
// Whatever closes a path on the way calls closePaths and says why (close.go);
// what is queued for a lost vd is cut meanwhile (lost.go). The calls themselves
// are agent.Plane's, and what differs between data planes is its Driver's
// (agent/plane): this package does not know what it is connected to.
//
// Beside the passes, watch.go and silence.go kick units whose connections change,
// lease.go stops primaries that must not go on, and prune.go removes what nobody
// accounts for.
//
// # Secondary
//
// A secondary connects to each exporter on the primary like a host
// (vda-px-<exp>n1) and exports it under the exporter's identity, ANA
// non-optimized, or inaccessible while the primary cannot be reached. It
// admits the initiator alone, so that proxies never go round in a ring.
//
// Where both nodes have a listener of their own for other controllers, a secondary
// connects to a subsystem beside the exporter's there (vda-hop-<exp>), which shows the
// same volume and lets in no user's host; and secondaries are not let in where hosts are.
// Target lists of hosts and discovery are by subsystem, in SPDK as well, so that one
// subsystem on two listeners would show each to the other's hosts. To this package a hop
// is one more exporter, on a secondary one whose path is closed.
//
// # Changes of role
//
// Both roles are the same comparison of what is with what should be. Before
// the bdev below a live namespace changes, the path is made inaccessible, so
// that hosts wait instead of failing; the comment of agent/plane says how the
// bdev changes then. I/O that a new primary's proxies still hold for the old one
// is made to fail first, for hosts to repeat; before a planned move secondaries
// on SPDK stand by, with their paths closed, so that there is none (standby.go). A
// controller that is not primary any more takes its namespaces off, deletes the
// raids and detaches the vds. That deletes nothing from media: the lvstore and
// what is in it goes only when a tombstone of the primary says destroy_data.
//
// # I/O that SPDK holds
//
// SPDK keeps I/O for a connection that is lost, and carries it out when that is
// back, even when the host has left meanwhile. Paths to such a connection are
// closed until nothing is held any more; agent/plane has the rule and why.
//
// # Names that pass on
//
// An array that is deleted and made again has the NQNs of the old one, whose
// tombstone is still in the set. The live object owns such a name, and no other
// unit touches what has it; owner.go has the rule. What was carried out needs
// no further pass.
//
// # Lease
//
// Heartbeats give the node's primaries a lease. A primary without one goes on
// while all its vds are connected, of a mirrored array all members, and else closes its paths and its hosts'
// connections; lease.go has the rule and docs/failover.md the reasons.
//
// After a restart the agent restores what it was told last. If another
// controller has become primary meanwhile, the disk nodes refuse this one's
// host NQN, which carries its term, and it stays without a volume until it is
// told its new role.
package cn
