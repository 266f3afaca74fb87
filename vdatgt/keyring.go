package vdatgt

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"

	"github.com/virtual-disk-array/vda/nvmf/dhchap"
)

// keyring holds the keys that JSON-RPC names, as SPDK's does. A key's file is
// read once, when the key is added, so that it may go afterwards; SPDK reads it
// whenever it authenticates. A key that is removed is zeroed: what authenticates
// by it fails from then on.
type keyring struct {
	mu   sync.Mutex
	keys []*ringKey // in the order of addition
}

// ringKey is one key.
type ringKey struct {
	name, path string
	secret     *dhchap.Secret // nil when the file has none
	bad        error          // why not
}

// maxKeyFile is how long a key's file may be, bytes; SPDK's limit.
const maxKeyFile = 256

// add reads a key. EEXIST when the name is taken, EINVAL for a bad name, EPERM
// for a file that others may read, or the error of the file.
func (r *keyring) add(name, path string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case name == "":
		return fmt.Errorf("name is empty: %w", syscall.EINVAL)
	case strings.Index(name, ":") > 0:
		return fmt.Errorf("name %q has a colon, which would name another keyring, and there is one only: %w", name, syscall.EINVAL)
	case r.find(name) != nil:
		return fmt.Errorf("key %q is there already: %w", name, syscall.EEXIST)
	case !filepath.IsAbs(path):
		return fmt.Errorf("path %q is not absolute: %w", path, syscall.EPERM)
	}
	text, err := readKeyFile(path)
	if err != nil {
		return err
	}
	defer clear(text)
	k := &ringKey{name: name, path: path}
	k.secret, k.bad = dhchap.ParseSecret(string(text))
	r.keys = append(r.keys, k)
	return nil
}

// readKeyFile reads a file that its owner, who has to be this process's user,
// alone may read.
func readKeyFile(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	sys, ok := st.Sys().(*syscall.Stat_t)
	switch {
	case !st.Mode().IsRegular():
		return nil, fmt.Errorf("%s is not a regular file: %w", path, syscall.EINVAL)
	case st.Mode().Perm()&0o077 != 0:
		return nil, fmt.Errorf("%s has mode %#o; others than its owner may not have any access (chmod 600): %w", path,
			st.Mode().Perm(), syscall.EPERM)
	case !ok || int(sys.Uid) != os.Getuid():
		return nil, fmt.Errorf("%s belongs to another user than this process's: %w", path, syscall.EPERM)
	case st.Size() > maxKeyFile:
		return nil, fmt.Errorf("%s has %d bytes; a key has at most %d: %w", path, st.Size(), maxKeyFile, syscall.EINVAL)
	}
	return io.ReadAll(io.LimitReader(f, maxKeyFile))
}

func (r *keyring) find(name string) *ringKey {
	if i := slices.IndexFunc(r.keys, func(k *ringKey) bool { return k.name == name }); i >= 0 {
		return r.keys[i]
	}
	return nil
}

// remove takes a key out and zeroes it; ENOKEY when there is none.
func (r *keyring) remove(name string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	k := r.find(name)
	if k == nil {
		return fmt.Errorf("there is no key %q: %w", name, syscall.ENOKEY)
	}
	if k.secret != nil {
		k.secret.Wipe()
	}
	r.keys = slices.DeleteFunc(r.keys, func(o *ringKey) bool { return o == k })
	return nil
}

// secret finds a secret by its key's name; nil for no name. ENOKEY when there is
// no such key, EINVAL when it is not a secret.
func (r *keyring) secret(field, name string) (*dhchap.Secret, error) {
	if name == "" {
		return nil, nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	k := r.find(name)
	switch {
	case k == nil:
		return nil, fmt.Errorf("%s: there is no key %q; keyring_file_add_key makes it: %w", field, name, syscall.ENOKEY)
	case k.bad != nil:
		return nil, fmt.Errorf("%s: key %q: %w: %w", field, name, k.bad, syscall.EINVAL)
	}
	return k.secret, nil
}

// pair finds both secrets of a host and a controller.
func (r *keyring) pair(key, ctrlrKey string) (keys dhchap.Keys, err error) {
	if keys.Host, err = r.secret("dhchap_key", key); err != nil {
		return keys, err
	}
	if keys.Controller, err = r.secret("dhchap_ctrlr_key", ctrlrKey); err != nil {
		return keys, err
	}
	if keys.Host == nil && keys.Controller != nil {
		return keys, fmt.Errorf("dhchap_ctrlr_key %q is of no use without a dhchap_key: %w", ctrlrKey, syscall.EINVAL)
	}
	return keys, nil
}

// list returns the keys in the order of addition.
func (r *keyring) list() []*ringKey {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.keys)
}
