package spdk

import (
	"context"
	"errors"
	"fmt"
	"syscall"

	"github.com/virtual-disk-array/vda/spdk/jsonrpc"
)

// NvmfTransportCreate are the parameters of nvmf_create_transport; nil leaves
// SPDK's default. The agents' --transport-conf holds the same object.
type NvmfTransportCreate struct {
	TrType              string  `json:"trtype"`
	MaxQueueDepth       *uint16 `json:"max_queue_depth,omitempty"`
	MaxIOQpairsPerCtrlr *uint16 `json:"max_io_qpairs_per_ctrlr,omitempty"`
	InCapsuleDataSize   *uint32 `json:"in_capsule_data_size,omitempty"` // bytes
	MaxIOSize           *uint32 `json:"max_io_size,omitempty"`          // bytes
	IOUnitSize          *uint32 `json:"io_unit_size,omitempty"`         // bytes
	MaxAQDepth          *uint32 `json:"max_aq_depth,omitempty"`
	NumSharedBuffers    *uint32 `json:"num_shared_buffers,omitempty"`
	BufCacheSize        *uint32 `json:"buf_cache_size,omitempty"`
	C2HSuccess          *bool   `json:"c2h_success,omitempty"`
}

// NvmfTransport is one element of nvmf_get_transports.
type NvmfTransport struct {
	TrType              string `json:"trtype"`
	MaxQueueDepth       uint16 `json:"max_queue_depth"`
	MaxIOQpairsPerCtrlr uint16 `json:"max_io_qpairs_per_ctrlr"`
	InCapsuleDataSize   uint32 `json:"in_capsule_data_size"`
	MaxIOSize           uint32 `json:"max_io_size"`
	IOUnitSize          uint32 `json:"io_unit_size"`
	MaxAQDepth          uint32 `json:"max_aq_depth"`
}

// NvmfCreateTransport makes the transport; a second one is -32603. The parameters
// are an NvmfTransportCreate, or an object that a user gave.
func (a API) NvmfCreateTransport(ctx context.Context, p any) error {
	return a.do(ctx, "nvmf_create_transport", p)
}

// NvmfGetTransports lists the transports.
func (a API) NvmfGetTransports(ctx context.Context) ([]NvmfTransport, error) {
	return ask[[]NvmfTransport](ctx, a, "nvmf_get_transports", nil)
}

// NvmfSubsystemCreate are the parameters of nvmf_create_subsystem.
type NvmfSubsystemCreate struct {
	NQN           string `json:"nqn"`
	SerialNumber  string `json:"serial_number,omitempty"` // at most 20 bytes
	ModelNumber   string `json:"model_number,omitempty"`  // at most 40 bytes
	MaxNamespaces uint32 `json:"max_namespaces,omitempty"`
	AllowAnyHost  bool   `json:"allow_any_host,omitempty"`
	ANAReporting  bool   `json:"ana_reporting,omitempty"`
	MinCntlid     uint16 `json:"min_cntlid,omitempty"`
	MaxCntlid     uint16 `json:"max_cntlid,omitempty"`
}

// NvmfSubsystem is one element of nvmf_get_subsystems.
type NvmfSubsystem struct {
	NQN             string          `json:"nqn"`
	Subtype         string          `json:"subtype"` // NVMe, Discovery
	ListenAddresses []TransportID   `json:"listen_addresses"`
	AllowAnyHost    bool            `json:"allow_any_host"`
	Hosts           []NvmfHost      `json:"hosts"`
	SerialNumber    string          `json:"serial_number,omitempty"`
	ModelNumber     string          `json:"model_number,omitempty"`
	MaxNamespaces   uint32          `json:"max_namespaces,omitempty"`
	MinCntlid       uint16          `json:"min_cntlid,omitempty"`
	MaxCntlid       uint16          `json:"max_cntlid,omitempty"`
	Namespaces      []NvmfNamespace `json:"namespaces,omitempty"`
	// SingleAssociation is what VdaNvmfSetSingleAssociation has set.
	SingleAssociation bool `json:"vda_single_association,omitempty"`
	// Reservations is what VdaNvmfSetReservations has set; nil: nothing.
	Reservations *NvmfReservations `json:"vda_reservations,omitempty"`
}

