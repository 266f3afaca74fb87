package agenttest

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"syscall"
	"time"

	"vda/spdk"
	"vda/spdk/jsonrpc"
)

// params of all methods, in one.
type params struct {
	Name, Filename, UUID, Nqn, Host, SubNQN, HostNQN, TrAddr, TrSvcID string

	NumBlocks    uint64              `json:"num_blocks"`
	BdevName     string              `json:"bdev_name"`
	LvsName      string              `json:"lvs_name"`
	LvolName     string              `json:"lvol_name"`
	OldName      string              `json:"old_name"`
	NewName      string              `json:"new_name"`
	ClusterSz    uint64              `json:"cluster_sz"`
	SizeInMiB    uint64              `json:"size_in_mib"`
	StripSizeKB  uint32              `json:"strip_size_kb"`
	RaidLevel    string              `json:"raid_level"`
	BaseBdevs    []string            `json:"base_bdevs"`
	SerialNumber string              `json:"serial_number"`
	ModelNumber  string              `json:"model_number"`
	MinCntlid    uint16              `json:"min_cntlid"`
	MaxCntlid    uint16              `json:"max_cntlid"`
	ANAReporting bool                `json:"ana_reporting"`
	Listen       spdk.TransportID    `json:"listen_address"`
	Namespace    *spdk.NvmfNamespace `json:"namespace"`
	NSID         uint32              `json:"nsid"`
	KeepAliveMS  uint32              `json:"keep_alive_timeout_ms"`
	FastFailSec  *uint32             `json:"fast_io_fail_timeout_sec"`
	ANAState     string              `json:"ana_state"`
}

type handler struct {
	changes bool
	call    func(p *Plane, a *params) (any, error)
}

func (p *Plane) lookup(name string) (jsonrpc.Method, *jsonrpc.Error) {
	h, ok := methods[name]
	if !ok || !p.has(name) {
		return jsonrpc.Method{}, &jsonrpc.Error{Code: spdk.CodeMethodNotFound, Message: "Method not found"}
	}
	return jsonrpc.Method{Slow: true, Call: func(_ context.Context, raw json.RawMessage) (any, error) {
		p.c.mu.Lock()
		hook := p.hook
		p.c.mu.Unlock()
		if hook != nil {
			var m map[string]any
			_ = json.Unmarshal(raw, &m)
			if err := hook(name, m); err != nil {
				return nil, err
			}
		}
		p.c.mu.Lock()
		defer p.c.mu.Unlock()
		text, err := p.carryOut(h, raw)
		return text, err
	}}, nil
}

// has reports that the data plane answers a method that the model knows.
func (p *Plane) has(method string) bool {
	p.c.mu.Lock()
	defer p.c.mu.Unlock()
	return method != p.hidden && (method != "vda_nvmf_swap_ns" || p.swaps)
}

// carryOut does what a call says. The cluster's lock is held, and given up
// where the call has to wait.
func (p *Plane) carryOut(h handler, raw json.RawMessage) (json.RawMessage, error) {
	var a params
	if raw != nil {
		if err := json.Unmarshal(raw, &a); err != nil {
			return nil, &jsonrpc.Error{Code: spdk.CodeInternalError, Message: err.Error()}
		}
	}
	if h.changes {
		p.changes++
	}
	result, err := h.call(p, &a)
	if err != nil {
		return nil, err
	}
	// Encoded under the lock: the result may point into the model.
	return json.Marshal(result)
}

// Refuse is an error of an errno, for hooks.
func Refuse(e syscall.Errno) error { return jsonrpc.Errno(e, "") }

var (
	errNoDev   = jsonrpc.Errno(syscall.ENODEV, "")
	errExists  = jsonrpc.Errno(syscall.EEXIST, "")
	errPerm    = jsonrpc.Errno(syscall.EPERM, "")
	errIO      = jsonrpc.Errno(syscall.EIO, "")
	errInvalid = &jsonrpc.Error{Code: spdk.CodeInvalidParams, Message: "Invalid parameters"}
)

var methods map[string]handler

