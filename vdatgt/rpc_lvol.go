package vdatgt

import (
	"context"
	"fmt"
	"math"
	"syscall"
	"time"

	"github.com/virtual-disk-array/vda/module/lvol"
	"github.com/virtual-disk-array/vda/spdk/jsonrpc"
)

func lvolMethods() []*Method {
	return []*Method{
		method("bdev_lvol_create", "Makes an lvol; returns its UUID, which is its bdev's name.", createLvol, slow),
		method("bdev_lvol_delete", "Deletes an lvol.", deleteLvol, slow),
		method("bdev_lvol_rename", "Gives an lvol another name.", renameLvol, slow),
		method("bdev_lvol_resize", "Changes the size of an lvol. Shrinking drops data; what is added reads as zeros.", resizeLvol, slow),
		method("vda_lvol_grow", "Makes an lvol larger; one that is as large, or larger, stays as it is. What is added reads as zeros.",
			growLvol, slow),
		method("bdev_lvol_set_read_only", "Makes an lvol refuse writes for good.", readOnlyLvol, slow),
		method("bdev_lvol_snapshot", "Makes a snapshot of an lvol; returns its UUID.", snapshotLvol, slow),
		method("vda_lvol_snapshot_hold", "Makes a snapshot of an lvol and holds the lvol's I/O from the snapshot's moment until "+
			"vda_lvol_release, so that snapshots of several lvols, also of several processes, show one moment; returns its UUID. -110 when "+
			"that was not possible within limit_ms; then there is no snapshot, and nothing is held.", snapshotHoldLvol, slow),
		method("vda_lvol_release", "Ends the hold that vda_lvol_snapshot_hold began. Returns in_force and held_us: a snapshot is of one "+
			"moment with others only if in_force is true of all.", releaseLvol, returns(releaseLvolReply{})),
		method("bdev_lvol_clone", "Makes a writable lvol on a snapshot; returns its UUID.", cloneLvol, slow),
		method("bdev_lvol_clone_bdev",
			"Makes a writable lvol on a bdev outside the lvstore, which must not be written to any more; returns its UUID.", cloneBdev, slow),
		method("vda_lvol_absorb", "Copies a part of what an lvol made by bdev_lvol_clone_bdev reads from outside its lvstore; with the "+
			"last part the lvol lets the bdev go, for good. Returns done_clusters, total_clusters and independent.", absorbLvol, slow),
		method("bdev_lvol_inflate", "Allocates every cluster of an lvol and cuts it off from its parent.", inflateLvol, slow),
		method("bdev_lvol_decouple_parent", "Copies the clusters an lvol has from its parent and cuts it off.", decoupleLvol, slow),
		method("bdev_lvol_get_lvols", "Lists the lvols of all lvstores or of one.", getLvols, optional),
	}
}

type createLvolParams struct {
	Name  string `rpc:"lvol_name" doc:"1 to 63 bytes"`
	Size  uint64 `rpc:"size_in_mib" doc:"MiB, rounded up to whole clusters"`
	Thin  bool   `rpc:"thin_provision,optional" doc:"allocate clusters when they are first written"`
	UUID  string `rpc:"uuid,optional" doc:"UUID of the lvstore, or its name below"`
	Store string `rpc:"lvs_name,optional" doc:"name of the lvstore"`
	Clear string `rpc:"clear_method,optional" doc:"of its clusters: none, unmap (default) or write_zeroes"`
}

// mib converts a size; one that does not fit counts as the largest there is,
// which no lvstore has.
func mib(n uint64) uint64 {
	if n > math.MaxUint64>>21 {
		return math.MaxUint64 >> 1 &^ (1<<20 - 1)
	}
	return n << 20
}

func createLvol(ctx context.Context, t *Target, p createLvolParams) (any, error) {
	how, ok := clearMethod(p.Clear)
	if !ok {
		return nil, &jsonrpc.Error{Code: -int(syscall.EINVAL), Message: "Invalid clean_method option", Data: p.Clear}
	}
	st, err := t.lvstore(p.UUID, p.Store)
	if err != nil {
		return nil, err
	}
	v, err := st.CreateVolume(lvol.VolumeOpts{Name: p.Name, Bytes: mib(p.Size), Thin: p.Thin, Clear: how})
	if err != nil {
		return nil, lvolError(err)
	}
	if err := t.examines.waitAppeared(ctx); err != nil {
		return nil, err
	}
	return v.UUID().String(), nil
}

