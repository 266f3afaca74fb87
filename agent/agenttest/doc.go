// Package agenttest is the suite that holds every implementation of DnAgent and
// CnAgent to the contract that portal, syncer and monitor rely on: the two
// agents, and the fake that their callers are tested with.
//
// The contract is about what an agent accepts and remembers, not about what its
// data plane does:
//
//   - An agent is one node of one cluster as soon as a Sync has said so. It
//     becomes another node only when it holds nothing.
//   - Versions rise. A request of an older version, or a delta on a version that
//     the agent does not hold, is refused with FailedPrecondition and carries
//     the version held (SyncReply in the status details). The version and the
//     base held are accepted again, as the reply may have been lost.
//   - Terms of an array never fall, until a full set without the array has
//     been followed by another.
//   - What is refused changes nothing.
//   - A full set replaces the desired set. What it no longer names, and was not
//     a tombstone, is an orphan: kept, listed, and no orphan once it is named
//     again. A set that would leave nothing takes allow_empty.
//   - A tombstone is answered with Gone, each time.
//   - A restart of the agent's process changes nothing of this.
package agenttest
