// Package syncer carries desired state from SQL to the nodes' agents and what
// the agents answer back into SQL. Portal and monitor both use it; it is the
// one place that translates rows to the wire and names to NQNs.
//
// # Desired state out
//
// BuildDn and BuildCn make a node's request from one transaction: all its
// objects with base 0, else those whose Version is above the base. Tombstones
// are in both. Sync sends the objects above the node's Applied
// version, and everything when the agent says that it does not hold the base.
//
// # Answers in
//
// Applied is the highest version up to which nothing is unfinished: an object
// in error, or a tombstone not carried out, holds it below its own version.
// So Applied < Version says exactly that a node needs another Sync, and the
// next delta names the unfinished objects again. The monitor needs no other
// list of half-done work.
//
// A tombstone whose object is gone loses its row, and gives its clusters back
// to the pd; the array's own row goes with the last of its parts. A primary
// that reports no error for the first time makes its array Created, after
// which no agent is ever asked to make its lvstore again. Package array writes
// these rows, as it does those of moves and replacements, whose plans the syncer
// carries out.
//
// A node that is new in the database may have been one before: its versions
// continue from the one that its agent holds. One that has objects, or has
// carried anything out, is older than its agent, and stays so until the
// operator says that the database counts.
//
// Nothing here holds a lock or a transaction while it waits for an agent. Two
// senders may sync one node at once: agents are idempotent, versions and
// Applied only grow, and a health that an overtaken reply wrote is corrected
// by the next heartbeat.
package syncer
