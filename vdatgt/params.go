package vdatgt

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"

	"github.com/virtual-disk-array/vda/spdk/jsonrpc"
)

// param is a parameter of SPDK's that a method takes without doing anything
// about it. SPDK's rpc.py sends many with each call, at their defaults.
type param struct {
	name string // with the names of the objects it stands in: namespace.hide_metadata
	typ  string // as in jsonrpc.Field
	why  string // it makes no difference, or what is lacking
	rule string // what may be given, for people
	doc  string

	// take is handed the value. err: it is not of the type; !ok: it has an
	// effect that is lacking.
	take func(value json.RawMessage) (ok bool, err error)
}

// idle is a parameter whose value makes no difference here; why says so.
func idle[T any](name, why string) param {
	return param{name: name, typ: typeWord[T](), why: why, doc: "accepted; " + why, take: func(value json.RawMessage) (bool, error) {
		var v T
		return true, jsonrpc.DecodeValue(value, &v)
	}}
}

// only is a parameter that asks for something lacking unless it has one of
// the values; without values it may not be given at all. why says what is
// lacking, or what is done instead.
func only[T any](name, why string, values ...T) param {
	words := make([]string, len(values))
	for i, v := range values {
		word, err := json.Marshal(v)
		if err != nil {
			panic("vdatgt: " + name + ": " + err.Error()) // a mistake in the table
		}
		words[i] = string(word)
	}
	p := param{name: name, typ: typeWord[T](), why: why, rule: "leave it out", doc: "not supported; " + why}
	if len(values) > 0 {
		p.rule = "only " + strings.Join(words, " or ") + " is"
		p.doc = "only " + strings.Join(words, " or ") + "; " + why
	}
	p.take = func(value json.RawMessage) (bool, error) {
		var v T
		if err := jsonrpc.DecodeValue(value, &v); err != nil {
			return false, err
		}
		for _, allowed := range values {
			if reflect.DeepEqual(v, allowed) {
				return true, nil
			}
		}
		return false, nil
	}
	return p
}

// passthru is a parameter by which a command is passed on as it is; none is.
func passthru(name string) param {
	type commands struct {
		Identify     bool `rpc:"identify_ctrlr,optional" doc:"Identify Controller"`
		UUIDList     bool `rpc:"identify_uuid_list,optional" doc:"Identify UUID List"`
		LogPage      bool `rpc:"get_log_page,optional" doc:"Get Log Page"`
		Features     bool `rpc:"get_set_features,optional" doc:"Get and Set Features"`
		Sanitize     bool `rpc:"sanitize,optional" doc:"Sanitize"`
		Security     bool `rpc:"security_send_recv,optional" doc:"Security Send and Receive"`
		Firmware     bool `rpc:"fw_update,optional" doc:"Firmware Commit and Image Download"`
		MI           bool `rpc:"nvme_mi,optional" doc:"NVMe-MI Send and Receive"`
		OfTheirMaker bool `rpc:"vendor_specific,optional" doc:"opcodes of vendors"`
	}
	p := only(name, "no command is passed on as it is", commands{})
	p.rule = "only false is, for each of its members"
	names := make([]string, 0, 9)
	for f := range reflect.TypeFor[commands]().Fields() {
		names = append(names, strings.TrimSuffix(f.Tag.Get("rpc"), ",optional"))
	}
	p.doc = "its members (" + strings.Join(names, ", ") + ") only false; " + p.why
	return p
}

func typeWord[T any]() string {
	var v T
	return jsonrpc.TypeName(v)
}

// rdma and vfio are why parameters of transports that are not here are idle.
const (
	rdma = "for RDMA"
	vfio = "for vfio-user"
	noPI = "there is no metadata and no protection information"
)

