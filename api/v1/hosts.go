package apiv1

import "github.com/virtual-disk-array/vda"

// Hosts are the NQNs of all hosts that an exporter lets in.
func (e *ExpSpec) Hosts() []string {
	var hosts []string
	if e.GetInitiatorNqn() != "" {
		hosts = append([]string{e.InitiatorNqn}, e.MoreInitiatorNqns...)
	}
	for _, h := range e.GetAuthHosts() {
		hosts = append(hosts, h.Nqn)
	}
	return hosts
}

// SetHosts has an exporter let in the hosts of a row. Those that have to authenticate stand
// apart, so that no agent lets one in that does not know of their keys.
func (e *ExpSpec) SetHosts(row *vda.Exp) {
	e.InitiatorNqn, e.MoreInitiatorNqns, e.AuthHosts = "", nil, nil
	for _, nqn := range row.Hosts() {
		switch k := row.KeysOf(nqn); {
		case k != nil:
			e.AuthHosts = append(e.AuthHosts, &AuthHost{Nqn: nqn, New: newAuthKeys(&k.New), Old: newAuthKeys(k.Old)})
		case e.InitiatorNqn == "":
			e.InitiatorNqn = nqn
		default:
			e.MoreInitiatorNqns = append(e.MoreInitiatorNqns, nqn)
		}
	}
}

func newAuthKeys(k *vda.KeyPair) *AuthKeys {
	if k == nil {
		return nil
	}
	return &AuthKeys{Id: k.ID, Host: string(k.Host), Ctrlr: string(k.Ctrlr)}
}

// HostsOf gives a row the hosts of an exporter, and their keys: SetHosts' inverse.
func (e *ExpSpec) HostsOf(row *vda.Exp) {
	row.InitiatorNQN, row.MoreHosts, row.Keys = "", nil, nil
	if hosts := e.Hosts(); len(hosts) > 0 {
		row.InitiatorNQN = hosts[0]
		if len(hosts) > 1 {
			row.MoreHosts = hosts[1:]
		}
	}
	for _, h := range e.AuthHosts {
		k := vda.HostKeys{NQN: h.Nqn, New: h.New.pair()}
		if h.Old != nil {
			old := h.Old.pair()
			k.Old = &old
		}
		row.Keys = append(row.Keys, k)
	}
}

func (k *AuthKeys) pair() vda.KeyPair {
	return vda.KeyPair{ID: k.GetId(), Host: vda.Secret(k.GetHost()), Ctrlr: vda.Secret(k.GetCtrlr())}
}
