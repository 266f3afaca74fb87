package vdatgt

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"

	"github.com/virtual-disk-array/vda/nvme"
	"github.com/virtual-disk-array/vda/nvmf/nvmftgt"
	"github.com/virtual-disk-array/vda/spdk/jsonrpc"
)

func nvmfMethods() []*Method {
	return []*Method{
		method("nvmf_create_transport", "Makes the TCP transport, with the limits of its connections.", createTransport, nvmfStyle, relaxed),
		method("nvmf_get_transports", "Lists the transports.", getTransports, nvmfStyle, optional),
		method("nvmf_create_subsystem", "Makes a subsystem without namespaces, listeners and hosts.", createSubsystem, nvmfStyle),
		method("nvmf_delete_subsystem", "Disconnects a subsystem's hosts, settles their I/O and removes it.", deleteSubsystem, nvmfStyle, slow),
		method("vda_nvmf_retire_subsystem",
			"Removes a subsystem as nvmf_delete_subsystem does, if it is there, and for good: hosts that come back are told not to retry (Linux "+
				"then drops the path), until one of that name is made or announced.", retireSubsystem, nvmfStyle, slow),
		method("nvmf_get_subsystems", "Lists the subsystems, or one.", getSubsystems, nvmfStyle, optional),
	}
}

func invalid(format string, args ...any) *jsonrpc.Error {
	return &jsonrpc.Error{Code: jsonrpc.CodeInvalidParams, Message: "Invalid parameters", Data: fmt.Sprintf(format, args...)}
}

func internal(message, reason string) *jsonrpc.Error {
	return &jsonrpc.Error{Code: jsonrpc.CodeInternalError, Message: message, Data: reason}
}

// checkTarget refuses another target's name.
func checkTarget(name string) error {
	if name != "" && name != "nvmf_tgt" {
		return internal("Unable to find a target.", fmt.Sprintf("tgt_name %q; there is only nvmf_tgt", name))
	}
	return nil
}

// subsystem finds a subsystem by name for the nvmf_subsystem_* methods.
func (t *Target) subsystem(tgt, nqn string) (*nvmftgt.Subsystem, error) {
	if err := checkTarget(tgt); err != nil {
		return nil, err
	}
	s, ok := t.nvmf.Subsystem(nqn)
	if !ok {
		return nil, invalid("there is no subsystem %q", nqn)
	}
	return s, nil
}

type transportParams struct {
	Trtype            string `rpc:"trtype" doc:"TCP"`
	Target            string `rpc:"tgt_name,optional" doc:"only nvmf_tgt"`
	MaxQueueDepth     uint16 `rpc:"max_queue_depth,optional" doc:"entries of an I/O queue; default 128"`
	MaxIOQpairs       uint16 `rpc:"max_io_qpairs_per_ctrlr,optional" doc:"I/O queues of a controller; default 127"`
	InCapsuleDataSize uint32 `rpc:"in_capsule_data_size,optional" doc:"bytes of data a command may carry, a multiple of 16; default 8192"`
	MaxIOSize         uint32 `rpc:"max_io_size,optional" doc:"bytes of the largest transfer, a power of two from 8 KiB to 4 MiB; default 128 KiB"`
	IOUnitSize        uint32 `rpc:"io_unit_size,optional" doc:"reported only"`
	MaxAQDepth        uint32 `rpc:"max_aq_depth,optional" doc:"entries of the admin queue; default 128"`
	NumSharedBuffers  uint32 `rpc:"num_shared_buffers,optional" doc:"reported only; --buffer-memory bounds the pool"`
	BufCacheSize      uint32 `rpc:"buf_cache_size,optional" doc:"accepted; there are no caches a thread"`
	Zcopy             bool   `rpc:"zcopy,optional" doc:"reported only; memory is never copied where it need not be"`
	C2HSuccess        *bool  `rpc:"c2h_success,optional" doc:"answer reads by the SUCCESS flag of their last data PDU, with flow control of the queue all but one per half queue; default true"`
	SockPriority      uint32 `rpc:"sock_priority,optional" doc:"priority of the sockets"`
	AbortTimeoutSec   uint32 `rpc:"abort_timeout_sec,optional" doc:"reported only"`

	KeepAliveUnit *uint16 `rpc:"kas,optional" doc:"hosts' keep-alive time-outs are rounded up to multiples of so many 100 ms; default 10, SPDK's 100"`
	MinKeepAlive  *uint32 `rpc:"min_kato,optional" doc:"milliseconds of the shortest keep-alive time-out, above 0; default none, SPDK's 10000"`
	AckTimeout    uint32  `rpc:"ack_timeout,optional" doc:"milliseconds that a host may leave sent data unacknowledged; default 0, the system's"`
}

