// Package agenttest is a model of a data plane for tests of agents: bdevs,
// lvstores, raids, NVMe-oF subsystems and the connections between several
// such planes, behind SPDK's JSON-RPC on a real socket. No data is stored; of
// a disk it is known which lvstore is on it and whether it reads as zeros.
//
// A Cluster is the network and the disks, which outlive a Plane: a Plane that
// is stopped and started again is empty like a restarted process, and finds on
// its aio disks what was on them.
package agenttest
