package vdatgt

import (
	"encoding/hex"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/virtual-disk-array/vda/bdev"
	"github.com/virtual-disk-array/vda/module/aio"
	"github.com/virtual-disk-array/vda/module/bdevnvme"
	"github.com/virtual-disk-array/vda/module/delay"
	"github.com/virtual-disk-array/vda/module/errorinj"
	"github.com/virtual-disk-array/vda/module/malloc"
	"github.com/virtual-disk-array/vda/module/null"
	"github.com/virtual-disk-array/vda/module/raid"
	"github.com/virtual-disk-array/vda/nvmf/nvmftgt"
)

// object is the parameters of a call.
type object = map[string]any

// bdevConfig is what makes the bdevs and options that there are. lvols are not
// in it: they are on the disks.
func (t *Target) bdevConfig() []configCall {
	auto, wanted := t.examines.settings()
	out := []configCall{{"bdev_set_options", object{"bdev_auto_examine": auto}}, {"bdev_nvme_set_options", t.nvmeOptionsConfig()}}
	for _, c := range t.nvmes.Attachments() {
		out = append(out, configCall{"bdev_nvme_attach_controller", attachConfig(&c)})
	}
	made := map[string]bool{}
	for _, d := range t.reg.List() {
		name := d.Info().Name
		if c, ok := deviceConfig(d); ok {
			out = append(out, c)
		}
		made[name] = true
		if slices.Contains(wanted, name) {
			out = append(out, configCall{"bdev_examine", object{"name": name}})
		}
	}
	for _, a := range t.raids.Arrays("all") {
		if !made[a.Name] { // waits for its bases
			out = append(out, raidConfig(&a))
		}
	}
	for _, name := range wanted {
		if !made[name] {
			out = append(out, configCall{"bdev_examine", object{"name": name}})
		}
	}
	for _, d := range t.reg.List() {
		name := d.Info().Name
		if l, err := t.reg.QoS(name); err == nil && l != (bdev.Limits{}) {
			out = append(out, configCall{"bdev_set_qos_limit", object{"name": name, "rw_ios_per_sec": l.RWIOs,
				"rw_mbytes_per_sec": l.RWMB, "r_mbytes_per_sec": l.RMB, "w_mbytes_per_sec": l.WMB}})
		}
	}
	for _, d := range t.reg.List() {
		name := d.Info().Name
		if p, ok := t.nvmes.PolicyOf(name); ok && p.ActiveActive {
			c := object{"name": name}
			for k, v := range policyConfig(p) {
				c[map[string]string{"policy": "policy", "selector": "selector", "min_io": "rr_min_io"}[k]] = v
			}
			out = append(out, configCall{"bdev_nvme_set_multipath_policy", c})
		}
	}
	return append(out, configCall{Method: "bdev_wait_for_examine"})
}

// deviceConfig is the call that makes a device; false for what comes by itself.
func deviceConfig(d bdev.Device) (configCall, bool) {
	i := d.Info()
	made := object{"name": i.Name, "uuid": i.UUID}
	switch d := d.(type) {
	case *malloc.Device:
		made["block_size"], made["num_blocks"] = i.BlockSize, i.Blocks
		return configCall{"bdev_malloc_create", made}, true
	case *null.Device:
		made["block_size"], made["num_blocks"] = i.BlockSize, i.Blocks
		return configCall{"bdev_null_create", made}, true
	case *aio.Device:
		c := d.Config()
		made["filename"], made["readonly"] = c.Filename, c.ReadOnly
		if c.BlockSize != 0 {
			made["block_size"] = c.BlockSize
		}
		return configCall{"bdev_aio_create", made}, true
	case *delay.Device:
		c := d.Config()
		made["base_bdev_name"] = c.Base
		made["avg_read_latency"], made["p99_read_latency"] = c.AvgRead/time.Microsecond, c.P99Read/time.Microsecond
		made["avg_write_latency"], made["p99_write_latency"] = c.AvgWrite/time.Microsecond, c.P99Write/time.Microsecond
		return configCall{"bdev_delay_create", made}, true
	case *errorinj.Device:
		return configCall{"bdev_error_create", object{"base_name": d.Base(), "uuid": i.UUID}}, true
	case *raid.Array:
		s := d.Status()
		return raidConfig(&s), true
	}
	return configCall{}, false
}

