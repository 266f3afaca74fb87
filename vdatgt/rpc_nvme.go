package vdatgt

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"time"

	"github.com/virtual-disk-array/vda/module/bdevnvme"
	"github.com/virtual-disk-array/vda/spdk/jsonrpc"
)

func nvmeMethods() []*Method {
	return []*Method{
		method("bdev_nvme_attach_controller", "Connects to a subsystem and makes a bdev of each namespace; returns their names.",
			attachController, slow),
		method("bdev_nvme_detach_controller", "Disconnects a controller, or one path to it, and removes its bdevs.", detachController, slow),
		method("bdev_nvme_get_controllers", "Lists the controllers, or one.", nvmeControllers, optional),
		method("bdev_nvme_reset_controller", "Ends and remakes the connections of a controller.", resetController, argumentStyle, slow),
		method("bdev_nvme_disable_controller",
			"Disconnects a controller, or one path of it, and fails what is queued on it and whatever comes; its bdevs "+
				"stay.", disableController, argumentStyle, slow),
		method("bdev_nvme_enable_controller",
			"Has a disabled controller, or one path of it, connected again; answers after the first attempt, others follow if that "+
				"fails.", enableController, argumentStyle, slow),
		method("bdev_nvme_get_io_paths",
			"Lists the paths of all nvme bdevs, or of one, as one poll group, since connections are not bound to "+
				"threads.", ioPaths, noParamsStyle, optional),
		method("bdev_nvme_set_multipath_policy", "Says which paths of an nvme bdev carry its I/O.", multipathPolicy),
		method("vda_nvme_set_fail_at_once", "Says of a controller that is attached whether its I/O waits for a lost connection.", failAtOnce,
			argumentStyle),
		method("bdev_nvme_set_options", "Sets options of the controllers that are attached from now on.", nvmeOptions, anytime, optional),
	}
}

type attachParams struct {
	Name    string `rpc:"name" doc:"of the controller; its bdevs are called <name>n<nsid>"`
	Trtype  string `rpc:"trtype" doc:"TCP"`
	Traddr  string `rpc:"traddr" doc:"IP address of the listener"`
	Adrfam  string `rpc:"adrfam,optional" doc:"IPv4 or IPv6"`
	Trsvcid string `rpc:"trsvcid,optional" doc:"port; default 4420"`
	SubNQN  string `rpc:"subnqn,optional" doc:"subsystem"`
	HostNQN string `rpc:"hostnqn,optional" doc:"name to connect under; default one of this process"`

	HostAddr  string `rpc:"hostaddr,optional" doc:"local address to connect from"`
	HDgst     bool   `rpc:"hdgst,optional" doc:"CRC32C over headers"`
	DDgst     bool   `rpc:"ddgst,optional" doc:"CRC32C over data"`
	Multipath string `rpc:"multipath,optional" doc:"what another attachment under the name means: disable, failover or multipath (default)"`
	Queues    uint32 `rpc:"num_io_queues,optional" doc:"I/O queues; default by the number of processors"`

	LossTimeout    *int32  `rpc:"ctrlr_loss_timeout_sec,optional" doc:"seconds without a connection until the controller is given up; -1 never, 0 at once; default as set by bdev_nvme_set_options"`
	ReconnectDelay *uint32 `rpc:"reconnect_delay_sec,optional" doc:"seconds between two attempts to reconnect; likewise"`
	FastIOFail     *uint32 `rpc:"fast_io_fail_timeout_sec,optional" doc:"seconds without a connection until I/O fails rather than waits, 0 with the controller; likewise"`
	ConnectTimeout uint64  `rpc:"fabrics_connect_timeout_us,optional" doc:"microseconds for one attempt to connect"`
	FailAtOnce     bool    `rpc:"vda_fail_at_once,optional" doc:"I/O fails with a path status as soon as the connection is lost, rather than wait; for the legs of mirrors"`
	MaxBdevs       *uint32 `rpc:"max_bdevs,optional" doc:"SPDK's room for names in the reply; there is no limit here"`

	Key      string `rpc:"dhchap_key,optional" doc:"key that this host proves to know, where the subsystem demands it"`
	CtrlrKey string `rpc:"dhchap_ctrlr_key,optional" doc:"key that the controller has to prove to know, on every queue"`

	Policy *policyParams `rpc:"multipath_opts,optional" doc:"policy, selector and min_io of its bdevs; as bdev_nvme_set_multipath_policy sets them later"`
}

