package spdk

import (
	"context"
	"time"
)

// LvstoreCreate are the parameters of bdev_lvol_create_lvstore. It writes to
// the bdev at once, whatever was on it.
type LvstoreCreate struct {
	BdevName  string `json:"bdev_name"`
	LvsName   string `json:"lvs_name"`             // at most 63 bytes
	ClusterSz uint32 `json:"cluster_sz,omitempty"` // bytes; 0: 4 MiB
	// ClearMethod of the data region: none, unmap (default), write_zeroes.
	ClearMethod string `json:"clear_method,omitempty"`
	// NumMDPagesPerClusterRatio is metadata pages per data cluster in
	// percent; 0: 100.
	NumMDPagesPerClusterRatio uint32 `json:"num_md_pages_per_cluster_ratio,omitempty"`
}

// Lvstore is one element of bdev_lvol_get_lvstores.
type Lvstore struct {
	UUID              string `json:"uuid"`
	Name              string `json:"name"`
	BaseBdev          string `json:"base_bdev"`
	TotalDataClusters uint64 `json:"total_data_clusters"`
	FreeClusters      uint64 `json:"free_clusters"`
	BlockSize         uint64 `json:"block_size"`   // bytes
	ClusterSize       uint64 `json:"cluster_size"` // bytes

	Failed string `json:"failed"` // of vda_tgt: why the store does no I/O any more; "": it does
}

// lvsSelect names an lvstore by name.
type lvsSelect struct {
	LvsName string `json:"lvs_name"`
}

// BdevLvolCreateLvstore makes an lvstore and returns its UUID.
func (a API) BdevLvolCreateLvstore(ctx context.Context, p LvstoreCreate) (string, error) {
	return ask[string](ctx, a, "bdev_lvol_create_lvstore", p)
}

// BdevLvolDeleteLvstore destroys an lvstore and every lvol in it.
func (a API) BdevLvolDeleteLvstore(ctx context.Context, lvsName string) error {
	return a.do(ctx, "bdev_lvol_delete_lvstore", lvsSelect{lvsName})
}

// BdevLvolGetLvstores lists the loaded lvstores.
func (a API) BdevLvolGetLvstores(ctx context.Context) ([]Lvstore, error) {
	return ask[[]Lvstore](ctx, a, "bdev_lvol_get_lvstores", nil)
}

// BdevLvolGetLvstore returns one by name; IsNoSuchDevice when there is none.
func (a API) BdevLvolGetLvstore(ctx context.Context, lvsName string) (*Lvstore, error) {
	l, err := ask[[]Lvstore](ctx, a, "bdev_lvol_get_lvstores", lvsSelect{lvsName})
	if err != nil {
		return nil, err
	}
	if len(l) != 1 {
		return nil, &RPCError{Code: -19, Message: "no such lvstore in the reply: " + lvsName, Method: "bdev_lvol_get_lvstores"}
	}
	return &l[0], nil
}

type renameParams struct {
	OldName string `json:"old_name"`
	NewName string `json:"new_name"`
}

// LvolCreate are the parameters of bdev_lvol_create.
type LvolCreate struct {
	LvsName       string `json:"lvs_name"`
	LvolName      string `json:"lvol_name"`             // at most 63 bytes
	SizeInMiB     uint64 `json:"size_in_mib,omitempty"` // rounded up to whole clusters
	Size          uint64 `json:"size,omitempty"`        // the same in bytes, in place of it: SPDK before 23.05
	ThinProvision bool   `json:"thin_provision"`
	// ClearMethod of the lvol's clusters when it is made and deleted: none,
	// unmap (default), write_zeroes.
	ClearMethod string `json:"clear_method,omitempty"`
}

// BdevLvolCreate makes an lvol and returns its UUID, which is its bdev's name.
func (a API) BdevLvolCreate(ctx context.Context, p LvolCreate) (string, error) {
	return ask[string](ctx, a, "bdev_lvol_create", p)
}

// BdevLvolDelete deletes an lvol, named by UUID or alias like in all that
// follow. A snapshot with more than one clone is refused (-1).
func (a API) BdevLvolDelete(ctx context.Context, lvol string) error {
	return a.do(ctx, "bdev_lvol_delete", name{lvol})
}

// BdevLvolGrowLvstore has an lvstore use the space by which its base bdev has grown;
// nothing when it has not. -28 when its metadata have no room to tell of so much.
func (a API) BdevLvolGrowLvstore(ctx context.Context, lvsName string) error {
	return a.do(ctx, "bdev_lvol_grow_lvstore", lvsSelect{lvsName})
}

