package planetest

import (
	"fmt"
	"slices"
	"syscall"
	"time"

	"github.com/virtual-disk-array/vda/spdk"
	"github.com/virtual-disk-array/vda/spdk/jsonrpc"
)

func (p *Plane) attach(a *params) (any, error) {
	if a.TrType == "PCIe" {
		return p.attachPCIe(a)
	}
	addr := a.TrAddr + ":" + a.TrSvcID
	of := p.ctrlrs[a.Name]
	if of != nil && !of.takes(a, addr) {
		return nil, jsonrpc.Errno(syscall.EALREADY, "")
	}
	if p.isCut(addr) {
		return nil, errIO
	}
	if !p.knows(a.Keys) {
		return nil, errNoKey
	}
	c := &ctrlr{name: a.Name, addr: addr, nqn: a.SubNQN, host: a.HostNQN, keys: a.Keys, atOnce: a.FailAtOnce,
		multi: a.Multipath == "multipath"}
	remote, err := p.connect(c, a, of)
	if err != nil {
		return nil, errIO
	}
	if c.multi {
		return p.addPath(c, of), nil
	}
	p.ctrlrs[a.Name] = c
	if remote == nil {
		return []string{}, nil
	}
	b := &bdev{name: a.Name + "n1", product: "NVMe disk", blocks: remote.blocks, medium: remote.medium}
	if err := p.add(b); err != nil {
		return nil, err
	}
	return []string{b.name}, answer(p.connected(b))
}

func (p *Plane) detach(a *params) (any, error) {
	c := p.ctrlrs[a.Name]
	if c == nil {
		return nil, errNoDev
	}
	delete(p.ctrlrs, a.Name)
	for _, k := range c.paths() {
		if k.path != nil {
			k.path.close()
		}
	}
	if b := p.bdevs[a.Name+"n1"]; b != nil {
		p.remove(b)
		p.disconnected(b.name)
	}
	return true, nil
}

// disable cuts a connection until enable; its bdev stays.
func (p *Plane) disable(a *params) (any, error) {
	c := p.ctrlrs[a.Name]
	switch {
	case c == nil:
		return nil, errNoDev
	case c.disabled:
		return nil, jsonrpc.Errno(syscall.EALREADY, "")
	}
	c.disabled = true
	for _, k := range c.paths() {
		if k.path != nil {
			k.path.close()
		}
	}
	return true, nil
}

// enable undoes disable.
func (p *Plane) enable(a *params) (any, error) {
	c := p.ctrlrs[a.Name]
	switch {
	case c == nil:
		return nil, errNoDev
	case !c.disabled:
		return nil, jsonrpc.Errno(syscall.EALREADY, "")
	}
	c.disabled = false
	for _, k := range c.paths() {
		if k.path != nil {
			k.path = p.initiator(k.path.Target)
			go k.path.keep()
		}
	}
	return true, nil
}

// getIOPaths lists the namespaces that are in use, on one thread.
func (p *Plane) getIOPaths(a *params) (any, error) {
	paths := []spdk.NvmeIOPath{}
	for _, c := range p.ctrlrs {
		if p.bdevs[c.name+"n1"] == nil || a.Name != "" && a.Name != c.name+"n1" {
			continue
		}
		path := spdk.NvmeIOPath{BdevName: c.name + "n1", Connected: p.stateOf(c) == "enabled", Accessible: true}
		if c.path != nil {
			path.Accessible = c.path.ana != spdk.ANAInaccessible
		} else if q := p.c.planes[c.addr]; q != nil {
			path.Accessible = q.ana[c.nqn] != spdk.ANAInaccessible
		}
		paths = append(paths, path)
	}
	return map[string]any{"poll_groups": []any{map[string]any{"io_paths": paths}}}, nil
}

func (p *Plane) stateOf(c *ctrlr) string {
	if c.disabled {
		return "disabled"
	}
	if c.path != nil && c.path.conn == nil {
		return "resetting"
	}
	if _, err := p.c.reach(c.addr, c.nqn, c.host); c.path == nil && (err != nil || p.isCut(c.addr)) {
		return "resetting"
	}
	return "enabled"
}

// setFailAtOnce changes what attach was told.
func (p *Plane) setFailAtOnce(a *params) (any, error) {
	c := p.ctrlrs[a.Name]
	if c == nil {
		return nil, errNoDev
	}
	c.atOnce = a.On
	if c.path != nil {
		c.path.FastFail = 2 * time.Second // as agents attach vds
		if a.On {
			c.path.FastFail = 0
		}
		time.AfterFunc(c.path.FastFail, p.c.change.Broadcast)
	}
	return true, nil
}