// params holds, for each method, the parameters of SPDK's that no field of its
// parameter struct takes. TestSchema compares it with SPDK's own list.
var params = map[string][]param{
	"bdev_malloc_create": append([]param{
		only("optimal_io_boundary", "requests are not split", uint32(0)),
		only("numa_id", "memory is not bound to a node", int32(-1)),
		only("md_interleave", noPI, false),
	}, protection...),
	"bdev_null_create": append([]param{
		only("preferred_write_granularity", "there are no hints", uint32(0)),
		only("preferred_write_alignment", "there are no hints", uint32(0)),
		only("optimal_write_size", "there are no hints", uint32(0)),
		only("preferred_unmap_granularity", "there are no hints", uint32(0)),
		only("preferred_unmap_alignment", "there are no hints", uint32(0)),
	}, protection...),
	"bdev_enable_histogram": {
		only("granularity", "buckets are SPDK's default ones", uint8(7)),
		only("min_nsec", "all latencies are counted", uint64(1000), 0),
		only("max_nsec", "all latencies are counted", uint64(120_000_000_000)),
	},

	"bdev_nvme_attach_controller": {
		only("hostsvcid", "the system chooses the local port", ""),
		only("priority", "connections have none", "", "0"),
		only("prchk_reftag", noPI, false),
		only("prchk_guard", noPI, false),
		only[string]("psk", "there is no TLS"),
		only("allow_unrecognized_csi", "only NVM namespaces become bdevs", false),
	},
	"bdev_nvme_detach_controller": {only("hostsvcid", "the system chooses the local port", "")},
	"bdev_nvme_set_options": {
		only("timeout_admin_us", "admin commands have a fixed limit", uint64(0)),
		only("arbitration_burst", "there are no priorities", uint32(0)),
		only("low_priority_weight", "there are no priorities", uint32(0)),
		only("medium_priority_weight", "there are no priorities", uint32(0)),
		only("high_priority_weight", "there are no priorities", uint32(0)),
		idle[uint64]("nvme_adminq_poll_period_us", "events come without polling"),
		idle[uint64]("nvme_ioq_poll_period_us", "completions come without polling"),
		idle[uint32]("io_queue_requests", "requests are not allocated ahead"),
		idle[bool]("delay_cmd_submit", "commands are sent together whenever several are there"),
		only("transport_retry_count", "the transport repeats nothing", uint32(4)),
		only("bdev_retry_count", "a request is sent again three times while its path is well", int32(3)),
		only("transport_ack_timeout", "the keep-alive finds dead connections", uint8(0)),
		only("disable_auto_failback", "I/O goes back to the better path by itself", false),
		idle[bool]("generate_uuids", "a namespace without UUID and NGUID always gets one of serial number and id"),
		idle[uint8]("transport_tos", rdma),
		only("nvme_error_stat", "errors are not counted by status", false),
		idle[uint32]("rdma_srq_size", rdma),
		only("io_path_stat", "paths have no counters", false),
		idle[bool]("allow_accel_sequence", "there are no accel sequences"),
		idle[uint32]("rdma_max_cq_size", rdma),
		idle[uint16]("rdma_cm_event_timeout_ms", rdma),
		idle[bool]("rdma_umr_per_io", rdma),
		only("tcp_connect_timeout_ms", "fabrics_connect_timeout_us of bdev_nvme_attach_controller is the limit", uint32(0)),
		idle[bool]("enable_flush", "flush is always passed on"),
	},

	"nvmf_create_transport": {
		idle[uint32]("iobuf_small_cache_size", "there are no caches a thread"),
		idle[uint32]("iobuf_large_cache_size", "there are no caches a thread"),
		idle[int32]("num_cqe", rdma),
		idle[uint32]("max_srq_depth", rdma),
		idle[bool]("no_srq", rdma),
		only("dif_insert_or_strip", noPI, false),
		idle[int32]("acceptor_backlog", rdma),
		idle[bool]("no_wr_batching", rdma),
		idle[uint16]("control_msg_num", "control messages take no buffers"),
		idle[bool]("disable_mappable_bar0", vfio),
		idle[bool]("disable_adaptive_irq", vfio),
		idle[bool]("disable_shadow_doorbells", vfio),
		idle[uint32]("acceptor_poll_rate", "connections are accepted without polling"),
		idle[uint32]("data_wr_pool_size", rdma),
		idle[bool]("disable_command_passthru", "no command is passed on as it is"),
		only("masked_oncs", "all optional commands are offered", []string{}),
		only("masked_fuses", "fused commands are offered", []string{}),
	},
	"nvmf_set_config": {
		passthru("admin_cmd_passthru"),
		only[string]("poll_groups_mask", "there are no poll groups"),
		only("discovery_filter", "hosts see what they may connect to, at every address", "match_any"),
		only("dup_host_policy", "vda_nvmf_set_single_association says how many associations a host may have", "allow"),
	},
	"nvmf_create_subsystem": {
		only("passthrough", "bdevs take no raw commands", false),
		only("enable_nssr", "a subsystem cannot be reset", false),
		only("max_discard_size_kib", "the limit is the data plane's", uint64(1<<20)),
		only("max_write_zeroes_size_kib", "the limit is the data plane's", uint64(16<<10)),
		only("dmrsl", "the limit is the data plane's", uint32(1<<21)),
		only("wzsl", "the limit is the data plane's", uint8(12)),
	},
	"nvmf_subsystem_add_listener": {
		only("secure_channel", "there is no TLS", false),
		only("sock_impl", "there is one kind of sockets", "posix"),
		idle[int32]("numa_id", "connections are not bound to a node"),
	},
	"nvmf_subsystem_add_host": {
		only[string]("psk", "there is no TLS"),
	},
	"nvmf_subsystem_add_ns": {
		only("namespace.no_auto_visible", "every host of a subsystem sees all its namespaces", false),
		idle[bool]("namespace.hide_metadata", "there is no metadata"),
	},
}

// protection are parameters about metadata.
var protection = []param{
	only("md_size", noPI, uint32(0)),
	only("dif_type", noPI, int32(0)),
	only("dif_is_head_of_md", noPI, false),
	only("dif_pi_format", noPI, uint32(0)),
}

// fields describes a method's parameters for its reference.
func fields(method string, structure any) []jsonrpc.Field {
	out := jsonrpc.Fields(structure)
	for _, p := range params[method] {
		out = append(out, jsonrpc.Field{Name: p.name, Type: p.typ, Optional: true, Doc: p.doc})
	}
	return out
}

// besides is what a method does with parameters that have no field; refuse
// makes the error of one that asks for what is lacking.
func besides(method string, refuse func(reason string) error) jsonrpc.Other {
	list := params[method]
	return func(at string, value json.RawMessage) (bool, error) {
		for _, p := range list {
			if p.name != at {
				continue
			}
			ok, err := p.take(value)
			if err == nil && !ok {
				err = refuse(fmt.Sprintf("%s %s is not supported, %s: %s", at, value, p.rule, p.why))
			}
			return true, err
		}
		return false, nil
	}
}
