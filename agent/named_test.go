package agent_test

import (
	"errors"
	"testing"

	"github.com/virtual-disk-array/vda/agent"
	"github.com/virtual-disk-array/vda/agent/planetest"
	"github.com/virtual-disk-array/vda/spdk"
	"github.com/virtual-disk-array/vda/spdk/jsonrpc"
)

// What is asked for by name is found as it is in lists, whatever the data plane.
func TestInventoryByName(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		swaps        bool
		major, minor int
	}{"vda_tgt": {true, 26, 5}, "26.05": {false, 26, 5}, "24.01": {false, 24, 1}, "22.09": {false, 22, 9}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			plane := planetest.NewPlane(t, planetest.NewCluster(), c.swaps)
			plane.SetVersion(c.major, c.minor)
			n := contend(t, plane.Socket, "cn", t.TempDir(), 1)
			if n.err != nil {
				t.Fatal(n.err)
			}
			api, ctx := plane.Client(), t.Context()
			for _, b := range []string{"a", "b", "c"} {
				if _, err := api.BdevMallocCreate(ctx, spdk.MallocCreate{Name: b, BlockSize: 4096, NumBlocks: 1024}); err != nil {
					t.Fatal(err)
				}
			}
			for _, r := range []spdk.RaidCreate{{Name: "whole", BaseBdevs: []string{"a"}}, {Name: "lacking", BaseBdevs: []string{"b", "none"}}, {Name: "other", BaseBdevs: []string{"c"}}} {
				r.StripSizeKB, r.RaidLevel = 64, "raid0"
				if err := api.BdevRaidCreate(ctx, r); err != nil {
					t.Fatal(err)
				}
			}
			if err := api.NvmfCreateSubsystem(ctx, spdk.NvmfSubsystemCreate{NQN: "nqn.2016-06.io.spdk:there", SerialNumber: "1"}); err != nil {
				t.Fatal(err)
			}
			inv, err := n.InventoryOf(ctx, agent.Names{
				Bdevs: []string{"a", "x"}, Raids: []string{"whole", "lacking", "x"}, Controllers: []string{"x"}, Paths: []string{"xn1"},
				NQNs: []string{"nqn.2016-06.io.spdk:there", "nqn.2016-06.io.spdk:not"},
			})
			if err != nil {
				t.Fatal(err)
			}
			if r := inv.Raid("whole"); r == nil || r.State != "online" || r.StripSizeKB != 64 || len(r.BaseBdevs) != 1 || !r.BaseBdevs[0].IsConfigured {
				t.Errorf("a raid that is whole: %+v", r)
			}
			if r := inv.Raid("lacking"); r == nil || r.State != "configuring" || len(r.BaseBdevs) != 2 {
				t.Errorf("a raid that lacks a member: %+v", r)
			}
			if inv.Bdev("a") == nil || inv.Subsystem("nqn.2016-06.io.spdk:there") == nil {
				t.Error("what is there is not found")
			}
			if inv.Bdev("x") != nil || inv.Raid("x") != nil || inv.Controller("x") != nil || inv.Closed("xn1") || inv.Subsystem("nqn.2016-06.io.spdk:not") != nil {
				t.Error("what is not there is found")
			}
			for what, f := range map[string]func(){
				"bdev": func() { inv.Bdev("b") }, "raid": func() { inv.Raid("other") }, "controller": func() { inv.Controller("y") },
				"path": func() { inv.Closed("yn1") }, "subsystem": func() { inv.Subsystem("nqn.2016-06.io.spdk:z") },
				"bdevs": func() { inv.AllBdevs() }, "raids": func() { inv.AllRaids() }, "controllers": func() { inv.AllControllers() }, "subsystems": func() { inv.AllSubsystems() },
			} {
				if agent.Guard(func() error { f(); return nil }) == nil {
					t.Errorf("%s: what was not asked for is taken for absent", what)
				}
			}
		})
	}
}

// An answer that does not say that a thing is absent is an error.
func TestInventoryByNameFails(t *testing.T) {
	t.Parallel()
	for method, refusal := range map[string]error{
		"nvmf_get_subsystems":       &jsonrpc.Error{Code: spdk.CodeInvalidParams, Message: "Invalid parameters"},
		"bdev_get_bdevs":            &jsonrpc.Error{Code: spdk.CodeInternalError, Message: "spdk_json_decode_object failed"},
		"bdev_nvme_get_controllers": &jsonrpc.Error{Code: -22, Message: "Invalid argument"},
		"bdev_raid_get_bdevs":       &jsonrpc.Error{Code: spdk.CodeInternalError, Message: "Internal error"},
	} {
		plane := planetest.NewPlane(t, planetest.NewCluster(), false)
		n := contend(t, plane.Socket, "cn", t.TempDir(), 1)
		if n.err != nil {
			t.Fatal(n.err)
		}
		plane.SetHook(func(m string, _ map[string]any) error {
			if m == method {
				return refusal
			}
			return nil
		})
		_, err := n.InventoryOf(t.Context(), agent.Names{Bdevs: []string{"x"}, Raids: []string{"y"}, Controllers: []string{"x"}, NQNs: []string{"nqn.2016-06.io.spdk:x"}})
		if e := (*spdk.RPCError)(nil); !errors.As(err, &e) || e.Method != method {
			t.Errorf("%s refused: %v", method, err)
		}
	}
}