// NvmfReservations say how a subsystem takes part in the reservations of an array that
// several data planes export.
type NvmfReservations struct {
	ID         string   `json:"id"`                   // UUID; the same for all subsystems that show the array to the same hosts
	Offered    bool     `json:"offered"`              // to hosts
	Forwarders []string `json:"forwarders,omitempty"` // NQNs of hosts that say of which host their commands are
}

// NvmfHost is an admitted host, and what it has to prove to know.
type NvmfHost struct {
	NQN string `json:"nqn"`
	Keys
}

// NvmfNamespace is a namespace: in nvmf_get_subsystems and, without Name, as
// the parameter of nvmf_subsystem_add_ns.
type NvmfNamespace struct {
	NSID     uint32 `json:"nsid,omitempty"` // 0: the lowest free
	BdevName string `json:"bdev_name"`
	Name     string `json:"name,omitempty"`
	NGUID    string `json:"nguid,omitempty"` // 32 hex digits
	EUI64    string `json:"eui64,omitempty"` // 16 hex digits
	UUID     string `json:"uuid,omitempty"`
	ANAGrpID uint32 `json:"anagrpid,omitempty"`
}

// nqn is the parameter object of methods that take a subsystem alone.
type nqn struct {
	NQN string `json:"nqn"`
}

// NvmfCreateSubsystem makes a subsystem without namespaces; a taken or bad
// NQN is -32603.
func (a API) NvmfCreateSubsystem(ctx context.Context, p NvmfSubsystemCreate) error {
	return a.do(ctx, "nvmf_create_subsystem", p)
}

// NvmfDeleteSubsystem disconnects its hosts and removes it; an unknown one is
// -32602.
func (a API) NvmfDeleteSubsystem(ctx context.Context, subNQN string) error {
	return a.do(ctx, "nvmf_delete_subsystem", nqn{subNQN})
}

// NvmfGetSubsystems lists all subsystems, the discovery one first.
func (a API) NvmfGetSubsystems(ctx context.Context) ([]NvmfSubsystem, error) {
	return ask[[]NvmfSubsystem](ctx, a, "nvmf_get_subsystems", nil)
}

// NvmfGetSubsystem returns one by NQN; IsNoSuchDevice when there is none, which
// SPDK 26.05 says as -32602 and in words.
func (a API) NvmfGetSubsystem(ctx context.Context, subNQN string) (*NvmfSubsystem, error) {
	r, answer := askSubsystem(subNQN)
	return answer(a.Call(ctx, r.Method, r.Params, r.Result))
}

// askSubsystem is askBdev for a subsystem.
func askSubsystem(subNQN string) (r Request, answer func(error) (*NvmfSubsystem, error)) {
	l := new([]NvmfSubsystem)
	return Request{"nvmf_get_subsystems", nqn{subNQN}, l}, func(err error) (*NvmfSubsystem, error) {
		var refused *RPCError
		if errors.As(err, &refused) && refused.Code == jsonrpc.CodeInvalidParams &&
			refused.Message == "Subsystem with NQN '"+subNQN+"' not found" {
			return nil, &RPCError{Code: -int(syscall.ENODEV), Message: refused.Message, Method: refused.Method}
		}
		if err != nil {
			return nil, err
		}
		if len(*l) != 1 || (*l)[0].NQN != subNQN {
			return nil, fmt.Errorf("nvmf_get_subsystems: the reply to nqn %q has %d subsystems, none of them or not only that one", subNQN, len(*l))
		}
		return &(*l)[0], nil
	}
}

type listenerParams struct {
	NQN           string      `json:"nqn"`
	ListenAddress TransportID `json:"listen_address"`
	ANAState      string      `json:"ana_state,omitempty"`
	ANAGrpID      uint32      `json:"anagrpid,omitempty"`
}

// NvmfSubsystemAddListener admits connections at an address.
func (a API) NvmfSubsystemAddListener(ctx context.Context, subNQN string, at TransportID) error {
	return a.do(ctx, "nvmf_subsystem_add_listener", listenerParams{NQN: subNQN, ListenAddress: at})
}

// NvmfSubsystemAddListenerState is NvmfSubsystemAddListener with an ANA state of
// all groups that hosts see from the first connection on; SPDK 24.01.
func (a API) NvmfSubsystemAddListenerState(ctx context.Context, subNQN string, at TransportID, state string) error {
	return a.do(ctx, "nvmf_subsystem_add_listener", listenerParams{NQN: subNQN, ListenAddress: at, ANAState: state})
}

