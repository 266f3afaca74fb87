// Package lvol is the logical volume module (SPDK's vbdev_lvol): lvstores on
// block devices and their volumes as block devices.
//
// A Module holds all lvstores of one registry. An lvstore claims its base
// device. Each volume is registered as a bdev whose name is its UUID and
// whose alias is "lvs_name/lvol_name"; product "Logical Volume".
//
// All methods are safe for concurrent use and block until what they did is
// durable. Errors carry SPDK's errno (errors.Is(err, syscall.EEXIST)); Late
// tells which of them SPDK reports from a callback, which is a different code
// in its JSON-RPC reply.
//
// Nothing here deletes data unless asked to: Unload and the removal of a base
// device only close.
package lvol
