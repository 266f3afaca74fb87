package spdktest

import "context"

// lvstore is the parameter object of methods that take an lvstore alone.
type lvstore struct {
	Name string `json:"lvs_name"`
}

// BdevLvolRenameLvstore renames an lvstore and with it its lvols' aliases.
func (m Methods) BdevLvolRenameLvstore(ctx context.Context, oldName, newName string) error {
	return m.do(ctx, "bdev_lvol_rename_lvstore", struct {
		Old string `json:"old_name"`
		New string `json:"new_name"`
	}{oldName, newName})
}

// Lvol is one element of bdev_lvol_get_lvols.
type Lvol struct {
	Alias                string `json:"alias"` // <lvstore>/<name>
	UUID                 string `json:"uuid"`  // also the bdev's name
	Name                 string `json:"name"`
	IsThinProvisioned    bool   `json:"is_thin_provisioned"`
	IsSnapshot           bool   `json:"is_snapshot"`
	IsClone              bool   `json:"is_clone"`
	IsEsnapClone         bool   `json:"is_esnap_clone"`
	IsDegraded           bool   `json:"is_degraded"`
	NumAllocatedClusters uint64 `json:"num_allocated_clusters"`
	Lvs                  struct {
		Name string `json:"name"`
		UUID string `json:"uuid"`
	} `json:"lvs"`
}

// BdevLvolGetLvols lists the lvols of an lvstore, of all when lvsName is "".
func (m Methods) BdevLvolGetLvols(ctx context.Context, lvsName string) ([]Lvol, error) {
	if lvsName == "" {
		return ask[[]Lvol](ctx, m, "bdev_lvol_get_lvols", nil)
	}
	return ask[[]Lvol](ctx, m, "bdev_lvol_get_lvols", lvstore{lvsName})
}

// BdevLvolSetReadOnly makes an lvol refuse writes, for good.
func (m Methods) BdevLvolSetReadOnly(ctx context.Context, lvol string) error {
	return m.do(ctx, "bdev_lvol_set_read_only", name{lvol})
}

// BdevLvolInflate allocates every cluster and drops the parent.
func (m Methods) BdevLvolInflate(ctx context.Context, lvol string) error {
	return m.do(ctx, "bdev_lvol_inflate", name{lvol})
}

// BdevLvolDecoupleParent copies what the parent has and drops it.
func (m Methods) BdevLvolDecoupleParent(ctx context.Context, lvol string) error {
	return m.do(ctx, "bdev_lvol_decouple_parent", name{lvol})
}
