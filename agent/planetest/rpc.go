package planetest

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/virtual-disk-array/vda/spdk"
	"github.com/virtual-disk-array/vda/spdk/jsonrpc"
)

// params of all methods, in one.
type params struct {
	Name, Filename, UUID, Nqn, Host, SubNQN, HostNQN, TrAddr, TrSvcID string

	NumBlocks    uint64              `json:"num_blocks"`
	Names        []string            `json:"names"`
	Bdevs        []string            `json:"bdevs"`
	Bdev         string              `json:"bdev"`
	Multipath    string              `json:"multipath"`
	Thick        bool                `json:"thick"`
	NQNs         []string            `json:"nqns"`
	BdevName     string              `json:"bdev_name"`
	LvsName      string              `json:"lvs_name"`
	LvolName     string              `json:"lvol_name"`
	SnapshotName string              `json:"snapshot_name"`
	CloneName    string              `json:"clone_name"`
	Thin         bool                `json:"thin_provision"`
	OldName      string              `json:"old_name"`
	NewName      string              `json:"new_name"`
	ClusterSz    uint64              `json:"cluster_sz"`
	SizeInMiB    uint64              `json:"size_in_mib"`
	LimitMS      uint32              `json:"limit_ms"`
	StripSizeKB  uint32              `json:"strip_size_kb"`
	RaidLevel    string              `json:"raid_level"`
	BaseBdevs    []string            `json:"base_bdevs"`
	BaseBdev     string              `json:"base_bdev"`
	DryRun       bool                `json:"dry_run"`
	SerialNumber string              `json:"serial_number"`
	ModelNumber  string              `json:"model_number"`
	MinCntlid    uint16              `json:"min_cntlid"`
	MaxCntlid    uint16              `json:"max_cntlid"`
	ANAReporting bool                `json:"ana_reporting"`
	Listen       spdk.TransportID    `json:"listen_address"`
	Namespace    *spdk.NvmfNamespace `json:"namespace"`
	NSID         uint32              `json:"nsid"`
	KeepAliveMS  uint32              `json:"keep_alive_timeout_ms"`
	TrType       string              `json:"trtype"`
	Cmdbuf       string              `json:"cmdbuf"`
	DataLen      uint32              `json:"data_len"`
	FastFailSec  *uint32             `json:"fast_io_fail_timeout_sec"`
	ANAState     string              `json:"ana_state"`
	Category     string              `json:"category"`
	Retired      bool                `json:"retired"`
	DA           string              `json:"da_id"`
	Mirror       string              `json:"mirror_id"`
	Size         uint64              `json:"size"`
	Term         uint64              `json:"term"`
	Gen          uint64              `json:"gen"`
	Legs         []spdk.MirrorLeg    `json:"legs"`
	Single       bool                `json:"single"`
	ID           string              `json:"id"`
	Offered      bool                `json:"offered"`
	Forwarders   []string            `json:"forwarders"`
	FailAtOnce   bool                `json:"vda_fail_at_once"`
	On           bool                `json:"on"`
	Path         string              `json:"path"`

	spdk.Keys
	Keep bool `json:"vda_keep_previous"`

	spdk.RateLimits

	Fresh     bool    `json:"fresh"`
	CopyMB    uint32  `json:"copy_mb_per_sec"`
	Recovered *uint64 `json:"recovered"`
	Changes   uint64  `json:"changes"`
	TimeoutMS int64   `json:"timeout_ms"`
}

type handler struct {
	changes bool
	call    func(p *Plane, a *params) (any, error)
}

func (p *Plane) lookup(name string) (jsonrpc.Method, *jsonrpc.Error) {
	h, ok := methods[name]
	p.c.mu.Lock()
	ok = ok && p.has(name)
	p.c.mu.Unlock()
	if !ok {
		return jsonrpc.Method{}, &jsonrpc.Error{Code: jsonrpc.CodeMethodNotFound, Message: "Method not found"}
	}
	return jsonrpc.Method{Slow: true, Call: func(_ context.Context, raw json.RawMessage) (any, error) {
		p.c.mu.Lock()
		defer p.c.mu.Unlock()
		if err := p.hooked(name, raw); err != nil {
			return nil, err
		}
		text, err := p.carryOut(h, raw)
		p.noteAsked(name, raw, text)
		return text, err
	}}, nil
}

// noteAsked counts a call for Asked.
func (p *Plane) noteAsked(method string, raw, text json.RawMessage) {
	if p.asked == nil {
		return
	}
	if raw == nil {
		method += " *"
	}
	p.asked[method] = Asked{p.asked[method].Calls + 1, p.asked[method].Bytes + len(text)}
}

