package vdatgt

import (
	"context"
	"errors"
	"syscall"

	"github.com/virtual-disk-array/vda/nvmf/nvmftgt"
)

func discoveryMethods() []*Method {
	return []*Method{
		method("nvmf_discovery_add_referral", "Has the discovery service point to another one.", addReferral, nvmfStyle, relaxed),
		method("nvmf_discovery_remove_referral", "Takes a referral away.", removeReferral, nvmfStyle),
		method("nvmf_discovery_get_referrals", "Lists the referrals.", getReferrals, nvmfStyle, optional),
		method("nvmf_get_stats", "Returns the counters of the target; there is one poll group, since connections are not bound to threads.",
			nvmfStats, nvmfStyle, optional),
	}
}

type referralParams struct {
	Address listenAddress `rpc:"address" doc:"trtype, adrfam, traddr, trsvcid of the other discovery service"`
	Target  string        `rpc:"tgt_name,optional" doc:"only nvmf_tgt"`
	Secure  bool          `rpc:"secure_channel,optional" doc:"tell hosts that it wants a secure channel"`
	SubNQN  string        `rpc:"subnqn,optional" doc:"default the discovery NQN"`
}

func (p *referralParams) referral() (nvmftgt.Referral, error) {
	if err := checkTarget(p.Target); err != nil {
		return nvmftgt.Referral{}, err
	}
	addr, err := p.Address.address()
	return nvmftgt.Referral{Addr: addr, SubNQN: p.SubNQN, SecureAccess: p.Secure}, err
}

func addReferral(_ context.Context, t *Target, p referralParams) (any, error) {
	r, err := p.referral()
	if err != nil {
		return nil, err
	}
	// Once more is fine with SPDK.
	if err := t.nvmf.AddReferral(r); err != nil && !errors.Is(err, syscall.EEXIST) {
		return nil, internal("Internal error", err.Error())
	}
	return true, nil
}

func removeReferral(_ context.Context, t *Target, p referralParams) (any, error) {
	r, err := p.referral()
	if err != nil {
		return nil, err
	}
	if err := t.nvmf.RemoveReferral(r); err != nil {
		return nil, internal("Unable to remove a referral.", err.Error())
	}
	return true, nil
}

type referralJSON struct {
	Address addrJSON `json:"address"`
	Secure  bool     `json:"secure_channel"`
	SubNQN  string   `json:"subnqn"`
}

type targetParams struct {
	Target string `rpc:"tgt_name,optional" doc:"only nvmf_tgt"`
}

func getReferrals(_ context.Context, t *Target, p targetParams) (any, error) {
	if err := checkTarget(p.Target); err != nil {
		return nil, err
	}
	out := []referralJSON{}
	for _, r := range t.nvmf.Referrals() {
		out = append(out, referralJSON{addrJSON(r.Addr), r.SecureAccess, r.SubNQN})
	}
	return out, nil
}

type pollGroupJSON struct {
	Name          string `json:"name"`
	AdminQpairs   uint64 `json:"admin_qpairs"`
	IOQpairs      uint64 `json:"io_qpairs"`
	CurrentAdmin  uint64 `json:"current_admin_qpairs"`
	CurrentIO     uint64 `json:"current_io_qpairs"`
	PendingBdevIO uint64 `json:"pending_bdev_io"`
	CompletedIO   uint64 `json:"completed_nvme_io"`
	Panics        uint64 `json:"vda_panics"`
	Rejected      uint64 `json:"vda_rejected_connections"`
	Refused       uint64 `json:"vda_limits_met"`
	RPCRefused    uint64 `json:"vda_rpc_limits_met"`
}

func nvmfStats(_ context.Context, t *Target, p targetParams) (any, error) {
	if err := checkTarget(p.Target); err != nil {
		return nil, err
	}
	s := t.nvmf.Stats()
	return struct {
		TickRate   uint64          `json:"tick_rate"`
		PollGroups []pollGroupJSON `json:"poll_groups"`
	}{1e9, []pollGroupJSON{{"vda_tgt", s.AdminQpairs, s.IOQpairs, s.CurrentAdminQpairs, s.CurrentIOQpairs, s.PendingBdevIO, s.CompletedIO,
		s.Panics, s.Rejected, s.Refused, t.rpcLimitsMet()}}}, nil
}
