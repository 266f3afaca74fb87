package agent_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
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
			for _, r := range []spdk.RaidCreate{
				{Name: "whole", BaseBdevs: []string{"a"}}, {Name: "lacking", BaseBdevs: []string{"b", "none"}},
				{Name: "other", BaseBdevs: []string{"c"}},
			} {
				r.StripSizeKB, r.RaidLevel = 64, "raid0"
				if err := api.BdevRaidCreate(ctx, r); err != nil {
					t.Fatal(err)
				}
			}
			if err := api.NvmfCreateSubsystem(ctx, spdk.NvmfSubsystemCreate{NQN: "nqn.2016-06.io.spdk:there", SerialNumber: "1"}); err != nil {
				t.Fatal(err)
			}
			plane.Asked()
			inv, err := n.InventoryOf(agent.ByName(ctx), agent.Names{
				Bdevs: []string{"a", "x"}, Raids: []string{"whole", "lacking", "x"}, Controllers: []string{"x"}, Paths: []string{"xn1"},
				NQNs: []string{"nqn.2016-06.io.spdk:there", "nqn.2016-06.io.spdk:not"},
			})
			if err != nil {
				t.Fatal(err)
			}
			if r := inv.Raid("whole"); r == nil || r.State != "online" || r.StripSizeKB != 64 ||
				len(r.BaseBdevs) != 1 || !r.BaseBdevs[0].IsConfigured {
				t.Errorf("a raid that is whole: %+v", r)
			}
			if r := inv.Raid("lacking"); r == nil || r.State != "configuring" || len(r.BaseBdevs) != 2 {
				t.Errorf("a raid that lacks a member: %+v", r)
			}
			if inv.Bdev("a") == nil || inv.Subsystem("nqn.2016-06.io.spdk:there") == nil {
				t.Error("what is there is not found")
			}
			if inv.Bdev("x") != nil || inv.Raid("x") != nil || inv.Controller("x") != nil || inv.Closed("xn1") ||
				inv.Subsystem("nqn.2016-06.io.spdk:not") != nil {
				t.Error("what is not there is found")
			}
			if n := plane.Asked()["bdev_get_bdevs *"].Calls; n != 0 {
				t.Errorf("all bdevs were asked for %d times", n)
			}
			// What was not asked for is looked for now, in lists, once.
			if inv.Bdev("b") == nil || inv.Raid("other") == nil ||
				len(inv.AllBdevs()) < 3 || len(inv.AllRaids()) != 3 || len(inv.AllSubsystems()) < 2 {
				t.Error("what was not asked for is taken for absent")
			}
			if inv.Controller("y") != nil || inv.Closed("yn1") || inv.Subsystem("nqn.2016-06.io.spdk:z") != nil || len(inv.AllControllers()) > 0 {
				t.Error("what is not there is found in lists")
			}
			if n := plane.Asked()["bdev_get_bdevs *"].Calls; n != 1 {
				t.Errorf("all bdevs were asked for %d times", n)
			}
			// What a pass has changed itself counts as asked for.
			if inv.With(&spdk.NvmfSubsystem{NQN: "nqn.2016-06.io.spdk:made"}).Subsystem("nqn.2016-06.io.spdk:made") == nil {
				t.Error("what was made since is not found")
			}
			// A pass that no request has brought about takes lists.
			if _, err := n.InventoryOf(ctx, agent.Names{Bdevs: []string{"a"}}); err != nil {
				t.Fatal(err)
			}
			if n := plane.Asked()["bdev_get_bdevs *"].Calls; n != 1 {
				t.Errorf("all bdevs were asked for %d times", n)
			}
		})
	}
}

// An answer that does not say that a thing is absent says nothing of it: lists
// do, and their error is one.
func TestInventoryByNameIsRefused(t *testing.T) {
	t.Parallel()
	for method, refusal := range map[string]error{
		"nvmf_get_subsystems":       &jsonrpc.Error{Code: jsonrpc.CodeInvalidParams, Message: "Invalid parameters"},
		"bdev_get_bdevs":            &jsonrpc.Error{Code: jsonrpc.CodeInternalError, Message: "spdk_json_decode_object failed"},
		"bdev_nvme_get_controllers": &jsonrpc.Error{Code: -22, Message: "Invalid argument"},
		"bdev_raid_get_bdevs":       &jsonrpc.Error{Code: jsonrpc.CodeInternalError, Message: "Internal error"},
	} {
		plane := planetest.NewPlane(t, planetest.NewCluster(), false)
		n := contend(t, plane.Socket, "cn", t.TempDir(), 1)
		if n.err != nil {
			t.Fatal(n.err)
		}
		if _, err := plane.Client().BdevMallocCreate(t.Context(), spdk.MallocCreate{Name: "x", BlockSize: 4096, NumBlocks: 1024}); err != nil {
			t.Fatal(err)
		}
		var all atomic.Bool
		plane.SetHook(func(m string, params map[string]any) error {
			if m == method && (all.Load() || len(params) > 0 && params["category"] != "all") {
				return refusal
			}
			return nil
		})
		ask := func() (*agent.Inventory, error) {
			return n.InventoryOf(agent.ByName(t.Context()), agent.Names{
				Bdevs: []string{"x"}, Raids: []string{"y"}, Controllers: []string{"x"}, NQNs: []string{"nqn.2016-06.io.spdk:x"},
			})
		}
		if inv, err := ask(); err != nil || inv.Bdev("x") == nil || len(inv.AllBdevs()) == 0 {
			t.Errorf("%s refused for one name: %v", method, err)
		}
		all.Store(true)
		_, err := ask()
		if e := (*spdk.RPCError)(nil); !errors.As(err, &e) || e.Method != method {
			t.Errorf("%s refused: %v", method, err)
		}
	}
}

