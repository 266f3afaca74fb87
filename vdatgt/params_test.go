package vdatgt

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/virtual-disk-array/vda/spdk"
	"github.com/virtual-disk-array/vda/spdk/jsonrpc"
)

// TestParams checks every entry of the table: its method is there, no field
// takes it as well, what it allows is taken, and what it does not is refused by
// name.
func TestParams(t *testing.T) {
	samples := map[string][]string{
		"boolean": {"true", "false"}, "string": {`""`, `"x"`, `"0"`, `"posix"`, `"match_any"`, `"allow"`}, "uint8": {"0", "7", "12", "99"}, "uint16": {"0", "1", "100", "77"},
		"int32": {"-1", "0", "3", "5"}, "uint32": {"0", "4", "7", "100", "10000", "2097152"},
		"uint64": {"0", "5", "1000", "16384", "1048576", "120000000000"}, "array of string": {"[]", `["x"]`}, "object": {`{"identify_ctrlr":true}`, `{"identify_ctrlr":false,"nvme_mi":false}`},
	}
	table := methods()
	for name, list := range params {
		m := table[name]
		if m == nil {
			t.Errorf("%s is no method", name)
			continue
		}
		refuse := func(reason string) error { return &jsonrpc.Error{Code: -22, Message: "Invalid argument", Data: reason} }
		other := besides(name, refuse)
		for _, p := range list {
			if n := len(slices.DeleteFunc(slices.Clone(m.Params), func(f jsonrpc.Field) bool { return f.Name != p.name })); n != 1 {
				t.Errorf("%s has %d parameters %s", name, n, p.name)
			}
			taken, refused := 0, 0
			for _, v := range samples[p.typ] {
				known, err := other(p.name, json.RawMessage(v))
				switch {
				case !known:
					t.Errorf("%s: %s is unknown", name, p.name)
				case err == nil:
					taken++
				case !strings.Contains(err.Error(), p.name+" "+v) || !strings.Contains(err.Error(), p.rule):
					t.Errorf("%s: the refusal of %s %s says %q", name, p.name, v, err)
				default:
					refused++
				}
			}
			if idle := p.rule == ""; idle != (refused == 0) || (taken == 0) != (p.rule == "leave it out") {
				t.Errorf("%s: %s: of %d values %d are taken and %d refused, against the rule %q", name, p.name, len(samples[p.typ]), taken, refused,
					p.rule)
			}
			if _, err := other(p.name, json.RawMessage(`{"a":1}`)); err == nil {
				t.Errorf("%s: %s takes an object", name, p.name)
			}
		}
	}
}

// fromRPCPy are calls as SPDK's rpc.py of 26.05 makes them when its user names
// only what is necessary: it adds every switch at its default.
var fromRPCPy = []struct{ method, params string }{
	{"bdev_nvme_set_options", `{"delay_cmd_submit":true,"disable_auto_failback":false,"generate_uuids":false,"nvme_error_stat":false,
		"io_path_stat":false,"allow_accel_sequence":false,"enable_flush":false}`},
	{"bdev_malloc_create", `{"num_blocks":8192,"block_size":4096,"name":"M","md_interleave":false,"dif_is_head_of_md":false}`},
	{"bdev_null_create", `{"num_blocks":8192,"block_size":4096,"name":"N","dif_is_head_of_md":false}`},
	{"nvmf_create_transport", `{"trtype":"TCP","no_srq":false,"zcopy":false,"c2h_success":true,"dif_insert_or_strip":false,"no_wr_batching":false,
		"disable_mappable_bar0":false,"disable_adaptive_irq":false,"disable_shadow_doorbells":false,"disable_command_passthru":false}`},
	{"nvmf_create_subsystem", `{"nqn":"nqn.2016-06.io.spdk:p","allow_any_host":true,"ana_reporting":false,"passthrough":false,"enable_nssr":false}`},
	{"nvmf_subsystem_add_ns", `{"nqn":"nqn.2016-06.io.spdk:p","namespace":{"bdev_name":"M","uuid":"aaaaaaaa-1111-4222-8333-bbbbbbbbbbbb",
		"nguid":"aaaaaaaa111142228333bbbbbbbbbbbb","no_auto_visible":false,"hide_metadata":false}}`},
	{"nvmf_subsystem_add_listener", `{"nqn":"nqn.2016-06.io.spdk:p","secure_channel":false,
		"listen_address":{"trtype":"tcp","traddr":"127.0.0.1","trsvcid":"$PORT","adrfam":"ipv4"}}`},
	{"nvmf_subsystem_add_host", `{"nqn":"nqn.2016-06.io.spdk:p","host":"nqn.2016-06.io.spdk:h"}`},
	{"bdev_nvme_attach_controller", `{"name":"C","trtype":"tcp","traddr":"127.0.0.1","adrfam":"ipv4","trsvcid":"$PORT","subnqn":"nqn.2016-06.io.spdk:p",
		"prchk_reftag":false,"prchk_guard":false,"hdgst":false,"ddgst":false,"allow_unrecognized_csi":false}`},
	{"bdev_enable_histogram", `{"name":"M","enable":true}`},
	{"bdev_nvme_reset_controller", `{"name":"C"}`},
	{"bdev_nvme_detach_controller", `{"name":"C"}`},
}

