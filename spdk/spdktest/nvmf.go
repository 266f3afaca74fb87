package spdktest

import (
	"context"

	"github.com/virtual-disk-array/vda/spdk"
)

// subsystem is the parameter object of methods that take a subsystem alone.
type subsystem struct {
	NQN string `json:"nqn"`
}

// NvmfQpair is one connection, from nvmf_subsystem_get_qpairs.
type NvmfQpair struct {
	Cntlid        uint16           `json:"cntlid"`
	QID           uint16           `json:"qid"`
	State         string           `json:"state"`
	HostNQN       string           `json:"hostnqn"`
	ListenAddress spdk.TransportID `json:"listen_address"`
	PeerAddress   spdk.TransportID `json:"peer_address"`
}

// NvmfSubsystemGetQpairs lists the connections.
func (m Methods) NvmfSubsystemGetQpairs(ctx context.Context, subNQN string) ([]NvmfQpair, error) {
	return ask[[]NvmfQpair](ctx, m, "nvmf_subsystem_get_qpairs", subsystem{subNQN})
}

// NvmfListener is one element of nvmf_subsystem_get_listeners.
type NvmfListener struct {
	Address   spdk.TransportID `json:"address"`
	ANAStates []NvmfANAState   `json:"ana_states"` // empty without ANA reporting
}

// NvmfANAState is the state of one ANA group at a listener.
type NvmfANAState struct {
	ANAGroup uint32 `json:"ana_group"`
	ANAState string `json:"ana_state"`
}

// NvmfSubsystemGetListeners lists the addresses and their ANA states.
func (m Methods) NvmfSubsystemGetListeners(ctx context.Context, subNQN string) ([]NvmfListener, error) {
	return ask[[]NvmfListener](ctx, m, "nvmf_subsystem_get_listeners", subsystem{subNQN})
}
