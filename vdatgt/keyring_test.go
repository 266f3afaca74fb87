package vdatgt

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/virtual-disk-array/vda/nvmf/dhchap"
	"github.com/virtual-disk-array/vda/spdk"
)

// keyFile writes a new secret's file and returns its name and the secret.
func keyFile(t *testing.T, name string) (path, secret string) {
	t.Helper()
	path, secret = filepath.Join(t.TempDir(), name), dhchap.NewSecret(dhchap.SHA256).Reveal()
	ok(t, os.WriteFile(path, []byte(secret+"\n"), 0o600))
	return path, secret
}

// TestKeyring: which files are taken as keys, and what names do.
func TestKeyring(t *testing.T) {
	p := start(t, Config{})
	call := func(method string, params map[string]any) error { return p.Call(t.Context(), method, params, nil) }
	good, _ := keyFile(t, "good")
	open, _ := keyFile(t, "open")
	ok(t, os.Chmod(open, 0o640))
	long, _ := keyFile(t, "long")
	ok(t, os.WriteFile(long, bytes.Repeat([]byte{'x'}, maxKeyFile+1), 0o600))
	other, _ := keyFile(t, "other")
	ok(t, os.WriteFile(other, []byte("NVMeTLSkey-1:01:AAAA:"), 0o600))
	for _, c := range []struct {
		name, path string
		code       int
		says       string
	}{
		{"relative", "good", -1, "not absolute"},
		{"missing", good + "-not", -2, ""},
		{"open", open, -1, "chmod 600"},
		{"folder", filepath.Dir(good), -22, "regular"},
		{"long", long, -22, "at most 256"},
		{"ring:name", good, -22, "colon"},
		{"", good, -22, "empty"},
		{"k", good, 0, ""},
		{"k", good, -17, "there already"},
		{":k", good, 0, ""},
		{"tls", other, 0, ""},
	} {
		err := call("keyring_file_add_key", map[string]any{"name": c.name, "path": c.path})
		if c.code == 0 && err != nil || c.code != 0 && (spdk.Code(err) != c.code || !strings.Contains(err.Error(), c.says)) {
			t.Errorf("%s: %v, want code %d and %q", c.name, err, c.code, c.says)
		}
	}
	ok(t, os.Remove(good)) // it is in the keyring
	sub := map[string]any{"nqn": "nqn.2016-06.io.spdk:s"}
	ok(t, call("nvmf_create_subsystem", sub))
	for _, c := range []struct {
		host, key, ctrlr string
		code             int
		says             string
	}{
		{"nqn.2016-06.io.spdk:a", "none", "", -32602, `no key "none"`},
		{"nqn.2016-06.io.spdk:a", "k", "none", -32602, `dhchap_ctrlr_key: there is no key "none"`},
		{"nqn.2016-06.io.spdk:a", "", "k", -32603, "without a dhchap_key"},
		{"nqn.2016-06.io.spdk:a", "tls", "", -32603, "does not begin with DHHC-1:"},
		{"nqn.2016-06.io.spdk:a", "k", ":k", 0, ""},
		{"nqn.2016-06.io.spdk:a", "k", ":k", -32603, ""},
	} {
		params := map[string]any{"nqn": sub["nqn"], "host": c.host}
		if c.key != "" {
			params["dhchap_key"] = c.key
		}
		if c.ctrlr != "" {
			params["dhchap_ctrlr_key"] = c.ctrlr
		}
		err := call("nvmf_subsystem_add_host", params)
		if c.code == 0 && err != nil || c.code != 0 && (spdk.Code(err) != c.code || !strings.Contains(err.Error(), c.says)) {
			t.Errorf("%v: %v, want code %d and %q", params, err, c.code, c.says)
		}
	}
	absent := map[string]any{"nqn": sub["nqn"], "host": "nqn.2016-06.io.spdk:b", "dhchap_key": "k"}
	if err := call("nvmf_subsystem_set_keys", absent); spdk.Code(err) != -22 {
		t.Errorf("keys of a host that is not there: %v", err)
	}
	if err := call("bdev_nvme_set_keys", map[string]any{"name": "N", "dhchap_key": "none"}); spdk.Code(err) != -126 {
		t.Errorf("a key that is not there: %v", err)
	}
	if err := call("bdev_nvme_set_keys", map[string]any{"name": "N", "dhchap_key": "k"}); spdk.Code(err) != -19 {
		t.Errorf("keys of a controller that is not there: %v", err)
	}
	ok(t, call("keyring_file_remove_key", map[string]any{"name": ":k"}))
	if err := call("keyring_file_remove_key", map[string]any{"name": ":k"}); spdk.Code(err) != -126 {
		t.Errorf("removed twice: %v", err)
	}
	var keys []keyJSON
	ok(t, p.Call(t.Context(), "keyring_get_keys", nil, &keys))
	if len(keys) != 2 || keys[0].Name != "k" || keys[1].Name != "tls" {
		t.Errorf("the keys are %v", keys)
	}
}

