package volume

import (
	"strings"
	"testing"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/nvmf/dhchap"
)

// TestKeys: a volume gets the keys that its StorageClass asks for, and no others; what is
// wrong is named, and no error has a key.
func TestKeys(t *testing.T) {
	host, ctrlr := dhchap.NewSecret(dhchap.SHA256).Reveal(), dhchap.NewSecret(dhchap.SHA512).Reveal()
	both := map[string]string{"token": "x", "dhchapKey": host + "\n", "dhchapCtrlrKey": ctrlr}
	for auth, want := range map[Auth]vda.KeyPair{NoAuth: {}, HostAuth: {Host: vda.Secret(host)},
		MutualAuth: {Host: vda.Secret(host), Ctrlr: vda.Secret(ctrlr)}} {
		if got, err := auth.Keys(both, "node-stage-secret"); err != nil || got != want {
			t.Errorf("%s: %v", auth, err)
		}
	}
	if _, err := NoAuth.Keys(nil, "node-stage-secret"); err != nil {
		t.Error(err)
	}
	for _, x := range []struct {
		auth    Auth
		secrets map[string]string
		says    []string
	}{
		{HostAuth, nil, []string{"dhchapKey is missing", `dhchap "host"`, "csi.storage.k8s.io/node-stage-secret-name"}},
		{MutualAuth, map[string]string{"dhchapKey": host}, []string{"dhchapCtrlrKey is missing", `dhchap "mutual"`}},
		{HostAuth, map[string]string{"dhchapKey": host[:20]}, []string{"dhchapKey is not a DH-HMAC-CHAP secret"}},
		{MutualAuth, map[string]string{"dhchapKey": host, "dhchapCtrlrKey": "hunter2"}, []string{"dhchapCtrlrKey is not a DH-HMAC-CHAP secret"}},
		{MutualAuth, map[string]string{"dhchapKey": host, "dhchapCtrlrKey": host}, []string{"dhchapCtrlrKey is the same as dhchapKey"}},
		{HostAuth, map[string]string{"dhchapKey": host + ",transport=rdma"}, []string{"dhchapKey is not"}},
	} {
		_, err := x.auth.Keys(x.secrets, "node-stage-secret")
		if err == nil || vda.KindOf(err) != vda.InvalidArgument {
			t.Errorf("%v: %v", x.says, err)
			continue
		}
		for _, w := range x.says {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%v, without %q", err, w)
			}
		}
		for _, s := range x.secrets {
			if strings.Contains(err.Error(), s[:min(len(s), 16)]) {
				t.Errorf("%v has a key", err)
			}
		}
	}
}
