// Package dn is the disk node's agent. Its objects are physical disks (pd: a
// bdev with an lvstore) and virtual disks (vd: an lvol, exported to the one
// controller that may write it).
//
// # Format once
//
// A disk carries its stamp as the name of its lvstore,
// vda-<first 16 digits of the cluster id>-<pd id>. It is read before the data
// plane gets the disk, and a disk with another stamp is refused. A disk without
// one is formatted only when the pd says so (PdSpec.format) and only when it is
// blank, see package disk; a disk that cannot be read is not formatted. One that
// is not blank is shown in the pd's state, and wiped when a later pd says
// "wipe":true in its conf and the disk still holds what was shown.
//
// What a crash leaves of a format is taken up on that disk alone: the note of
// it, in the state directory, names the medium and not the path. A pd that was
// formatted is never formatted again, and no file is made for it. The disk of a
// deleted pd is left blank.
//
// # Zero before use
//
// A new vd is an lvol named vda-vd-<id>-new until all of it has been
// overwritten with zeros; then it is renamed to vda-vd-<id> and exported. A
// crash in between starts the zeroing over. So a vd never shows what another
// tenant left on the disk.
//
// # Lost is not new
//
// That a vd has been made is remembered in the state directory. When its lvol
// is gone all the same, as everything on a malloc pd is after a restart of the
// data plane, the vd is reported as lost and is not exported: to hand out
// zeros in the place of data would corrupt the array silently. A malloc pd
// itself is made and formatted again, for new vds.
//
// # Fence
//
// A vd's subsystem admits the host NQN of the current term and nobody else.
// When the term changes, the old host is removed first, which returns when
// its connections are closed and its writes have settled, and then the new
// one is added; only then is the Sync answered.
package dn
