// Package node is the Node service of the CSI driver: it connects a node's NVMe host to
// the controllers of a volume, and mounts what is on it.
//
// It keeps nothing. Which subsystem a volume is follows from the volume's id and the
// host's NQN, which controllers it has stands in sysfs, what is mounted where in the mount
// table; so a plugin that was killed in the middle of a call, or a node that was restarted,
// goes on from what is there.
//
// What touches the machine is behind two interfaces: Host is its NVMe host, FileSystems
// its mounts and what lies on block devices. Package linux has both; tests have others.
//
// Three rules keep data safe:
//
//   - only what is blank is formatted, and only that which is there by its UUID;
//   - nothing is disconnected to heal it: a lost controller is the kernel's to reconnect;
//   - Unstage fails until nothing of the volume is mounted and every controller of the
//     subsystem is gone, as another node may have the volume then.
package node
