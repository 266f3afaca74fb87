package vda

import (
	"slices"
	"strings"
)

// Secret is a text that nobody but who has to prove to know it may see: it does not
// show itself when it is printed or logged.
type Secret string

// String stands for the secret.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return "(not shown)"
}

// GoString is String, so that %#v does not show it either.
func (s Secret) GoString() string { return s.String() }

// KeyPair is what a host and its controllers prove to each other, by DH-HMAC-CHAP, that
// they know: texts as nvme gen-dhchap-key makes them.
type KeyPair struct {
	ID    string // by which a pair is told from another, and which says nothing of the keys
	Host  Secret
	Ctrlr Secret // "": controllers cannot prove themselves
}

// HostKeys are the keys of one host of an exporter.
type HostKeys struct {
	NQN string
	New KeyPair
	Old *KeyPair `json:",omitempty"` // valid beside New, until it is dropped
}

// KeysOf returns the keys of a host of the exporter; nil: its NQN is enough.
func (e *Exp) KeysOf(host string) *HostKeys {
	at := slices.IndexFunc(e.Keys, func(k HostKeys) bool { return k.NQN == host })
	if at < 0 {
		return nil
	}
	return &e.Keys[at]
}

// KeyChange is what is to be changed of a host's keys, as ModifyExpRequest has it.
type KeyChange struct {
	Host    string  // "": the one that is added, or the only one
	Add     KeyPair // what it is to have besides; none without a Host of its own
	DropOld bool
}

// none reports that nothing is to be changed.
func (c *KeyChange) none() bool {
	return c.Add.Host == "" && c.Add.Ctrlr == "" && !c.DropOld && c.Host == ""
}

// ChangeKeys gives a host of the exporter other keys, after its hosts have been changed
// from those of before. Where one host has keys, each new one needs some. The fields of
// the error are those of ModifyExpRequest.
func (e *Exp) ChangeKeys(before []string, c KeyChange) error {
	hosts, keyed := e.Hosts(), len(e.Keys) > 0
	e.Keys = slices.DeleteFunc(slices.Clone(e.Keys), func(k HostKeys) bool { return !slices.Contains(hosts, k.NQN) })
	added := slices.DeleteFunc(slices.Clone(hosts), func(h string) bool { return slices.Contains(before, h) })
	if !c.none() {
		host, err := e.keyHost(c.Host, added)
		if err != nil {
			return err
		}
		if err := e.changeKeys(host, c); err != nil {
			return err
		}
	}
	for _, h := range added {
		if keyed && e.KeysOf(h) == nil {
			return Errorf(FailedPrecondition, "hosts of exp %s authenticate, and host %s would get in by its NQN: "+
				"give its dhchap_key, and add one host per call", e.Name, h)
		}
	}
	return nil
}

// keyHost is the host that keys are for.
func (e *Exp) keyHost(named string, added []string) (string, error) {
	hosts := e.Hosts()
	switch {
	case named != "" && !slices.Contains(hosts, named):
		return "", Errorf(NotFound, "dhchap_host %s is not a host of exp %s, whose hosts are %s", named, e.Name, strings.Join(hosts, ", "))
	case named != "":
		return named, nil
	case len(added) == 1:
		return added[0], nil
	case len(hosts) == 1:
		return hosts[0], nil
	}
	return "", invalid("dhchap_host is missing: exp %s has several hosts (%s), each with a key of its own", e.Name, strings.Join(hosts, ", "))
}

func (e *Exp) changeKeys(host string, c KeyChange) error {
	have := e.KeysOf(host)
	switch {
	case have == nil && c.Add.Host == "" && c.DropOld:
		return Errorf(FailedPrecondition, "drop_old_dhchap_key: host %s of exp %s has no key at all", host, e.Name)
	case c.Add.Host == "" && c.Add.Ctrlr != "":
		return invalid("dhchap_ctrlr_key is of no use without dhchap_key, by which the host proves itself")
	case c.Add.Host == "" && !c.DropOld:
		return invalid("dhchap_host says whose key is changed; give dhchap_key or drop_old_dhchap_key too")
	case have == nil:
		e.Keys = append(e.Keys, HostKeys{NQN: host, New: c.Add})
		return nil
	}
	if c.DropOld {
		have.Old = nil
	}
	add := c.Add
	if add.Host == "" {
		return nil
	}
	if add.Ctrlr == "" { // the controllers' stays
		add.Ctrlr = have.New.Ctrlr
	}
	switch {
	case add.Host == have.New.Host && add.Ctrlr == have.New.Ctrlr:
		return nil
	case add.Host == add.Ctrlr:
		return invalid("dhchap_key is the key of the controllers; each side needs one of its own")
	case have.Old != nil:
		return Errorf(FailedPrecondition, "host %s of exp %s may still use the key before its last one, and two are the most: "+
			"when it has the last one, repeat the call with drop_old_dhchap_key", host, e.Name)
	}
	was := have.New
	have.New, have.Old = add, &was
	return nil
}
