package portal

import (
	"slices"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/nvmf/dhchap"
	"github.com/virtual-disk-array/vda/store"
)

// newKeyPair checks the keys of a host as a request has them. None for a host is none,
// without an error. No error repeats any of a key.
func newKeyPair(key, ctrlr string) (vda.KeyPair, error) {
	var pair vda.KeyPair
	var secrets [2]*dhchap.Secret
	for i, f := range []struct {
		field, text string
		to          *vda.Secret
	}{{"dhchap_key", key, &pair.Host}, {"dhchap_ctrlr_key", ctrlr, &pair.Ctrlr}} {
		if f.text == "" {
			continue
		}
		s, err := dhchap.ParseSecret(f.text)
		if err != nil {
			return pair, invalid("%s is %v", f.field, err)
		}
		secrets[i], *f.to = s, vda.Secret(s.Reveal())
	}
	switch {
	case key == "" && ctrlr != "":
		return pair, invalid("dhchap_ctrlr_key is of no use without dhchap_key, by which the host proves itself")
	case key == "":
		return pair, nil
	case secrets[0].Equal(secrets[1]):
		return pair, invalid("dhchap_ctrlr_key is the key of the host; each side needs one of its own")
	}
	pair.ID = store.NewID()
	return pair, nil
}

// mayAuthenticate refuses keys of hosts where they would cross the network in the clear,
// or where a controller would not let the host in by them.
func mayAuthenticate(tx store.Reader, exp *vda.Exp) error {
	security, err := tx.Security()
	if err != nil {
		return err
	}
	if !security.Secured {
		return vda.Errorf(vda.FailedPrecondition, "dhchap_key: a plain cluster keeps no keys of hosts, as they would cross the network in the "+
			"clear, as this one has: call cluster secure (docs/security.md), and make another key")
	}
	cntlrs, err := tx.CntlrsOfDA(exp.DAID)
	if err != nil {
		return err
	}
	for i := range cntlrs {
		cn, err := tx.CN(cntlrs[i].CNID)
		if err != nil {
			return err
		}
		if !cn.Auth && !cntlrs[i].Deleted {
			return vda.Errorf(vda.FailedPrecondition, "dhchap_key: cn %s is not known to have hosts authenticate, and would let none in: "+
				"upgrade its vda_cn_agent, and run vda_tgt or SPDK 24.09 or newer there; then wait for a monitor to hear of it", cn.Name)
		}
	}
	return nil
}

// keysWord says how the keys of an exporter that there is differ from those of one that
// is asked for, without showing any.
func keysWord(there, asked *vda.Exp) (is, want string) {
	same := func(a, b vda.HostKeys) bool {
		return a.NQN == b.NQN && a.New.Host == b.New.Host && a.New.Ctrlr == b.New.Ctrlr
	}
	switch {
	case slices.EqualFunc(there.Keys, asked.Keys, same):
		return "", ""
	case len(there.Keys) == 0:
		return "not set", "set"
	case len(asked.Keys) == 0:
		return "set", "not set"
	}
	return "one", "another one"
}

// keyLists are the hosts of an exporter that have to authenticate, and those of them
// that may use the key before their last one as well.
func keyLists(e *vda.Exp) (auth, rekey []string) {
	for i := range e.Keys {
		auth = append(auth, e.Keys[i].NQN)
		if e.Keys[i].Old != nil {
			rekey = append(rekey, e.Keys[i].NQN)
		}
	}
	return auth, rekey
}
