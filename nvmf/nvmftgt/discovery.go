package nvmftgt

import (
	"fmt"
	"hash/fnv"
	"net/netip"
	"slices"
	"syscall"

	"github.com/virtual-disk-array/vda/nvme"
)

// discoveryLog fills in a part of the discovery log: a header, then an entry
// for each place that conn's host may connect to. However many there are, only
// those are put together that are asked for.
func discoveryLog(conn *conn, out []byte, offset uint64) (uint64, nvme.Status) {
	if !conn.proved.Load() { // it may have been given its first key since it came
		switch keys, err := conn.placeKeys(conn.sub, conn.host); {
		case err != nil:
			return 0, nvme.InternalError // the host asks again
		case len(keys) > 0:
			return 0, nvme.AuthenticationRequired
		}
	}
	gen, entries, err := conn.sub.tgt.discoveryEntries(conn)
	if err != nil {
		conn.tgt.complain("nvmf: the discovery log cannot be told: "+err.Error(), conn.attrs()...)
		return 0, nvme.InternalError // the host asks again
	}
	const size = nvme.DiscoveryEntryLen
	total := uint64(1+len(entries)) * size
	var record [size]byte
	for at := 0; at < len(out) && offset+uint64(at) < total; {
		pos := offset + uint64(at)
		if i := pos / size; i == 0 {
			nvme.PutDiscoveryHeader(record[:], gen, uint64(len(entries)))
		} else {
			nvme.PutDiscoveryEntry(record[:], entries[i-1])
		}
		at += copy(out[at:], record[pos%size:])
	}
	return total, nvme.Success
}

// discoveryEntries are every listener of every subsystem that admits conn's host,
// this discovery service where it has listeners of its own, its referrals, and
// what Config.Places says.
// The generation is from before they were looked at: a host that reads it
// again behind them notices what has changed meanwhile.
func (t *Target) discoveryEntries(conn *conn) (gen uint64, out []nvme.DiscoveryEntry, err error) {
	gen = t.genctr.Load()
	t.mu.Lock()
	subs := slices.Clone(t.subs)
	refs := slices.Clone(t.referrals)
	t.mu.Unlock()
	asq := uint16(conn.opts.MaxAQDepth)
	for _, s := range subs {
		s.mu.Lock()
		if s.admits(conn.host) {
			for _, l := range s.listeners {
				e := entry(conn.reachable(l.portal.addr), s.cfg.NQN, asq)
				e.Subtype, e.PortID, e.CNTLID = nvme.SubtypeNVM, l.id, nvme.CNTLIDDynamic
				if s.discovery {
					e.Subtype, e.EFlags = nvme.SubtypeDiscovery, nvme.EFlagsDuplicate|nvme.EFlagsPersistent
				}
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
	if t.cfg.Places == nil {
		return gen, out, nil
	}
	places, err := t.cfg.Places(conn.host)
	if err != nil {
		return 0, nil, err
	}
	// They change without a count: their sum stands for it.
	sum := fnv.New64a()
	for i := range places {
		places[i].ASQSZ = asq
		fmt.Fprintf(sum, "%v\n", places[i])
	}
	return gen + sum.Sum64(), append(out, places...), nil
}

// SeekingHosts are the NQNs of the hosts that are connected to the discovery
// service, in order.
func (t *Target) SeekingHosts() []string {
	var hosts []string
	for _, c := range t.discovery.controllers(anyController) {
		hosts = append(hosts, c.host)
	}
	slices.Sort(hosts)
	return slices.Compact(hosts)
}

// PlacesChanged tells a host that is connected to the discovery service that
// Config.Places says something else about it from now on.
func (t *Target) PlacesChanged(host string) {
	for _, c := range t.discovery.controllers(func(c *controller) bool { return c.host == host }) {
		c.raise(eventDiscovery)
	}
}

// reachable replaces the unspecified address of a listener by the one over which
// conn reached us: a host cannot connect to 0.0.0.0.
func (conn *conn) reachable(a Addr) Addr {
	ip, err := netip.ParseAddr(a.Traddr)
	if err != nil || !ip.IsUnspecified() {
		return a
	}
	if here, err := netip.ParseAddrPort(conn.nc.LocalAddr().String()); err == nil {
		ip := here.Addr().Unmap().WithZone("")
		a.Traddr, a.Adrfam = ip.String(), "IPv4"
		if ip.Is6() {
			a.Adrfam = "IPv6"
		}
	}
	return a
}

func entry(a Addr, nqn string, asq uint16) nvme.DiscoveryEntry {
	fam := uint8(nvme.AdrfamIPv4)
	if a.Adrfam == "IPv6" {
		fam = nvme.AdrfamIPv6
	}
	return nvme.DiscoveryEntry{Trtype: nvme.TrtypeTCP, Adrfam: fam, TREQ: nvme.TREQNone, ASQSZ: asq, Trsvcid: a.Trsvcid,
		SubNQN: nqn, Traddr: a.Traddr}
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
