package planetest

import (
	"cmp"
	"slices"
	"syscall"

	"github.com/google/uuid"

	"github.com/virtual-disk-array/vda/nvme"
	"github.com/virtual-disk-array/vda/spdk"
	"github.com/virtual-disk-array/vda/spdk/jsonrpc"
)

var nvmfMethods = map[string]handler{
	"nvmf_get_stats": {false, func(*Plane, *params) (any, error) {
		return map[string]any{"poll_groups": []any{map[string]any{"completed_nvme_io": 1}}}, nil
	}},
	"nvmf_get_transports": {false, func(p *Plane, _ *params) (any, error) {
		if !p.tcp {
			return []spdk.NvmfTransport{}, nil
		}
		return []spdk.NvmfTransport{{TrType: "TCP"}}, nil
	}},
	"nvmf_create_transport": {true, func(p *Plane, _ *params) (any, error) {
		p.tcp = true
		return true, nil
	}},
	"nvmf_get_subsystems": {false, func(p *Plane, a *params) (any, error) {
		if s := p.subs[a.Nqn]; s != nil {
			return []spdk.NvmfSubsystem{s.NvmfSubsystem}, nil
		} else if a.Nqn != "" && !p.swaps && p.atLeast(26, 5) {
			return nil, &jsonrpc.Error{Code: jsonrpc.CodeInvalidParams, Message: "Subsystem with NQN '" + a.Nqn + "' not found"}
		} else if a.Nqn != "" {
			return nil, errNoDev
		}
		list := []spdk.NvmfSubsystem{{NQN: "nqn.2014-08.org.nvmexpress.discovery", Subtype: "Discovery"}}
		for _, s := range p.subs {
			list = append(list, s.NvmfSubsystem)
		}
		return list, nil
	}},
	"nvmf_create_subsystem": {true, func(p *Plane, a *params) (any, error) {
		if p.subs[a.Nqn] != nil || len(a.SerialNumber) > 20 {
			return nil, &jsonrpc.Error{Code: jsonrpc.CodeInternalError, Message: "Unable to create subsystem " + a.Nqn}
		}
		s := &subsystem{ana: a.ANAReporting, conns: map[*conn]bool{}, before: map[string]spdk.Keys{}}
		s.NQN, s.Subtype, s.SerialNumber, s.ModelNumber = a.Nqn, "NVMe", a.SerialNumber, a.ModelNumber
		s.MinCntlid, s.MaxCntlid = max(a.MinCntlid, 1), a.MaxCntlid
		if s.MaxCntlid == 0 {
			s.MaxCntlid = nvme.MaxCNTLID
		}
		p.subs[a.Nqn] = s
		delete(p.retired, a.Nqn)
		return true, nil
	}},
	"vda_nvmf_retire_subsystem": {true, func(p *Plane, a *params) (any, error) {
		if p.retired[a.Nqn] = a.Retired; !a.Retired {
			return true, nil
		}
		s := p.subs[a.Nqn]
		if s == nil {
			return true, nil
		}
		return true, p.removed(s)
	}},
	"vda_nvmf_set_single_association": {true, on(func(_ *Plane, s *subsystem, a *params) error {
		s.SingleAssociation = a.Single
		return nil
	})},
	"vda_nvmf_set_reservations": {true, on(func(_ *Plane, s *subsystem, a *params) error {
		switch {
		case a.ID == "" && (a.Offered || len(a.Forwarders) > 0), a.ID != "" && uuid.Validate(a.ID) != nil:
			return errInvalid
		case a.ID == "":
			s.Reservations = nil
		default:
			s.Reservations = &spdk.NvmfReservations{ID: a.ID, Offered: a.Offered, Forwarders: a.Forwarders}
		}
		return nil
	})},
	"vda_nvmf_forget_reservation": {true, func(p *Plane, a *params) (any, error) {
		b := p.bdev(a.BdevName)
		if b == nil {
			return nil, errNoDev
		}
		return true, nil
	}},
	"nvmf_subsystem_get_controllers": {false, func(p *Plane, a *params) (any, error) {
		s := p.subs[a.Nqn]
		if s == nil {
			return nil, errInvalid
		}
		list := []spdk.NvmfController{}
		for k := range s.conns {
			list = append(list, spdk.NvmfController{HostNQN: k.from.Host})
		}
		return list, nil
	}},
	"nvmf_delete_subsystem": {true, on(func(p *Plane, s *subsystem, _ *params) error {
		p.tellOwn(s, "is deleted")
		return p.removed(s)
	})},
	"nvmf_subsystem_add_listener": {true, on(func(p *Plane, s *subsystem, a *params) error {
		at := a.Listen.TrAddr + ":" + a.Listen.TrSvcID
		if q := p.c.planes[at]; q != nil && q != p {
			return errInvalid
		}
		if a.ANAState != "" && (!s.ana || !p.atLeast(24, 1)) {
			return errInvalid
		}
		p.c.planes[at] = p
		s.ListenAddresses = append(s.ListenAddresses, a.Listen)
		if s.ana {
			p.ana[s.NQN] = cmp.Or(a.ANAState, spdk.ANAOptimized)
			p.tellANA(s)
		}
		return nil
	})},
	"nvmf_subsystem_remove_listener": {true, on(func(p *Plane, s *subsystem, a *params) error {
		p.tellOwn(s, "loses its listener")
		s.ListenAddresses = slices.DeleteFunc(s.ListenAddresses, func(t spdk.TransportID) bool { return t == a.Listen })
		return nil
	})},
	"nvmf_subsystem_add_host": {true, on(func(p *Plane, s *subsystem, a *params) error {
		if s.allows(a.Host) {
			return &jsonrpc.Error{Code: jsonrpc.CodeInternalError, Message: "Internal error"}
		}
		if p.swaps && s.leaving() && !p.c.live.NoSettle {
			return jsonrpc.Errno(syscall.EBUSY, "commands of a host that was removed are under way still")
		}
		if !p.knows(a.Keys) {
			return errInvalid
		}
		delete(s.before, a.Host)
		s.Hosts = append(s.Hosts, spdk.NvmfHost{NQN: a.Host, Keys: a.Keys})
		p.c.admitted(p, s.NQN, a.Host)
		return nil
	})},
	"nvmf_subsystem_remove_host": {true, on(func(p *Plane, s *subsystem, a *params) error {
		s.Hosts = slices.DeleteFunc(s.Hosts, func(h spdk.NvmfHost) bool { return h.NQN == a.Host })
		return p.shut(s, func(host string) bool { return host == a.Host })
	})},
	"nvmf_subsystem_allow_any_host": {true, on(func(_ *Plane, s *subsystem, _ *params) error {
		s.AllowAnyHost = false
		return nil
	})},
	"nvmf_subsystem_add_ns": {true, func(p *Plane, a *params) (any, error) {
		s, b := p.subs[a.Nqn], p.bdev(a.Namespace.BdevName)
		if s == nil || b == nil || len(s.Namespaces) > 0 {
			return nil, errInvalid
		}
		for _, o := range p.subs {
			if !p.swaps && len(o.Namespaces) > 0 && o.Namespaces[0].BdevName == b.name {
				return nil, errInvalid // claimed
			}
		}
		ns := *a.Namespace
		ns.BdevName, ns.Name = b.name, b.name
		s.Namespaces = append(s.Namespaces, ns)
		p.tellOwn(s, "gets a namespace")
		return ns.NSID, nil
	}},
	"nvmf_subsystem_remove_ns": {true, on(func(p *Plane, s *subsystem, a *params) error {
		if len(s.Namespaces) == 0 {
			return errInvalid
		}
		s.Namespaces = nil
		p.tellOwn(s, "loses its namespace")
		return nil
	})},
	"vda_nvmf_swap_ns": {true, on(func(p *Plane, s *subsystem, a *params) error {
		b := p.bdev(a.BdevName)
		if b == nil || len(s.Namespaces) == 0 {
			return errInvalid
		}
		s.Namespaces[0].BdevName, s.Namespaces[0].Name = b.name, b.name
		return nil
	})},
	"nvmf_subsystem_listener_set_ana_state": {true, on(func(p *Plane, s *subsystem, a *params) error {
		if !s.ana || !s.listens(a.Listen.TrAddr+":"+a.Listen.TrSvcID) {
			return &jsonrpc.Error{Code: jsonrpc.CodeInternalError, Message: "error setting ANA state: -22"}
		}
		p.ana[s.NQN] = a.ANAState
		p.tellANA(s)
		return nil
	})},
}

