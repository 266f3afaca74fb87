package vdatgt

import (
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/virtual-disk-array/vda/spdk"
)

// config asks for all parts' configuration.
func (p *plane) config() map[string][]configCall {
	p.t.Helper()
	var parts []part
	ok(p.t, p.Call(p.t.Context(), "framework_get_subsystems", nil, &parts))
	out := map[string][]configCall{}
	for i, q := range parts {
		for _, before := range q.DependsOn {
			if out[before] == nil {
				p.t.Errorf("%s stands before %s", q.Name, parts[i-1].Name)
			}
		}
		var c []configCall
		ok(p.t, p.Call(p.t.Context(), "framework_get_config", map[string]any{"name": q.Name, "with_batches": false}, &c))
		out[q.Name] = c
	}
	return out
}

// TestConfig makes one of everything, carries the configuration out in another
// target, and gets the same configuration there.
func TestConfig(t *testing.T) {
	remote, remotePort := start(t, Config{}), freePort(t)
	must[string](t)(remote.BdevMallocCreate(t.Context(), spdk.MallocCreate{Name: "M", BlockSize: 4096, NumBlocks: 512}))
	remote.export(spdk.NvmfSubsystemCreate{NQN: "nqn.2016-06.io.spdk:remote", SerialNumber: "R"}, spdk.NvmfNamespace{BdevName: "M"},
		remotePort, "nqn.2016-06.io.spdk:h")
	file := filepath.Join(t.TempDir(), "disk")
	ok(t, os.WriteFile(file, make([]byte, 1<<20), 0o600))

	a := start(t, Config{WaitForRPC: true})
	key, _ := keyFile(t, "key")
	words := strings.NewReplacer("$KEY", key, "$REMOTE", remotePort, "$PORT2", freePort(t), "$PORT", freePort(t), "$FILE", file)
	for _, c := range []struct{ method, params string }{
		{"bdev_set_options", `{"bdev_auto_examine":false}`},
		{"bdev_nvme_set_options", `{"keep_alive_timeout_ms":7000,"action_on_timeout":"abort","timeout_us":9000000,"ctrlr_loss_timeout_sec":20,"reconnect_delay_sec":2}`},
		{"framework_start_init", ``},
		{"bdev_malloc_create", `{"name":"M0","block_size":4096,"num_blocks":1024}`},
		{"bdev_null_create", `{"name":"N0","block_size":4096,"num_blocks":1024}`},
		{"bdev_null_resize", `{"name":"N0","new_size":8}`},
		{"bdev_aio_create", `{"name":"A0","filename":"$FILE","block_size":4096}`},
		{"bdev_examine", `{"name":"A0"}`},
		{"bdev_examine", `{"name":"later"}`},
		{"bdev_delay_create", `{"name":"D0","base_bdev_name":"M0","avg_read_latency":1,"p99_read_latency":2,"avg_write_latency":3,"p99_write_latency":4}`},
		{"bdev_delay_update_latency", `{"delay_bdev_name":"D0","latency_type":"p99_write","latency_us":9}`},
		{"bdev_error_create", `{"base_name":"N0"}`},
		{"bdev_malloc_create", `{"name":"M1","block_size":4096,"num_blocks":1024}`},
		{"bdev_raid_create", `{"name":"R0","raid_level":"raid0","strip_size_kb":64,"base_bdevs":["D0","M1"]}`},
		{"bdev_raid_create", `{"name":"R1","raid_level":"concat","strip_size_kb":64,"base_bdevs":["A0","missing"]}`},
		{"bdev_nvme_attach_controller", `{"name":"Nv","trtype":"tcp","traddr":"127.0.0.1","trsvcid":"$REMOTE","subnqn":"nqn.2016-06.io.spdk:remote",
			"hostnqn":"nqn.2016-06.io.spdk:h","ddgst":true,"num_io_queues":2,"multipath_opts":{"policy":"active_active","selector":"queue_depth"}}`},
		{"bdev_nvme_set_multipath_policy", `{"name":"Nvn1","policy":"active_active","rr_min_io":3}`},
		{"bdev_set_qos_limit", `{"name":"R0","rw_ios_per_sec":5000,"w_mbytes_per_sec":7}`},
		{"nvmf_create_transport", `{"trtype":"TCP","max_queue_depth":64,"c2h_success":false,"kas":20,"min_kato":4000,"ack_timeout":3000}`},
		{"nvmf_discovery_add_referral", `{"address":{"trtype":"tcp","adrfam":"ipv4","traddr":"127.0.0.1","trsvcid":"8009"}}`},
		{"nvmf_create_subsystem", `{"nqn":"nqn.2016-06.io.spdk:a","ana_reporting":true,"serial_number":"S","model_number":"Mo","min_cntlid":5,"max_cntlid":9,"max_namespaces":4}`},
		{"nvmf_create_subsystem", `{"nqn":"nqn.2016-06.io.spdk:b","allow_any_host":true}`},
		{"vda_nvmf_set_single_association", `{"nqn":"nqn.2016-06.io.spdk:b","single":true}`},
		{"nvmf_subsystem_add_ns", `{"nqn":"nqn.2016-06.io.spdk:a","namespace":{"nsid":2,"bdev_name":"R0","eui64":"0011223344556677","anagrpid":3}}`},
		{"nvmf_subsystem_add_host", `{"nqn":"nqn.2016-06.io.spdk:a","host":"nqn.2016-06.io.spdk:h"}`},
		{"keyring_file_add_key", `{"name":"k1","path":"$KEY"}`},
		{"keyring_file_add_key", `{"name":"k2","path":"$KEY"}`},
		{"nvmf_subsystem_add_host", `{"nqn":"nqn.2016-06.io.spdk:a","host":"nqn.2016-06.io.spdk:i","dhchap_key":"k1","dhchap_ctrlr_key":"k2"}`},
		{"nvmf_subsystem_set_keys", `{"nqn":"nqn.2016-06.io.spdk:a","host":"nqn.2016-06.io.spdk:i","dhchap_key":"k2","vda_keep_previous":true}`},
		{"nvmf_subsystem_add_host", `{"nqn":"nqn.2014-08.org.nvmexpress.discovery","host":"nqn.2016-06.io.spdk:i","dhchap_key":"k1"}`},
		{"nvmf_set_config", `{"dhchap_digests":["sha512"],"dhchap_dhgroups":["null","ffdhe4096"]}`},
		{"bdev_nvme_set_options", `{"dhchap_dhgroups":["ffdhe4096"]}`},
		{"nvmf_subsystem_add_listener", `{"nqn":"nqn.2016-06.io.spdk:a","listen_address":{"trtype":"tcp","adrfam":"ipv4","traddr":"127.0.0.1","trsvcid":"$PORT"}}`},
		{"nvmf_subsystem_listener_set_ana_state", `{"nqn":"nqn.2016-06.io.spdk:a","ana_state":"non_optimized","anagrpid":3,
			"listen_address":{"trtype":"tcp","adrfam":"ipv4","traddr":"127.0.0.1","trsvcid":"$PORT"}}`},
		{"nvmf_subsystem_add_listener", `{"nqn":"nqn.2014-08.org.nvmexpress.discovery","listen_address":{"trtype":"tcp","adrfam":"ipv4","traddr":"127.0.0.1","trsvcid":"$PORT2"}}`},
	} {
		var params any
		if c.params != "" {
			params = json.RawMessage(words.Replace(c.params))
		}
		if err := a.Call(t.Context(), c.method, params, nil); err != nil {
			t.Fatalf("%s: %v", c.method, err)
		}
	}
	want := a.config()
	ok(t, a.stop())

	b := start(t, Config{WaitForRPC: true})
	apply := func(startup bool) {
		for _, name := range []string{"keyring", "bdev", "nvmf"} {
			for _, c := range want[name] {
				if startup == (c.Method == "bdev_set_options") {
					if err := b.Call(t.Context(), c.Method, c.Params, nil); err != nil {
						t.Fatalf("%s %v: %v", c.Method, c.Params, err)
					}
				}
			}
		}
	}
	apply(true)
	ok(t, b.FrameworkStartInit(t.Context()))
	apply(false)
	if d := cmp.Diff(want, b.config()); d != "" {
		t.Errorf("what was saved and what it made (-saved +made):\n%s", d)
	}
	for _, m := range []string{"bdev_malloc_create", "bdev_null_create", "bdev_aio_create", "bdev_examine", "bdev_delay_create",
		"bdev_error_create", "bdev_raid_create",
		"bdev_nvme_attach_controller", "bdev_nvme_set_multipath_policy", "bdev_set_qos_limit", "bdev_wait_for_examine"} {
		if !slices.ContainsFunc(want["bdev"], func(c configCall) bool { return c.Method == m }) {
			t.Errorf("%s is not in the configuration", m)
		}
	}
	if err := b.Call(t.Context(), "framework_get_config", map[string]string{"name": "zz"}, nil); spdk.Code(err) != -32602 {
		t.Errorf("the configuration of nothing: %v", err)
	}
}