func createTransport(_ context.Context, t *Target, p transportParams) (any, error) {
	if err := checkTarget(p.Target); err != nil {
		return nil, err
	}
	if !strings.EqualFold(p.Trtype, "TCP") {
		return nil, &jsonrpc.Error{Code: jsonrpc.CodeInvalidParams, Message: fmt.Sprintf("Invalid transport type '%s'", p.Trtype)}
	}
	var kas uint16
	var kato uint32
	if p.KeepAliveUnit != nil {
		if kas = *p.KeepAliveUnit; kas == 0 {
			return nil, internal(fmt.Sprintf("Transport type '%s' create failed", p.Trtype), "kas 0: must be above 0, in units of 100 ms")
		}
	}
	if p.MinKeepAlive != nil {
		if kato = *p.MinKeepAlive; kato == 0 {
			return nil, internal(fmt.Sprintf("Transport type '%s' create failed", p.Trtype), "min_kato 0: must be above 0, in milliseconds")
		}
	}
	err := t.nvmf.CreateTransport(nvmftgt.TransportOpts{
		Trtype: "TCP", MaxQueueDepth: p.MaxQueueDepth, MaxAQDepth: p.MaxAQDepth, MaxIOQpairsPerCtrlr: p.MaxIOQpairs,
		InCapsuleDataSize: p.InCapsuleDataSize, MaxIOSize: p.MaxIOSize, IOUnitSize: p.IOUnitSize, C2HSuccess: p.C2HSuccess,
		SockPriority: p.SockPriority, NumSharedBuf: p.NumSharedBuffers, AbortTimeoutSec: p.AbortTimeoutSec,
		KAS: kas, MinKATO: kato, AckTimeout: p.AckTimeout, ZCopy: p.Zcopy,
	})
	switch {
	case errors.Is(err, syscall.EEXIST):
		return nil, internal(fmt.Sprintf("Transport type '%s' already exists", p.Trtype), "")
	case err != nil:
		return nil, internal(fmt.Sprintf("Transport type '%s' create failed", p.Trtype), err.Error())
	}
	return true, nil
}

type getTransportsParams struct {
	Target string `rpc:"tgt_name,optional" doc:"only nvmf_tgt"`
	Trtype string `rpc:"trtype,optional" doc:"only this one"`
}

type transportJSON struct {
	Trtype            string `json:"trtype"`
	MaxQueueDepth     uint16 `json:"max_queue_depth"`
	MaxIOQpairs       uint16 `json:"max_io_qpairs_per_ctrlr"`
	InCapsuleDataSize uint32 `json:"in_capsule_data_size"`
	MaxIOSize         uint32 `json:"max_io_size"`
	IOUnitSize        uint32 `json:"io_unit_size"`
	MaxAQDepth        uint32 `json:"max_aq_depth"`
	NumSharedBuffers  uint32 `json:"num_shared_buffers"`
	C2HSuccess        bool   `json:"c2h_success"`
	SockPriority      uint32 `json:"sock_priority"`
	AbortTimeoutSec   uint32 `json:"abort_timeout_sec"`
	Zcopy             bool   `json:"zcopy"`
	AckTimeout        uint32 `json:"ack_timeout"`
	KeepAliveUnit     uint16 `json:"kas"`
	MinKeepAlive      uint32 `json:"min_kato,omitempty"`
}

func getTransports(_ context.Context, t *Target, p getTransportsParams) (any, error) {
	if err := checkTarget(p.Target); err != nil {
		return nil, err
	}
	out := []transportJSON{}
	for _, o := range t.nvmf.Transports() {
		if p.Trtype == "" || strings.EqualFold(p.Trtype, o.Trtype) {
			out = append(out, transportJSON{o.Trtype, o.MaxQueueDepth, o.MaxIOQpairsPerCtrlr, o.InCapsuleDataSize, o.MaxIOSize,
				o.IOUnitSize, o.MaxAQDepth, o.NumSharedBuf, o.C2HSuccess == nil || *o.C2HSuccess, o.SockPriority, o.AbortTimeoutSec,
				o.ZCopy, o.AckTimeout, o.KAS, o.MinKATO})
		}
	}
	if p.Trtype != "" && len(out) == 0 {
		return nil, syscall.ENODEV
	}
	return out, nil
}

