package agent_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"vda"
	"vda/agent"
	"vda/agent/agenttest"
	"vda/spdk"
)

func connect(t *testing.T, socket, kind string) (*agent.Plane, error) {
	t.Helper()
	cfg := agent.Config{Socket: socket, StateDir: t.TempDir(), Log: agenttest.Log(), Address: vda.Listener{TrType: "tcp", TrAddr: "127.0.0.1", AdrFam: "ipv4", TrSvcID: "4420"}}
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
			plane := agenttest.NewPlane(t, agenttest.NewCluster(), false)
			plane.Hide(method)
			_, err := connect(t, plane.Socket, kind)
			var lack *agent.LackError
			if !errors.As(err, &lack) || lack.Method != method || !strings.Contains(err.Error(), method) {
				t.Errorf("%s without %s: %v", kind, method, err)
			}
			if plane.Changes() != 0 {
				t.Errorf("%s without %s: something was changed", kind, method)
			}
		}
	}
}

func TestAMethodOfTheOtherAgentIsNotMissed(t *testing.T) {
	t.Parallel()
	for kind, method := range map[string]string{"dn": "bdev_raid_create", "cn": "bdev_lvol_rename"} {
		plane := agenttest.NewPlane(t, agenttest.NewCluster(), false)
		plane.Hide(method)
		if _, err := connect(t, plane.Socket, kind); err != nil {
			t.Errorf("%s without %s: %v", kind, method, err)
		}
	}
}

func TestAbilitiesAreLearntFromTheMethods(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		swaps  bool
		hidden string
		want   agent.Abilities
	}{
		{false, "", agent.Abilities{NVMe: true, CutNVMe: true}},
		{false, "bdev_nvme_disable_controller", agent.Abilities{NVMe: true}}, // SPDK before 23.09
		{true, "", agent.Abilities{SwapNamespace: true, SharedNamespace: true, KeepsNamespace: true, NVMe: true}},
	} {
		plane := agenttest.NewPlane(t, agenttest.NewCluster(), c.swaps)
		plane.Hide(c.hidden)
		p, err := connect(t, plane.Socket, "cn")
		if err != nil || p.Able() != c.want {
			t.Errorf("vda_tgt %v, without %q: %+v, %v", c.swaps, c.hidden, p.Able(), err)
		}
	}
}

func TestAnLvolOfTheOldestVersionIsMadeInBytes(t *testing.T) {
	t.Parallel()
	for version, want := range map[[2]int]string{
		{23, 1}: `"size":16777216`, {23, 5}: `"size_in_mib":16`, {26, 5}: `"size_in_mib":16`,
	} {
		plane := agenttest.NewPlane(t, agenttest.NewCluster(), false)
		plane.SetVersion(version[0], version[1])
		p, err := connect(t, plane.Socket, "dn")
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		plane.SetHook(func(method string, a map[string]any) error {
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
