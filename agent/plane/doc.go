// Package plane is what VDA's agents do differently on the two data planes that
// they drive. A Driver is chosen when the agent connects, once in a run of the
// data plane, by the methods and the version that the data plane reports; from
// then on package agent and the agents in agent/cn and agent/dn ask the Driver
// and never what they are connected to. A new difference is a method here, not
// a condition there.
//
// There are two drivers: vdaTgt for vda_tgt, and spdkTgt for spdk_tgt from 23.01
// on, which also knows what differs between SPDK's versions. The differences
// have four causes.
//
// # A namespace that changes its bdev
//
// vda_tgt swaps the bdev below a live namespace in one step, and a namespace
// whose bdev goes away stays and answers with a path or ANA status.
//
// SPDK can remove a namespace and add one with the same identity, and has two
// traps: removing waits for the I/O in flight, and what arrives meanwhile or
// while there is no namespace is answered with Invalid Namespace and Do Not
// Retry, which a host takes for an I/O error. So, all with the path
// inaccessible:
//
//  1. what is queued for a backend that is away is failed (Settle);
//  2. Drain waits until nothing is in flight. Hosts repeat what has failed on
//     the same path, and meet the ANA status, which sends them elsewhere;
//  3. AwaitQuiet waits until no host sends anything on the path any more;
//  4. remove and add go out together, so that hosts that look just then find
//     the namespace gone for some microseconds only. They would drop the disk
//     if they found it gone on every path at once.
//
// # I/O that waits for a lost connection
//
// SPDK holds I/O for a connection that is lost and tries it again once a second,
// each in its own second, whether or not the host that sent it has given up
// since. That host may have sent a write again elsewhere. If the second copy
// were carried out first and acknowledged, and newer writes after it, the first
// copy would then take their place. So the paths that lead to a connection are
// closed as soon as it is lost (StateWhileLost, MayHold), and opened when nothing
// is held any more: on a primary that has its vd back after what was held has
// ended (Drain), on a secondary after the proxy was cut, which ends what is
// held, and was connected again (Release). SPDK before 23.09 cannot cut a
// connection; hosts never use its secondaries' paths (ProxyState).
//
// vda_tgt needs none of this. It carries held I/O out in the order in which it
// came, before newer, and not at all when the host has left; and it passes the
// status of a backend on to the host.
//
// # Who gives up whom, and when
//
// A primary must give a secondary up before hosts do, and go elsewhere: on SPDK,
// a secondary that hung executes what it finds in its sockets when it goes on,
// and only the primary's having cut it off keeps that from the disks. SPDK's
// targets look once in each keep-alive time-out, and so need up to two of them;
// Linux needs 5 to 7.5 s by default. vda_tgt looks before it executes.
//
// # One bdev, one namespace
//
// A namespace of SPDK's claims its bdev, so that a volume stands behind one
// exporter and the others form a chain (agent/cn, chain.go). In vda_tgt it
// stands behind them all.
package plane
