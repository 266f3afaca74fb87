package target

import (
	"fmt"
	"net/netip"
	"slices"
	"syscall"

	"vda/nvme"
)

// discoveryLog lists what k's host may connect to: every listener of every
// subsystem that admits it, this discovery service and its referrals.
func (t *Target) discoveryLog(k *conn) []byte {
	t.mu.Lock()
	subs := slices.Clone(t.subs)
	refs := slices.Clone(t.referrals)
	t.mu.Unlock()
	gen := t.genctr.Load()
	asq := uint16(k.opts.MaxAQDepth)
	var out []nvme.DiscoveryEntry
	for _, s := range subs {
		if s.discovery {
			continue
		}
		s.mu.Lock()
		if s.admits(k.host) {
			for _, l := range s.listeners {
				e := entry(k.reachable(l.portal.addr), s.cfg.NQN, asq)
				e.Subtype, e.PortID, e.CNTLID = nvme.SubtypeNVM, l.id, nvme.CNTLIDDynamic
				out = append(out, e)
			}
		}
		s.mu.Unlock()
	}
	for _, r := range refs {
		e := entry(r.Addr, r.SubNQN, asq)
		e.Subtype, e.CNTLID = nvme.SubtypeReferral, nvme.CNTLIDDynamic
		out = append(out, e)
	}
	if len(out) >= maxLog/nvme.DiscoveryEntryLen {
		out = out[:maxLog/nvme.DiscoveryEntryLen]
	}
	return nvme.AppendDiscoveryLog(nil, gen, out)
}

// reachable replaces the unspecified address of a listener by the one over which
// k reached us: a host cannot connect to 0.0.0.0.
func (k *conn) reachable(a Addr) Addr {
	ip, err := netip.ParseAddr(a.Traddr)
	if err != nil || !ip.IsUnspecified() {
		return a
	}
	if here, err := netip.ParseAddrPort(k.nc.LocalAddr().String()); err == nil {
		a.Traddr = here.Addr().Unmap().WithZone("").String()
		a.Adrfam = ""
		a, _ = a.Normalize()
	}
	return a
}

func entry(a Addr, nqn string, asq uint16) nvme.DiscoveryEntry {
	fam := uint8(nvme.AdrfamIPv4)
	if a.Adrfam == "IPv6" {
		fam = nvme.AdrfamIPv6
	}
	return nvme.DiscoveryEntry{Trtype: nvme.TrtypeTCP, Adrfam: fam, TREQ: nvme.TREQNotRequired, ASQSZ: asq, Trsvcid: a.Trsvcid, SubNQN: nqn, Traddr: a.Traddr}
}

// discoveryChanged counts a change of the discovery log and tells the hosts.
func (t *Target) discoveryChanged() {
	t.genctr.Add(1)
	for _, c := range t.discovery.controllers(anyController) {
		c.raise(eventDiscovery)
	}
}

// AddReferral points hosts to another discovery service. EEXIST when it is
// there, EINVAL for a bad address.
func (t *Target) AddReferral(r Referral) error {
	r, err := r.normalize()
	if err != nil {
		return err
	}
	t.mu.Lock()
	if slices.Contains(t.referrals, r) {
		t.mu.Unlock()
		return fmt.Errorf("referral to %s: %w", r.Addr, syscall.EEXIST)
	}
	t.referrals = append(t.referrals, r)
	t.mu.Unlock()
	t.discoveryChanged()
	return nil
}

// RemoveReferral is its opposite. ENOENT when there is none.
func (t *Target) RemoveReferral(r Referral) error {
	r, err := r.normalize()
	if err != nil {
		return err
	}
	t.mu.Lock()
	i := slices.IndexFunc(t.referrals, func(o Referral) bool { return o.Addr == r.Addr && o.SubNQN == r.SubNQN })
	if i < 0 {
		t.mu.Unlock()
		return fmt.Errorf("referral to %s: %w", r.Addr, syscall.ENOENT)
	}
	t.referrals = slices.Delete(t.referrals, i, i+1)
	t.mu.Unlock()
	t.discoveryChanged()
	return nil
}

// Referrals returns the referrals in the order of addition.
func (t *Target) Referrals() []Referral {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.referrals)
}

func (r Referral) normalize() (Referral, error) {
	a, err := r.Addr.Normalize()
	if err != nil {
		return r, err
	}
	r.Addr = a
	if r.SubNQN == "" {
		r.SubNQN = nvme.DiscoveryNQN
	}
	if err := nvme.CheckSubsystemNQN(r.SubNQN); err != nil {
		return r, fmt.Errorf("subnqn: %w: %w", err, syscall.EINVAL)
	}
	return r, nil
}
