package lvol

import "github.com/virtual-disk-array/vda/nvme"

// keptPrefix begins the names of records among the attributes of the super blob. SPDK
// reads two others there, and leaves these as they are.
const keptPrefix = "vda.kept."

// Keep keeps a small record in the volume's lvstore, and not in the volume: snapshots and
// a rollback leave it alone. Names are the lvstore's; see bdev.Keeper. It does not hold up
// the volume's I/O.
func (v *Volume) Keep(name string, record []byte) nvme.Status {
	return v.st.super.Keep(keptPrefix+name, record)
}

// Kept returns a record of the volume's lvstore, see bdev.Keeper.
func (v *Volume) Kept(name string) []byte {
	record, _ := v.st.super.Xattr(keptPrefix + name)
	return record
}