// NvmfSubsystemRemoveListener ends the subsystem's connections at an address.
func (a API) NvmfSubsystemRemoveListener(ctx context.Context, subNQN string, at TransportID) error {
	return a.do(ctx, "nvmf_subsystem_remove_listener", listenerParams{NQN: subNQN, ListenAddress: at})
}

// ANA states, parameters of NvmfSubsystemListenerSetANAState.
const (
	ANAOptimized    = "optimized"
	ANANonOptimized = "non_optimized"
	ANAInaccessible = "inaccessible"
)

// NvmfSubsystemListenerSetANAState sets the state of an ANA group at an
// address; group 0 is all groups. The subsystem must have been made with
// ANAReporting.
func (a API) NvmfSubsystemListenerSetANAState(ctx context.Context, subNQN string, at TransportID, state string, group uint32) error {
	return a.do(ctx, "nvmf_subsystem_listener_set_ana_state", listenerParams{NQN: subNQN, ListenAddress: at, ANAState: state, ANAGrpID: group})
}

type hostParams struct {
	NQN  string `json:"nqn"`
	Host string `json:"host"`
	Keys
	Keep bool `json:"vda_keep_previous,omitempty"`
}

// NvmfSubsystemAddHost admits a host NQN. With keys, of which there is one pair at
// most, it has to authenticate.
func (a API) NvmfSubsystemAddHost(ctx context.Context, subNQN, hostNQN string, keys ...Keys) error {
	p := hostParams{NQN: subNQN, Host: hostNQN}
	for _, k := range keys {
		p.Keys = k
	}
	return a.do(ctx, "nvmf_subsystem_add_host", p)
}

// NvmfSubsystemSetKeys replaces what an admitted host has to prove to know. What is
// connected stays connected. SPDK 24.09.
func (a API) NvmfSubsystemSetKeys(ctx context.Context, subNQN, hostNQN string, keys Keys) error {
	return a.do(ctx, "nvmf_subsystem_set_keys", hostParams{NQN: subNQN, Host: hostNQN, Keys: keys})
}

// NvmfSubsystemRotateKeys is NvmfSubsystemSetKeys, and the keys that were the newest
// until now stay valid beside the new ones until the next call. vda_tgt only.
func (a API) NvmfSubsystemRotateKeys(ctx context.Context, subNQN, hostNQN string, keys Keys) error {
	return a.do(ctx, "nvmf_subsystem_set_keys", hostParams{NQN: subNQN, Host: hostNQN, Keys: keys, Keep: true})
}

// NvmfSubsystemRemoveHost shuts a host out: it returns when the host's
// connections are closed and its I/O has settled.
func (a API) NvmfSubsystemRemoveHost(ctx context.Context, subNQN, hostNQN string) error {
	return a.do(ctx, "nvmf_subsystem_remove_host", hostParams{NQN: subNQN, Host: hostNQN})
}

// NvmfSubsystemAllowAnyHost opens or closes the subsystem to unlisted hosts.
func (a API) NvmfSubsystemAllowAnyHost(ctx context.Context, subNQN string, allow bool) error {
	return a.do(ctx, "nvmf_subsystem_allow_any_host", struct {
		NQN   string `json:"nqn"`
		Allow bool   `json:"allow_any_host"`
	}{subNQN, allow})
}

type addNSParams struct {
	NQN string        `json:"nqn"`
	NS  NvmfNamespace `json:"namespace"`
}

type removeNSParams struct {
	NQN  string `json:"nqn"`
	NSID uint32 `json:"nsid"`
}

// NvmfSubsystemAddNS adds a namespace and returns its id.
func (a API) NvmfSubsystemAddNS(ctx context.Context, subNQN string, ns NvmfNamespace) (uint32, error) {
	ns.Name = ""
	return ask[uint32](ctx, a, "nvmf_subsystem_add_ns", addNSParams{subNQN, ns})
}

// NvmfSubsystemRemoveNS removes a namespace. It waits for I/O in flight: on
// SPDK, while that I/O is queued for a backend that is away, it never returns.
func (a API) NvmfSubsystemRemoveNS(ctx context.Context, subNQN string, nsid uint32) error {
	return a.do(ctx, "nvmf_subsystem_remove_ns", removeNSParams{subNQN, nsid})
}