func TestLogLevel(t *testing.T) {
	level := &slog.LevelVar{}
	p := start(t, Config{WaitForRPC: true, LogLevel: level})
	var got string
	ask := func() string {
		ok(t, p.Call(t.Context(), "log_get_level", nil, &got))
		return got
	}
	if ask() != "NOTICE" {
		t.Errorf("at first %s", got)
	}
	for _, l := range logLevels {
		ok(t, p.Call(t.Context(), "log_set_level", map[string]string{"level": l.name}, nil))
		if ask() != l.name || level.Level() != l.level {
			t.Errorf("set to %s: is %s, %v", l.name, got, level.Level())
		}
	}
	if err := p.Call(t.Context(), "log_set_level", map[string]string{"level": "loud"}, nil); err == nil ||
		!strings.Contains(err.Error(), "ERROR, WARNING, NOTICE") {
		t.Errorf("a level that there is not: %v", err)
	}
	fixed := start(t, Config{})
	if err := fixed.Call(t.Context(), "log_set_level", map[string]string{"level": "DEBUG"}, nil); err == nil {
		t.Error("a fixed level is said to have been set")
	}
}

func TestReactors(t *testing.T) {
	p := start(t, Config{})
	var r struct {
		TickRate int64 `json:"tick_rate"`
		PID      int   `json:"pid"`
		Reactors []struct {
			Busy    int64      `json:"busy"`
			Threads []struct{} `json:"lw_threads"`
		} `json:"reactors"`
	}
	ok(t, p.Call(t.Context(), "framework_get_reactors", nil, &r))
	if r.TickRate != 1e9 || r.PID != os.Getpid() || len(r.Reactors) != 1 || r.Reactors[0].Busy == 0 || len(r.Reactors[0].Threads) != 1 {
		t.Errorf("%+v", r)
	}
}
