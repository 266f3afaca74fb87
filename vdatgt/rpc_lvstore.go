package vdatgt

import (
	"context"
	"errors"
	"fmt"
	"syscall"

	"github.com/virtual-disk-array/vda/module/lvol"
	"github.com/virtual-disk-array/vda/spdk/jsonrpc"
)

func lvstoreMethods() []*Method {
	return []*Method{
		method("bdev_lvol_create_lvstore", "Makes an lvstore on a bdev, whatever was on it; returns its UUID.", createLvstore, slow),
		method("bdev_lvol_delete_lvstore", "Destroys an lvstore and the lvols in it.", deleteLvstore, slow),
		method("bdev_lvol_get_lvstores", "Lists the loaded lvstores, or one.", getLvstores, optional),
		method("bdev_lvol_grow_lvstore", "Lets an lvstore use the space by which its bdev has grown.", growLvstore, slow),
		method("bdev_lvol_rename_lvstore", "Renames an lvstore and with it the aliases of its lvols.", renameLvstore, slow),
	}
}

type createLvstoreParams struct {
	Bdev        string `rpc:"bdev_name" doc:"bdev to make it on"`
	Name        string `rpc:"lvs_name" doc:"1 to 63 bytes"`
	ClusterSize uint32 `rpc:"cluster_sz,optional" doc:"bytes; default 4 MiB"`
	Clear       string `rpc:"clear_method,optional" doc:"of the data: none, unmap (default) or write_zeroes"`
	MDRatio     uint32 `rpc:"num_md_pages_per_cluster_ratio,optional" doc:"metadata pages for 100 clusters; default 100"`
	MDPageSize  uint32 `rpc:"md_page_size,optional" doc:"bytes from one metadata page to the next, a power of two from 4096 to 65536; default 4096"`
}

func createLvstore(_ context.Context, t *Target, p createLvstoreParams) (any, error) {
	how, ok := clearMethod(p.Clear)
	if !ok {
		return nil, &jsonrpc.Error{Code: -int(syscall.EINVAL), Message: "Invalid clear_method parameter", Data: p.Clear}
	}
	st, err := t.lvols.CreateStore(p.Bdev, p.Name, lvol.StoreOpts{ClusterSize: p.ClusterSize, Clear: how, MDRatio: p.MDRatio,
		MDPageSize: p.MDPageSize})
	if err != nil {
		return nil, lvolError(err)
	}
	return st.UUID().String(), nil
}

// clearMethod reads SPDK's name of one.
func clearMethod(name string) (lvol.ClearMethod, bool) {
	switch name {
	case "":
		return lvol.ClearDefault, true
	case "none":
		return lvol.ClearNone, true
	case "unmap":
		return lvol.ClearUnmap, true
	case "write_zeroes":
		return lvol.ClearWriteZeroes, true
	}
	return 0, false
}

// lvolError gives an error SPDK's code: the errno, or -32602 with the errno's
// text when SPDK meets it only while the operation runs.
func lvolError(err error) error {
	e := jsonrpc.AsError(err)
	if lvol.Late(err) {
		return &jsonrpc.Error{Code: jsonrpc.CodeInvalidParams, Message: e.Message, Data: e.Data}
	}
	return e
}

type lvstoreParams struct {
	UUID string `rpc:"uuid,optional" doc:"UUID of the lvstore, or its name below"`
	Name string `rpc:"lvs_name,optional" doc:"name of the lvstore"`
}

// lvstore finds the one lvstore that a request names.
func (t *Target) lvstore(id, name string) (*lvol.Store, error) {
	if (id == "") == (name == "") {
		return nil, jsonrpc.Errno(syscall.EINVAL, "give either uuid or lvs_name")
	}
	for _, st := range t.lvols.Stores() {
		if (id != "" && st.UUID().String() == id) || (name != "" && st.Name() == name) {
			return st, nil
		}
	}
	return nil, jsonrpc.Errno(syscall.ENODEV, fmt.Sprintf("no lvstore %q is loaded", id+name))
}

func deleteLvstore(_ context.Context, t *Target, p lvstoreParams) (any, error) {
	st, err := t.lvstore(p.UUID, p.Name)
	if err != nil {
		return nil, err
	}
	if err := st.Destroy(); err != nil {
		return nil, lvolError(err)
	}
	return true, nil
}

func growLvstore(_ context.Context, t *Target, p lvstoreParams) (any, error) {
	st, err := t.lvstore(p.UUID, p.Name)
	if err != nil {
		return nil, err
	}
	if err := st.Grow(); err != nil {
		return nil, lvolError(err)
	}
	return true, nil
}

func getLvstores(_ context.Context, t *Target, p lvstoreParams) (any, error) {
	out := []lvol.StoreInfo{}
	if p.UUID == "" && p.Name == "" {
		for _, st := range t.lvols.Stores() {
			out = append(out, st.Info())
		}
		return out, nil
	}
	st, err := t.lvstore(p.UUID, p.Name)
	if err != nil {
		return nil, err
	}
	return append(out, st.Info()), nil
}

type renameParams struct {
	Old string `rpc:"old_name" doc:"present name"`
	New string `rpc:"new_name" doc:"1 to 63 bytes"`
}

func renameLvstore(_ context.Context, t *Target, p renameParams) (any, error) {
	st, err := t.lvstore("", p.Old)
	if err != nil {
		return nil, &jsonrpc.Error{Code: -int(syscall.ENOENT), Message: fmt.Sprintf("Lvol store %s not found", p.Old)}
	}
	if err := st.Rename(p.New); err != nil {
		return nil, lvolError(err)
	}
	return true, nil
}

// examineLvstore loads the lvstore of a bdev if there is one.
func (t *Target) examineLvstore(name string) {
	st, err := t.lvols.Examine(name)
	switch {
	case errors.Is(err, lvol.ErrDamaged):
		t.log.Error("lvstore not loaded", "bdev", name, "err", err)
	case err == nil:
		t.log.Info("lvstore loaded", "bdev", name, "lvstore", st.Name(), "uuid", st.UUID())
	case errors.Is(err, syscall.EILSEQ), errors.Is(err, syscall.ENXIO), errors.Is(err, syscall.EPERM), errors.Is(err, syscall.ENODEV):
		t.log.Debug("no lvstore to load", "bdev", name, "why", err)
	default:
		t.log.Warn("lvstore not loaded", "bdev", name, "err", err)
	}
}
