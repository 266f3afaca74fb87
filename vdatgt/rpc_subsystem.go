package vdatgt

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"syscall"

	"github.com/google/uuid"

	"github.com/virtual-disk-array/vda/nvmf/nvmftgt"
	"github.com/virtual-disk-array/vda/spdk/jsonrpc"
)

func subsystemMethods() []*Method {
	return []*Method{
		method("nvmf_subsystem_add_listener", "Makes a subsystem reachable at an address.", addListener, nvmfStyle, relaxed),
		method("nvmf_subsystem_remove_listener", "Closes the connections over an address, settles their I/O and ends listening.",
			removeListener, nvmfStyle, slow),
		method("nvmf_subsystem_listener_set_ana_state", "Sets the ANA state of a group, or of all, at an address and tells the hosts.",
			setANAState, nvmfStyle),
		method("nvmf_subsystem_add_host", "Admits a host.", addHost, nvmfStyle, relaxed),
		method("nvmf_subsystem_remove_host", "Shuts a host out: returns when its connections are closed and its I/O has settled.",
			removeHost, nvmfStyle, slow),
		method("nvmf_subsystem_allow_any_host", "Opens a subsystem to all hosts or closes it to those that are not on the list.",
			allowAnyHost, nvmfStyle, slow),
		method("vda_nvmf_set_single_association", "Says whether a host has one association with a subsystem at most: when it connects "+
			"again, the one before ends and its I/O settles, also where the network has not told that it was given up.",
			setSingleAssociation, nvmfStyle),
		method("vda_nvmf_set_reservations", "Has a subsystem take part in the reservations of an array that several targets or subsystems "+
			"export. The target that has the array's lvol keeps them on its media, those on the media are in force from the first command on, and "+
			"others pass reservation commands on to it.", setReservations, nvmfStyle, slow),
		method("vda_nvmf_forget_reservation", "Removes the reservation that vda_nvmf_set_reservations has kept beside the data of an lvol.",
			forgetReservation, slow),
		method("nvmf_subsystem_add_ns", "Shows a bdev to the hosts as a namespace; returns its id.", addNamespace, nvmfStyle, relaxed),
		method("nvmf_subsystem_remove_ns", "Hides a namespace, settles its I/O and lets go of the bdev.", removeNamespace, nvmfStyle, slow),
		method("nvmf_subsystem_set_ns_ana_group", "Moves a namespace to another ANA group.", setNamespaceGroup, nvmfStyle),
		method("vda_nvmf_swap_ns", "Puts another bdev of the same block size below a live namespace in one step; hosts see a pause and no error.",
			swapNamespace, nvmfStyle, slow),
		method("nvmf_subsystem_get_controllers", "Lists the connected hosts' controllers.", getControllers, nvmfStyle),
		method("nvmf_subsystem_get_qpairs", "Lists the connections.", getQpairs, nvmfStyle),
		method("nvmf_subsystem_get_listeners", "Lists the addresses with their ANA states.", getListeners, nvmfStyle),
	}
}

type listenAddress struct {
	Trtype  string `rpc:"trtype" doc:"TCP"`
	Adrfam  string `rpc:"adrfam,optional" doc:"IPv4 or IPv6"`
	Traddr  string `rpc:"traddr" doc:"IP address"`
	Trsvcid string `rpc:"trsvcid,optional" doc:"port"`
}

type listenerParams struct {
	NQN     string        `rpc:"nqn" doc:"subsystem"`
	Target  string        `rpc:"tgt_name,optional" doc:"only nvmf_tgt"`
	Address listenAddress `rpc:"listen_address" doc:"trtype, adrfam, traddr, trsvcid"`
}

type addListenerParams struct {
	NQN      string        `rpc:"nqn" doc:"subsystem"`
	Target   string        `rpc:"tgt_name,optional" doc:"only nvmf_tgt"`
	Address  listenAddress `rpc:"listen_address" doc:"trtype, adrfam, traddr, trsvcid"`
	ANAState string        `rpc:"ana_state,optional" doc:"state of all groups from the start: optimized, non_optimized or inaccessible"`
}

