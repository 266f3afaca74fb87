// Package agent is what the disk node's and the controller node's agents
// share. An agent makes one data plane match a desired set that the control
// plane sends, and reports what is. Packages dn and cn say what the objects
// are; this one holds what does not depend on that.
//
// # Level-triggered
//
// A Sync changes the desired set, nothing else. Every object of the set has a
// unit in a Loop, and a unit's pass compares the object with an Inventory of
// the data plane and makes the calls that are missing; on an object that is
// as it should be a pass makes no call. Passes run when the object changed,
// when a Sync names it, when the data plane restarted, on a timer, and after
// an error. So the same request twice is a no-op, requests may come in any
// order and after any crash, and an object that gets lost comes back.
//
// A pass over an object that a request has named asks the data plane for that
// object's names only (named.go), so that what a request costs does not grow
// with what else the node has. All other passes share lists of everything.
//
// The kinds differ in their objects and in how a request changes the set of them,
// which they give as a Set; all else that happens to a set (restored, accepted and
// made durable, refused, its orphans and carried-out tombstones remembered) is
// in desired.go.
//
// Units are independent: one goroutine each, no lock held across a call. An
// object that waits for a dead node holds up neither heartbeats nor others.
//
// # Durable state
//
// State is one file in the state directory, replaced atomically and synced to
// disk before anything is done about a request: the cluster the node belongs
// to, the highest version and, by disk array, the highest term ever accepted,
// and the desired set itself, from which a restarted agent puts everything
// back without being told. It may have missed the news that a controller here
// is primary no more; that does no harm, because the disk nodes admit only
// the host NQN of the current term.
//
// A request is refused, and changes nothing, when it comes from another
// cluster, is older than one accepted, carries a lower term, would empty the
// node without saying so (allow_empty), or is a delta to a set this agent
// does not hold. The last gives FAILED_PRECONDITION with a SyncReply, in
// which version is set, among the status details; the sender answers with a
// full set.
//
// # What is ours
//
// An agent owns the objects of its data plane whose names start with "vda-"
// and say a kind that it makes. Those that no desired object accounts for are
// detached and un-exported; what lies on media is deleted by a tombstone and
// by nothing else. Other names are never touched.
//
// # Data plane
//
// A data plane has one owner, which a lock beside its socket and a mark in it
// keep: owner.go. An agent that meets one of another agent makes no call on it.
//
// Plane watches the data plane's start id and version, and puts every unit to
// work after a restart. RawDisk reads and zeroes a bdev through a private
// NVMe/TCP subsystem, the one way that both data planes offer. What differs
// between data planes and their versions is in package agent/plane.
package agent