// NvmfSubsystemReplaceNS removes a namespace and adds another, with the two
// calls sent together where the Caller can: SPDK, which looks for calls each
// 4 ms, then starts the second when the first has ended. Before 24.05 SPDK
// refuses a change of a subsystem while another is under way, so the second is
// sent again by itself when it has failed.
func (a API) NvmfSubsystemReplaceNS(ctx context.Context, subNQN string, nsid uint32, ns NvmfNamespace) error {
	s, ok := a.Caller.(Sequencer)
	ns.Name = ""
	if ok {
		errs := s.Sequence(ctx, Request{"nvmf_subsystem_remove_ns", removeNSParams{subNQN, nsid}, nil},
			Request{"nvmf_subsystem_add_ns", addNSParams{subNQN, ns}, nil})
		switch {
		case errs[1] == nil: // whatever became of the first, e.g. there was nothing to remove
			return nil
		case errs[0] != nil || IsConnection(errs[1]):
			return errors.Join(errs...)
		}
	} else if err := a.NvmfSubsystemRemoveNS(ctx, subNQN, nsid); err != nil {
		return err
	}
	_, err := a.NvmfSubsystemAddNS(ctx, subNQN, ns)
	return err
}

// NvmfCompletedIO returns the number of I/O commands that the target has
// answered, in all subsystems, whatever the answer.
func (a API) NvmfCompletedIO(ctx context.Context) (uint64, error) {
	stats, err := ask[struct {
		PollGroups []struct {
			CompletedNVMeIO uint64 `json:"completed_nvme_io"`
		} `json:"poll_groups"`
	}](ctx, a, "nvmf_get_stats", nil)
	var sum uint64
	for _, g := range stats.PollGroups {
		sum += g.CompletedNVMeIO
	}
	return sum, err
}

// VdaNvmfRetireSubsystem removes a subsystem, if it is there, and for good: hosts
// that come back are told not to retry. With retired false it removes nothing and
// has them retry: one of that name is to come. vda_tgt only: IsMethodNotFound on
// SPDK, which never tells them not to.
func (a API) VdaNvmfRetireSubsystem(ctx context.Context, subNQN string, retired bool) error {
	return a.do(ctx, "vda_nvmf_retire_subsystem", struct {
		NQN     string `json:"nqn"`
		Retired bool   `json:"retired"`
	}{subNQN, retired})
}

// VdaNvmfSetSingleAssociation says whether a host has one association with a
// subsystem at most, so that the one before ends when it connects again. vda_tgt
// only: IsMethodNotFound on SPDK.
func (a API) VdaNvmfSetSingleAssociation(ctx context.Context, subNQN string, single bool) error {
	return a.do(ctx, "vda_nvmf_set_single_association", struct {
		NQN    string `json:"nqn"`
		Single bool   `json:"single"`
	}{subNQN, single})
}

// VdaNvmfSetReservations has a subsystem take part in an array's reservations, which are kept
// by the data plane that has the array. vda_tgt only: IsMethodNotFound on SPDK.
func (a API) VdaNvmfSetReservations(ctx context.Context, subNQN string, r NvmfReservations) error {
	return a.do(ctx, "vda_nvmf_set_reservations", struct {
		NQN string `json:"nqn"`
		NvmfReservations
	}{subNQN, r})
}

// VdaNvmfForgetReservation removes the reservation of an id from beside the data of an lvol; one
// that is not there is no error. vda_tgt only: IsMethodNotFound on SPDK.
func (a API) VdaNvmfForgetReservation(ctx context.Context, bdev, id string) error {
	return a.do(ctx, "vda_nvmf_forget_reservation", struct {
		Bdev string `json:"bdev_name"`
		ID   string `json:"id"`
	}{bdev, id})
}

// VdaNvmfSwapNS puts another bdev below a live namespace in one step; the
// hosts see no change but the data. vda_tgt only: IsMethodNotFound on SPDK.
func (a API) VdaNvmfSwapNS(ctx context.Context, subNQN string, nsid uint32, bdev string) error {
	return a.do(ctx, "vda_nvmf_swap_ns", struct {
		NQN  string `json:"nqn"`
		NSID uint32 `json:"nsid"`
		Bdev string `json:"bdev_name"`
	}{subNQN, nsid, bdev})
}