// has reports that the data plane answers a method that the model knows. The
// cluster's lock is held.
func (p *Plane) has(method string) bool {
	if _, both := mirrorMethods[method]; strings.HasPrefix(method, "vda_mirror_") && p.real == nil && !both {
		return false
	}
	if method == "bdev_nvme_send_cmd" && p.swaps { // vda_tgt drives no devices
		return false
	}
	return method != p.hidden && (p.swaps || !strings.HasPrefix(method, "vda_"))
}

// said is the version that the data plane says it is.
func (p *Plane) said() [2]int {
	if p.version == [2]int{} {
		return [2]int{26, 5}
	}
	return p.version
}

// atLeast reports that the data plane can do what came with a version of SPDK.
func (p *Plane) atLeast(major, minor int) bool {
	v := p.said()
	return p.swaps || v[0] > major || v[0] == major && v[1] >= minor
}

// carryOut does what a call says. The cluster's lock is held, and given up
// where the call has to wait.
func (p *Plane) carryOut(h handler, raw json.RawMessage) (json.RawMessage, error) {
	var a params
	if raw != nil {
		if err := json.Unmarshal(raw, &a); err != nil {
			return nil, &jsonrpc.Error{Code: jsonrpc.CodeInternalError, Message: err.Error()}
		}
	}
	if h.changes {
		p.changes++
	}
	var result any
	var err error
	if p.stuck == "" {
		result, err = h.call(p, &a)
	}
	if p.stuck != "" {
		return nil, &jsonrpc.Error{Code: jsonrpc.CodeInternalError, Message: p.stuck}
	}
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
	errInvalid = &jsonrpc.Error{Code: jsonrpc.CodeInvalidParams, Message: "Invalid parameters"}
)

var methods map[string]handler

