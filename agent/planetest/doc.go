// Package planetest is a model of a data plane for tests of agents: bdevs,
// lvstores, raids, NVMe-oF subsystems and the connections between several
// such planes, behind SPDK's JSON-RPC on a real socket. No data is stored; of
// a disk it is known which lvstore is on it and whether it reads as zeros.
//
// A live cluster (NewLive) is for simulations in fake time, see package sim: its
// planes have no socket, hang and crash, keep connections that a network can
// cut, and carry out reads and writes of blocks, which take time on every way
// and at every disk.
//
// A Cluster is the network and the disks, which outlive a Plane: a Plane that
// is stopped and started again is empty like a restarted process, and finds on
// its aio disks what was on them.
package planetest