// BdevLvolResize changes the size of an lvol; shrinking drops data. -28 when there is no
// space for it.
func (a API) BdevLvolResize(ctx context.Context, lvol string, sizeInMiB uint64) error {
	return a.do(ctx, "bdev_lvol_resize", struct {
		Name string `json:"name"`
		Size uint64 `json:"size_in_mib"`
	}{lvol, sizeInMiB})
}

// VdaLvolGrow makes an lvol larger, and never smaller; what is added reads as zeros.
// -16 while the lvol is being changed, -28 when there is no space for it.
func (a API) VdaLvolGrow(ctx context.Context, lvol string, sizeInMiB uint64) error {
	return a.do(ctx, "vda_lvol_grow", struct {
		Name string `json:"name"`
		Size uint64 `json:"size_in_mib"`
	}{lvol, sizeInMiB})
}

// LvolAbsorbed is how far an lvol has come in being without what is outside its lvstore.
type LvolAbsorbed struct {
	Done        uint64 `json:"done_clusters"`
	Total       uint64 `json:"total_clusters"`
	Independent bool   `json:"independent"`
}

// BdevLvolCloneBdev makes a writable lvol on a bdev outside the lvstore, which must not be
// written to any more; it returns the lvol's UUID.
func (a API) BdevLvolCloneBdev(ctx context.Context, bdev, lvsName, cloneName string) (string, error) {
	return ask[string](ctx, a, "bdev_lvol_clone_bdev", struct {
		Bdev  string `json:"bdev"`
		Store string `json:"lvs_name"`
		Clone string `json:"clone_name"`
	}{bdev, lvsName, cloneName})
}

// VdaLvolAbsorb copies a part of what an lvol made by BdevLvolCloneBdev reads from outside
// its lvstore, and lets the bdev go with the last part. -16 while the lvol is being
// changed, -28 when there is no space for it, -19 while the bdev is missing.
func (a API) VdaLvolAbsorb(ctx context.Context, lvol string, sizeInMiB uint64, thick bool) (LvolAbsorbed, error) {
	return ask[LvolAbsorbed](ctx, a, "vda_lvol_absorb", struct {
		Name  string `json:"name"`
		Size  uint64 `json:"size_in_mib"`
		Thick bool   `json:"thick"`
	}{lvol, sizeInMiB, thick})
}

// BdevLvolRename gives an lvol another name in its lvstore.
func (a API) BdevLvolRename(ctx context.Context, lvol, newName string) error {
	return a.do(ctx, "bdev_lvol_rename", renameParams{lvol, newName})
}

// BdevLvolClone makes a thin writable lvol on a snapshot and returns its UUID.
func (a API) BdevLvolClone(ctx context.Context, snapshot, cloneName string) (string, error) {
	return ask[string](ctx, a, "bdev_lvol_clone", struct {
		Snapshot string `json:"snapshot_name"`
		Clone    string `json:"clone_name"`
	}{snapshot, cloneName})
}

// BdevLvolSnapshot makes a snapshot of an lvol, which becomes its clone, and returns
// its UUID.
func (a API) BdevLvolSnapshot(ctx context.Context, lvol, snapshotName string) (string, error) {
	return ask[string](ctx, a, "bdev_lvol_snapshot", struct {
		Lvol     string `json:"lvol_name"`
		Snapshot string `json:"snapshot_name"` // at most 63 bytes
	}{lvol, snapshotName})
}

// VdaLvolSnapshotHold is BdevLvolSnapshot that holds the lvol's I/O from the snapshot's
// moment until VdaLvolRelease, for limit at most. -110 when that was not possible in time:
// there is no snapshot then, and nothing is held; -16 while it is held for another.
func (a API) VdaLvolSnapshotHold(ctx context.Context, lvol, snapshotName string, limit time.Duration) (string, error) {
	return ask[string](ctx, a, "vda_lvol_snapshot_hold", struct {
		Lvol     string `json:"lvol_name"`
		Snapshot string `json:"snapshot_name"`
		Limit    int64  `json:"limit_ms"`
	}{lvol, snapshotName, limit.Milliseconds()})
}

// LvolReleased is how the hold of an lvol's I/O ended.
type LvolReleased struct {
	InForce bool   `json:"in_force"` // it was held from the snapshot's moment until it was released
	HeldUS  uint64 `json:"held_us"`
}

// VdaLvolRelease ends what VdaLvolSnapshotHold began.
func (a API) VdaLvolRelease(ctx context.Context, lvol, snapshotName string) (LvolReleased, error) {
	return ask[LvolReleased](ctx, a, "vda_lvol_release", struct {
		Lvol     string `json:"lvol_name"`
		Snapshot string `json:"snapshot_name"`
	}{lvol, snapshotName})
}