// policyParams say which paths carry the I/O of bdevs.
type policyParams struct {
	Policy   string  `rpc:"policy,optional" doc:"active_passive (default) or active_active"`
	Selector string  `rpc:"selector,optional" doc:"round_robin (default) or queue_depth"`
	MinIO    *uint32 `rpc:"min_io,optional" doc:"of round_robin: requests that a path gets before the next; default 1"`
}

// policy is what p says, or was without it.
func (p *policyParams) policy(was bdevnvme.Policy) (bdevnvme.Policy, error) {
	if p == nil {
		return was, nil
	}
	if p.Policy == "" {
		p.Policy = "active_passive"
	}
	return readPolicy(p.Policy, p.Selector, p.MinIO)
}

// maxQueues is the highest num_io_queues there is: SPDK's.
const maxQueues = 65536

func attachController(ctx context.Context, t *Target, p attachParams) (any, error) {
	multipath := bdevnvme.Multipath(p.Multipath)
	switch multipath {
	case "", bdevnvme.MultipathDisable, bdevnvme.MultipathFailover, bdevnvme.MultipathMultipath:
	default:
		return nil, &jsonrpc.Error{Code: jsonrpc.CodeInternalError, Message: "spdk_json_decode_object failed",
			Data: fmt.Sprintf("multipath %q must be one of disable, failover, multipath", p.Multipath)}
	}
	switch {
	case !strings.EqualFold(p.Trtype, "TCP"):
		return nil, jsonrpc.Errno(syscall.ENODEV, fmt.Sprintf("trtype %q is not supported; only TCP is", p.Trtype))
	case p.Adrfam != "" && !strings.EqualFold(p.Adrfam, "IPv4") && !strings.EqualFold(p.Adrfam, "IPv6"):
		return nil, &jsonrpc.Error{Code: -int(syscall.EINVAL), Message: "Failed to parse adrfam: " + p.Adrfam}
	case p.Queues > maxQueues:
		return nil, jsonrpc.Errno(syscall.EINVAL, fmt.Sprintf("num_io_queues %d is above %d", p.Queues, maxQueues))
	case p.MaxBdevs != nil && *p.MaxBdevs == 0:
		return nil, &jsonrpc.Error{Code: -int(syscall.EINVAL), Message: "max_bdevs cannot be zero"}
	}
	defaults := t.nvmes.Options()
	policy, err := p.Policy.policy(defaults.Policy)
	if err != nil {
		return nil, err
	}
	keys, err := t.keyring.pair(p.Key, p.CtrlrKey)
	if err != nil {
		return nil, refusedErrno(err)
	}
	names, err := t.nvmes.Attach(ctx, bdevnvme.AttachConfig{
		Name: p.Name, TrType: p.Trtype, AdrFam: p.Adrfam, Traddr: p.Traddr, Trsvcid: p.Trsvcid, SubNQN: p.SubNQN, HostNQN: p.HostNQN,
		HostAddr: p.HostAddr, HdrDigest: p.HDgst, DatDigest: p.DDgst, Multipath: multipath, Queues: int(p.Queues),
		ConnectTimeout: time.Duration(min(p.ConnectTimeout, uint64(time.Hour/time.Microsecond))) * time.Microsecond,
		Policy:         policy, FailAtOnce: p.FailAtOnce, Keys: bdevnvme.Keys{Keys: keys, Name: p.Key, ControllerName: p.CtrlrKey},
		Resilience: resilience(defaults.Resilience, p.LossTimeout, p.ReconnectDelay, p.FastIOFail),
	})
	if err != nil {
		return nil, nvmeError(err)
	}
	if err := t.examines.waitAppeared(ctx); err != nil {
		return nil, err
	}
	if names == nil {
		names = []string{}
	}
	return names, nil
}

// nvmeError words a refusal as the module did, which is as SPDK does.
func nvmeError(err error) error {
	var e *bdevnvme.Error
	if !errors.As(err, &e) {
		return err
	}
	out := jsonrpc.Errno(e.Errno, "")
	if e.Msg != "" {
		out.Message = e.Msg
	}
	if e.Cause != nil {
		out.Data = e.Cause.Error()
	}
	return out
}

type failAtOnceParams struct {
	Name string `rpc:"name" doc:"controller"`
	On   bool   `rpc:"on" doc:"vda_fail_at_once of bdev_nvme_attach_controller, from now on, also for what waits"`
}

func failAtOnce(_ context.Context, t *Target, p failAtOnceParams) (any, error) {
	return operated(t.nvmes.SetFailAtOnce(p.Name, p.On))
}

