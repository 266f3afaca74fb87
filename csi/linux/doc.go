// Package linux is a Linux machine to the CSI driver's node: its NVMe host, which is the
// kernel's, its mounts, and what lies on its block devices.
//
// Connections are made by writing to /dev/nvme-fabrics and ended by delete_controller in
// sysfs, which is all that nvme-cli and libnvme do: so no program has to be on the node for
// it, none has an output to be parsed, and errors are those of the kernel. Devices are
// found in sysfs by subsystem NQN and namespace UUID, never by the name of a device, which
// passes on to others. The driver has to be in the network namespace of the machine, as
// the kernel connects from that of the process that asks.
//
// blkid, mkfs and fsck are the machine's own programs, run in its root: file systems are
// made by the tools of the distribution that will mount them. Growth is an ioctl of the
// mounted file system.
//
// # Formatting
//
// A volume is blank when blkid knows nothing of it and all that is read of it, its begin,
// its end and samples between, is zero: arrays are zero when they are new. While mkfs runs,
// the last block of the device has a stamp with the volume's id; the file system is made
// 1 MiB smaller than the device, so that mkfs does not write there, and grows over it once
// it is mounted, when the stamp is gone. A volume with its own stamp was never mounted, and
// is formatted from the beginning.
package linux
