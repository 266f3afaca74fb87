// Package monitor watches the nodes of a cluster and sees to it that they
// become what SQL says.
//
// Every node has a goroutine that sends a heartbeat each Period and waits for
// the answer at most Timeout, which is shorter, so that a hung node is a
// missed beat and never a stuck loop. What heartbeats find out is kept in
// memory; only a change of health is written to SQL. The heartbeat asks the
// data plane too: a hung data plane behind a healthy agent is a bad node.
//
// Decisions are made by a pure function, Plan: what SQL said last of a node,
// what the monitor remembers of it and one event go in, the new memory and
// steps come out. The node's goroutine carries the steps out. It never waits
// for a Sync: that runs beside it, one at a time for each node.
//
// # When a node is synced
//
//   - its Applied version is below its Version for longer than Grace: the
//     portal has not got through, or an object is in error or half done;
//   - the agent holds a lower version than SQL thinks it has carried out: it
//     lost its state, and gets everything;
//   - agent or data plane have another start id than before: everything;
//   - FullPeriod has passed: everything, to heal what nobody noticed.
//
// A Sync that did not get the node to its Version is tried again after a
// pause that doubles.
//
// # When the database is away
//
// Nothing is decided on a picture of the cluster that is older than
// StaleAfter: no Sync, no health, no failover. Heartbeats go on, so that
// decisions are right at once when the database is back. Node and data path
// need no database.
package monitor