// address makes the target's form of an address; a port has to be named.
func (a listenAddress) address() (nvmftgt.Addr, error) {
	if a.Trsvcid == "" {
		return nvmftgt.Addr{}, invalid("listen_address.trsvcid is missing")
	}
	addr, err := nvmftgt.Addr{Trtype: a.Trtype, Adrfam: a.Adrfam, Traddr: a.Traddr, Trsvcid: a.Trsvcid}.Normalize()
	if err != nil {
		return addr, invalid("listen_address: %v", err)
	}
	return addr, nil
}

func addListener(_ context.Context, t *Target, p addListenerParams) (any, error) {
	s, err := t.subsystem(p.Target, p.NQN)
	if err != nil {
		return nil, err
	}
	addr, err := p.Address.address()
	if err != nil {
		return nil, err
	}
	state := nvmftgt.ANAOptimized
	if p.ANAState != "" {
		if state, err = anaState(p.ANAState); err != nil {
			return nil, err
		}
		if !s.Config().ANAReporting {
			return nil, invalid("ana_state: subsystem %q does not report ANA", p.NQN)
		}
	}
	if err := s.AddListenerState(addr, state); err != nil {
		return nil, invalid("%v", err)
	}
	return true, nil
}

// anaState reads one of the three states that may be set.
func anaState(name string) (nvmftgt.ANAState, error) {
	switch name {
	case "optimized", "non_optimized", "inaccessible":
		return nvmftgt.ParseANAState(name)
	}
	return 0, invalid("ana_state %q must be one of optimized, non_optimized, inaccessible", name)
}

func removeListener(_ context.Context, t *Target, p listenerParams) (any, error) {
	s, err := t.subsystem(p.Target, p.NQN)
	if err != nil {
		return nil, err
	}
	addr, err := p.Address.address()
	if err != nil {
		return nil, err
	}
	if err := s.RemoveListener(addr); err != nil {
		return nil, invalid("%v", err)
	}
	return true, nil
}

type anaStateParams struct {
	NQN     string        `rpc:"nqn" doc:"subsystem"`
	Target  string        `rpc:"tgt_name,optional" doc:"only nvmf_tgt"`
	Address listenAddress `rpc:"listen_address" doc:"trtype, adrfam, traddr, trsvcid"`
	State   string        `rpc:"ana_state" doc:"optimized, non_optimized or inaccessible"`
	Group   uint32        `rpc:"anagrpid,optional" doc:"ANA group; 0: all"`
}

func setANAState(_ context.Context, t *Target, p anaStateParams) (any, error) {
	state, err := anaState(p.State)
	if err != nil {
		return nil, err
	}
	if err := checkTarget(p.Target); err != nil {
		return nil, err
	}
	s, ok := t.nvmf.Subsystem(p.NQN)
	if !ok {
		return nil, &jsonrpc.Error{Code: jsonrpc.CodeInvalidParams, Message: "Unable to find subsystem with NQN " + p.NQN}
	}
	addr, err := p.Address.address()
	if err != nil {
		return nil, err
	}
	if err := s.SetANAState(addr, p.Group, state); err != nil {
		return nil, internal(fmt.Sprintf("error setting ANA state: %d", -int(syscall.EINVAL)), err.Error())
	}
	return true, nil
}

type hostParams struct {
	NQN    string `rpc:"nqn" doc:"subsystem"`
	Host   string `rpc:"host" doc:"NQN of the host"`
	Target string `rpc:"tgt_name,optional" doc:"only nvmf_tgt"`

	Key      string `rpc:"dhchap_key,optional" doc:"key that the host has to prove to know, by DH-HMAC-CHAP; none: its NQN is enough"`
	CtrlrKey string `rpc:"dhchap_ctrlr_key,optional" doc:"key that the controller proves to know to hosts that ask for it"`
}

type singleParams struct {
	NQN    string `rpc:"nqn" doc:"subsystem"`
	Target string `rpc:"tgt_name,optional" doc:"only nvmf_tgt"`
	Single bool   `rpc:"single" doc:"true: one at most; false, as at first: as many as there are controller ids"`
}

func setSingleAssociation(_ context.Context, t *Target, p singleParams) (any, error) {
	s, err := t.subsystem(p.Target, p.NQN)
	if err != nil {
		return nil, err
	}
	if s.IsDiscovery() {
		return nil, invalid("nqn %q is the discovery subsystem, with which a host has as many associations as it likes", p.NQN)
	}
	s.SetSingleAssociation(p.Single)
	return true, nil
}

