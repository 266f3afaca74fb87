// Package array has the transitions of disk arrays and of what they stand on:
// an array is created, moved, repaired, deleted; an exporter, a pd or a node's
// address comes, changes and goes; a node is lost for good. Each is a function
// over a transaction of the store. It decides nothing that needs more than the
// rows (places come from package placement, what to move from monitor), waits
// for nobody and sends nothing.
//
// # A change
//
// A [Change] gathers what a transition touches and writes it at the end: each node
// whose desired state differs gets a new version, once, and the rows of its objects
// are stamped with it, so that the next Sync of that node names them. Nothing
// else raises a version: a test type-checks the source for it.
//
// # The lock order
//
// A row that a transaction has read or written is locked until it ends. All
// transitions lock in one order, so that no two wait for each other. The cluster's own
// row comes before all: who gives a node an address locks it.
//
//  1. arrays, by id. An array's lock also guards its own rows (groups, vds,
//     controllers, exporters and their states), which have no order among themselves;
//  2. pds, by id;
//  3. cns, by id, then dns, by id.
//
// Change keeps to it: LockArrays and LockPDs sort, and Write visits the nodes in
// order and then writes rows that are new or locked by then. A transition that
// reads more does so in this order. storetest.Ordered checks it in tests, and on
// PostgreSQL a test runs transitions at once of which none may meet a deadlock.
// Callers that look up a pd or node by its name do so without a lock (Unlocked), and
// lock what they found when it is its turn, unless the node is all that they lock.
//
// What happens to the legs of many arrays at once, as when a dn dies, is made together: a [LegChange] is
// judged by the rows of its own array, and all of them end in one Change, which locks the arrays
// first, raises each node once, and writes rows that come to be the same with one statement.
//
// # A plan
//
// A transition returns a [Plan]: which nodes have to learn of it, in which stages.
// The plan's owner (portal or syncer) may stop anywhere: what is left stands in
// the database as versions that nodes have not applied, and the monitors finish it.
//
// # A new transition
//
// Lock the array, read its parts, change their rows, hand each to the Change
// (updateVD, insertCntlr, then for rows without a version), add the nodes to a plan, and
// Write. A group that an array grows by is takeSpace and addGroup; a leg that joins
// or leaves a mirror is an update of its vd, which tells the dn, and of the primary's
// controller, which tells the cn; a snapshot is a row behind the update of the
// primary's controller alone. A decision that was made for a term or a generation
// of the array carries it along and is void when the array has another by then, as
// [Move] is. TestTransitions has one line per transition: its plan, and which versions it
// raises.
package array
