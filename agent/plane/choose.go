package plane

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/virtual-disk-array/vda/spdk"
)

// methods are those that an agent cannot do without, by agent.
var methods = map[string][]string{
	"": {
		"bdev_get_bdevs", "bdev_examine", "bdev_wait_for_examine",
		"bdev_lvol_get_lvstores", "bdev_lvol_create_lvstore", "bdev_lvol_delete_lvstore",
		"bdev_lvol_create", "bdev_lvol_delete", "bdev_lvol_rename",
		"nvmf_get_transports", "nvmf_create_transport", "nvmf_get_subsystems", "nvmf_create_subsystem", "nvmf_delete_subsystem",
		"nvmf_subsystem_add_listener", "nvmf_subsystem_remove_listener",
		"nvmf_subsystem_add_host", "nvmf_subsystem_remove_host", "nvmf_subsystem_allow_any_host",
		"nvmf_subsystem_add_ns", "nvmf_subsystem_remove_ns",
	},
	"dn": {"bdev_malloc_create", "bdev_malloc_delete", "bdev_aio_create", "bdev_aio_delete"},
	"cn": {
		"bdev_nvme_attach_controller", "bdev_nvme_detach_controller", "bdev_nvme_get_controllers",
		"bdev_raid_create", "bdev_raid_delete", "bdev_raid_get_bdevs",
		"nvmf_subsystem_listener_set_ana_state",
		"bdev_lvol_snapshot", "bdev_lvol_clone",
		"nvmf_get_stats",
	},
}

// Needed returns the methods that an agent ("dn" or "cn") cannot do without.
func Needed(agent string) []string { return slices.Concat(methods[""], methods[agent]) }

// ErrNotStarted says that the data plane was started with --wait-for-rpc and
// nobody has gone on.
var ErrNotStarted = errors.New("the data plane waits for framework_start_init")

// LackError says that a data plane can never serve this agent.
type LackError struct{ Method string }

func (e *LackError) Error() string {
	return fmt.Sprintf("the data plane has no method %s; VDA needs SPDK 23.01 or newer, or vda_tgt", e.Method)
}

// Kind is which data plane it is, and what it has.
type Kind struct {
	version *spdk.Version
	methods []string
}

// Learn asks by api what the data plane of version v can do. The error is
// ErrNotStarted, or a *LackError that names what is missing for an agent, or the
// data plane's.
func Learn(ctx context.Context, api spdk.API, v *spdk.Version, agent string) (Kind, error) {
	now, err := api.GetMethods(ctx, true)
	if err != nil {
		return Kind{}, err
	}
	var missing []string
	for _, m := range Needed(agent) {
		if !slices.Contains(now, m) {
			missing = append(missing, m)
		}
	}
	if len(missing) == 0 {
		return Kind{v, now}, nil
	}
	all, err := api.GetMethods(ctx, false)
	if err != nil {
		return Kind{}, err
	}
	for _, m := range missing {
		if !slices.Contains(all, m) {
			return Kind{}, &LackError{Method: m}
		}
	}
	return Kind{}, ErrNotStarted
}

func (k Kind) has(method string) bool { return slices.Contains(k.methods, method) }

// authenticates is Driver's.
func (k Kind) authenticates() bool {
	return k.has("keyring_file_add_key") && k.has("nvmf_subsystem_set_keys") &&
		(k.has("bdev_nvme_set_keys") || !k.has("bdev_nvme_attach_controller"))
}

// Driver returns the driver for a kind of data plane. The zero Kind is an SPDK
// of which nothing is known.
func (k Kind) Driver(c Config) Driver {
	if k.has("vda_nvmf_swap_ns") {
		return newVDATgt(c, k)
	}
	return newSPDKTgt(c, k)
}
