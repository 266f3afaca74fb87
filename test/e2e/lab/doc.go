// Package lab makes a rack of hosts on one machine: a bridge, hosts that are
// sets of Linux namespaces, and hosts that are emulated machines (package
// guest), all on one LAN.
//
// A namespace host has a network, a process table, a mount table and a host
// name of its own, and an overlay of this machine's root file system whose
// changes live in memory. What happens in it leaves no trace: when its first
// process ends, the kernel takes processes, mounts and interfaces away, and
// that process ends with the test's, however the test ends.
//
// It needs root and Linux's overlay, veth and tun drivers.
package lab