// lvol finds an lvol by UUID or alias.
func (t *Target) lvol(name string) (*lvol.Volume, error) {
	v, ok := t.lvols.Volume(name)
	if !ok {
		return nil, jsonrpc.Errno(syscall.ENODEV, fmt.Sprintf("there is no lvol %q", name))
	}
	return v, nil
}

// onLvol carries out an operation on a named lvol that returns nothing.
func onLvol(t *Target, name string, f func(*lvol.Volume) error) (any, error) {
	v, err := t.lvol(name)
	if err != nil {
		return nil, err
	}
	if err := f(v); err != nil {
		return nil, lvolError(err)
	}
	return true, nil
}

func deleteLvol(_ context.Context, t *Target, p nameParams) (any, error) {
	v, err := t.lvol(p.Name)
	if err != nil {
		return nil, err
	}
	if err := v.Delete(); err != nil {
		// SPDK has yet another code here, for a snapshot with several clones.
		e := jsonrpc.AsError(err)
		return nil, internal(e.Message, e.Data)
	}
	return true, nil
}

func renameLvol(_ context.Context, t *Target, p renameParams) (any, error) {
	return onLvol(t, p.Old, func(v *lvol.Volume) error {
		if v.Name() == p.New { // SPDK finds the name taken, by the lvol itself
			return &jsonrpc.Error{Code: jsonrpc.CodeInvalidParams, Message: "File exists"}
		}
		return v.Rename(p.New)
	})
}

type resizeLvolParams struct {
	Name string `rpc:"name" doc:"UUID or alias of the lvol"`
	Size uint64 `rpc:"size_in_mib" doc:"MiB, rounded up to whole clusters"`
}

func resizeLvol(_ context.Context, t *Target, p resizeLvolParams) (any, error) {
	return onLvol(t, p.Name, func(v *lvol.Volume) error { return v.Resize(mib(p.Size)) })
}

func growLvol(_ context.Context, t *Target, p resizeLvolParams) (any, error) {
	return onLvol(t, p.Name, func(v *lvol.Volume) error { return v.Grow(mib(p.Size)) })
}

func readOnlyLvol(_ context.Context, t *Target, p nameParams) (any, error) {
	return onLvol(t, p.Name, (*lvol.Volume).SetReadOnly)
}

type snapshotParams struct {
	Lvol     string `rpc:"lvol_name" doc:"UUID or alias of the lvol"`
	Snapshot string `rpc:"snapshot_name" doc:"name of the snapshot"`
}

func snapshotLvol(_ context.Context, t *Target, p snapshotParams) (any, error) {
	v, err := t.lvol(p.Lvol)
	if err != nil {
		return nil, err
	}
	s, err := v.Snapshot(p.Snapshot)
	if err != nil {
		return nil, lvolError(err)
	}
	return s.UUID().String(), nil
}

type snapshotHoldParams struct {
	Lvol     string `rpc:"lvol_name" doc:"UUID or alias of the lvol"`
	Snapshot string `rpc:"snapshot_name" doc:"name of the snapshot"`
	Limit    uint32 `rpc:"limit_ms" doc:"milliseconds from the beginning of the hold to its end by itself, 1 to 10000"`
}

// maxHold bounds what hosts may be made to wait, in ms: they give a command up after 30 s.
const maxHold = 10000

func snapshotHoldLvol(_ context.Context, t *Target, p snapshotHoldParams) (any, error) {
	if p.Limit == 0 || p.Limit > maxHold {
		return nil, jsonrpc.Errno(syscall.EINVAL, fmt.Sprintf("limit_ms %d must lie in 1 to %d", p.Limit, maxHold))
	}
	v, err := t.lvol(p.Lvol)
	if err != nil {
		return nil, err
	}
	s, err := v.SnapshotHold(p.Snapshot, time.Duration(p.Limit)*time.Millisecond)
	if err != nil {
		return nil, jsonrpc.AsError(err)
	}
	return s.UUID().String(), nil
}

type releaseLvolParams struct {
	Lvol     string `rpc:"lvol_name" doc:"UUID or alias of the lvol"`
	Snapshot string `rpc:"snapshot_name" doc:"name of the snapshot that its I/O is held for"`
}