func init() {
	methods = map[string]handler{
		"spdk_get_version": {false, func(p *Plane, _ *params) (any, error) {
			v := p.version
			if v == [2]int{} {
				v = [2]int{26, 5}
			}
			return map[string]any{"version": "agenttest", "fields": map[string]any{"major": v[0], "minor": v[1], "patch": 0, "suffix": ""}}, nil
		}},
		"rpc_get_methods": {false, func(p *Plane, _ *params) (any, error) {
			var names []string
			for n := range methods {
				if n != "vda_nvmf_swap_ns" && n != p.hidden || n == "vda_nvmf_swap_ns" && p.swaps {
					names = append(names, n)
				}
			}
			return names, nil
		}},
		"bdev_get_bdevs": {false, (*Plane).getBdevs},
		"bdev_malloc_create": {true, func(p *Plane, a *params) (any, error) {
			return a.Name, p.add(&bdev{name: a.Name, product: "Malloc disk", uuid: a.UUID, blocks: a.NumBlocks, medium: &Medium{Zero: true}})
		}},
		"bdev_malloc_delete": {true, (*Plane).deleteBdev},
		"bdev_aio_create": {true, func(p *Plane, a *params) (any, error) {
			return a.Name, p.add(&bdev{name: a.Name, product: "AIO disk", blocks: 64 << 20 / 4096, medium: p.c.disk(a.Filename)})
		}},
		"bdev_aio_delete": {true, (*Plane).deleteBdev},
		"bdev_examine": {false, func(p *Plane, a *params) (any, error) {
			b := p.bdev(a.Name)
			if b == nil {
				return nil, errNoDev
			}
			if err := p.touch(b, false); err != nil {
				return nil, err
			}
			p.load(b)
			return true, nil
		}},
		"bdev_wait_for_examine":    {false, func(*Plane, *params) (any, error) { return true, nil }},
		"bdev_lvol_get_lvstores":   {false, (*Plane).getLvstores},
		"bdev_lvol_create_lvstore": {true, (*Plane).createLvstore},
		"bdev_lvol_delete_lvstore": {true, (*Plane).deleteLvstore},
		"bdev_lvol_create":         {true, (*Plane).createLvol},
		"bdev_lvol_delete":         {true, (*Plane).deleteLvol},
		"bdev_lvol_rename":         {true, (*Plane).renameLvol},

		"bdev_nvme_set_options": {true, func(p *Plane, a *params) (any, error) {
			if a.KeepAliveMS > 0 {
				p.silence = time.Duration(a.KeepAliveMS) * time.Millisecond
			}
			return true, nil
		}},
		"bdev_nvme_attach_controller":  {true, (*Plane).attach},
		"bdev_nvme_detach_controller":  {true, (*Plane).detach},
		"bdev_nvme_get_controllers":    {false, (*Plane).getControllers},
		"bdev_nvme_disable_controller": {true, (*Plane).disable},
		"bdev_raid_create":             {true, (*Plane).createRaid},
		"bdev_raid_delete":             {true, (*Plane).deleteRaid},
		"bdev_raid_get_bdevs":          {false, (*Plane).getRaids},
	}
	for name, h := range nvmfMethods {
		methods[name] = h
	}
}

func (p *Plane) bdev(name string) *bdev {
	if b := p.bdevs[name]; b != nil {
		return b
	}
	for _, b := range p.bdevs {
		if b.name == name || b.uuid == name || slices.Contains(b.aliases, name) {
			return b
		}
	}
	return nil
}

func (p *Plane) add(b *bdev) error {
	if p.bdevs[b.name] != nil {
		return errExists
	}
	b.uuid = newUUID(b.uuid)
	p.bdevs[b.name] = b
	return nil
}

// remove takes a bdev away with all that stands on it.
func (p *Plane) remove(b *bdev) {
	delete(p.bdevs, b.name)
	if b.loaded != nil {
		p.unload(b)
	}
	for _, s := range p.subs {
		s.Namespaces = slices.DeleteFunc(s.Namespaces, func(n spdk.NvmfNamespace) bool { return n.BdevName == b.name })
	}
	for name, r := range p.raids {
		if slices.Contains(r.BaseBdevs, b.name) {
			if up := p.bdevs[name]; up != nil {
				p.remove(up)
			}
			delete(p.raids, name)
		}
	}
}

func (p *Plane) deleteBdev(a *params) (any, error) {
	b := p.bdevs[a.Name]
	if b == nil {
		return nil, errNoDev
	}
	p.remove(b)
	return true, nil
}

