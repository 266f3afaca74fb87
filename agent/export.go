package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/agent/plane"
	"github.com/virtual-disk-array/vda/spdk"
)

// ANAGroup is the ANA group of every namespace of ours.
const ANAGroup = 1

// Export is a subsystem with one namespace, number 1, as it should be.
type Export struct {
	NQN       string
	Serial    string // at most 20 bytes
	Model     string // at most 40 bytes
	Hosts     []string
	Keys      map[string]HopKey   // by host: what it proves itself by; others need not
	Auth      map[string]HostAuth // likewise, of users' hosts
	MinCntlid uint16              // 0: the data plane's default
	MaxCntlid uint16
	Bdev      string // name; "": no namespace
	UUID      string // of the namespace, in any spelling; also its NGUID
	ANAState  string // "": without ANA
	// Single is for hosts that have one association at a time: what such a host
	// sent before it connects again has settled then, where the data plane can.
	Single bool
	// Settle is plane.Namespace's.
	Settle func(ctx context.Context, bdev string) error
	// Reservations are what it has to do with an array's, where the data plane can; zero:
	// nothing.
	Reservations spdk.NvmfReservations
}

// Ensure makes the calls that are missing for e. A host that is not admitted any
// more is shut out first, and one that is admitted comes in last, when
// everything behind is right; in between nobody can connect to half a subsystem.
// A new subsystem listens last of all: its hosts have been coming back since the
// data plane started, and one that found no namespace would drop the disk, one
// that was refused might not come again.
func (p *Plane) Ensure(ctx context.Context, inv *Inventory, e Export) error {
	if err := p.ensure(ctx, inv, e); err != nil {
		return fmt.Errorf("subsystem %s: %w", e.NQN, err)
	}
	return nil
}

func (p *Plane) ensure(ctx context.Context, inv *Inventory, e Export) error {
	if p.homeless(e.NQN) {
		return errors.New("it is for other controllers alone, and the agent was started without --backend-listener-conf")
	}
	sub := inv.Subsystem(e.NQN)
	if sub != nil && !e.matches(sub) {
		if err := p.DropSubsystem(ctx, e.NQN); err != nil {
			return err
		}
		sub = nil
	}
	if sub == nil {
		if err := p.NvmfCreateSubsystem(ctx, spdk.NvmfSubsystemCreate{
			NQN: e.NQN, SerialNumber: e.Serial, ModelNumber: e.Model, MaxNamespaces: 32,
			ANAReporting: e.ANAState != "", MinCntlid: e.MinCntlid, MaxCntlid: e.MaxCntlid,
		}); err != nil {
			return err
		}
		p.forgetANA(e.NQN)
		p.Driver().Created(e.NQN)
		sub = &spdk.NvmfSubsystem{NQN: e.NQN}
	}
	if e.Single && !sub.SingleAssociation {
		if err := p.Driver().SingleAssociation(ctx, e.NQN); err != nil {
			return err
		}
	}
	if sub.AllowAnyHost {
		if err := p.NvmfSubsystemAllowAnyHost(ctx, e.NQN, false); err != nil {
			return err
		}
	}
	if err := p.ShutOut(ctx, sub, e.Hosts); err != nil {
		return err
	}
	// Behind those that are shut out, some of which may have forwarded commands until now;
	// before the namespace, which comes with its reservation, and before forwarders are let in.
	if err := p.setReservations(ctx, sub, e.Reservations); err != nil {
		return err
	}
	open, err := p.closeListeners(ctx, sub)
	if err != nil {
		return err
	}
	if err := p.ensureNamespace(ctx, inv, sub, open, e); err != nil {
		return err
	}
	if open {
		if err := p.settleHeld(ctx, e); err != nil {
			return err
		}
		if err := p.SetANA(ctx, e.NQN, e.ANAState); err != nil {
			return err
		}
		return p.admit(ctx, sub, e)
	}
	return p.Driver().Open(ctx, plane.Opening{
		State:  e.ANAState,
		Admit:  func(ctx context.Context) error { return p.admit(ctx, sub, e) },
		Listen: func(ctx context.Context, state string) error { return p.openListener(ctx, e.NQN, state) },
		SetANA: func(ctx context.Context) error { return p.SetANA(ctx, e.NQN, e.ANAState) },
	})
}

// setReservations makes what a subsystem has to do with reservations what it should be.
func (p *Plane) setReservations(ctx context.Context, sub *spdk.NvmfSubsystem, want spdk.NvmfReservations) error {
	var have spdk.NvmfReservations
	if sub.Reservations != nil {
		have = *sub.Reservations
	}
	if have.ID == want.ID && have.Offered == want.Offered && slices.Equal(have.Forwarders, want.Forwarders) {
		return nil
	}
	return p.Driver().SetReservations(ctx, sub.NQN, want)
}

