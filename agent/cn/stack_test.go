package cn_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	apiv1 "github.com/virtual-disk-array/vda/api/v1"
)

// A primary climbs its rungs in order, each when what is below is there, and
// opens its path last of all. It goes down in the opposite order, after the path
// was closed and before it connects to the next primary.
func TestAPrimaryClimbsAndDescends(t *testing.T) {
	t.Parallel()
	rungs := []string{
		"raid_create vda-grp-" + grpID, "raid_create vda-grp-" + id("e0", 9), "raid_create vda-da-" + daID,
		"create_lvstore", "lvol_create", "create_subsystem", "add_ns", "add_host " + host0, "add_listener optimized",
	}
	down := []string{"raid_delete vda-da-" + daID, "raid_delete vda-grp-" + grpID, "raid_delete vda-grp-" + id("e0", 9)}
	for swaps, ready := range map[bool][]string{
		true:  {"set_ana_state inaccessible"},                        // the namespace stays
		false: {"set_ana_state inaccessible", "add_ns", "remove_ns"}, // it is drained first
	} {
		t.Run(fmt.Sprint("swaps=", swaps), func(t *testing.T) {
			inBubble(t, 2, swaps, func(l *lab) {
				t := l.T
				g := l.spec.Grps[0]
				second := &apiv1.GrpSpec{Id: id("e0", 9), GrpIdx: 1, StripeSizeKb: 64, Vds: g.Vds[1:], Columns: g.Columns[1:]}
				g.Vds, g.Columns = g.Vds[:1], g.Columns[:1]
				l.spec.Grps = append(l.spec.Grps, second)
				up, down := append([]string{"attach vd", "attach vd"}, rungs...), append(slices.Clone(down), "detach vd", "detach vd", "attach px")
				if swaps { // vda_tgt: each column is a mirror
					up = slices.Insert(up, 2, "mirror_create", "mirror_create")
					down = slices.Insert(down, 3, "mirror_delete", "mirror_delete")
				}
				calls := l.recorded(0)
				l.fence(false)
				l.good(0, l.cntlr(0, 0))
				if got := calls(); !slices.Equal(got, up) {
					t.Errorf("climbing: calls\n%q, want\n%q", got, up)
				}
				l.term++
				l.spec.Create = false
				l.sync(0, l.cntlr(0, 1)) // there is no primary yet to connect to
				want := slices.Concat(ready, down)
				if got := calls(); len(got) < len(want) || !slices.Equal(got[:len(want)], want) {
					t.Errorf("descending: calls\n%q, want\n%q", got, want)
				}
			})
		})
	}
}

// recorded returns what gives the calls that controller node i's data plane has
// got since the last time, those of one array's rungs and paths.
func (l *lab) recorded(i int) func() []string {
	var mu sync.Mutex
	var calls []string
	l.cns[i].plane.SetHook(func(method string, a map[string]any) error {
		if nqn, _ := a["nqn"].(string); strings.Contains(nqn, "vda-raw-") || strings.Contains(nqn, "owner") {
			return nil
		}
		call := ""
		switch name, _ := a["name"].(string); strings.TrimPrefix(strings.TrimPrefix(method, "bdev_"), "nvmf_") {
		case "nvme_attach_controller", "nvme_detach_controller":
			call = strings.TrimSuffix(strings.TrimPrefix(method, "bdev_nvme_"), "_controller") + " " + strings.Split(name, "-")[1]
		case "raid_create", "raid_delete":
			call = strings.TrimPrefix(method, "bdev_") + " " + name
		case "vda_mirror_create", "vda_mirror_delete":
			call = strings.TrimPrefix(method, "vda_")
		case "lvol_create_lvstore":
			call = "create_lvstore"
		case "lvol_create":
			call = "lvol_create"
		case "create_subsystem":
			call = "create_subsystem"
		case "subsystem_add_ns", "subsystem_remove_ns":
			call = strings.TrimPrefix(method, "nvmf_subsystem_")
		case "subsystem_add_host":
			if a["host"] != host0 {
				return nil
			}
			call = fmt.Sprint("add_host ", a["host"])
		case "subsystem_add_listener":
			call = fmt.Sprint("add_listener ", a["ana_state"])
		case "subsystem_listener_set_ana_state":
			call = fmt.Sprint("set_ana_state ", a["ana_state"])
		default:
			return nil
		}
		mu.Lock()
		defer mu.Unlock()
		calls = append(calls, call)
		return nil
	})
	return func() []string {
		mu.Lock()
		defer mu.Unlock()
		got := calls
		calls = nil
		return got
	}
}
