// Package monitor watches the nodes of a cluster and sees to it that they
// become what SQL says.
//
// Every node has a goroutine that sends a heartbeat each Period and waits for
// the answer at most Timeout, which is shorter, so that a hung node is a
// missed beat and never a stuck loop. Beats of a node share a stream (rpc.Beats), which one that
// is not answered in time ends: a late answer is nobody's. What heartbeats find out is kept in
// memory; only a change of health is written to SQL. The heartbeat asks the
// data plane too: a hung data plane behind a healthy agent is a bad node.
//
// Decisions are made by a pure function, Plan: what SQL said last of a node,
// what the monitor remembers of it and one event go in, the new memory and
// steps come out. The node's goroutine carries the steps out. It never waits
// for a Sync: that runs beside it, one at a time for each node.
//
// # When the monitor itself is late
//
// A monitor that has no processor reads answers late, and must not take that for
// the silence of nodes. Its pulse measures for how long it is held up (pulse.go):
// heartbeats get that time in addition, and one that is missed although, or because,
// the monitor was held up is not counted as a miss. So such a monitor judges nobody
// until a period of its own beats has gone out without that, or until four times as many
// are missed. Syncs make room (gate.go): half as many are under way while it is
// held up. Health is written many nodes per transaction (reports.go), and the picture is
// read on connections to the database that nothing else takes.
//
// # When a node is synced
//
//   - its Applied version is below its Version for longer than Grace: the
//     portal has not got through, or an object is in error or half done;
//   - the agent holds a lower version than SQL thinks it has carried out: it
//     lost its state, and gets everything;
//   - agent or data plane have another start id than before: everything;
//   - FullPeriod has passed, or up to a quarter less, so that not all nodes are at it
//     at once: everything, to heal what nobody noticed.
//
// A Sync that did not get the node to its Version is tried again after a
// pause that doubles.
//
// # Several monitors
//
// Any number may run. Each changes a beat of its own in SQL every Refresh, and
// the nodes belong to those whose beat changes, by rendezvous hashing. One that
// has been held up for a quarter of the time has half of a share, then a quarter, until it
// is well for two minutes (share.go). A monitor whose beat does not get through stops to act after StaleAfter; the
// others take its nodes after Lease, which is longer. One that stalls and
// wakes up finds its picture stale and does nothing until it has a new one.
// Should two act on one node for a moment, when one has joined, then no harm
// is done: agents refuse older versions and terms, and a move is void when the
// array's term has changed since it was decided.
//
// A node that is silent to the monitor it belongs to, and heard by another, is
// not down: the others are asked before. See hear.go.
//
// # Primaries
//
// Those of a cn that is down move (failover.go), when the lease that heartbeats
// gave them is over (grant.go); so do those that alone do not reach a dn
// (reach.go). Which cns are left, and where each array goes, is decided by two
// pure functions, PlanLeave and PlanMoves. Controllers of a cn that stays away are
// replaced on other cns (repair.go).
//
// # When the database is away
//
// Nothing is decided on a picture of the cluster that is older than
// StaleAfter: no Sync, no health, no failover. Heartbeats go on, so that
// decisions are right at once when the database is back. Node and data path
// need no database.
package monitor