type reservationsParams struct {
	NQN        string   `rpc:"nqn" doc:"subsystem; it has namespace 1 alone"`
	Target     string   `rpc:"tgt_name,optional" doc:"only nvmf_tgt"`
	ID         string   `rpc:"id" doc:"UUID that names the reservation, the same for all subsystems that show the array to the same hosts; empty: none any more, as at first"`
	Offered    bool     `rpc:"offered,optional" doc:"tell hosts of reservations (RESCAP) and take their commands; default false: what is on the media is in force all the same"`
	Forwarders []string `rpc:"forwarders,optional" doc:"NQNs of hosts that pass on commands of others and say of which host they are"`
}

func setReservations(_ context.Context, t *Target, p reservationsParams) (any, error) {
	s, err := t.subsystem(p.Target, p.NQN)
	if err != nil {
		return nil, err
	}
	c := nvmftgt.Reservations{Offered: p.Offered, Forwarders: p.Forwarders}
	if p.ID != "" {
		if c.ID, err = uuid.Parse(p.ID); err != nil || c.ID == uuid.Nil {
			return nil, invalid("id %q must be a UUID, and not zeros", p.ID)
		}
	}
	switch err := s.SetReservations(c); {
	case errors.Is(err, syscall.EINVAL):
		return nil, invalid("%v", err)
	case err != nil:
		return nil, internal("Internal error", err.Error())
	}
	return true, nil
}

type forgetReservationParams struct {
	Bdev string `rpc:"bdev_name" doc:"name or alias of the lvol"`
	ID   string `rpc:"id" doc:"UUID that named the reservation; one that is not there is no error"`
}

func forgetReservation(_ context.Context, t *Target, p forgetReservationParams) (any, error) {
	id, err := uuid.Parse(p.ID)
	if err != nil {
		return nil, invalid("id %q must be a UUID", p.ID)
	}
	switch err := t.nvmf.ForgetReservation(p.Bdev, id); {
	case errors.Is(err, syscall.ENODEV):
		return nil, syscall.ENODEV
	case err != nil:
		return nil, invalid("%v", err)
	}
	return true, nil
}

func addHost(_ context.Context, t *Target, p hostParams) (any, error) {
	s, err := t.subsystem(p.Target, p.NQN)
	if err != nil {
		return nil, err
	}
	keys, err := t.pair(p.Key, p.CtrlrKey)
	switch {
	case errors.Is(err, syscall.ENOKEY):
		return nil, invalid("%v", err)
	case err != nil:
		return nil, internal("Internal error", err.Error())
	}
	if err := s.AddHost(p.Host, keys); err != nil {
		return nil, internal("Internal error", err.Error())
	}
	return true, nil
}

type removeHostParams struct {
	NQN     string `rpc:"nqn" doc:"subsystem"`
	Host    string `rpc:"host" doc:"NQN of the host"`
	Target  string `rpc:"tgt_name,optional" doc:"only nvmf_tgt"`
	Timeout uint64 `rpc:"timeout_ms,optional" doc:"SPDK's limit on waiting for I/O; here the call always waits until it has settled"`
}

func removeHost(_ context.Context, t *Target, p removeHostParams) (any, error) {
	s, err := t.subsystem(p.Target, p.NQN)
	if err != nil {
		return nil, err
	}
	if err := s.RemoveHost(p.Host); err != nil {
		return nil, internal("Internal error", err.Error())
	}
	return true, nil
}

type allowAnyHostParams struct {
	NQN    string `rpc:"nqn" doc:"subsystem"`
	Allow  bool   `rpc:"allow_any_host" doc:"true: any host; false: those on the list"`
	Target string `rpc:"tgt_name,optional" doc:"only nvmf_tgt"`
}

func allowAnyHost(_ context.Context, t *Target, p allowAnyHostParams) (any, error) {
	s, err := t.subsystem(p.Target, p.NQN)
	if err != nil {
		return nil, err
	}
	s.AllowAnyHost(p.Allow)
	return true, nil
}