func TestCallsOfRPCPy(t *testing.T) {
	p := start(t, Config{})
	port := strings.NewReplacer("$PORT", freePort(t))
	for _, c := range fromRPCPy {
		if err := p.Call(t.Context(), c.method, json.RawMessage(port.Replace(c.params)), nil); err != nil {
			t.Errorf("%s: %v", c.method, err)
		}
	}
}

// TestLackingIsRefused: what asks for an effect that is not there is refused
// by name, and changes nothing, also by methods that ignore what they do not
// know.
func TestLackingIsRefused(t *testing.T) {
	p := start(t, Config{})
	port := strings.NewReplacer("$PORT", freePort(t))
	for _, c := range fromRPCPy[1:8] {
		ok(t, p.Call(t.Context(), c.method, json.RawMessage(port.Replace(c.params)), nil))
	}
	for _, c := range []struct{ method, params, says string }{
		{"nvmf_subsystem_add_host", `{"nqn":"nqn.2016-06.io.spdk:p","host":"nqn.2016-06.io.spdk:i","dhchap_key":"k"}`, "dhchap_key"},
		{"nvmf_subsystem_add_host", `{"nqn":"nqn.2016-06.io.spdk:p","host":"nqn.2016-06.io.spdk:i","psk":"k"}`, "psk"},
		{"nvmf_subsystem_add_ns", `{"nqn":"nqn.2016-06.io.spdk:p","namespace":{"bdev_name":"N","no_auto_visible":true}}`, "namespace.no_auto_visible true"},
		{"nvmf_subsystem_add_ns", `{"nqn":"nqn.2016-06.io.spdk:p","namespace":{"bdev_name":"N","ptpl_file":"x"}}`, `ptpl_file "x": it must be an absolute path`},
		{"nvmf_create_transport", `{"trtype":"TCP","dif_insert_or_strip":true}`, "dif_insert_or_strip true is not supported, only false is"},
		{"nvmf_create_transport", `{"trtype":"TCP","kas":0}`, "kas 0"},
		{"nvmf_create_transport", `{"trtype":"TCP","min_kato":0}`, "min_kato 0"},
		{"nvmf_create_transport", `{"trtype":"TCP","masked_oncs":["compare"]}`, "masked_oncs"},
		{"bdev_nvme_set_options", `{"nvme_error_stat":true}`, "nvme_error_stat true is not supported, only false is"},
		{"bdev_nvme_set_options", `{"bdev_retry_count":-1}`, "bdev_retry_count"},
		{"bdev_nvme_set_options", `{"bdev_retry_count":"x"}`, "bdev_retry_count"},
		{"bdev_nvme_attach_controller", `{"name":"C","trtype":"tcp","traddr":"127.0.0.1","trsvcid":"1","prchk_guard":true}`, "prchk_guard"},
		{"bdev_malloc_create", `{"num_blocks":8,"block_size":512,"md_size":8}`, "md_size"},
		{"bdev_null_create", `{"name":"Q","num_blocks":8,"block_size":512,"physical_block_size":4096}`, "physical_block_size"},
	} {
		err := p.Call(t.Context(), c.method, json.RawMessage(c.params), nil)
		if err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s %s: %v, want a refusal with %q", c.method, c.params, err, c.says)
		}
	}
	all := must[[]spdk.NvmfSubsystem](t)(p.NvmfGetSubsystems(t.Context()))
	if s := all[len(all)-1]; len(s.Hosts) != 1 || len(s.Namespaces) != 1 {
		t.Errorf("a refused call has changed the subsystem: %+v", s)
	}
}