func (p *Plane) getControllers(a *params) (any, error) {
	list := []map[string]any{}
	for _, c := range asked(p.ctrlrs, a.Name) {
		paths := []any{}
		for _, k := range c.paths() {
			host, port, _ := splitAddr(k.addr)
			paths = append(paths, map[string]any{
				"state": p.stateOf(k), "cntlid": 1, "vda_fail_at_once": c.atOnce, "host": map[string]any{"nqn": c.host},
				"trid": spdk.TransportID{TrType: "TCP", AdrFam: "IPv4", TrAddr: host, TrSvcID: port, SubNQN: c.nqn},
			})
		}
		list = append(list, map[string]any{"name": c.name, "ctrlrs": paths})
	}
	if a.Name != "" && len(list) == 0 {
		return nil, errNoDev
	}
	return list, nil
}

func (p *Plane) createRaid(a *params) (any, error) {
	if p.raids[a.Name] != nil {
		return nil, errExists
	}
	p.raids[a.Name] = &raid{spdk.RaidCreate{Name: a.Name, StripSizeKB: a.StripSizeKB, RaidLevel: a.RaidLevel, BaseBdevs: a.BaseBdevs}}
	var blocks uint64
	var first *Medium
	for _, n := range a.BaseBdevs {
		b := p.bdevs[n]
		if b == nil {
			return true, nil // configuring
		}
		if b.claimed {
			delete(p.raids, a.Name)
			return nil, errPerm
		}
		if first == nil {
			first = b.medium
		}
		blocks += b.blocks
	}
	for _, n := range a.BaseBdevs {
		p.bdevs[n].claimed = true
	}
	if first.striped == nil {
		first.striped = &Medium{Zero: first.Zero}
	}
	medium := first.striped
	if a.RaidLevel == "concat" {
		medium = first // what it begins with, and the lvstore with that, is what its first member begins with
	}
	return true, p.add(&bdev{name: a.Name, product: "Raid Volume", blocks: blocks, medium: medium})
}

func (p *Plane) appendRaid(a *params) (any, error) {
	r, b, base := p.raids[a.Name], p.bdevs[a.Name], p.bdevs[a.BaseBdev]
	switch {
	case r == nil || base == nil:
		return nil, errNoDev
	case slices.Contains(r.BaseBdevs, a.BaseBdev):
		return true, nil
	case r.RaidLevel != "concat" || b == nil:
		return nil, Refuse(syscall.EINVAL)
	case base.claimed:
		return nil, errPerm
	case a.DryRun:
		return true, nil
	}
	base.claimed = true
	r.BaseBdevs = append(slices.Clone(r.BaseBdevs), a.BaseBdev)
	b.blocks += base.blocks
	return true, nil
}

func (p *Plane) deleteRaid(a *params) (any, error) {
	r := p.raids[a.Name]
	if r == nil {
		return nil, errNoDev
	}
	delete(p.raids, a.Name)
	if b := p.bdevs[a.Name]; b != nil {
		p.remove(b)
		for _, n := range r.BaseBdevs {
			if base := p.bdevs[n]; base != nil {
				base.claimed = false
			}
		}
	}
	return true, nil
}

func (p *Plane) getRaids(a *params) (any, error) {
	list := []spdk.Raid{}
	for _, r := range p.raids {
		if a.Category == "all" || a.Category == p.raidState(r) {
			list = append(list, p.describeRaid(r))
		}
	}
	return list, nil
}

func (p *Plane) raidState(r *raid) string {
	if p.bdevs[r.Name] != nil {
		return "online"
	}
	return "configuring"
}

func (p *Plane) describeRaid(r *raid) spdk.Raid {
	out := spdk.Raid{Name: r.Name, State: p.raidState(r), StripSizeKB: r.StripSizeKB, RaidLevel: r.RaidLevel, NumBaseBdevs: len(r.BaseBdevs)}
	for _, n := range r.BaseBdevs {
		out.BaseBdevs = append(out.BaseBdevs, spdk.RaidBase{Name: spdk.Ptr(n), IsConfigured: p.bdevs[n] != nil})
	}
	return out
}

func splitAddr(addr string) (host, port string, err error) {
	for i := len(addr) - 1; i >= 0; i-- {
		if addr[i] == ':' {
			return addr[:i], addr[i+1:], nil
		}
	}
	return "", "", fmt.Errorf("address %q has no port", addr)
}
