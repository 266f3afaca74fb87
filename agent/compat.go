package agent

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/virtual-disk-array/vda/nvme"
	"github.com/virtual-disk-array/vda/spdk"
)

// What differs between data planes and their versions is in this file.

// methods are those that an agent cannot do without, by agent.
var methods = map[string][]string{
	"": {
		"bdev_get_bdevs", "bdev_examine", "bdev_wait_for_examine",
		"bdev_lvol_get_lvstores", "bdev_lvol_create_lvstore", "bdev_lvol_delete_lvstore",
		"bdev_lvol_create", "bdev_lvol_delete",
		"nvmf_get_transports", "nvmf_create_transport", "nvmf_get_subsystems", "nvmf_create_subsystem", "nvmf_delete_subsystem",
		"nvmf_subsystem_add_listener", "nvmf_subsystem_remove_listener",
		"nvmf_subsystem_add_host", "nvmf_subsystem_remove_host", "nvmf_subsystem_allow_any_host",
		"nvmf_subsystem_add_ns", "nvmf_subsystem_remove_ns",
	},
	"dn": {"bdev_malloc_create", "bdev_malloc_delete", "bdev_aio_create", "bdev_aio_delete", "bdev_lvol_rename"},
	"cn": {
		"bdev_nvme_attach_controller", "bdev_nvme_detach_controller", "bdev_nvme_get_controllers",
		"bdev_raid_create", "bdev_raid_delete", "bdev_raid_get_bdevs",
		"nvmf_subsystem_listener_set_ana_state",
		"nvmf_get_stats",
	},
}

// Needed returns the methods that an agent ("dn" or "cn") cannot do without.
func Needed(agent string) []string { return slices.Concat(methods[""], methods[agent]) }

// Abilities are what a data plane can do beyond the necessary.
type Abilities struct {
	SwapNamespace bool // vda_nvmf_swap_ns
	// SharedNamespace: a bdev may stand behind several namespaces. SPDK's
	// namespaces claim their bdev.
	SharedNamespace bool
	// KeepsNamespace: a namespace whose bdev goes away stays, answers with a
	// path or ANA status, and gets another bdev by nvmf_subsystem_add_ns. On
	// SPDK it vanishes before the eyes of the hosts.
	KeepsNamespace bool
	NVMe           bool // bdev_nvme_*
	// CutNVMe: a connection can be cut with all that is queued on it failing
	// at once, its bdev staying, and connected again later:
	// bdev_nvme_disable_controller and _enable_controller, SPDK 23.09. Which
	// paths the other side has closed is told by bdev_nvme_get_io_paths.
	// vda_tgt needs none of them: it hands such a status on to the hosts.
	CutNVMe bool
	// EarlyDetach: bdev_nvme_detach_controller answers before the connection
	// and its bdevs have gone; SPDK before 24.01.
	EarlyDetach bool
	// LvolBytes: the size of an lvol is given in bytes; SPDK 23.01.
	LvolBytes bool
	// ExactKeepAlive: a target can be told, by kas and min_kato of
	// nvmf_create_transport, to take hosts' keep-alive time-outs as they are:
	// SPDK 25.05. Older ones round up to multiples of 10 s; vda_tgt never does.
	ExactKeepAlive bool
	// ListenerState: a listener can be opened in an ANA state: SPDK 24.01.
	ListenerState bool
	// Retires: vda_nvmf_retire_subsystem. SPDK never tells a host not to come
	// back.
	Retires bool
	// HoldsDisks: an aio bdev keeps others from its file or block device. SPDK
	// opens both as anybody does, so that the agent has to.
	HoldsDisks bool
	// HandsOn: a target hands Identify Namespace and vendors' commands on to
	// what is behind an NVMe bdev, unless told not to: SPDK 24.09.
	HandsOn bool
}

// learn asks what the data plane can do. The error names what is missing.
func learn(ctx context.Context, api spdk.API, v *spdk.Version, agent string) (Abilities, error) {
	now, err := api.GetMethods(ctx, true)
	if err != nil {
		return Abilities{}, err
	}
	var missing []string
	for _, m := range Needed(agent) {
		if !slices.Contains(now, m) {
			missing = append(missing, m)
		}
	}
	if len(missing) > 0 {
		all, err := api.GetMethods(ctx, false)
		if err != nil {
			return Abilities{}, err
		}
		for _, m := range missing {
			if !slices.Contains(all, m) {
				return Abilities{}, &LackError{Method: m}
			}
		}
		return Abilities{}, errNotStarted
	}
	vda := slices.Contains(now, "vda_nvmf_swap_ns")
	return Abilities{
		SwapNamespace:   vda,
		SharedNamespace: vda,
		KeepsNamespace:  vda,
		NVMe:            slices.Contains(now, "bdev_nvme_get_controllers"),
		CutNVMe:         !vda && slices.Contains(now, "bdev_nvme_disable_controller"),
		EarlyDetach:     !v.AtLeast(24, 1),
		LvolBytes:       !v.AtLeast(23, 5),
		ListenerState:   vda || v.AtLeast(24, 1),
		Retires:         slices.Contains(now, "vda_nvmf_retire_subsystem"),
		ExactKeepAlive:  !vda && v.AtLeast(25, 5),
		HoldsDisks:      vda,
		HandsOn:         !vda && v.AtLeast(24, 9),
	}, nil
}

// A primary must give a secondary up before hosts do, and go elsewhere: on SPDK,
// a secondary that hung executes what it finds in its sockets when it goes on,
// and only the primary's having cut it off keeps that from the disks. SPDK's
// targets look once in each keep-alive time-out, and so need up to two of them;
// Linux needs 5 to 7.5 s by default. vda_tgt looks before it executes.

