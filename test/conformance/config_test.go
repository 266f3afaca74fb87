package conformance

import (
	"context"
	"encoding/json"
	"slices"
	"testing"
	"time"

	"github.com/virtual-disk-array/vda/sandbox/dataplane"
	"github.com/virtual-disk-array/vda/spdk"
)

// TestConfigOfSPDK gives vda_tgt the configuration that SPDK saves, call by call as
// load_config does: all that SPDK writes at its defaults is taken. There is no delay bdev
// in it, as SPDK saves it before its base and makes it when the base comes.
func TestConfigOfSPDK(t *testing.T) {
	plane := func(name dataplane.Kind) *plane {
		for _, k := range kinds {
			if k.name == string(name) {
				return start(t, k, true)
			}
		}
		t.Skip("SPDK_TGT names no spdk_tgt: its configuration is not loaded")
		return nil
	}
	theirs := plane(dataplane.SPDK)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	fill := filler(t)
	for _, c := range []struct{ method, params string }{
		{"framework_start_init", ``},
		{"keyring_file_add_key", `{"name":"k","path":"$DIR/key"}`},
		{"bdev_malloc_create", `{"name":"M","num_blocks":4096,"block_size":4096}`},
		{"bdev_null_create", `{"name":"N","num_blocks":4096,"block_size":4096}`},
		{"bdev_raid_create", `{"name":"R","raid_level":"raid0","strip_size_kb":64,"base_bdevs":["N"]}`},
		{"bdev_aio_create", `{"name":"A","filename":"$DIR/aio0","block_size":4096}`},
		{"bdev_lvol_create_lvstore", `{"bdev_name":"A","lvs_name":"l"}`},
		{"bdev_set_qos_limit", `{"name":"M","rw_ios_per_sec":10000}`},
		{"nvmf_create_transport", `{"trtype":"TCP"}`},
		{"nvmf_create_subsystem", `{"nqn":"nqn.2016-06.io.spdk:x","serial_number":"S","ana_reporting":true}`},
		{"nvmf_subsystem_add_host", `{"nqn":"nqn.2016-06.io.spdk:x","host":"nqn.2016-06.io.spdk:h","dhchap_key":"k"}`},
		{"nvmf_subsystem_add_ns", `{"nqn":"nqn.2016-06.io.spdk:x","namespace":{"bdev_name":"M"}}`},
		{"nvmf_subsystem_add_listener",
			`{"nqn":"nqn.2016-06.io.spdk:x","listen_address":{"trtype":"TCP","adrfam":"IPv4","traddr":"127.0.0.1","trsvcid":"$PORT"}}`},
	} {
		var params any
		if c.params != "" {
			params = json.RawMessage(fill(c.params))
		}
		theirs.ok(theirs.Call(ctx, c.method, params, nil))
	}
	type call struct {
		Method string          `json:"method"`
		Params json.RawMessage `json:"params"`
	}
	var saved []call
	for _, subsystem := range []string{"keyring", "bdev", "nvmf"} {
		var calls []call
		theirs.ok(theirs.Call(ctx, "framework_get_config", map[string]string{"name": subsystem}, &calls))
		saved = append(saved, calls...)
	}
	theirs.finish() // its disk and its port are the other's now

	ours := plane(dataplane.VDA)
	known := must[[]string](t)(ours.GetMethods(ctx, false))
	var unknown []string
	// As load_config does: what may be called now, framework_start_init, and the rest.
	for _, running := range []bool{false, true} {
		if running {
			ours.ok(ours.Call(ctx, "framework_start_init", nil, nil))
		}
		now := must[[]string](t)(ours.GetMethods(ctx, true))
		saved = slices.DeleteFunc(saved, func(c call) bool {
			switch {
			case !slices.Contains(known, c.Method):
				unknown = append(unknown, c.Method)
				return true
			case !slices.Contains(now, c.Method):
				return false
			}
			var params any
			if c.Params != nil {
				params = c.Params
			}
			if err := ours.Call(ctx, c.Method, params, nil); err != nil {
				t.Errorf("%s %s: %v", c.Method, c.Params, err)
			}
			return true
		})
	}
	for _, c := range saved {
		t.Errorf("%s may not be called, before nor after framework_start_init", c.Method)
	}
	// What vda_tgt has no method for changes nothing at its defaults.
	slices.Sort(unknown)
	want := []string{"bdev_nvme_set_hotplug", "bdev_raid_set_options", "nvmf_set_crdt", "nvmf_set_max_subsystems"}
	if !slices.Equal(unknown, want) {
		t.Errorf("SPDK saves calls of %v, which vda_tgt does not have; %v were known of", unknown, want)
	}
	bdevs := must[[]spdk.Bdev](t)(ours.BdevGetBdevs(ctx))
	for _, name := range []string{"M", "N", "R", "A"} {
		if !slices.ContainsFunc(bdevs, func(b spdk.Bdev) bool { return b.Name == name }) {
			t.Errorf("there is no bdev %s after it: %v", name, bdevs)
		}
	}
}
