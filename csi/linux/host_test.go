package linux

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/csi/node"
)

// TestKeysOfConnections: the kernel is given the keys of a volume, and for one more controller
// those of the connections that are there, as a plugin has forgotten them.
func TestKeysOfConnections(t *testing.T) {
	dir := t.TempDir()
	h := &Host{nqn: "nqn.2014-08.org.nvmexpress:uuid:a", id: "a", sys: filepath.Join(dir, "sys"), fabrics: filepath.Join(dir, "fabrics")}
	asked := func(keys vda.KeyPair) string {
		t.Helper()
		if err := os.WriteFile(h.fabrics, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		missing, err := h.Connect(t.Context(), node.Target{NQN: "nqn.x", Addresses: []string{"192.168.0.16:4430"}, Keys: keys})
		if err != nil || len(missing) > 0 {
			t.Fatalf("%v, %v", missing, err)
		}
		b, err := os.ReadFile(h.fabrics)
		if err != nil {
			t.Fatal(err)
		}
		if s := string(b); strings.Contains(s, "dhchap") {
			return s[strings.Index(s, "dhchap"):]
		}
		return ""
	}
	controller := func(secrets ...string) {
		t.Helper()
		c := filepath.Join(h.sys, "class/nvme/nvme0")
		if err := os.MkdirAll(c, 0o700); err != nil {
			t.Fatal(err)
		}
		for name, text := range map[string]string{"subsysnqn": "nqn.x", "hostnqn": h.nqn, "state": "connecting",
			"address": "traddr=192.168.0.17,trsvcid=4430", "dhchap_secret": secrets[0], "dhchap_ctrl_secret": secrets[1]} {
			if err := os.WriteFile(filepath.Join(c, name), []byte(text+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, x := range []struct{ got, want string }{
		{asked(vda.KeyPair{}), ""},
		{asked(vda.KeyPair{Host: "H"}), "dhchap_secret=H"},
		{asked(vda.KeyPair{Host: "H", Ctrlr: "C"}), "dhchap_secret=H,dhchap_ctrl_secret=C"},
	} {
		if x.got != x.want {
			t.Errorf("%q, want %q", x.got, x.want)
		}
	}
	controller("none", "none")
	if got := asked(vda.KeyPair{}); got != "" {
		t.Errorf("beside a connection without keys: %q", got)
	}
	controller("SH", "none")
	if got := asked(vda.KeyPair{}); got != "dhchap_secret=SH" {
		t.Errorf("beside a connection with a key: %q", got)
	}
	controller("SH", "SC")
	if got := asked(vda.KeyPair{}); got != "dhchap_secret=SH,dhchap_ctrl_secret=SC" {
		t.Errorf("beside a connection with two keys: %q", got)
	}
	if got := asked(vda.KeyPair{Host: "H"}); got != "dhchap_secret=H" {
		t.Errorf("with another key: %q", got)
	}
}