type detachParams struct {
	Name     string `rpc:"name" doc:"controller"`
	Trtype   string `rpc:"trtype,optional" doc:"of the path: TCP"`
	Traddr   string `rpc:"traddr,optional" doc:"of the path"`
	Adrfam   string `rpc:"adrfam,optional" doc:"of the path"`
	Trsvcid  string `rpc:"trsvcid,optional" doc:"of the path"`
	SubNQN   string `rpc:"subnqn,optional" doc:"of the path"`
	HostAddr string `rpc:"hostaddr,optional" doc:"of the path"`
}

func detachController(_ context.Context, t *Target, p detachParams) (any, error) {
	var at *bdevnvme.Path
	if path := (bdevnvme.Path{Traddr: p.Traddr, Trsvcid: p.Trsvcid, SubNQN: p.SubNQN, HostAddr: p.HostAddr}); path != (bdevnvme.Path{}) {
		at = &path
	}
	if err := t.nvmes.Detach(p.Name, at); err != nil {
		return nil, nvmeError(err)
	}
	return true, nil
}

type nvmeNameParams struct {
	Name string `rpc:"name,optional" doc:"controller; default all"`
}

func nvmeControllers(_ context.Context, t *Target, p nvmeNameParams) (any, error) {
	if p.Name == "" {
		list := t.nvmes.List()
		if list == nil {
			list = []bdevnvme.ControllerInfo{}
		}
		return list, nil
	}
	c, err := t.nvmes.Get(p.Name)
	if err != nil {
		return nil, &jsonrpc.Error{Code: -int(syscall.EINVAL), Message: fmt.Sprintf("Controller %s does not exist", p.Name)}
	}
	return []bdevnvme.ControllerInfo{c}, nil
}

type controllerParams struct {
	Name   string `rpc:"name" doc:"controller"`
	Cntlid uint16 `rpc:"cntlid,optional" doc:"only the path with this controller id; default all paths"`
}

func resetController(_ context.Context, t *Target, p controllerParams) (any, error) {
	return operated(t.nvmes.Reset(p.Name, p.Cntlid))
}

func disableController(ctx context.Context, t *Target, p controllerParams) (any, error) {
	return operated(t.nvmes.Disable(ctx, p.Name, p.Cntlid))
}

func enableController(ctx context.Context, t *Target, p controllerParams) (any, error) {
	return operated(t.nvmes.Enable(ctx, p.Name, p.Cntlid))
}

// operated is the reply about a controller that was to be in some state. That
// it is already is as good, and so is a disabled one that was to be reset, as in
// SPDK.
func operated(err error) (any, error) {
	if err != nil && !errors.Is(err, syscall.EALREADY) {
		return nil, nvmeError(err)
	}
	return true, nil
}

type ioPathsParams struct {
	Name string `rpc:"name,optional" doc:"bdev; default all"`
}

func ioPaths(_ context.Context, t *Target, p ioPathsParams) (any, error) {
	type group struct {
		Thread string            `json:"thread"`
		Paths  []bdevnvme.IOPath `json:"io_paths"`
	}
	groups := []group{}
	if l := t.nvmes.IOPaths(p.Name); len(l) > 0 {
		groups = append(groups, group{"vda_tgt", l})
	}
	return struct {
		Groups []group `json:"poll_groups"`
	}{groups}, nil
}

// resilience replaces those of the time-outs that were given.
func resilience(r bdevnvme.Resilience, loss *int32, delay, fastFail *uint32) bdevnvme.Resilience {
	if loss != nil {
		r.CtrlrLossTimeoutSec = *loss
	}
	if delay != nil {
		r.ReconnectDelaySec = *delay
	}
	if fastFail != nil {
		r.FastIOFailTimeoutSec = *fastFail
	}
	return r
}

type multipathPolicyParams struct {
	Name     string  `rpc:"name" doc:"bdev"`
	Policy   string  `rpc:"policy" doc:"active_passive: always the first of the best paths; active_active: all of them"`
	Selector string  `rpc:"selector,optional" doc:"of active_active: round_robin (default) or queue_depth, the path with the fewest requests under way"`
	MinIO    *uint32 `rpc:"rr_min_io,optional" doc:"of round_robin, else ignored: requests that a path gets before the next; default 1"`
}

func multipathPolicy(_ context.Context, t *Target, p multipathPolicyParams) (any, error) {
	policy, err := readPolicy(p.Policy, p.Selector, p.MinIO)
	if err != nil {
		return nil, err
	}
	if err := t.nvmes.SetPolicy(p.Name, policy); err != nil {
		return nil, nvmeError(err)
	}
	return true, nil
}

