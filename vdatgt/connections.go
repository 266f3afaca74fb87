package vdatgt

import (
	"context"
	"slices"
)

// controllerJSON is one element of nvmf_subsystem_get_controllers.
type controllerJSON struct {
	Cntlid      uint16 `json:"cntlid"`
	CntrlType   string `json:"cntrltype"`
	HostNQN     string `json:"hostnqn"`
	HostID      string `json:"hostid"`
	NumIOQpairs int    `json:"num_io_qpairs"`
}

func getControllers(_ context.Context, t *Target, p subsystemParams) (any, error) {
	s, err := t.subsystem(p.Target, p.NQN)
	if err != nil {
		return nil, err
	}
	kind := "io"
	if s.IsDiscovery() {
		kind = "discovery"
	}
	out := []controllerJSON{}
	for _, c := range s.Controllers() {
		out = append(out, controllerJSON{c.CNTLID, kind, c.HostNQN, c.HostID.String(), c.IOQueues})
	}
	slices.SortFunc(out, func(a, b controllerJSON) int { return int(a.Cntlid) - int(b.Cntlid) })
	return out, nil
}

// qpairJSON is one element of nvmf_subsystem_get_qpairs.
type qpairJSON struct {
	Cntlid  uint16   `json:"cntlid"`
	QID     uint16   `json:"qid"`
	State   string   `json:"state"`
	HostNQN string   `json:"hostnqn"`
	Listen  addrJSON `json:"listen_address"`
	Peer    addrJSON `json:"peer_address"`
}

func getQpairs(_ context.Context, t *Target, p subsystemParams) (any, error) {
	s, err := t.subsystem(p.Target, p.NQN)
	if err != nil {
		return nil, err
	}
	out := []qpairJSON{}
	for _, q := range s.Qpairs() {
		out = append(out, qpairJSON{q.CNTLID, q.QID, q.State, q.HostNQN, addrJSON(q.Listener), addrJSON(q.Peer)})
	}
	return out, nil
}

// anaJSON is the state of a group at a listener.
type anaJSON struct {
	Group int    `json:"ana_group"`
	State string `json:"ana_state"`
}

// listenerJSON is one element of nvmf_subsystem_get_listeners.
type listenerJSON struct {
	Address addrJSON  `json:"address"`
	ANA     []anaJSON `json:"ana_states,omitempty"`
}

func getListeners(_ context.Context, t *Target, p subsystemParams) (any, error) {
	s, err := t.subsystem(p.Target, p.NQN)
	if err != nil {
		return nil, err
	}
	out := []listenerJSON{}
	for _, l := range s.Listeners() {
		j := listenerJSON{Address: addrJSON(l.Addr)}
		for i, state := range l.ANAStates {
			j.ANA = append(j.ANA, anaJSON{i + 1, state.String()})
		}
		out = append(out, j)
	}
	return out, nil
}