// lockedBuffer is a log that several goroutines write.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// TestSecretsAreNotShown: neither the log at its lowest level, nor any reply,
// has a planted secret, whatever goes wrong with it.
func TestSecretsAreNotShown(t *testing.T) {
	var log lockedBuffer
	p := start(t, Config{Log: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	path, secret := keyFile(t, "key")
	bad := filepath.Join(t.TempDir(), "bad")
	ok(t, os.WriteFile(bad, []byte(secret[:len(secret)-3]+"x="), 0o600))
	var replies bytes.Buffer
	call := func(method, params string) {
		var out json.RawMessage
		if err := p.Call(t.Context(), method, json.RawMessage(params), &out); err != nil {
			replies.WriteString(err.Error())
		}
		replies.Write(out)
	}
	words := strings.NewReplacer("$KEY", path, "$BAD", bad, "$PORT", freePort(t))
	for _, c := range [][2]string{
		{"keyring_file_add_key", `{"name":"key","path":"$KEY"}`},
		{"keyring_file_add_key", `{"name":"bad","path":"$BAD"}`},
		{"keyring_get_keys", `{}`},
		{"nvmf_create_transport", `{"trtype":"TCP"}`},
		{"bdev_malloc_create", `{"num_blocks":8192,"block_size":4096,"name":"M"}`},
		{"nvmf_create_subsystem", `{"nqn":"nqn.2016-06.io.spdk:s"}`},
		{"nvmf_subsystem_add_ns", `{"nqn":"nqn.2016-06.io.spdk:s","namespace":{"bdev_name":"M","uuid":"aaaaaaaa-1111-4222-8333-bbbbbbbbbbbb",
			"nguid":"aaaaaaaa111142228333bbbbbbbbbbbb"}}`},
		{"nvmf_subsystem_add_host", `{"nqn":"nqn.2016-06.io.spdk:s","host":"nqn.2016-06.io.spdk:h","dhchap_key":"key","dhchap_ctrlr_key":"key"}`},
		{"nvmf_subsystem_add_host", `{"nqn":"nqn.2016-06.io.spdk:s","host":"nqn.2016-06.io.spdk:i","dhchap_key":"bad"}`},
		{"nvmf_subsystem_add_listener", `{"nqn":"nqn.2016-06.io.spdk:s",
			"listen_address":{"trtype":"tcp","traddr":"127.0.0.1","trsvcid":"$PORT","adrfam":"ipv4"}}`},
		{"bdev_nvme_attach_controller", `{"name":"C","trtype":"tcp","traddr":"127.0.0.1","adrfam":"ipv4","trsvcid":"$PORT",
			"subnqn":"nqn.2016-06.io.spdk:s","hostnqn":"nqn.2016-06.io.spdk:h","dhchap_key":"key","dhchap_ctrlr_key":"key"}`},
		{"bdev_nvme_set_keys", `{"name":"C","dhchap_key":"key"}`},
		{"bdev_nvme_set_keys", `{"name":"C","dhchap_key":"bad"}`},
		{"bdev_nvme_get_controllers", `{}`},
		{"nvmf_get_subsystems", `{}`},
		{"nvmf_subsystem_get_qpairs", `{"nqn":"nqn.2016-06.io.spdk:s"}`},
		{"framework_get_config", `{"name":"keyring"}`},
		{"framework_get_config", `{"name":"bdev"}`},
		{"framework_get_config", `{"name":"nvmf"}`},
		{"keyring_file_remove_key", `{"name":"key"}`},
	} {
		call(c[0], words.Replace(c[1]))
	}
	for name, text := range map[string]string{"a reply": replies.String(), "the log": log.String()} {
		if strings.Contains(text, secret[10:26]) {
			t.Errorf("%s shows the secret", name)
		}
	}
	for _, want := range []string{"Cn1", "dhchap_ctrlr_key", "DHHC-1:HH:BASE64:"} {
		if !strings.Contains(replies.String(), want) {
			t.Errorf("the replies have no %q: %s", want, replies.String())
		}
	}
}

// TestAuthenticatedAttach: a controller of this host attaches to this target by
// right keys alone, comes back by the new ones when they were changed, and its
// bdevs stay through that.
func TestAuthenticatedAttach(t *testing.T) {
	p := start(t, Config{})
	port := freePort(t)
	words := strings.NewReplacer("$PORT", port)
	call := func(method, params string) error {
		return p.Call(t.Context(), method, json.RawMessage(words.Replace(params)), nil)
	}
	for _, k := range []string{"host", "ctrlr", "host2", "ctrlr2"} {
		path, _ := keyFile(t, k)
		ok(t, p.Call(t.Context(), "keyring_file_add_key", map[string]string{"name": k, "path": path}, nil))
	}
	const attach = `{"name":"C","trtype":"tcp","traddr":"127.0.0.1","adrfam":"ipv4","trsvcid":"$PORT","subnqn":"nqn.2016-06.io.spdk:s",
		"hostnqn":"nqn.2016-06.io.spdk:h"`
	ok(t, call("nvmf_create_transport", `{"trtype":"TCP"}`))
	ok(t, call("bdev_malloc_create", `{"num_blocks":8192,"block_size":4096,"name":"M"}`))
	ok(t, call("nvmf_create_subsystem", `{"nqn":"nqn.2016-06.io.spdk:s"}`))
	ok(t, call("nvmf_subsystem_add_ns", `{"nqn":"nqn.2016-06.io.spdk:s","namespace":{"bdev_name":"M","uuid":"aaaaaaaa-1111-4222-8333-bbbbbbbbbbbb",
		"nguid":"aaaaaaaa111142228333bbbbbbbbbbbb"}}`))
	ok(t, call("nvmf_subsystem_add_host", `{"nqn":"nqn.2016-06.io.spdk:s","host":"nqn.2016-06.io.spdk:h","dhchap_key":"host","dhchap_ctrlr_key":"ctrlr"}`))
	ok(t, call("nvmf_subsystem_add_listener", `{"nqn":"nqn.2016-06.io.spdk:s",
		"listen_address":{"trtype":"tcp","traddr":"127.0.0.1","trsvcid":"$PORT","adrfam":"ipv4"}}`))
	for keys, says := range map[string]string{
		"": "demands authentication", `,"dhchap_key":"host2"`: "the controller refuses: authentication failed",
		`,"dhchap_key":"host","dhchap_ctrlr_key":"ctrlr2"`: "the controller's response is wrong",
		`,"dhchap_key":"host","dhchap_ctrlr_key":"none"`:   "no key", `,"dhchap_ctrlr_key":"ctrlr"`: "without a dhchap_key",
	} {
		if err := call("bdev_nvme_attach_controller", attach+keys+"}"); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v, want %q", keys, err, says)
		}
	}
	ok(t, call("bdev_nvme_set_options", `{"dhchap_digests":["sha384"],"dhchap_dhgroups":["ffdhe2048"]}`))
	ok(t, call("bdev_nvme_attach_controller", attach+`,"dhchap_key":"host","dhchap_ctrlr_key":"ctrlr","num_io_queues":2,"ctrlr_loss_timeout_sec":-1,
		"reconnect_delay_sec":1}`))
	for range 2 {
		ok(t, call("nvmf_subsystem_set_keys", `{"nqn":"nqn.2016-06.io.spdk:s","host":"nqn.2016-06.io.spdk:h","dhchap_key":"host2",
			"dhchap_ctrlr_key":"ctrlr2","vda_keep_previous":true}`))
		ok(t, call("bdev_nvme_set_keys", `{"name":"C","dhchap_key":"host","dhchap_ctrlr_key":"ctrlr"}`)) // still valid
		ok(t, call("bdev_nvme_set_keys", `{"name":"C","dhchap_key":"host2","dhchap_ctrlr_key":"ctrlr2"}`))
		ok(t, call("nvmf_subsystem_set_keys", `{"nqn":"nqn.2016-06.io.spdk:s","host":"nqn.2016-06.io.spdk:h","dhchap_key":"host","dhchap_ctrlr_key":"ctrlr"}`))
		ok(t, call("nvmf_subsystem_set_keys", `{"nqn":"nqn.2016-06.io.spdk:s","host":"nqn.2016-06.io.spdk:h","dhchap_key":"host",
			"dhchap_ctrlr_key":"ctrlr"}`))
		ok(t, call("bdev_nvme_set_keys", `{"name":"C","dhchap_key":"host","dhchap_ctrlr_key":"ctrlr"}`))
		ok(t, call("bdev_get_bdevs", `{"name":"Cn1"}`))
	}
	if err := call("bdev_nvme_set_keys", `{"name":"C","dhchap_key":"host2"}`); spdk.Code(err) != -13 {
		t.Errorf("a key that the subsystem does not have: %v", err)
	}
	ok(t, call("bdev_get_bdevs", `{"name":"Cn1"}`)) // it tries again
	ok(t, call("bdev_nvme_set_options", `{"dhchap_dhgroups":["null"]}`))
	ok(t, call("nvmf_set_config", `{"dhchap_dhgroups":["ffdhe3072"]}`))
	ok(t, call("bdev_nvme_detach_controller", `{"name":"C"}`))
	if err := call("bdev_nvme_attach_controller", attach+`,"dhchap_key":"host"}`); err == nil || !strings.Contains(err.Error(), "group in common") {
		t.Errorf("no group in common: %v", err)
	}
}