// readPolicy reads a policy in SPDK's words.
func readPolicy(name, selector string, minIO *uint32) (bdevnvme.Policy, error) {
	undecodable := func(why string) (bdevnvme.Policy, error) {
		return bdevnvme.Policy{}, &jsonrpc.Error{Code: jsonrpc.CodeInternalError, Message: "spdk_json_decode_object failed", Data: why}
	}
	policy := bdevnvme.Policy{ActiveActive: name == "active_active"}
	switch name {
	case "active_active":
	case "active_passive":
		if selector == "queue_depth" {
			return undecodable("selector is for policy active_active")
		}
	default:
		return undecodable(fmt.Sprintf("policy %q must be one of active_passive, active_active", name))
	}
	switch selector {
	case "", "round_robin":
		if policy.ActiveActive {
			if policy.MinIO = 1; minIO != nil {
				policy.MinIO = *minIO
			}
		}
	case "queue_depth":
		policy.QueueDepth = true
	default:
		return undecodable(fmt.Sprintf("selector %q must be one of round_robin, queue_depth", selector))
	}
	return policy, nil
}

// What is not given stays as it is.
type nvmeOptionsParams struct {
	KeepAlive *uint32 `rpc:"keep_alive_timeout_ms,optional" doc:"milliseconds of silence that end a connection on either side, 0 for none; default 10000"`
	Timeout   *uint64 `rpc:"timeout_us,optional" doc:"microseconds after which an I/O is aborted; default 0: never"`
	Action    *string `rpc:"action_on_timeout,optional" doc:"none, reset or abort; what is aborted ends the connection too if that does not help"`

	LossTimeout    *int32  `rpc:"ctrlr_loss_timeout_sec,optional" doc:"default of bdev_nvme_attach_controller's parameter"`
	ReconnectDelay *uint32 `rpc:"reconnect_delay_sec,optional" doc:"likewise"`
	FastIOFail     *uint32 `rpc:"fast_io_fail_timeout_sec,optional" doc:"likewise"`

	Hashes []string `rpc:"dhchap_digests,optional" doc:"hashes that may be used to authenticate: sha256, sha384, sha512; default all"`
	Groups []string `rpc:"dhchap_dhgroups,optional" doc:"groups that may be used to authenticate: null, ffdhe2048, ffdhe3072, ffdhe4096, ffdhe6144, ffdhe8192; default all"`

	Policy *policyParams `rpc:"multipath_opts,optional" doc:"policy, selector and min_io of bdevs that are made from now on"`
}

func nvmeOptions(_ context.Context, t *Target, p nvmeOptionsParams) (any, error) {
	t.nvmeUpdate.Lock()
	defer t.nvmeUpdate.Unlock()
	o, was := t.nvmes.Options(), t.nvmeTimeout
	if p.KeepAlive != nil {
		if o.KeepAlive = time.Duration(*p.KeepAlive) * time.Millisecond; o.KeepAlive == 0 {
			o.KeepAlive = -1
		}
	}
	if p.Timeout != nil {
		was.limit = time.Duration(min(*p.Timeout, uint64(time.Hour/time.Microsecond))) * time.Microsecond
	}
	if p.Action != nil {
		was.action = *p.Action
	}
	switch was.action {
	case "", "none":
		o.IOTimeout = 0
	case "abort", "reset":
		o.IOTimeout = was.limit
	default:
		return nil, &jsonrpc.Error{Code: jsonrpc.CodeInternalError, Message: "spdk_json_decode_object failed",
			Data: fmt.Sprintf("action_on_timeout %q must be one of none, reset, abort", was.action)}
	}
	var err error
	if o.Policy, err = p.Policy.policy(o.Policy); err != nil {
		return nil, err
	}
	if o.Auth, err = o.Auth.Only(p.Hashes, p.Groups); err != nil {
		return nil, &jsonrpc.Error{Code: jsonrpc.CodeInternalError, Message: "spdk_json_decode_object failed", Data: err.Error()}
	}
	o.Resilience = resilience(o.Resilience, p.LossTimeout, p.ReconnectDelay, p.FastIOFail)
	if err := t.nvmes.SetOptions(o); err != nil {
		return nil, nvmeError(err)
	}
	t.nvmeTimeout = was
	return true, nil
}

// nvmeTimeout is what is to happen to I/O that takes too long.
type nvmeTimeout struct {
	limit  time.Duration // 0: never
	action string        // "": none
}