// A pass that looks up a name that it did not ask for ends with the error of the
// data plane when that cannot be looked for: without a panic, without a
// change, also from the midst of a Group.
func TestANameNotAskedForThatCannotBeLookedFor(t *testing.T) {
	t.Parallel()
	plane := planetest.NewPlane(t, planetest.NewCluster(), true)
	n := contend(t, plane.Socket, "cn", t.TempDir(), 1)
	if n.err != nil {
		t.Fatal(n.err)
	}
	inv, err := n.InventoryOf(agent.ByName(t.Context()), agent.Names{Bdevs: []string{"x"}})
	if err != nil {
		t.Fatal(err)
	}
	refusal := &jsonrpc.Error{Code: jsonrpc.CodeInternalError, Message: "Internal error"}
	plane.SetHook(func(m string, _ map[string]any) error {
		if m == "bdev_get_bdevs" {
			return refusal
		}
		return nil
	})
	var done bool
	loop := agent.NewLoop(agent.LoopConfig{Pass: func(context.Context, string) (r agent.Result) {
		var g agent.Group
		g.Go(func() {
			inv.Bdev("y")
			done = true
		})
		g.Wait()
		done = true
		return r
	}})
	defer loop.Close()
	r, _ := loop.Wait(t.Context(), "da", loop.KickNamed("da", true))
	if msg := r.Errs["da"]; done || !strings.Contains(msg, "bdev_get_bdevs: Internal error") || strings.Contains(msg, "panic") {
		t.Errorf("the pass went on: %v; it says %q", done, msg)
	}
}

// Whether a subsystem admits a host is asked of that subsystem alone: when many
// paths are closed at once, each asks.
func TestAdmits(t *testing.T) {
	t.Parallel()
	const there, host = "nqn.2016-06.io.spdk:there", "nqn.2014-08.org.nvmexpress:uuid:host"
	for name, swaps := range map[string]bool{"vda_tgt": true, "SPDK": false} {
		plane := planetest.NewPlane(t, planetest.NewCluster(), swaps)
		n := contend(t, plane.Socket, "cn", t.TempDir(), 1)
		if n.err != nil {
			t.Fatal(n.err)
		}
		api, ctx := plane.Client(), t.Context()
		if err := errors.Join(api.NvmfCreateSubsystem(ctx, spdk.NvmfSubsystemCreate{NQN: there, SerialNumber: "1"}),
			api.NvmfSubsystemAddHost(ctx, there, host)); err != nil {
			t.Fatal(err)
		}
		plane.Asked()
		if !n.Plane.Admits(ctx, there, spdk.NvmfHost{NQN: host}) {
			t.Errorf("%s: a host that is admitted is not found", name)
		}
		if n.Plane.Admits(ctx, there, spdk.NvmfHost{NQN: host + "2"}) || n.Plane.Admits(ctx, there+"2", spdk.NvmfHost{NQN: host}) ||
			n.Plane.Admits(ctx, there, spdk.NvmfHost{NQN: host, Keys: spdk.Keys{Host: "key"}}) {
			t.Errorf("%s: a host is found that is not admitted", name)
		}
		if asked := plane.Asked(); asked["nvmf_get_subsystems *"].Calls != 0 || asked["nvmf_get_subsystems"].Calls != 4 {
			t.Errorf("%s: asked %v, want nvmf_get_subsystems by name, four times", name, asked)
		}
	}
}

// pieces counts what is sent in one piece, and of how many calls.
type pieces struct {
	agent.Client
	n, calls *atomic.Int64
}

func (p pieces) Sequence(ctx context.Context, reqs ...spdk.Request) []error {
	p.n.Add(1)
	errs := make([]error, len(reqs))
	for i, r := range reqs {
		p.calls.Add(1)
		errs[i] = p.Call(ctx, r.Method, r.Params, r.Result)
	}
	return errs
}

// A pass's questions by name go to the data plane in one piece, and those for raids behind them
// in another: each piece costs a system call and a switch or two on both sides.
func TestNamesAreAskedForInOnePiece(t *testing.T) {
	t.Parallel()
	plane := planetest.NewCluster().Place("cn0", true)
	plane.Boot()
	var n, calls atomic.Int64
	node := planetest.Node(t, planetest.NodeConfig{Kind: "cn", Socket: "none", Port: "4420", StateDir: t.TempDir(),
		Connect: func() (agent.Client, error) { return pieces{plane.Direct(), &n, &calls}, nil }})
	if err := node.Plane.Connect(t.Context()); err != nil {
		t.Fatal(err)
	}
	n.Store(0)
	calls.Store(0)
	var names agent.Names
	for i := range 8 {
		name := fmt.Sprint("vda-vd-", i)
		names.Controllers, names.Bdevs = append(names.Controllers, name), append(names.Bdevs, name+"n1")
	}
	names.Raids, names.NQNs = []string{"vda-grp-1", "vda-da-1"}, []string{"nqn.2016-06.io.spdk:vda-exp-1"}
	if _, err := node.InventoryOf(agent.ByName(t.Context()), names); err != nil {
		t.Fatal(err)
	}
	// 8 controllers and their bdevs, the bdevs of 2 raids, 1 subsystem and the owner's mark; 2 lists of raids.
	if n.Load() != 2 || calls.Load() != 8+8+2+2+2 {
		t.Errorf("%d calls in %d pieces, want 22 in 2", calls.Load(), n.Load())
	}
}