type namespaceParams struct {
	NSID     uint32     `rpc:"nsid,optional" doc:"0: the lowest free"`
	BdevName string     `rpc:"bdev_name" doc:"bdev"`
	NGUID    string     `rpc:"nguid,optional" doc:"32 hex digits; default the UUID's"`
	EUI64    string     `rpc:"eui64,optional" doc:"16 hex digits"`
	UUID     *uuid.UUID `rpc:"uuid,optional" doc:"default the bdev's"`
	ANAGroup uint32     `rpc:"anagrpid,optional" doc:"ANA group; default the nsid"`
	PTPLFile string     `rpc:"ptpl_file,optional" doc:"absolute path of a file that keeps the reservations of hosts that ask for it (CPTPL) over the end of the process"`
}

type addNamespaceParams struct {
	NQN       string          `rpc:"nqn" doc:"subsystem"`
	Namespace namespaceParams `rpc:"namespace" doc:"nsid, bdev_name, nguid, eui64, uuid, anagrpid, ptpl_file"`
	Target    string          `rpc:"tgt_name,optional" doc:"only nvmf_tgt"`
}

func addNamespace(_ context.Context, t *Target, p addNamespaceParams) (any, error) {
	s, err := t.subsystem(p.Target, p.NQN)
	if err != nil {
		return nil, err
	}
	n := p.Namespace
	c := nvmftgt.NamespaceConfig{NSID: n.NSID, Bdev: n.BdevName, UUID: orNil(n.UUID), ANAGroup: n.ANAGroup, PTPLFile: n.PTPLFile}
	if err := fromHex("nguid", n.NGUID, c.NGUID[:]); err != nil {
		return nil, err
	}
	if err := fromHex("eui64", n.EUI64, c.EUI64[:]); err != nil {
		return nil, err
	}
	nsid, err := s.AddNamespace(c)
	if err != nil {
		return nil, invalid("%v", err)
	}
	return nsid, nil
}

// fromHex fills dst; an absent value leaves it zero.
func fromHex(name, value string, dst []byte) error {
	if value == "" {
		return nil
	}
	b, err := hex.DecodeString(value)
	if err != nil || len(b) != len(dst) {
		return invalid("namespace.%s %q must be %d hex digits", name, value, 2*len(dst))
	}
	copy(dst, b)
	return nil
}

type nsidParams struct {
	NQN    string `rpc:"nqn" doc:"subsystem"`
	NSID   uint32 `rpc:"nsid" doc:"namespace id"`
	Target string `rpc:"tgt_name,optional" doc:"only nvmf_tgt"`
}

func removeNamespace(_ context.Context, t *Target, p nsidParams) (any, error) {
	s, err := t.subsystem(p.Target, p.NQN)
	if err != nil {
		return nil, err
	}
	if err := s.RemoveNamespace(p.NSID); err != nil {
		return nil, invalid("%v", err)
	}
	return true, nil
}

type nsGroupParams struct {
	NQN    string `rpc:"nqn" doc:"subsystem"`
	NSID   uint32 `rpc:"nsid" doc:"namespace id"`
	Group  uint32 `rpc:"anagrpid" doc:"ANA group"`
	Target string `rpc:"tgt_name,optional" doc:"only nvmf_tgt"`
}

func setNamespaceGroup(_ context.Context, t *Target, p nsGroupParams) (any, error) {
	s, err := t.subsystem(p.Target, p.NQN)
	if err != nil {
		return nil, err
	}
	if err := s.SetNamespaceANAGroup(p.NSID, p.Group); err != nil {
		return nil, invalid("%v", err)
	}
	return true, nil
}

type swapParams struct {
	NQN    string `rpc:"nqn" doc:"subsystem"`
	NSID   uint32 `rpc:"nsid" doc:"namespace id"`
	Bdev   string `rpc:"bdev_name" doc:"bdev to use from now on; the same block size, at least as large"`
	Target string `rpc:"tgt_name,optional" doc:"only nvmf_tgt"`
}

func swapNamespace(_ context.Context, t *Target, p swapParams) (any, error) {
	s, err := t.subsystem(p.Target, p.NQN)
	if err != nil {
		return nil, err
	}
	switch err := s.SwapNamespace(p.NSID, p.Bdev); {
	case errors.Is(err, syscall.ENOENT):
		return nil, invalid("%v", err)
	case err != nil:
		return nil, err
	}
	return true, nil
}
