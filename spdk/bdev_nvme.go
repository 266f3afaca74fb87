package spdk

import (
	"context"
	"errors"
	"strings"
	"syscall"

	"github.com/virtual-disk-array/vda"
)

// NvmeAttach are the parameters of bdev_nvme_attach_controller.
type NvmeAttach struct {
	Name    string `json:"name"`   // prefix of the bdevs: <name>n<nsid>
	TrType  string `json:"trtype"` // TCP, PCIe
	TrAddr  string `json:"traddr"`
	AdrFam  string `json:"adrfam,omitempty"`
	TrSvcID string `json:"trsvcid,omitempty"`
	SubNQN  string `json:"subnqn,omitempty"`
	HostNQN string `json:"hostnqn,omitempty"`

	HDgst bool `json:"hdgst,omitempty"`
	DDgst bool `json:"ddgst,omitempty"`

	// Multipath is disable, failover (SPDK's default) or multipath.
	Multipath   string  `json:"multipath,omitempty"`
	NumIOQueues *uint32 `json:"num_io_queues,omitempty"`

	// CtrlrLossTimeoutSec: the controller is dropped when it could not be
	// reconnected for so long; -1 never, 0 no reconnect.
	CtrlrLossTimeoutSec *int32 `json:"ctrlr_loss_timeout_sec,omitempty"`
	// ReconnectDelaySec is the time between two trials.
	ReconnectDelaySec *uint32 `json:"reconnect_delay_sec,omitempty"`
	// FastIOFailTimeoutSec: I/O fails rather than queues once the connection
	// has been lost for so long; 0 never.
	FastIOFailTimeoutSec *uint32 `json:"fast_io_fail_timeout_sec,omitempty"`

	FabricsConnectTimeoutUs *uint64 `json:"fabrics_connect_timeout_us,omitempty"`

	// FailAtOnce: I/O fails as soon as the connection is lost. vda_tgt only: a
	// mirror has to hear of the loss of a leg.
	FailAtOnce bool `json:"vda_fail_at_once,omitempty"`

	Keys
}

// VdaNvmeSetFailAtOnce changes NvmeAttach.FailAtOnce of a controller. vda_tgt only:
// IsMethodNotFound on SPDK.
func (a API) VdaNvmeSetFailAtOnce(ctx context.Context, name string, on bool) error {
	return a.do(ctx, "vda_nvme_set_fail_at_once", map[string]any{"name": name, "on": on})
}

// NvmeController is one element of bdev_nvme_get_controllers.
type NvmeController struct {
	Name   string     `json:"name"`
	Ctrlrs []NvmePath `json:"ctrlrs"`
}

// Connected reports that every path of a controller is connected.
func (c *NvmeController) Connected() bool {
	for i := range c.Ctrlrs {
		if !c.Ctrlrs[i].Connected() {
			return false
		}
	}
	return true
}

// Disabled reports that a controller was disabled, and stays so until it is
// enabled.
func (c *NvmeController) Disabled() bool {
	return len(c.Ctrlrs) > 0 && c.Ctrlrs[0].State == "disabled"
}

// Cntlid is the controller id of the first path, 0 without one.
func (c *NvmeController) Cntlid() uint16 {
	if len(c.Ctrlrs) == 0 {
		return 0
	}
	return c.Ctrlrs[0].Cntlid
}

// NvmePath is one path of a controller.
type NvmePath struct {
	State  string      `json:"state"` // enabled, disabled, resetting, deleting, failed, …
	TrID   TransportID `json:"trid"`
	Cntlid uint16      `json:"cntlid"`
	// FailAtOnce is NvmeAttach's, as it is now.
	FailAtOnce bool `json:"vda_fail_at_once"`
	Host       struct {
		NQN   string `json:"nqn"`
		Addr  string `json:"addr"`
		SvcID string `json:"svcid"`
	} `json:"host"`
}

// Connected reports that a path is connected.
func (p *NvmePath) Connected() bool { return p.State == "enabled" }

// TransportID says where a subsystem is reached.
type TransportID struct {
	TrType  string `json:"trtype"`
	AdrFam  string `json:"adrfam,omitempty"`
	TrAddr  string `json:"traddr"`
	TrSvcID string `json:"trsvcid,omitempty"`
	SubNQN  string `json:"subnqn,omitempty"`
}

// At is a listener's address in the spelling that SPDK prints.
func At(l vda.Listener) TransportID {
	family := "IPv4"
	if strings.EqualFold(l.AdrFam, "ipv6") {
		family = "IPv6"
	}
	return TransportID{TrType: "TCP", AdrFam: family, TrAddr: l.TrAddr, TrSvcID: l.TrSvcID}
}

// Listener is the address alone.
func (t TransportID) Listener() vda.Listener {
	return vda.Listener{TrType: t.TrType, AdrFam: t.AdrFam, TrAddr: t.TrAddr, TrSvcID: t.TrSvcID}
}