func raidConfig(s *raid.Status) configCall {
	bases := []string{}
	for _, b := range s.Bases {
		bases = append(bases, b.Name)
	}
	return configCall{"bdev_raid_create", object{"name": s.Name, "uuid": s.UUID, "strip_size_kb": s.StripSizeKB,
		"raid_level": s.Level, "base_bdevs": bases}}
}

// nvmeOptionsConfig is what bdev_nvme_set_options has been told.
func (t *Target) nvmeOptionsConfig() object {
	t.nvmeUpdate.Lock()
	defer t.nvmeUpdate.Unlock()
	o := t.nvmes.Options()
	keep := max(o.KeepAlive, 0)
	if o.KeepAlive == 0 {
		keep = 10 * time.Second
	}
	action := t.nvmeTimeout.action
	if action == "" {
		action = "none"
	}
	hashes, groups := o.Auth.Names()
	return object{"action_on_timeout": action, "dhchap_digests": hashes, "dhchap_dhgroups": groups,
		"timeout_us":             t.nvmeTimeout.limit / time.Microsecond,
		"keep_alive_timeout_ms":  keep / time.Millisecond,
		"ctrlr_loss_timeout_sec": o.CtrlrLossTimeoutSec, "reconnect_delay_sec": o.ReconnectDelaySec,
		"fast_io_fail_timeout_sec": o.FastIOFailTimeoutSec,
		"multipath_opts":           policyConfig(o.Policy)}
}

func policyConfig(p bdevnvme.Policy) object {
	switch {
	case !p.ActiveActive:
		return object{"policy": "active_passive"}
	case p.QueueDepth:
		return object{"policy": "active_active", "selector": "queue_depth"}
	}
	return object{"policy": "active_active", "selector": "round_robin", "min_io": p.MinIO}
}

func attachConfig(c *bdevnvme.AttachConfig) object {
	out := object{"name": c.Name, "trtype": "TCP", "adrfam": c.AdrFam, "traddr": c.Traddr, "trsvcid": c.Trsvcid,
		"subnqn": c.SubNQN, "hostnqn": c.HostNQN,
		"hdgst": c.HdrDigest, "ddgst": c.DatDigest, "multipath": c.Multipath,
		"ctrlr_loss_timeout_sec": c.CtrlrLossTimeoutSec, "reconnect_delay_sec": c.ReconnectDelaySec,
		"fast_io_fail_timeout_sec": c.FastIOFailTimeoutSec,
		"multipath_opts":           policyConfig(c.Policy)}
	if c.HostAddr != "" {
		out["hostaddr"] = c.HostAddr
	}
	withKeys(out, c.Keys.Name, c.Keys.ControllerName)
	if c.FailAtOnce {
		out["vda_fail_at_once"] = true
	}
	if c.Queues != 0 {
		out["num_io_queues"] = c.Queues
	}
	if c.ConnectTimeout != 0 {
		out["fabrics_connect_timeout_us"] = c.ConnectTimeout / time.Microsecond
	}
	return out
}