// admit adds the hosts that are missing, and has those prove themselves that were
// admitted before they had to; what is connected stays.
func (p *Plane) admit(ctx context.Context, sub *spdk.NvmfSubsystem, e Export) error {
	for _, h := range e.Hosts {
		at := slices.IndexFunc(sub.Hosts, func(have spdk.NvmfHost) bool { return have.NQN == h })
		if auth, has := e.Auth[h]; has {
			var have *spdk.NvmfHost
			if at >= 0 {
				have = &sub.Hosts[at]
			}
			if err := p.admitUser(ctx, hostOf{e.NQN, h}, have, auth); err != nil {
				return err
			}
			continue
		}
		keys, err := p.hostKeys(ctx, e.NQN, h, e.Keys[h])
		if err != nil {
			return err
		}
		switch {
		case at < 0:
			err = p.NvmfSubsystemAddHost(ctx, e.NQN, h, keys)
			if err != nil && p.Admits(ctx, e.NQN, spdk.NvmfHost{NQN: h, Keys: keys}) {
				err = nil
			}
		case keys.Host != "" && sub.Hosts[at].Keys != keys:
			err = p.NvmfSubsystemSetKeys(ctx, e.NQN, h, keys)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// settleHeld returns when what the data plane has held back on a path that is
// about to be opened has ended.
func (p *Plane) settleHeld(ctx context.Context, e Export) error {
	if e.Bdev == "" || e.ANAState == "" || e.ANAState == spdk.ANAInaccessible || p.ANA(e.NQN) == e.ANAState {
		return nil
	}
	return p.Driver().Drain(ctx, e.NQN, 1)
}

// Admits reports that a host is on a subsystem's list now, with its keys: the code
// that sends hosts away, to come back, adds them again itself, and to add one twice
// is an error, of one kind or another.
func (p *Plane) Admits(ctx context.Context, nqn string, host spdk.NvmfHost) bool {
	s, err := p.NvmfGetSubsystem(ctx, nqn)
	return err == nil && slices.Contains(s.Hosts, host)
}

// Readmit adds a host that was on a subsystem's list to it again, with the keys that
// it had. One that is on the list is not an error.
func (p *Plane) Readmit(ctx context.Context, nqn string, host spdk.NvmfHost) error {
	err := p.NvmfSubsystemAddHost(ctx, nqn, host.NQN, host.Keys)
	if err != nil && !p.Admits(ctx, nqn, host) {
		return err
	}
	return p.Readmitted(ctx, nqn, host)
}

// ShutOut removes every host of a subsystem but those in keep; it returns when
// their connections are closed and their I/O has settled.
func (p *Plane) ShutOut(ctx context.Context, sub *spdk.NvmfSubsystem, keep []string) error {
	for _, h := range sub.Hosts {
		if !slices.Contains(keep, h.NQN) {
			if err := p.NvmfSubsystemRemoveHost(ctx, sub.NQN, h.NQN); err != nil && !spdk.IsInvalidParams(err) {
				return err
			}
			p.dropHostKeys(ctx, sub.NQN, h.NQN)
		}
	}
	return nil
}

// matches reports that sub differs from e only in what can be changed.
func (e *Export) matches(sub *spdk.NvmfSubsystem) bool {
	return sub.SerialNumber == e.Serial && sub.ModelNumber == e.Model &&
		(e.MinCntlid == 0 || sub.MinCntlid == e.MinCntlid) && (e.MaxCntlid == 0 || sub.MaxCntlid == e.MaxCntlid)
}

// Stands reports that a subsystem is there and listens, with the namespace that e
// says: Ensure changes neither of them.
func (p *Plane) Stands(inv *Inventory, e Export) bool {
	sub := inv.Subsystem(e.NQN)
	return sub != nil && e.matches(sub) && len(sub.ListenAddresses) == 1 && sub.ListenAddresses[0].Same(p.AddressOf(e.NQN)) &&
		len(sub.Namespaces) == 1 && e.has(inv, sub.Namespaces[0])
}

// ListenAddress is where the data plane listens for hosts.
func (p *Plane) ListenAddress() spdk.TransportID {
	return spdk.At(p.cfg.Address)
}

// KeepBack says which subsystems listen at Config.Backend, and not where hosts are.
func (p *Plane) KeepBack(nqns map[string]bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.back = nqns
}

// AddressOf is where a subsystem is to listen.
func (p *Plane) AddressOf(nqn string) spdk.TransportID {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.back[nqn] && p.cfg.Backend != (vda.Listener{}) {
		return spdk.At(p.cfg.Backend)
	}
	return spdk.At(p.cfg.Address)
}

// homeless reports that a subsystem would listen where it must not: the agent was
// started without an address for it.
func (p *Plane) homeless(nqn string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.back[nqn] && p.cfg.Backend == (vda.Listener{})
}

// Own reports that an address is one of this data plane's.
func (p *Plane) Own(at spdk.TransportID) bool {
	return at.Same(spdk.At(p.cfg.Address)) || p.cfg.Backend != (vda.Listener{}) && at.Same(spdk.At(p.cfg.Backend))
}

// closeListeners closes those at other addresses than ours, and reports whether
// there is one at ours.
func (p *Plane) closeListeners(ctx context.Context, sub *spdk.NvmfSubsystem) (have bool, err error) {
	want := p.AddressOf(sub.NQN)
	for _, l := range sub.ListenAddresses {
		if l.Same(want) {
			have = true
			continue
		}
		if err := p.NvmfSubsystemRemoveListener(ctx, sub.NQN, l); err != nil {
			return have, err
		}
	}
	return have, nil
}

// openListener has a subsystem listen on our address, in an ANA state unless
// that is "".
func (p *Plane) openListener(ctx context.Context, nqn, state string) error {
	at := p.AddressOf(nqn)
	p.forgetANA(nqn)
	var err error
	if state != "" {
		if err = p.NvmfSubsystemAddListenerState(ctx, nqn, at, state); err == nil {
			p.mu.Lock()
			if p.ana[nqn] == "" { // else paths were closed in the same moment
				p.ana[nqn], p.anaAt[nqn] = state, time.Now()
			}
			p.mu.Unlock()
		}
	} else {
		err = p.NvmfSubsystemAddListener(ctx, nqn, at)
	}
	if err != nil {
		return fmt.Errorf("cannot listen on %s port %s: %w", at.TrAddr, at.TrSvcID, err)
	}
	return nil
}

// SetANA sets the ANA state of a subsystem's namespace on our address. It does
// nothing for "", for the state that was set last, and when the path of a
// subsystem that does not listen yet is to be closed.
func (p *Plane) SetANA(ctx context.Context, nqn, state string) error {
	p.mu.Lock()
	same := p.ana[nqn] == state
	p.mu.Unlock()
	if state == "" || same {
		return nil
	}
	p.forgetANA(nqn)
	if err := p.NvmfSubsystemListenerSetANAState(ctx, nqn, p.AddressOf(nqn), state, ANAGroup); err != nil {
		if state == spdk.ANAInaccessible {
			return p.closeElsewhere(ctx, nqn, err)
		}
		return err
	}
	p.mu.Lock()
	p.ana[nqn] = state
	p.anaAt[nqn] = time.Now()
	p.mu.Unlock()
	return nil
}

// closeElsewhere closes the path of a subsystem that does not listen on our address:
// a pass was cut short while it made it, or the address is another one than it was when
// it made it. err is what it returns for one that does listen there.
func (p *Plane) closeElsewhere(ctx context.Context, nqn string, err error) error {
	s, getErr := p.NvmfGetSubsystem(ctx, nqn)
	if getErr != nil || slices.ContainsFunc(s.ListenAddresses, p.AddressOf(nqn).Same) {
		return err
	}
	for _, at := range s.ListenAddresses {
		if err := p.NvmfSubsystemListenerSetANAState(ctx, nqn, at, spdk.ANAInaccessible, ANAGroup); err != nil {
			return err
		}
	}
	return nil
}

// ANA returns the state last set in this run of agent and data plane, "" when
// unknown.
func (p *Plane) ANA(nqn string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.ana[nqn]
}

// anaSet returns when that was; zero when unknown.
func (p *Plane) anaSet(nqn string) time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.anaAt[nqn]
}

func (p *Plane) forgetANA(nqn string) {
	p.mu.Lock()
	delete(p.ana, nqn)
	delete(p.anaAt, nqn)
	p.mu.Unlock()
}

// DropSubsystem deletes a subsystem; one that does not exist is not an error.
func (p *Plane) DropSubsystem(ctx context.Context, nqn string) error {
	p.forgetANA(nqn)
	if err := p.NvmfDeleteSubsystem(ctx, nqn); err != nil && !spdk.IsInvalidParams(err) && !spdk.IsNoSuchDevice(err) {
		return fmt.Errorf("subsystem %s: %w", nqn, err)
	}
	p.dropHostKeys(ctx, nqn, "")
	return nil
}

// RetireSubsystem deletes a subsystem that is not to come back, if it is there,
// and has its hosts told so where the data plane can.
func (p *Plane) RetireSubsystem(ctx context.Context, nqn string, there bool) error {
	p.forgetANA(nqn)
	if err := p.Driver().Retire(ctx, nqn, there); err != nil {
		return fmt.Errorf("subsystem %s: %w", nqn, err)
	}
	p.dropHostKeys(ctx, nqn, "")
	return nil
}

// Expect has hosts of a subsystem come back that is not there and is to be made,
// which may take long.
func (p *Plane) Expect(ctx context.Context, nqn string) error {
	if err := p.Driver().Expect(ctx, nqn); err != nil {
		return fmt.Errorf("subsystem %s: %w", nqn, err)
	}
	return nil
}
