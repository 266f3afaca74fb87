package array

import (
	"fmt"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/store"
)

// MayGrow refuses a size that an array cannot be given while it serves. It grows
// within what it has bought, or promises more if it is thin already.
func MayGrow(tx store.Reader, da *vda.DA, size uint64) error {
	refuse := func(format string, args ...any) error {
		return &vda.Error{Kind: vda.FailedPrecondition, Op: "grow", Object: "da " + da.Name, Msg: fmt.Sprintf(format, args...)}
	}
	if err := vda.CheckSize("da_size", size, da.ClusterSize); err != nil {
		return err
	}
	switch {
	case size < da.Size:
		return refuse("da_size is %d bytes, and the array has %d: it is not made smaller, as that would drop what hosts have written", size,
			da.Size)
	case size == da.Size:
		return nil
	case !da.Created:
		return refuse("it has never been up")
	case !da.Thin() && size > da.PhysicalSize:
		return refuse("da_size is %d bytes, and the array has bought %d (physical_size); give it more of that first", size,
			da.PhysicalSize)
	case da.Thin() && size > vda.MaxThin*da.PhysicalSize:
		return refuse("da_size is %d bytes, more than %d times physical_size; the largest for this array is %d", size, vda.MaxThin,
			vda.MaxThin*da.PhysicalSize)
	}
	if err := roomBesideSnaps(tx, da, size, refuse); err != nil {
		return err
	}
	return eachCN(tx, da, func(cn *vda.CN) error {
		if cn.OnSPDK() {
			return refuse("cn %s of it runs SPDK (%s), which cannot safely grow an array that is in use; run vda_tgt on all its cns", cn.Name,
				cn.DataPlaneVersion)
		}
		return nil
	})
}

// eachCN calls f with the cns of an array's controllers, until f returns an error.
func eachCN(tx store.Reader, da *vda.DA, f func(*vda.CN) error) error {
	cntlrs, err := tx.CntlrsOfDA(da.ID)
	if err != nil {
		return err
	}
	for i := range cntlrs {
		if cntlrs[i].Deleted {
			continue
		}
		cn, err := tx.CN(cntlrs[i].CNID)
		if err != nil {
			return err
		}
		if err := f(cn); err != nil {
			return err
		}
	}
	return nil
}

// roomBesideSnaps refuses a size to which an array that is not thin could not be
// written, as its snapshots hold too much.
func roomBesideSnaps(tx store.Reader, da *vda.DA, size uint64, refuse func(string, ...any) error) error {
	snaps, err := tx.SnapsOfDA(da.ID)
	if err != nil || da.Thin() {
		return err
	}
	held := uint64(0)
	for i := range snaps {
		held += snaps[i].Claims()
	}
	if size+held > da.PhysicalSize {
		return refuse("da_size is %d bytes, and of physical_size, %d bytes, its snapshots hold %d, writable ones at their full size (snap "+
			"list); delete some, or grow to %d at most", size, da.PhysicalSize, held, max(da.PhysicalSize-min(held, da.PhysicalSize), da.Size))
	}
	return nil
}