// SafeProxies reports that what hosts have sent by a secondary is never carried
// out after they have sent it again by the primary. SPDK before 23.09 carries
// out what it holds for a lost primary, and can't be told not to.
func (able Abilities) SafeProxies() bool { return able.KeepsNamespace || able.CutNVMe }

// backendKeepAlive is the keep-alive time-out of connections to vds and to
// primaries. What is in flight on one that is given up goes back to the hosts,
// for another path.
func (able Abilities) backendKeepAlive() time.Duration {
	if able.KeepsNamespace {
		return 3 * time.Second // it gives up by itself as well
	}
	return 2 * time.Second
}

// coarseKeepAlive reports that a target can't give hosts up in time.
func (able Abilities) coarseKeepAlive() bool { return !able.KeepsNamespace && !able.ExactKeepAlive }

// transport returns the parameters of the TCP transport; conf, the user's,
// come first.
//
// A target answers Identify by itself: a host that connects to a secondary
// while the primary is away would find no namespace, and not look again.
func (able Abilities) transport(conf map[string]any) map[string]any {
	params := map[string]any{"trtype": "TCP"}
	if able.ExactKeepAlive {
		params["kas"], params["min_kato"] = 1, 100 // in 100 ms and in ms: as the hosts say
	}
	if able.HandsOn {
		params["disable_command_passthru"] = true
	}
	maps.Copy(params, conf)
	return params
}

// BdevLvolCreate gives the size in the unit that the data plane takes.
func (p *Plane) BdevLvolCreate(ctx context.Context, c spdk.LvolCreate) (string, error) {
	if p.Able().LvolBytes {
		c.Size, c.SizeInMiB = c.SizeInMiB<<20, 0
	}
	return p.API.BdevLvolCreate(ctx, c)
}

// errNotStarted says that the data plane was started with --wait-for-rpc and
// nobody has gone on.
var errNotStarted = errors.New("the data plane waits for framework_start_init")

// autoExamines reports that the data plane looks for lvstores on every new
// bdev by itself. On a disk node it would then find an array's lvstore on a vd
// that is the array's only one, and keep the vd from being exported. Unknown
// counts as no: old SPDKs do not say.
func autoExamines(ctx context.Context, api spdk.API) bool {
	var conf []struct {
		Method string `json:"method"`
		Params struct {
			AutoExamine bool `json:"bdev_auto_examine"`
		} `json:"params"`
	}
	params := struct {
		Name string `json:"name"`
	}{"bdev"}
	if err := api.Call(ctx, "framework_get_config", params, &conf); err != nil {
		return false
	}
	for _, c := range conf {
		if c.Method == "bdev_set_options" {
			return c.Params.AutoExamine
		}
	}
	return false
}

// detachLimit bounds the wait for a connection that goes away.
const detachLimit = 5 * time.Second

// BdevNvmeDetachController returns when the connection and its bdevs have
// gone, so that its name and their UUIDs can be used again.
func (p *Plane) BdevNvmeDetachController(ctx context.Context, name string) error {
	err := p.API.BdevNvmeDetachController(ctx, name)
	if err != nil || !p.Able().EarlyDetach {
		return err
	}
	for begin := time.Now(); ; time.Sleep(quietStep) {
		_, err := p.BdevNvmeGetController(ctx, name)
		switch {
		case spdk.IsNoSuchDevice(err):
			return nil
		case err != nil:
			return err
		case time.Since(begin) > detachLimit:
			return fmt.Errorf("connection %s is detached and does not go away", name)
		}
	}
}

// LackError says that a data plane can never serve this agent.
type LackError struct{ Method string }

func (e *LackError) Error() string {
	return fmt.Sprintf("the data plane has no method %s; VDA needs SPDK 23.01 or newer, or vda_tgt", e.Method)
}

// TransportID is an address in the spelling that SPDK prints.
func TransportID(traddr, adrfam, trsvcid string) spdk.TransportID {
	family := "IPv4"
	if strings.EqualFold(adrfam, "ipv6") {
		family = "IPv6"
	}
	return spdk.TransportID{TrType: "TCP", AdrFam: family, TrAddr: traddr, TrSvcID: trsvcid}
}

// reachTCP connects to an address and closes the connection again.
func reachTCP(ctx context.Context, at spdk.TransportID) error {
	c, err := (&net.Dialer{}).DialContext(ctx, "tcp", net.JoinHostPort(at.TrAddr, at.TrSvcID))
	if err != nil {
		return err
	}
	return c.Close()
}

// SameAddress compares what is reached, not how it is spelt.
func SameAddress(a, b spdk.TransportID) bool {
	return strings.EqualFold(a.TrType, b.TrType) && nvme.SameTraddr(a.TrAddr, b.TrAddr) && a.TrSvcID == b.TrSvcID
}

// closesLvstores are the calls that may close an lvstore. SPDK, up to 26.05 at
// least, frees an lvstore before it has closed it and still lists it
// meanwhile: bdev_lvol_get_lvstores then reads freed memory and takes the
// process down. Calls of one connection start in order, so it is enough not
// to send that one while such a call is under way.
var closesLvstores = map[string]bool{
	"bdev_raid_delete":            true,
	"bdev_malloc_delete":          true,
	"bdev_aio_delete":             true,
	"bdev_nvme_detach_controller": true,
	"bdev_lvol_delete_lvstore":    true,
}