func (p *Plane) getBdevs(a *params) (any, error) {
	list := []spdk.Bdev{}
	one := p.bdev(a.Name)
	for _, b := range p.bdevs {
		if a.Name == "" || one == b {
			list = append(list, spdk.Bdev{Name: b.name, Aliases: b.aliases, ProductName: b.product, BlockSize: 4096, NumBlocks: b.blocks, UUID: b.uuid, Claimed: b.claimed, DriverSpecific: json.RawMessage("{}")})
		}
	}
	if a.Name != "" && len(list) == 0 {
		return nil, errNoDev
	}
	return list, nil
}

// load opens the lvstore on a bdev, if there is one.
func (p *Plane) load(b *bdev) {
	if b.medium.store == nil || b.loaded != nil || b.claimed {
		return
	}
	b.loaded, b.claimed = b.medium.store, true
	for _, l := range b.loaded.lvols {
		p.show(b.loaded, l)
	}
}

func (p *Plane) show(s *store, l *lvol) {
	p.bdevs[l.uuid] = &bdev{name: l.uuid, uuid: l.uuid, product: "Logical Volume", aliases: []string{s.name + "/" + l.name}, blocks: l.clusters * s.cluster / 4096, medium: l.medium}
}

func (p *Plane) unload(b *bdev) {
	for _, l := range b.loaded.lvols {
		if up := p.bdevs[l.uuid]; up != nil {
			p.remove(up)
		}
	}
	b.loaded, b.claimed = nil, false
}

func (p *Plane) getLvstores(a *params) (any, error) {
	list := []spdk.Lvstore{}
	for _, b := range p.bdevs {
		if s := b.loaded; s != nil && (a.LvsName == "" || a.LvsName == s.name) {
			list = append(list, spdk.Lvstore{UUID: s.uuid, Name: s.name, BaseBdev: b.name, TotalDataClusters: s.total, FreeClusters: s.free(), BlockSize: 4096, ClusterSize: s.cluster})
		}
	}
	return list, nil
}

func (p *Plane) createLvstore(a *params) (any, error) {
	b := p.bdev(a.BdevName)
	switch {
	case b == nil:
		return nil, errNoDev
	case b.claimed:
		return nil, errPerm
	}
	if err := p.touch(b, true); err != nil {
		return nil, err
	}
	s := &store{name: a.LvsName, uuid: newUUID(""), cluster: a.ClusterSz, total: b.blocks*4096/a.ClusterSz - 1, lvols: map[string]*lvol{}}
	b.medium.store, b.medium.Zero = s, false
	p.load(b)
	return s.uuid, nil
}

func (p *Plane) storeNamed(name string) (*bdev, *store) {
	for _, b := range p.bdevs {
		if b.loaded != nil && b.loaded.name == name {
			return b, b.loaded
		}
	}
	return nil, nil
}

func (p *Plane) deleteLvstore(a *params) (any, error) {
	b, s := p.storeNamed(a.LvsName)
	if s == nil {
		return nil, errNoDev
	}
	if err := p.touch(b, true); err != nil {
		return nil, err
	}
	p.unload(b)
	b.medium.store = nil
	return true, nil
}

func (p *Plane) createLvol(a *params) (any, error) {
	b, s := p.storeNamed(a.LvsName)
	switch {
	case s == nil:
		return nil, errNoDev
	case s.lvols[a.LvolName] != nil:
		return nil, errExists
	}
	if err := p.touch(b, true); err != nil {
		return nil, err
	}
	l := &lvol{name: a.LvolName, uuid: newUUID(""), clusters: (a.SizeInMiB<<20 + s.cluster - 1) / s.cluster, medium: &Medium{}}
	if l.clusters > s.free() {
		return nil, jsonrpc.Errno(syscall.ENOSPC, "")
	}
	s.lvols[l.name] = l
	p.show(s, l)
	return l.uuid, nil
}

func (p *Plane) lvol(name string) (*store, *lvol) {
	up := p.bdev(name)
	for _, b := range p.bdevs {
		if b.loaded == nil || up == nil {
			continue
		}
		for _, l := range b.loaded.lvols {
			if l.uuid == up.uuid {
				return b.loaded, l
			}
		}
	}
	return nil, nil
}

