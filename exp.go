package vda

import (
	"slices"
	"strings"
)

// MaxExpHosts is how many hosts an exporter may let in.
const MaxExpHosts = 32

// Exp is an exporter: an NVMe subsystem through which hosts reach a disk array:
// one, unless a user has let in more.
type Exp struct {
	ID           string
	DAID         string
	Name         string
	NQN          string
	InitiatorNQN string     // the first host that is let in
	MoreHosts    []string   // the others, in the order in which they were
	Keys         []HostKeys // of the hosts that have to authenticate; the NQN of others is enough
	SnapName     string     // "": the live volume
	Serial       string     // 20 characters at most, the same on every controller
	NSUUID       string     // namespace UUID and NGUID, the same on every controller

	Version uint64
	Deleted bool
}

// Hosts are all that are let in.
func (e *Exp) Hosts() []string { return append([]string{e.InitiatorNQN}, e.MoreHosts...) }

// ChangeHosts lets hosts in and keeps others out. What is so already stays so. One
// host is left at least. The fields of the error are those of ModifyExpRequest.
func (e *Exp) ChangeHosts(add, remove []string) error {
	hosts := e.Hosts()
	for _, nqn := range add {
		if err := CheckInitiator("add_initiator_nqn", nqn); err != nil {
			return err
		}
		if slices.Contains(remove, nqn) {
			return invalid("add_initiator_nqn and remove_initiator_nqn both have %s; give it in one of them", nqn)
		}
		if !slices.Contains(hosts, nqn) {
			hosts = append(hosts, nqn)
		}
	}
	for _, nqn := range remove {
		if err := CheckHostNQN("remove_initiator_nqn", nqn); err != nil {
			return err
		}
		at := slices.Index(hosts, nqn)
		if at < 0 {
			return Errorf(NotFound, "remove_initiator_nqn %s is not a host of exp %s, whose hosts are %s", nqn, e.Name, strings.Join(hosts, ", "))
		}
		hosts = slices.Delete(hosts, at, at+1)
	}
	switch {
	case len(hosts) == 0:
		return Errorf(FailedPrecondition, "exp %s would be left without a host; add another one too, or delete the exp", e.Name)
	case len(hosts) > MaxExpHosts:
		return invalid("add_initiator_nqn: exp %s would let in %d hosts; %d are the most", e.Name, len(hosts), MaxExpHosts)
	}
	e.InitiatorNQN, e.MoreHosts = hosts[0], nil
	if len(hosts) > 1 {
		e.MoreHosts = hosts[1:]
	}
	return nil
}

// Validate checks what a user has said of a new exporter of an array; the fields
// of its error are those of CreateExpRequest.
func (e *Exp) Validate(daName string) error {
	if err := CheckName("exp_name", e.Name); err != nil {
		return err
	}
	if err := checkNotOurs("exp_name", e.Name); err != nil {
		return err
	}
	if err := CheckName("da_name", daName); err != nil {
		return err
	}
	if err := CheckInitiator("initiator_nqn", e.InitiatorNQN); err != nil {
		return err
	}
	if e.SnapName != "" {
		if err := CheckName("snap_name", e.SnapName); err != nil {
			return err
		}
	}
	return CheckNQN("the exporter's NQN", e.NQN)
}

// ES is an exporter on one controller.
type ES struct {
	ID      string
	ExpID   string
	CntlrID string
	Health  Health
}
