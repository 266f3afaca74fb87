// Package bdevnvme makes block devices of the namespaces of remote
// controllers, as SPDK's bdev_nvme does: Attach connects a controller under a
// name and registers <name>n<nsid> for each of its namespaces; namespaces
// that come, go or grow later are followed.
//
// # Paths
//
// Several attachments under one name are paths to the same subsystem. With
// multipath each has its own connections, and I/O goes to a path whose ANA
// state is optimized, else to one that is non-optimized. With failover one
// path has connections, and the others are tried when they break.
//
// # Errors
//
// A request that fails because of its path (a lost connection, an ANA
// status) is sent again on another path; without one it waits while a path
// may come back, which the time-outs of Attach bound as they do in SPDK. After
// that it fails with nvme.InternalPathError: a host in front of us then tries
// its own other paths. A lost path is never reported as an error of the
// medium, nor of the namespace.
//
// Nothing is durable here, and nothing waits for ever: Detach fails what waits
// for a path, and ends connections that do not answer.
package bdevnvme
