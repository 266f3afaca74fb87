// Package volume is what the services of the CSI driver have to agree on: how volumes,
// snapshots, exporters and nodes are named, what a StorageClass may say, and what the
// controller tells a node. All of it is pure.
//
// # Names
//
// A volume is an array, a snapshot a snap, a published node an exporter. Names follow
// from what the orchestrator calls them, so that a call that is repeated finds what the
// first one made:
//
//	array     the volume's name, or "csi-" and a hash of one that no array can have
//	snap      the snapshot's name, likewise
//	exporter  "csi-" and a hash of the node's NQN
//	volume    ARRAY, or PORTAL,PORTAL/ARRAY when the StorageClass names portals
//	snapshot  VOLUME@SNAP
//	node      the NQN of its host
//
// Arrays, snaps and exporters that the driver has made carry its label; it touches no
// others.
package volume