func init() {
	methods = map[string]handler{
		"spdk_get_version": {false, func(p *Plane, _ *params) (any, error) {
			v := p.said()
			fields := map[string]any{"major": v[0], "minor": v[1], "patch": 0, "suffix": ""}
			return map[string]any{"version": "planetest", "fields": fields}, nil
		}},
		"rpc_get_methods": {false, func(p *Plane, _ *params) (any, error) {
			var names []string
			for n := range methods {
				if p.has(n) {
					names = append(names, n)
				}
			}
			return names, nil
		}},
		"bdev_get_bdevs":  {false, (*Plane).getBdevs},
		"bdev_get_iostat": {false, (*Plane).getIOStat},
		"vda_get_iostat":  {false, (*Plane).getVdaIOStat},
		"vda_get_log":     {false, func(p *Plane, _ *params) (any, error) { return map[string]any{"log": p.log}, nil }},
		"bdev_set_qos_limit": {true, func(p *Plane, a *params) (any, error) {
			b := p.bdev(a.Name)
			switch {
			case b == nil:
				return nil, errNoDev
			case !p.swaps && b.limits != (spdk.RateLimits{}) && !p.exported(b):
				return nil, jsonrpc.Errno(syscall.EAGAIN, "")
			}
			b.limits = a.RateLimits
			return true, nil
		}},
		"bdev_malloc_create": {true, func(p *Plane, a *params) (any, error) {
			return a.Name, p.add(&bdev{name: a.Name, product: "Malloc disk", uuid: a.UUID, blocks: a.NumBlocks,
				medium: &Medium{Zero: true}})
		}},
		"bdev_malloc_delete": {true, (*Plane).deleteBdev},
		"bdev_aio_create": {true, func(p *Plane, a *params) (any, error) {
			return a.Name, p.add(&bdev{name: a.Name, product: "AIO disk", blocks: p.c.diskBytes() / 4096, medium: p.c.disk(a.Filename)})
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
		"bdev_lvol_resize":         {true, (*Plane).resizeLvol},
		"vda_lvol_grow":            {true, (*Plane).growLvol},
		"bdev_lvol_snapshot":       {true, (*Plane).snapshotLvol},
		"bdev_lvol_clone":          {true, (*Plane).cloneLvol},
		"bdev_lvol_clone_bdev":     {true, (*Plane).cloneBdev},
		"vda_lvol_absorb":          {true, (*Plane).absorbLvol},
		"vda_lvol_snapshot_hold":   {true, (*Plane).snapshotHoldLvol},
		"vda_lvol_release":         {true, (*Plane).releaseLvol},

		"bdev_nvme_set_options": {true, func(p *Plane, a *params) (any, error) {
			if a.KeepAliveMS > 0 {
				p.silence = time.Duration(a.KeepAliveMS) * time.Millisecond
			}
			return true, nil
		}},
		"bdev_nvme_attach_controller":  {true, (*Plane).attach},
		"bdev_nvme_send_cmd":           {false, (*Plane).sendCmd},
		"bdev_nvme_detach_controller":  {true, (*Plane).detach},
		"bdev_nvme_get_controllers":    {false, (*Plane).getControllers},
		"vda_nvme_set_fail_at_once":    {true, (*Plane).setFailAtOnce},
		"bdev_nvme_disable_controller": {true, (*Plane).disable},
		"bdev_nvme_enable_controller":  {true, (*Plane).enable},
		"bdev_nvme_get_io_paths":       {false, (*Plane).getIOPaths},
		"bdev_raid_create":             {true, (*Plane).createRaid},
		"bdev_raid_delete":             {true, (*Plane).deleteRaid},
		"vda_raid_append":              {true, (*Plane).appendRaid},
		"bdev_lvol_grow_lvstore":       {true, (*Plane).growLvstore},
		"bdev_raid_get_bdevs":          {false, (*Plane).getRaids},
	}
	maps.Copy(methods, mirrorMethods)
	maps.Copy(methods, nvmfMethods)
	maps.Copy(methods, keyMethods)
	for name, h := range liveMirrorMethods {
		methods[name] = byPlane(h, methods[name])
	}
}

func (p *Plane) add(b *bdev) error {
	if p.bdevs[b.name] != nil {
		return errExists
	}
	b.uuid = newUUID(b.uuid)
	p.put(b)
	return nil
}

// remove takes a bdev away with all that stands on it.
func (p *Plane) remove(b *bdev) {
	p.take(b)
	if b.loaded != nil {
		p.unload(b)
	}
	for _, s := range p.subs {
		n := len(s.Namespaces)
		s.Namespaces = slices.DeleteFunc(s.Namespaces, func(n spdk.NvmfNamespace) bool { return n.BdevName == b.name })
		if len(s.Namespaces) < n {
			p.tellOwn(s, "loses its namespace")
		}
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

func (p *Plane) getIOStat(a *params) (any, error) {
	stats := spdk.IOStats{Bdevs: []spdk.IOStat{}}
	for _, name := range a.Names {
		b := p.bdev(name)
		if b == nil {
			return nil, errNoDev
		}
		stats.Bdevs = append(stats.Bdevs, spdk.IOStat{Name: b.name, IOError: maps.Clone(b.medium.failed),
			QueueDepth: b.medium.queued, NumReadOps: b.medium.served})
	}
	return stats, nil
}

// getVdaIOStat counts nothing: it says what there is.
func (p *Plane) getVdaIOStat(a *params) (any, error) {
	bdevs, subs := []any{}, []any{}
	for _, name := range a.Bdevs {
		if p.bdev(name) != nil {
			bdevs = append(bdevs, map[string]any{"name": name})
		}
	}
	for _, nqn := range a.NQNs {
		if p.subs[nqn] != nil {
			subs = append(subs, map[string]any{"nqn": nqn})
		}
	}
	return map[string]any{"bdevs": bdevs, "subsystems": subs}, nil
}

func (p *Plane) getBdevs(a *params) (any, error) {
	if a.Name != "" {
		b := p.bdev(a.Name)
		if b == nil {
			p.appear()
			b = p.bdev(a.Name)
		}
		if b == nil {
			return nil, errNoDev
		}
		return []spdk.Bdev{p.describe(b)}, nil
	}
	p.appear()
	list := []spdk.Bdev{}
	for _, b := range p.bdevs {
		list = append(list, p.describe(b))
	}
	return list, nil
}

func (p *Plane) describe(b *bdev) spdk.Bdev {
	specific := json.RawMessage("{}")
	if r := p.raids[b.name]; r != nil && p.atLeast(23, 1) {
		specific, _ = json.Marshal(map[string]any{"raid": p.describeRaid(r)})
	}
	if l := p.describeLvol(b); l != nil {
		specific, _ = json.Marshal(map[string]any{"lvol": l})
	}
	if m := p.mirrors[b.name]; m != nil {
		specific, _ = json.Marshal(map[string]any{"mirror": p.lookAt(m)})
	}
	if p.real != nil && b.product == "Mirror" {
		if m, err := p.real.mod.Find(b.name); err == nil {
			specific, _ = json.Marshal(map[string]any{"mirror": p.shown(m.Status())})
		}
	}
	return spdk.Bdev{Name: b.name, Aliases: b.aliases, ProductName: b.product, BlockSize: 4096, NumBlocks: b.blocks, UUID: b.uuid,
		Claimed: b.claimed, DriverSpecific: specific, AssignedRateLimits: b.limits}
}
