// Package csi tests the CSI driver on a whole cluster in one process: portal, monitor,
// agents and data planes as they are, NVMe/TCP over loopback. The kernel that builds and
// tests run on need have no NVMe host: the node's side is nvmf/host, which is no kinder
// than Linux's, and a model of the mount table that refuses what a kernel refuses, and
// fails the test for what would lose data there: a disconnect under a mount, a format of
// what is not blank. What it formats and mounts is on the array, written and read by
// NVMe/TCP. The kernel itself is tested by test/e2e in a Linux guest. The commands of
// docs/volumes.md are typed on such a cluster, too.
package csi