// listens reports that a subsystem does at an address.
func (s *subsystem) listens(addr string) bool {
	return slices.ContainsFunc(s.ListenAddresses, func(l spdk.TransportID) bool { return l.TrAddr+":"+l.TrSvcID == addr })
}

// exported reports that a bdev is behind a namespace.
func (p *Plane) exported(b *bdev) bool {
	for _, s := range p.subs {
		if len(s.Namespaces) > 0 && s.Namespaces[0].BdevName == b.name {
			return true
		}
	}
	return false
}

// leaving reports that a host that was removed has commands under way, as vda_tgt
// looks for that when a host is admitted.
func (s *subsystem) leaving() bool {
	for k := range s.conns {
		if k.inflight > 0 && !s.allows(k.from.Host) {
			return true
		}
	}
	return false
}

// tellOwn is called with what happens to a subsystem's namespaces or listener. Its
// hosts are told, and where SPDK's initiator is one of them, in the same process,
// that waits for the target's answer and keeps the target from giving it: the data
// plane stands still from then on. The lock is held.
func (p *Plane) tellOwn(s *subsystem, what string) {
	if p.swaps {
		return
	}
	for name, c := range p.ctrlrs {
		if c.nqn == s.NQN && p.c.planes[c.addr] == p && !c.disabled {
			p.stuck = "the data plane stands still: subsystem " + s.NQN + " " + what + " while " + name + " is connected to it"
		}
	}
}

// on makes a handler of what is done to a subsystem that exists.
func on(f func(p *Plane, s *subsystem, a *params) error) func(*Plane, *params) (any, error) {
	return func(p *Plane, a *params) (any, error) {
		s := p.subs[a.Nqn]
		if s == nil {
			return nil, errInvalid
		}
		return true, f(p, s, a)
	}
}
