package agent_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/agent"
	"github.com/virtual-disk-array/vda/agent/plane"
	"github.com/virtual-disk-array/vda/agent/planetest"
	"github.com/virtual-disk-array/vda/spdk"
)

func connect(t *testing.T, socket, kind string) (*agent.Plane, error) {
	t.Helper()
	return connectBy(t, socket, kind, nil)
}

func connectBy(t *testing.T, socket, kind string, by func() (agent.Client, error)) (*agent.Plane, error) {
	t.Helper()
	return connectWith(t, socket, kind, by, nil)
}

func connectWith(t *testing.T, socket, kind string, by func() (agent.Client, error), transport map[string]any) (*agent.Plane, error) {
	t.Helper()
	cfg := agent.Config{Socket: socket, Connect: by, Transport: transport, StateDir: t.TempDir(), Log: planetest.Log(),
		Address: vda.Listener{TrType: "tcp", TrAddr: "127.0.0.1", AdrFam: "ipv4", TrSvcID: "4420"}}
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	p, err := agent.NewPlane(cfg, kind)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p, p.Connect(context.Background())
}

func TestADataPlaneThatLacksAMethodIsRefusedByName(t *testing.T) {
	t.Parallel()
	for kind, hidden := range map[string][]string{
		"dn": {"nvmf_subsystem_add_ns", "bdev_lvol_rename", "bdev_aio_create"},
		"cn": {"nvmf_subsystem_listener_set_ana_state", "bdev_raid_create", "nvmf_get_stats"},
	} {
		for _, method := range hidden {
			fake := planetest.NewPlane(t, planetest.NewCluster(), false)
			fake.Hide(method)
			_, err := connect(t, fake.Socket, kind)
			var lack *plane.LackError
			if !errors.As(err, &lack) || lack.Method != method || !strings.Contains(err.Error(), method) {
				t.Errorf("%s without %s: %v", kind, method, err)
			}
			if fake.Changes() != 0 {
				t.Errorf("%s without %s: something was changed", kind, method)
			}
		}
	}
}

func TestAMethodOfTheOtherAgentIsNotMissed(t *testing.T) {
	t.Parallel()
	for kind, method := range map[string]string{"dn": "bdev_raid_create", "cn": "bdev_aio_create"} {
		fake := planetest.NewPlane(t, planetest.NewCluster(), false)
		fake.Hide(method)
		if _, err := connect(t, fake.Socket, kind); err != nil {
			t.Errorf("%s without %s: %v", kind, method, err)
		}
	}
}

func TestTheDriverIsChosenByTheMethods(t *testing.T) {
	t.Parallel()
	type traits struct {
		shares, standsBy, watchesSilence, waitsForever bool
		whileLost, proxy                               string
		linksOfLost                                    plane.End
	}
	for _, c := range []struct {
		swaps  bool
		hidden string
		want   traits
	}{
		{false, "", traits{standsBy: true, watchesSilence: true, waitsForever: true,
			whileLost: spdk.ANAInaccessible, proxy: spdk.ANANonOptimized, linksOfLost: plane.Cut}},
		// As SPDK before 23.09.
		{false, "bdev_nvme_disable_controller", traits{standsBy: true, whileLost: spdk.ANAOptimized, proxy: spdk.ANAInaccessible}},
		{true, "", traits{shares: true, whileLost: spdk.ANAOptimized, proxy: spdk.ANANonOptimized}},
	} {
		fake := planetest.NewPlane(t, planetest.NewCluster(), c.swaps)
		fake.Hide(c.hidden)
		p, err := connect(t, fake.Socket, "cn")
		d := p.Driver()
		got := traits{d.Shares(), d.StandsBy(), d.WatchesSilence(), d.FastIOFail(time.Second) == nil,
			d.StateWhileLost(), d.ProxyState(), d.EndOfLinks(true)}
		if err != nil || got != c.want {
			t.Errorf("vda_tgt %v, without %q: %+v, %v", c.swaps, c.hidden, got, err)
		}
	}
}

// runs is a data plane that says in which run it is; without a name it does not
// answer.
type runs struct {
	*spdk.Client
	now *atomic.Value
}

func (c runs) StartID(context.Context) (string, error) {
	if id := c.now.Load().(string); id != "" {
		return id, nil
	}
	return "", context.DeadlineExceeded
}

