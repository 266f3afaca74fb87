package spdk

import (
	"context"
	"syscall"
)

// Keys are the names in the keyring of what a host and a controller prove to each
// other that they know, by DH-HMAC-CHAP. Without the first neither proves
// anything, without the second the controller need not.
type Keys struct {
	Host  string `json:"dhchap_key,omitempty"`
	Ctrlr string `json:"dhchap_ctrlr_key,omitempty"`
}

// KeyringFileAddKey adds the key in a file to the keyring: a text "DHHC-1:…", in a
// file that the data plane's user owns and alone may read. SPDK reads it whenever it
// authenticates. IsExists when there is a key of that name.
func (a API) KeyringFileAddKey(ctx context.Context, key, path string) error {
	return a.do(ctx, "keyring_file_add_key", struct {
		Name string `json:"name"`
		Path string `json:"path"`
	}{key, path})
}

// KeyringFileRemoveKey takes a key out of the keyring: nobody can authenticate by it
// any more, and what is connected stays connected. IsNoKey when there is none.
func (a API) KeyringFileRemoveKey(ctx context.Context, key string) error {
	return a.do(ctx, "keyring_file_remove_key", name{key})
}

// IsNoKey reports that there is no key of a name.
func IsNoKey(err error) bool { return Code(err) == -int(syscall.ENOKEY) }