// nvmfConfig is what makes the target's transport, referrals and subsystems:
// listeners come last, when what stands behind them is complete.
func (t *Target) nvmfConfig() []configCall {
	hashes, groups := t.nvmf.AuthOffer().Names()
	out := []configCall{{"nvmf_set_config", object{"dhchap_digests": hashes, "dhchap_dhgroups": groups}}}
	for _, o := range t.nvmf.Transports() {
		c := object{"trtype": o.Trtype, "max_queue_depth": o.MaxQueueDepth, "max_io_qpairs_per_ctrlr": o.MaxIOQpairsPerCtrlr,
			"in_capsule_data_size": o.InCapsuleDataSize, "max_io_size": o.MaxIOSize, "io_unit_size": o.IOUnitSize, "max_aq_depth": o.MaxAQDepth,
			"num_shared_buffers": o.NumSharedBuf, "zcopy": o.ZCopy, "c2h_success": o.C2HSuccess == nil || *o.C2HSuccess,
			"sock_priority": o.SockPriority, "abort_timeout_sec": o.AbortTimeoutSec, "ack_timeout": o.AckTimeout, "kas": o.KAS}
		if o.MinKATO != 0 {
			c["min_kato"] = o.MinKATO
		}
		out = append(out, configCall{"nvmf_create_transport", c})
	}
	for _, r := range t.nvmf.Referrals() {
		out = append(out, configCall{"nvmf_discovery_add_referral", object{"address": addressConfig(r.Addr), "secure_channel": r.SecureAccess,
			"subnqn": r.SubNQN}})
	}
	var hosts, namespaces, listeners []configCall
	for _, s := range t.nvmf.Subsystems() {
		for _, l := range s.Listeners() {
			listeners = append(listeners, listenerConfig(s.NQN(), &l)...)
		}
		for _, h := range s.Hosts() {
			hosts = append(hosts, hostConfig(s, h)...)
		}
		if s.IsDiscovery() {
			continue
		}
		c := s.Config()
		out = append(out, configCall{"nvmf_create_subsystem", object{"nqn": s.NQN(), "allow_any_host": c.AllowAnyHost,
			"serial_number": c.Serial, "model_number": c.Model,
			"max_namespaces": c.MaxNamespaces, "min_cntlid": c.MinCntlid, "max_cntlid": c.MaxCntlid, "ana_reporting": c.ANAReporting}})
		if s.SingleAssociation() {
			out = append(out, configCall{"vda_nvmf_set_single_association", object{"nqn": s.NQN(), "single": true}})
		}
		if c := s.Reservations(); c.ID != uuid.Nil {
			out = append(out, configCall{"vda_nvmf_set_reservations", object{"nqn": s.NQN(), "id": c.ID.String(), "offered": c.Offered,
				"forwarders": append([]string{}, c.Forwarders...)}})
		}
		for _, n := range s.Namespaces() {
			namespaces = append(namespaces, configCall{"nvmf_subsystem_add_ns", object{"nqn": s.NQN(), "namespace": namespaceConfig(&n)}})
		}
	}
	return slices.Concat(out, hosts, namespaces, listeners)
}

// hostConfig is what admits a host, with the keys that it may authenticate by.
func hostConfig(s *nvmftgt.Subsystem, host string) (out []configCall) {
	at := func() object { return object{"nqn": s.NQN(), "host": host} }
	keys := s.HostKeys(host)
	if len(keys) == 0 {
		return []configCall{{"nvmf_subsystem_add_host", at()}}
	}
	oldest := keys[len(keys)-1]
	out = append(out, configCall{"nvmf_subsystem_add_host", withKeys(at(), oldest.Name, oldest.ControllerName)})
	if len(keys) > 1 {
		o := withKeys(at(), keys[0].Name, keys[0].ControllerName)
		o["vda_keep_previous"] = true
		out = append(out, configCall{"nvmf_subsystem_set_keys", o})
	}
	return out
}

func addressConfig(a nvmftgt.Addr) object {
	return object{"trtype": a.Trtype, "adrfam": a.Adrfam, "traddr": a.Traddr, "trsvcid": a.Trsvcid}
}

func namespaceConfig(n *nvmftgt.NamespaceInfo) object {
	out := object{"nsid": n.NSID, "bdev_name": n.Bdev, "uuid": n.UUID, "nguid": hex.EncodeToString(n.NGUID[:]), "anagrpid": n.ANAGroup}
	if n.EUI64 != [8]byte{} {
		out["eui64"] = hex.EncodeToString(n.EUI64[:])
	}
	if n.PTPLFile != "" {
		out["ptpl_file"] = n.PTPLFile
	}
	if n.UUID == uuid.Nil {
		delete(out, "uuid")
	}
	return out
}

// listenerConfig makes a listener in the state that most groups have, which is
// that of the first, and then the other groups.
func listenerConfig(nqn string, l *nvmftgt.ListenerInfo) []configCall {
	add := object{"nqn": nqn, "listen_address": addressConfig(l.Addr), "secure_channel": false}
	if len(l.ANAStates) == 0 {
		return []configCall{{"nvmf_subsystem_add_listener", add}}
	}
	first := l.ANAStates[0]
	add["ana_state"] = first.String()
	out := []configCall{{"nvmf_subsystem_add_listener", add}}
	for i, state := range l.ANAStates {
		if state != first {
			out = append(out, configCall{"nvmf_subsystem_listener_set_ana_state", object{"nqn": nqn, "listen_address": addressConfig(l.Addr),
				"ana_state": state.String(), "anagrpid": i + 1}})
		}
	}
	return out
}