// A data plane that was silent for a while keeps its driver, which knows what is
// held there; another run gets another driver.
func TestADriverStaysForOneRunOfTheDataPlane(t *testing.T) {
	t.Parallel()
	fake := planetest.NewPlane(t, planetest.NewCluster(), false)
	var now atomic.Value
	now.Store("first")
	p, err := connectBy(t, fake.Socket, "cn", func() (agent.Client, error) {
		c, err := spdk.New(spdk.Config{Socket: fake.Socket})
		return runs{c, &now}, err
	})
	if err != nil {
		t.Fatal(err)
	}
	p.OnStart = func() {}
	ctx, stop := context.WithCancel(t.Context())
	var watch sync.WaitGroup
	watch.Go(func() { p.Watch(ctx) })
	defer func() { stop(); watch.Wait() }()
	is := func(run string) plane.Driver {
		t.Helper()
		now.Store(run)
		planetest.Eventually(t, func() string {
			if s := p.Status(); s.Ready != (run != "") || s.Ready && s.StartID != run {
				return fmt.Sprintf("in run %q: %+v", run, s)
			}
			return ""
		})
		return p.Driver()
	}
	first := p.Driver()
	if is(""); is("first") != first {
		t.Error("the driver has changed in one run of the data plane")
	}
	if is("") != first || is("second") == first {
		t.Error("another run of the data plane has the driver of the one before")
	}
}

func TestAnLvolOfTheOldestVersionIsMadeInBytes(t *testing.T) {
	t.Parallel()
	for version, want := range map[[2]int]string{
		{23, 1}: `"size":16777216`, {23, 5}: `"size_in_mib":16`, {26, 5}: `"size_in_mib":16`,
	} {
		fake := planetest.NewPlane(t, planetest.NewCluster(), false)
		fake.SetVersion(version[0], version[1])
		p, err := connect(t, fake.Socket, "dn")
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		fake.SetHook(func(method string, a map[string]any) error {
			if method == "bdev_lvol_create" {
				text, err := json.Marshal(a)
				got = string(text)
				return err
			}
			return nil
		})
		_, err = p.BdevLvolCreate(context.Background(), spdk.LvolCreate{LvsName: "none", LvolName: "x", SizeInMiB: 16})
		if !spdk.IsNoSuchDevice(err) || !strings.Contains(got, want) || strings.Count(got, `"size`) != 1 {
			t.Errorf("version %v: sent %s, %v", version, got, err)
		}
	}
}

func TestTransport(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		version [2]int
		vda     bool
		conf    map[string]any
		want    string
	}{
		{[2]int{26, 5}, false, nil, `{"disable_command_passthru":true,"kas":1,"min_kato":100,"trtype":"TCP"}`},
		{[2]int{25, 5}, false, map[string]any{"min_kato": 5000}, `{"disable_command_passthru":true,"kas":1,"min_kato":5000,"trtype":"TCP"}`},
		// An SPDK refuses what it does not know.
		{[2]int{25, 1}, false, map[string]any{"io_unit_size": 8192}, `{"disable_command_passthru":true,"io_unit_size":8192,"trtype":"TCP"}`},
		{[2]int{24, 5}, false, nil, `{"trtype":"TCP"}`},
		{[2]int{26, 5}, true, nil, `{"trtype":"TCP"}`},
	} {
		fake := planetest.NewPlane(t, planetest.NewCluster(), c.vda)
		fake.SetVersion(c.version[0], c.version[1])
		got := ""
		fake.SetHook(func(method string, a map[string]any) error {
			if method == "nvmf_create_transport" {
				text, err := json.Marshal(a)
				got = string(text)
				return err
			}
			return nil
		})
		if _, err := connectWith(t, fake.Socket, "cn", nil, c.conf); err != nil || got != c.want {
			t.Errorf("version %v, vda_tgt %v, transport %v: sent %s, want %s: %v", c.version, c.vda, c.conf, got, c.want, err)
		}
	}
}

// lingering is a data plane whose connections go away some time after they
// have been detached.
type lingering struct {
	*spdk.Client
	left *int
}

func (c lingering) Call(ctx context.Context, method string, params, result any) error {
	switch method {
	case "bdev_nvme_detach_controller":
		return nil
	case "bdev_nvme_get_controllers":
		if *c.left == 0 {
			return &spdk.RPCError{Code: -22, Message: "Controller x does not exist", Method: method}
		}
		*c.left--
		return json.Unmarshal([]byte(`[{"name":"x","ctrlrs":[{"state":"deleting"}]}]`), result)
	}
	return c.Client.Call(ctx, method, params, result)
}

func TestADetachedConnectionHasGone(t *testing.T) {
	t.Parallel()
	for version, want := range map[[2]int]int{{23, 9}: 0, {24, 1}: 3} {
		fake := planetest.NewPlane(t, planetest.NewCluster(), false)
		fake.SetVersion(version[0], version[1])
		left := 3
		p, err := connectBy(t, fake.Socket, "cn", func() (agent.Client, error) {
			c, err := spdk.New(spdk.Config{Socket: fake.Socket})
			return lingering{c, &left}, err
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := p.BdevNvmeDetachController(context.Background(), "x"); err != nil || left != want {
			t.Errorf("version %v: %v, %d looks were left, want %d", version, err, left, want)
		}
	}
}
