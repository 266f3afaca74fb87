package vdatgt

import (
	"context"
	"errors"
	"syscall"

	"github.com/virtual-disk-array/vda/module/bdevnvme"
	"github.com/virtual-disk-array/vda/nvmf/nvmftgt"
	"github.com/virtual-disk-array/vda/spdk/jsonrpc"
)

func keyringMethods() []*Method {
	return []*Method{
		method("keyring_file_add_key",
			"Adds the key in a file to the keyring, under a name. The file is read now, and may go afterwards.", addKey, argumentStyle, relaxed),
		method("keyring_file_remove_key",
			"Removes a key from the keyring and zeroes it. What is connected stays connected, and cannot authenticate by it again.",
			removeKey, argumentStyle),
		method("keyring_get_keys", "Lists the keys by name; what they are is never shown.", getKeys, optional),
		method("nvmf_subsystem_set_keys", "Replaces what a host of a subsystem authenticates by. What is connected stays connected.",
			setHostKeys, nvmfStyle),
		method("bdev_nvme_set_keys",
			"Replaces what a controller's connections authenticate by, and authenticates the present ones by the new keys.",
			setControllerKeys, undecodableStyle, slow),
		method("nvmf_set_config", "Sets which hashes and Diffie-Hellman groups hosts may authenticate by.",
			setNVMfConfig, nvmfStyle, anytime, optional),
	}
}

// undecodableStyle: and one says so with another code than most.
func undecodableStyle(r *rules) {
	r.bad = &jsonrpc.Error{Code: jsonrpc.CodeInvalidParams, Message: "spdk_json_decode_object failed"}
}

type addKeyParams struct {
	Name string `rpc:"name" doc:"of the key; without a colon"`
	Path string `rpc:"path" doc:"absolute name of the file, which this process's user alone may read: mode 0600"`
}

func addKey(_ context.Context, t *Target, p addKeyParams) (any, error) {
	if err := t.keyring.add(p.Name, p.Path); err != nil {
		return nil, refusedErrno(err)
	}
	return true, nil
}

// refusedErrno is the reply for an error that wraps an errno.
func refusedErrno(err error) error {
	var no syscall.Errno
	if !errors.As(err, &no) {
		no = syscall.EIO
	}
	return jsonrpc.Errno(no, err.Error())
}

type keyNameParams struct {
	Name string `rpc:"name" doc:"key"`
}

func removeKey(_ context.Context, t *Target, p keyNameParams) (any, error) {
	if err := t.keyring.remove(p.Name); err != nil {
		return nil, refusedErrno(err)
	}
	return true, nil
}

// keyJSON is one element of keyring_get_keys.
type keyJSON struct {
	Name    string `json:"name"`
	Module  string `json:"module"`
	Removed bool   `json:"removed"`
	Probed  bool   `json:"probed"`
	Refcnt  int    `json:"refcnt"`
	Path    string `json:"path"`
}

func getKeys(_ context.Context, t *Target, _ struct{}) (any, error) {
	out := []keyJSON{}
	for _, k := range t.keyring.list() {
		out = append(out, keyJSON{Name: k.name, Module: "keyring_file", Refcnt: 1, Path: k.path})
	}
	return out, nil
}

// pair finds the keys that a method of nvmf's names.
func (t *Target) pair(key, ctrlrKey string) (nvmftgt.HostKeys, error) {
	keys, err := t.keyring.pair(key, ctrlrKey)
	if err != nil {
		return nvmftgt.HostKeys{}, err
	}
	return nvmftgt.HostKeys{Keys: keys, Name: key, ControllerName: ctrlrKey}, nil
}

type setHostKeysParams struct {
	NQN      string `rpc:"nqn" doc:"subsystem"`
	Host     string `rpc:"host" doc:"NQN of the host, which is on the list"`
	Target   string `rpc:"tgt_name,optional" doc:"only nvmf_tgt"`
	Key      string `rpc:"dhchap_key,optional" doc:"key that the host has to prove to know; none: its NQN is enough from now on"`
	CtrlrKey string `rpc:"dhchap_ctrlr_key,optional" doc:"key that the controller proves to know to hosts that ask for it; none: they are refused"`
	Keep     bool   `rpc:"vda_keep_previous,optional" doc:"the keys until now stay valid beside the new ones, until the next call"`
}

func setHostKeys(_ context.Context, t *Target, p setHostKeysParams) (any, error) {
	s, err := t.subsystem(p.Target, p.NQN)
	if err != nil {
		return nil, err
	}
	keys, err := t.pair(p.Key, p.CtrlrKey)
	switch {
	case errors.Is(err, syscall.ENOKEY):
		return nil, invalid("%v", err)
	case err != nil:
		return nil, refusedErrno(err)
	}
	if err := s.SetHostKeys(p.Host, keys, p.Keep); err != nil {
		return nil, jsonrpc.Errno(syscall.EINVAL, err.Error())
	}
	return true, nil
}

type setControllerKeysParams struct {
	Name     string `rpc:"name" doc:"controller"`
	Key      string `rpc:"dhchap_key,optional" doc:"key that the host proves to know; none: it authenticates no more"`
	CtrlrKey string `rpc:"dhchap_ctrlr_key,optional" doc:"key that the controllers have to prove to know; none: they need not"`
}

func setControllerKeys(ctx context.Context, t *Target, p setControllerKeysParams) (any, error) {
	keys, err := t.keyring.pair(p.Key, p.CtrlrKey)
	if err != nil {
		return nil, refusedErrno(err)
	}
	if err := t.nvmes.SetKeys(ctx, p.Name, bdevnvme.Keys{Keys: keys, Name: p.Key, ControllerName: p.CtrlrKey}); err != nil {
		return nil, nvmeError(err)
	}
	return true, nil
}

type nvmfConfigParams struct {
	Hashes []string `rpc:"dhchap_digests,optional" doc:"allowed hashes: sha256, sha384, sha512; default all"`
	Groups []string `rpc:"dhchap_dhgroups,optional" doc:"allowed groups: ffdhe2048, ffdhe3072, ffdhe4096, ffdhe6144, ffdhe8192, null; default all; the first of these that the host has is chosen, null last"`
}

func setNVMfConfig(_ context.Context, t *Target, p nvmfConfigParams) (any, error) {
	o, err := t.nvmf.AuthOffer().Only(p.Hashes, p.Groups)
	if err != nil {
		return nil, invalid("%v", err)
	}
	t.nvmf.SetAuthOffer(o)
	return true, nil
}

// keyringConfig are the calls that make the keyring.
func (t *Target) keyringConfig() []configCall {
	out := []configCall{}
	for _, k := range t.keyring.list() {
		out = append(out, configCall{"keyring_file_add_key", object{"name": k.name, "path": k.path}})
	}
	return out
}

// withKeys adds the names of keys to a call's parameters.
func withKeys(o object, key, ctrlrKey string) object {
	for name, v := range map[string]string{"dhchap_key": key, "dhchap_ctrlr_key": ctrlrKey} {
		if v != "" {
			o[name] = v
		}
	}
	return o
}