type releaseLvolReply struct {
	InForce bool   `json:"in_force" doc:"the lvol's I/O was held from the snapshot's moment until now"`
	HeldUS  uint64 `json:"held_us" doc:"microseconds for which it was held"`
}

func releaseLvol(_ context.Context, t *Target, p releaseLvolParams) (any, error) {
	v, err := t.lvol(p.Lvol)
	if err != nil {
		return nil, err
	}
	held, inForce := v.Release(p.Snapshot)
	return releaseLvolReply{inForce, uint64(held.Microseconds())}, nil
}

type cloneParams struct {
	Snapshot string `rpc:"snapshot_name" doc:"UUID or alias of the snapshot"`
	Clone    string `rpc:"clone_name" doc:"name of the clone"`
}

func cloneLvol(_ context.Context, t *Target, p cloneParams) (any, error) {
	v, err := t.lvol(p.Snapshot)
	if err != nil {
		return nil, err
	}
	c, err := v.Clone(p.Clone)
	if err != nil {
		return nil, lvolError(err)
	}
	return c.UUID().String(), nil
}

type cloneBdevParams struct {
	Bdev  string `rpc:"bdev" doc:"name, alias or UUID of the bdev; its size is a multiple of the cluster size"`
	Store string `rpc:"lvs_name" doc:"name of the lvstore"`
	Clone string `rpc:"clone_name" doc:"name of the clone"`
}

func cloneBdev(_ context.Context, t *Target, p cloneBdevParams) (any, error) {
	st, err := t.lvstore("", p.Store)
	if err != nil {
		return nil, &jsonrpc.Error{Code: jsonrpc.CodeInvalidParams, Message: "lvs does not exist", Data: p.Store}
	}
	i, ok := t.reg.Info(p.Bdev)
	if !ok {
		return nil, &jsonrpc.Error{Code: jsonrpc.CodeInvalidParams, Message: "bdev does not exist", Data: p.Bdev}
	}
	if v, ok := t.lvols.Volume(p.Bdev); ok && v.Store() == st {
		return nil, &jsonrpc.Error{Code: jsonrpc.CodeInvalidParams, Message: "bdev is an lvol in same lvs as clone; use bdev_lvol_clone instead"}
	}
	v, err := st.CloneBdev(i.Name, p.Clone)
	if err != nil {
		return nil, lvolError(err)
	}
	return v.UUID().String(), nil
}

type absorbLvolParams struct {
	Name  string `rpc:"name" doc:"UUID or alias of the lvol"`
	Most  uint64 `rpc:"size_in_mib" doc:"MiB that are copied at most, a cluster at least"`
	Thick bool   `rpc:"thick,optional" doc:"it gets all its clusters; else what is zeros outside takes none"`
}

type absorbLvolReply struct {
	Done        uint64 `json:"done_clusters"`
	Total       uint64 `json:"total_clusters"`
	Independent bool   `json:"independent"`
}

func absorbLvol(_ context.Context, t *Target, p absorbLvolParams) (any, error) {
	v, err := t.lvol(p.Name)
	if err != nil {
		return nil, err
	}
	a, err := v.Absorb(mib(p.Most), p.Thick)
	if err != nil {
		return nil, lvolError(err)
	}
	return absorbLvolReply{a.Done, a.Total, a.Independent}, nil
}

func inflateLvol(_ context.Context, t *Target, p nameParams) (any, error) {
	return onLvol(t, p.Name, (*lvol.Volume).Inflate)
}

func decoupleLvol(_ context.Context, t *Target, p nameParams) (any, error) {
	return onLvol(t, p.Name, (*lvol.Volume).DecoupleParent)
}

type getLvolsParams struct {
	UUID string `rpc:"lvs_uuid,optional" doc:"of the lvstore with this UUID"`
	Name string `rpc:"lvs_name,optional" doc:"of the lvstore with this name"`
}

func getLvols(_ context.Context, t *Target, p getLvolsParams) (any, error) {
	stores := t.lvols.Stores()
	if p.UUID != "" || p.Name != "" {
		st, err := t.lvstore(p.UUID, p.Name)
		if err != nil {
			return nil, err
		}
		stores = []*lvol.Store{st}
	}
	out := []lvol.VolumeInfo{}
	for _, st := range stores {
		for _, v := range st.Volumes() {
			out = append(out, v.Describe())
		}
	}
	return out, nil
}
