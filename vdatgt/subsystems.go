package vdatgt

import (
	"context"
	"encoding/hex"
	"slices"
	"strings"
	"syscall"

	"github.com/google/uuid"

	"github.com/virtual-disk-array/vda/nvmf/nvmftgt"
)

// addrJSON is a transport address.
type addrJSON struct {
	Trtype  string `json:"trtype"`
	Adrfam  string `json:"adrfam"`
	Traddr  string `json:"traddr"`
	Trsvcid string `json:"trsvcid"`
}

type hostJSON struct {
	NQN           string `json:"nqn"`
	Key           string `json:"dhchap_key,omitempty"`
	CtrlrKey      string `json:"dhchap_ctrlr_key,omitempty"`
	Previous      string `json:"vda_previous_dhchap_key,omitempty"`
	PreviousCtrlr string `json:"vda_previous_dhchap_ctrlr_key,omitempty"`
}

// subsystemJSON is one element of nvmf_get_subsystems; the discovery
// subsystem has only the first part.
type subsystemJSON struct {
	NQN          string     `json:"nqn"`
	Subtype      string     `json:"subtype"`
	Listeners    []addrJSON `json:"listen_addresses"`
	AllowAnyHost bool       `json:"allow_any_host"`
	Hosts        []hostJSON `json:"hosts"`
	*nvmJSON
}

type nvmJSON struct {
	Serial        string          `json:"serial_number"`
	Model         string          `json:"model_number"`
	MaxNamespaces uint32          `json:"max_namespaces"`
	Passthrough   bool            `json:"passthrough"`
	MinCntlid     uint16          `json:"min_cntlid"`
	MaxCntlid     uint16          `json:"max_cntlid"`
	Namespaces    []namespaceJSON `json:"namespaces"`
	Single        bool            `json:"vda_single_association,omitempty"`

	Reservations *reservationsJSON `json:"vda_reservations,omitempty"`
}

// reservationsJSON is what vda_nvmf_set_reservations has set.
type reservationsJSON struct {
	ID         string   `json:"id"`
	Offered    bool     `json:"offered"`
	Forwarders []string `json:"forwarders"`
}

type namespaceJSON struct {
	NSID     uint32 `json:"nsid"`
	BdevName string `json:"bdev_name"`
	Name     string `json:"name"`
	NGUID    string `json:"nguid"`
	EUI64    string `json:"eui64,omitempty"`
	UUID     string `json:"uuid"`
	ANAGroup uint32 `json:"anagrpid,omitempty"` // only with ANA reporting
}

type getSubsystemsParams struct {
	NQN    string `rpc:"nqn,optional" doc:"only this one"`
	Target string `rpc:"tgt_name,optional" doc:"only nvmf_tgt"`
}

func getSubsystems(_ context.Context, t *Target, p getSubsystemsParams) (any, error) {
	if err := checkTarget(p.Target); err != nil {
		return nil, err
	}
	if p.NQN != "" {
		s, ok := t.nvmf.Subsystem(p.NQN)
		if !ok {
			return nil, syscall.ENODEV
		}
		return []subsystemJSON{describeSubsystem(s)}, nil
	}
	out := []subsystemJSON{}
	for _, s := range t.nvmf.Subsystems() {
		out = append(out, describeSubsystem(s))
	}
	slices.SortStableFunc(out, func(a, b subsystemJSON) int {
		if a.Subtype != b.Subtype {
			return strings.Compare(a.Subtype, b.Subtype) // Discovery before NVMe
		}
		return strings.Compare(a.NQN, b.NQN)
	})
	return out, nil
}

func describeSubsystem(s *nvmftgt.Subsystem) subsystemJSON {
	c := s.Config()
	out := subsystemJSON{NQN: s.NQN(), Subtype: "NVMe", Listeners: []addrJSON{}, AllowAnyHost: c.AllowAnyHost, Hosts: []hostJSON{}}
	for _, l := range s.Listeners() {
		out.Listeners = append(out.Listeners, addrJSON(l.Addr))
	}
	for _, h := range s.Hosts() {
		host := hostJSON{NQN: h}
		for i, k := range s.HostKeys(h) {
			if i == 0 {
				host.Key, host.CtrlrKey = k.Name, k.ControllerName
			} else {
				host.Previous, host.PreviousCtrlr = k.Name, k.ControllerName
			}
		}
		out.Hosts = append(out.Hosts, host)
	}
	if s.IsDiscovery() {
		out.Subtype, out.AllowAnyHost = "Discovery", true
		return out
	}
	out.nvmJSON = &nvmJSON{Serial: c.Serial, Model: c.Model, MaxNamespaces: c.MaxNamespaces, MinCntlid: c.MinCntlid, MaxCntlid: c.MaxCntlid,
		Namespaces: []namespaceJSON{}, Single: s.SingleAssociation()}
	if r := s.Reservations(); r.ID != uuid.Nil {
		out.Reservations = &reservationsJSON{r.ID.String(), r.Offered, append([]string{}, r.Forwarders...)}
	}
	for _, n := range s.Namespaces() {
		ns := namespaceJSON{NSID: n.NSID, BdevName: n.Bdev, Name: n.Bdev, NGUID: strings.ToUpper(hex.EncodeToString(n.NGUID[:])),
			UUID: n.UUID.String()}
		if n.EUI64 != [8]byte{} {
			ns.EUI64 = strings.ToUpper(hex.EncodeToString(n.EUI64[:]))
		}
		if c.ANAReporting {
			ns.ANAGroup = n.ANAGroup
		}
		out.Namespaces = append(out.Namespaces, ns)
	}
	return out
}