// TestOptionsStay: bdev_nvme_set_options changes what it is given and leaves
// the rest, and a policy given as an option or with an attachment is that of
// the bdevs made later.
func TestOptionsStay(t *testing.T) {
	remote, port := start(t, Config{}), freePort(t)
	must[string](t)(remote.BdevMallocCreate(t.Context(), spdk.MallocCreate{Name: "M", BlockSize: 4096, NumBlocks: 64}))
	remote.export(spdk.NvmfSubsystemCreate{NQN: "nqn.2016-06.io.spdk:p", SerialNumber: "P"}, spdk.NvmfNamespace{BdevName: "M"},
		port, "nqn.2016-06.io.spdk:h")
	p := start(t, Config{})
	set := func(params string) error {
		return p.Call(t.Context(), "bdev_nvme_set_options", json.RawMessage(params), nil)
	}
	attach := func(name, more string) string {
		ok(t, p.Call(t.Context(), "bdev_nvme_attach_controller", json.RawMessage(`{"name":"`+name+`","trtype":"tcp","traddr":"127.0.0.1","trsvcid":"`+port+`",
			"subnqn":"nqn.2016-06.io.spdk:p","hostnqn":"nqn.2016-06.io.spdk:h"`+more+`}`), nil))
		defer func() { ok(t, p.BdevNvmeDetachController(t.Context(), name)) }()
		var out []json.RawMessage
		ok(t, p.Call(t.Context(), "bdev_get_bdevs", map[string]string{"name": name + "n1"}, &out))
		return string(out[0])
	}
	ok(t, set(`{"ctrlr_loss_timeout_sec":-1,"reconnect_delay_sec":1}`))
	ok(t, set(`{"multipath_opts":{"policy":"active_active","min_io":7}}`))
	ok(t, set(`{"keep_alive_timeout_ms":5000}`))
	if err := set(`{"reconnect_delay_sec":0}`); err == nil {
		t.Error("a loss time-out of -1 that was set before is forgotten")
	}
	if got := attach("C", ""); !strings.Contains(got, `"rr_min_io":7`) {
		t.Errorf("with the policy of the options: %s", got)
	}
	if got := attach("D", `,"multipath_opts":{"policy":"active_active","selector":"queue_depth"}`); !strings.Contains(got, `"selector":"queue_depth"`) {
		t.Errorf("with a policy of its own: %s", got)
	}
	if got := attach("E", `,"multipath_opts":{"policy":"active_passive"}`); !strings.Contains(got, `"active_passive"`) {
		t.Errorf("with a policy of its own: %s", got)
	}
	if err := set(`{"multipath_opts":{"policy":"active_passive","selector":"queue_depth"}}`); err == nil {
		t.Error("a policy that makes no sense is taken")
	}
}

// TestSchema compares the parameters with those of SPDK's schema, beside the
// rpc.py that SPDK_RPC names: each is a field or in the table.
func TestSchema(t *testing.T) {
	rpc := os.Getenv("SPDK_RPC")
	if rpc == "" {
		t.Skip("SPDK_RPC names no rpc.py: not compared with SPDK's schema")
	}
	text, err := os.ReadFile(filepath.Join(filepath.Dir(rpc), "../schema/schema.json"))
	if err != nil {
		t.Fatal(err)
	}
	type member struct{ Name, Type, Class string }
	var schema struct {
		Objects []struct {
			Name   string
			Fields []member
		}
		Methods []struct {
			Name   string
			Params []member
		}
	}
	if err := json.Unmarshal(text, &schema); err != nil {
		t.Fatal(err)
	}
	table, compared := methods(), 0
	for _, theirs := range schema.Methods {
		m := table[theirs.Name]
		if m == nil {
			continue
		}
		compared++
		for _, p := range theirs.Params {
			i := slices.IndexFunc(m.Params, func(f jsonrpc.Field) bool { return f.Name == p.Name })
			if i < 0 {
				t.Errorf("%s: SPDK's parameter %s is neither a field nor in the table", m.Name, p.Name)
				continue
			}
			if p.Type != "object" {
				continue
			}
			for _, o := range schema.Objects {
				if o.Name != p.Class {
					continue
				}
				for _, f := range o.Fields {
					at := p.Name + "." + f.Name
					listed := slices.ContainsFunc(params[m.Name], func(e param) bool { return e.name == at })
					if !listed && !strings.Contains(m.Params[i].Doc, f.Name) {
						t.Errorf("%s: SPDK's parameter %s is neither a field nor in the table", m.Name, at)
					}
				}
			}
		}
	}
	if compared < 60 {
		t.Errorf("only %d methods are in both", compared)
	}
}