// Same reports whether two addresses are one, however they are spelt.
func (t TransportID) Same(o TransportID) bool { return t.Listener().Same(o.Listener()) }

// BdevNvmeAttachController connects and returns the names of the bdevs made.
// -114 when the name is attached to that address already, -5 when nobody
// listens there. Beware of a success without bdevs: the data plane refuses a
// namespace whose NGUID or UUID is that of a bdev it has.
func (a API) BdevNvmeAttachController(ctx context.Context, p NvmeAttach) ([]string, error) {
	return ask[[]string](ctx, a, "bdev_nvme_attach_controller", p)
}

// BdevNvmeSetKeys replaces what a controller's connections authenticate by, and has
// those that there are authenticate by it, under I/O: -13 when the other side does
// not take the keys. SPDK 24.09.
func (a API) BdevNvmeSetKeys(ctx context.Context, ctrlr string, keys Keys) error {
	return a.do(ctx, "bdev_nvme_set_keys", struct {
		Name string `json:"name"`
		Keys
	}{ctrlr, keys})
}

// BdevNvmeDetachController disconnects a controller and removes its bdevs.
func (a API) BdevNvmeDetachController(ctx context.Context, ctrlr string) error {
	return a.do(ctx, "bdev_nvme_detach_controller", name{ctrlr})
}

// BdevNvmeDisableController disconnects a controller, keeps its bdevs and fails
// what is queued on them and whatever comes, at once; SPDK 23.09 and newer.
// -114 when it is disabled already (26.05 and vda_tgt: success), -16 while a
// trial to reconnect is under way (vda_tgt ends the trial).
func (a API) BdevNvmeDisableController(ctx context.Context, ctrlr string) error {
	return a.do(ctx, "bdev_nvme_disable_controller", name{ctrlr})
}

// BdevNvmeEnableController has a disabled controller connected again, by as
// many trials as it takes; it answers after the first one, with -1 when that
// failed. -114 when it is not disabled (26.05 and vda_tgt: success).
func (a API) BdevNvmeEnableController(ctx context.Context, ctrlr string) error {
	return a.do(ctx, "bdev_nvme_enable_controller", name{ctrlr})
}

// NvmeIOPath is how one thread of the data plane reaches a namespace.
type NvmeIOPath struct {
	BdevName   string `json:"bdev_name"`
	Connected  bool   `json:"connected"`
	Accessible bool   `json:"accessible"` // by its ANA state
}

// BdevNvmeGetIOPaths lists the paths of all namespaces that are in use.
func (a API) BdevNvmeGetIOPaths(ctx context.Context) ([]NvmeIOPath, error) {
	out, err := ask[ioPaths](ctx, a, "bdev_nvme_get_io_paths", nil)
	return out.all(), err
}

// BdevNvmeGetIOPathsOf lists those of one bdev, which need not be there.
func (a API) BdevNvmeGetIOPathsOf(ctx context.Context, bdev string) ([]NvmeIOPath, error) {
	out, err := ask[ioPaths](ctx, a, "bdev_nvme_get_io_paths", name{bdev})
	return out.all(), err
}

type ioPaths struct {
	PollGroups []struct {
		IOPaths []NvmeIOPath `json:"io_paths"`
	} `json:"poll_groups"`
}

func (p *ioPaths) all() []NvmeIOPath {
	var all []NvmeIOPath
	for _, g := range p.PollGroups {
		all = append(all, g.IOPaths...)
	}
	return all
}

// BdevNvmeGetControllers lists all controllers.
func (a API) BdevNvmeGetControllers(ctx context.Context) ([]NvmeController, error) {
	return ask[[]NvmeController](ctx, a, "bdev_nvme_get_controllers", nil)
}

// BdevNvmeGetController returns one; IsNoSuchDevice when there is none (what
// SPDK answers with -22).
func (a API) BdevNvmeGetController(ctx context.Context, ctrlr string) (*NvmeController, error) {
	r, answer := askController(ctrlr)
	return answer(a.Call(ctx, r.Method, r.Params, r.Result))
}

// askController is askBdev for a controller.
func askController(ctrlr string) (r Request, answer func(error) (*NvmeController, error)) {
	l := new([]NvmeController)
	return Request{"bdev_nvme_get_controllers", name{ctrlr}, l}, func(err error) (*NvmeController, error) {
		var refused *RPCError
		if errors.As(err, &refused) && strings.HasSuffix(refused.Message, "does not exist") {
			return nil, &RPCError{Code: -int(syscall.ENODEV), Message: refused.Message, Method: refused.Method}
		}
		if err != nil {
			return nil, err
		}
		if len(*l) != 1 {
			return nil, &RPCError{Code: -int(syscall.ENODEV), Message: "no such controller in the reply: " + ctrlr,
				Method: "bdev_nvme_get_controllers"}
		}
		return &(*l)[0], nil
	}
}