func (p *Plane) deleteLvol(a *params) (any, error) {
	s, l := p.lvol(a.Name)
	if l == nil {
		return nil, errNoDev
	}
	p.remove(p.bdevs[l.uuid])
	delete(s.lvols, l.name)
	return true, nil
}

func (p *Plane) renameLvol(a *params) (any, error) {
	s, l := p.lvol(a.OldName)
	switch {
	case l == nil:
		return nil, errNoDev
	case s.lvols[a.NewName] != nil:
		return nil, errExists
	}
	delete(s.lvols, l.name)
	l.name = a.NewName
	s.lvols[l.name] = l
	p.bdevs[l.uuid].aliases = []string{s.name + "/" + l.name}
	return true, nil
}

func (p *Plane) attach(a *params) (any, error) {
	if p.ctrlrs[a.Name] != nil {
		return nil, jsonrpc.Errno(syscall.EALREADY, "")
	}
	addr := a.TrAddr + ":" + a.TrSvcID
	if p.isCut(addr) {
		return nil, errIO
	}
	c := &ctrlr{name: a.Name, addr: addr, nqn: a.SubNQN, host: a.HostNQN}
	remote, err := p.connect(c, a)
	if err != nil {
		return nil, errIO
	}
	p.ctrlrs[a.Name] = c
	if remote == nil {
		return []string{}, nil
	}
	b := &bdev{name: a.Name + "n1", product: "NVMe disk", blocks: remote.blocks, medium: remote.medium}
	return []string{b.name}, p.add(b)
}

func (p *Plane) detach(a *params) (any, error) {
	c := p.ctrlrs[a.Name]
	if c == nil {
		return nil, errNoDev
	}
	delete(p.ctrlrs, a.Name)
	if c.path != nil {
		c.path.close()
	}
	if b := p.bdevs[a.Name+"n1"]; b != nil {
		p.remove(b)
	}
	return true, nil
}

// disable cuts a connection for good; its bdev stays.
func (p *Plane) disable(a *params) (any, error) {
	c := p.ctrlrs[a.Name]
	switch {
	case c == nil:
		return nil, errNoDev
	case c.disabled:
		return nil, jsonrpc.Errno(syscall.EALREADY, "")
	}
	c.disabled = true
	if c.path != nil {
		c.path.close()
	}
	return true, nil
}

func (p *Plane) getControllers(a *params) (any, error) {
	list := []map[string]any{}
	for _, c := range p.ctrlrs {
		if a.Name != "" && a.Name != c.name {
			continue
		}
		state := "enabled"
		if c.disabled {
			state = "disabled"
		} else if c.path != nil && c.path.conn == nil {
			state = "resetting"
		} else if _, err := p.c.reach(c.addr, c.nqn, c.host); c.path == nil && (err != nil || p.isCut(c.addr)) {
			state = "resetting"
		}
		host, port, _ := splitAddr(c.addr)
		list = append(list, map[string]any{"name": c.name, "ctrlrs": []any{map[string]any{
			"state": state, "cntlid": 1, "host": map[string]any{"nqn": c.host},
			"trid": spdk.TransportID{TrType: "TCP", AdrFam: "IPv4", TrAddr: host, TrSvcID: port, SubNQN: c.nqn},
		}}})
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
	return true, p.add(&bdev{name: a.Name, product: "Raid Volume", blocks: blocks, medium: first.striped})
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

func (p *Plane) getRaids(*params) (any, error) {
	list := []spdk.Raid{}
	for _, r := range p.raids {
		out := spdk.Raid{Name: r.Name, State: "configuring", StripSizeKB: r.StripSizeKB, RaidLevel: r.RaidLevel, NumBaseBdevs: len(r.BaseBdevs)}
		if p.bdevs[r.Name] != nil {
			out.State = "online"
		}
		for _, n := range r.BaseBdevs {
			out.BaseBdevs = append(out.BaseBdevs, spdk.RaidBase{Name: spdk.Ptr(n), IsConfigured: p.bdevs[n] != nil})
		}
		list = append(list, out)
	}
	return list, nil
}

func splitAddr(addr string) (host, port string, err error) {
	for i := len(addr) - 1; i >= 0; i-- {
		if addr[i] == ':' {
			return addr[:i], addr[i+1:], nil
		}
	}
	return "", "", fmt.Errorf("address %q has no port", addr)
}