type createSubsystemParams struct {
	NQN           string  `rpc:"nqn" doc:"name, starts with nqn."`
	Target        string  `rpc:"tgt_name,optional" doc:"only nvmf_tgt"`
	Serial        string  `rpc:"serial_number,optional" doc:"at most 20 printable ASCII characters; default 20 zeros"`
	Model         string  `rpc:"model_number,optional" doc:"at most 40 printable ASCII characters"`
	MaxNamespaces uint32  `rpc:"max_namespaces,optional" doc:"largest namespace id; 0: 32"`
	AllowAnyHost  bool    `rpc:"allow_any_host,optional" doc:"admit hosts that are not on the list"`
	ANAReporting  bool    `rpc:"ana_reporting,optional" doc:"tell hosts the ANA state of namespaces"`
	MinCntlid     *uint16 `rpc:"min_cntlid,optional" doc:"controller ids are given from this; default 1"`
	MaxCntlid     *uint16 `rpc:"max_cntlid,optional" doc:"to this; default 65519"`
}

func createSubsystem(_ context.Context, t *Target, p createSubsystemParams) (any, error) {
	if err := checkTarget(p.Target); err != nil {
		return nil, err
	}
	switch {
	case !nvme.IsASCII(p.Serial, nvme.SerialMax):
		return nil, invalid("serial_number %q must be at most 20 printable ASCII characters", p.Serial)
	case !nvme.IsASCII(p.Model, nvme.ModelMax):
		return nil, invalid("model_number %q must be at most 40 printable ASCII characters", p.Model)
	}
	lo, hi := uint16(1), uint16(nvme.MaxCNTLID)
	if p.MinCntlid != nil {
		lo = *p.MinCntlid
	}
	if p.MaxCntlid != nil {
		hi = *p.MaxCntlid
	}
	if lo == 0 || hi > nvme.MaxCNTLID || lo > hi {
		return nil, &jsonrpc.Error{Code: jsonrpc.CodeInvalidParams, Message: fmt.Sprintf("Invalid cntlid range [%d-%d]", lo, hi)}
	}
	_, err := t.nvmf.CreateSubsystem(nvmftgt.SubsystemConfig{NQN: p.NQN, Serial: p.Serial, Model: p.Model, AllowAnyHost: p.AllowAnyHost,
		MaxNamespaces: p.MaxNamespaces, MinCntlid: lo, MaxCntlid: hi, ANAReporting: p.ANAReporting})
	if err != nil {
		return nil, internal("Unable to create subsystem "+p.NQN, err.Error())
	}
	return true, nil
}

type subsystemParams struct {
	NQN    string `rpc:"nqn" doc:"subsystem"`
	Target string `rpc:"tgt_name,optional" doc:"only nvmf_tgt"`
}

type retireParams struct {
	NQN     string `rpc:"nqn" doc:"subsystem"`
	Retired *bool  `rpc:"retired,optional" doc:"default true; false: one of that name is to come, so hosts may retry; removes nothing"`
	Target  string `rpc:"tgt_name,optional" doc:"only nvmf_tgt"`
}

func retireSubsystem(_ context.Context, t *Target, p retireParams) (any, error) {
	if err := checkTarget(p.Target); err != nil {
		return nil, err
	}
	if p.Retired != nil && !*p.Retired {
		t.nvmf.UnretireSubsystem(p.NQN)
		return true, nil
	}
	if err := t.nvmf.RetireSubsystem(p.NQN); err != nil {
		return nil, invalid("%v", err)
	}
	return true, nil
}

func deleteSubsystem(_ context.Context, t *Target, p subsystemParams) (any, error) {
	if err := checkTarget(p.Target); err != nil {
		return nil, err
	}
	if err := t.nvmf.DeleteSubsystem(p.NQN); err != nil {
		return nil, invalid("%v", err)
	}
	return true, nil
}
