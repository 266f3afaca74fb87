package planetest

import (
	"cmp"
	"os"
	"slices"
	"strings"
	"syscall"

	"github.com/virtual-disk-array/vda/spdk"
	"github.com/virtual-disk-array/vda/spdk/jsonrpc"
)

var errNoKey = jsonrpc.Errno(syscall.ENOKEY, "")

var keyMethods = map[string]handler{
	"keyring_file_add_key": {true, func(p *Plane, a *params) (any, error) {
		if _, taken := p.keyring[a.Name]; taken {
			return nil, errExists
		}
		fi, err := os.Stat(a.Path)
		if err != nil || fi.Mode().Perm() != 0o600 {
			return nil, errPerm
		}
		text, err := os.ReadFile(a.Path)
		if err != nil || !strings.HasPrefix(string(text), "DHHC-1:") {
			return nil, jsonrpc.Errno(syscall.EINVAL, "")
		}
		p.keyring[a.Name] = string(text)
		return true, nil
	}},
	"keyring_file_remove_key": {true, func(p *Plane, a *params) (any, error) {
		if _, there := p.keyring[a.Name]; !there {
			return nil, errNoKey
		}
		delete(p.keyring, a.Name)
		return true, nil
	}},
	"nvmf_subsystem_set_keys": {true, on(func(p *Plane, s *subsystem, a *params) error {
		for i := range s.Hosts {
			if s.Hosts[i].NQN == a.Host && p.knows(a.Keys) {
				delete(s.before, a.Host)
				if a.Keep {
					s.before[a.Host] = s.Hosts[i].Keys
				}
				s.Hosts[i].Keys = a.Keys
				return nil
			}
		}
		return errInvalid
	})},
	"bdev_nvme_set_keys": {true, (*Plane).setKeys},
}

// setKeys has a connection authenticate by other keys; one that fails is made again.
func (p *Plane) setKeys(a *params) (any, error) {
	c := p.ctrlrs[a.Name]
	switch {
	case c == nil:
		return nil, errNoDev
	case !p.knows(a.Keys):
		return nil, errNoKey
	}
	var refused error
	for _, k := range c.paths() {
		k.keys = a.Keys
		if k.path != nil {
			k.path.keys = a.Keys
			if k.path.conn == nil {
				continue
			}
		}
		if q := p.c.planes[k.addr]; q != nil && !q.proven(k.nqn, k.host, p.secrets(k.keys)) {
			if k.path != nil {
				k.path.lose()
				k.path.nudge()
			}
			refused = jsonrpc.Errno(syscall.EACCES, "")
		}
	}
	return true, refused
}

// knows reports that keys are in the keyring.
func (p *Plane) knows(k spdk.Keys) bool {
	for _, name := range []string{k.Host, k.Ctrlr} {
		if _, there := p.keyring[name]; name != "" && !there {
			return false
		}
	}
	return true
}

// secrets are the texts of keys.
func (p *Plane) secrets(k spdk.Keys) [2]string {
	return [2]string{p.keyring[k.Host], p.keyring[k.Ctrlr]}
}

// proven reports that a host which has secrets, and a subsystem, prove to each other
// what each of them demands.
func (p *Plane) proven(nqn, host string, has [2]string) bool {
	s := p.subs[nqn]
	if s == nil || p.c.live != nil && p.c.live.NoProof {
		return true // the former is refused for another reason
	}
	for _, h := range s.Hosts {
		if h.NQN != host {
			continue
		}
		if h.Keys.Host == "" && has[1] == "" {
			return true
		}
		for _, k := range []spdk.Keys{h.Keys, s.before[host]} {
			want := p.secrets(k)
			if has[0] != "" && has[0] == want[0] && (has[1] == "" || has[1] == want[1]) {
				return true
			}
		}
		return false
	}
	return true
}

// Door is a host of a subsystem.
type Door struct{ NQN, Host string }

// Doors returns the hosts that are admitted to the plane's subsystems, but for its owner's mark.
func (p *Plane) Doors() []Door {
	p.c.mu.Lock()
	defer p.c.mu.Unlock()
	var all []Door
	for nqn, s := range p.subs {
		if s.AllowAnyHost {
			all = append(all, Door{nqn, ""})
		}
		for _, h := range s.Hosts {
			all = append(all, Door{nqn, h.NQN})
		}
	}
	slices.SortFunc(all, func(a, b Door) int { return cmp.Or(cmp.Compare(a.NQN, b.NQN), cmp.Compare(a.Host, b.Host)) })
	return all
}

// Keys returns the names of all keys that the plane has.
func (p *Plane) Keys() []string {
	p.c.mu.Lock()
	defer p.c.mu.Unlock()
	var all []string
	for name := range p.keyring {
		all = append(all, name)
	}
	return all
}

// Break has the plane try to get at a subsystem as a host without a key.
func (p *Plane) Break(addr, nqn, host string) error {
	return p.Prove(addr, nqn, host, "", "")
}

// Prove is Break as a host that has keys, "" for none; ctrlr is the one that the
// subsystem has to prove itself by.
func (p *Plane) Prove(addr, nqn, host, key, ctrlr string) error {
	p.c.mu.Lock()
	defer p.c.mu.Unlock()
	if _, err := p.c.reach(addr, nqn, host); err != nil {
		return err
	}
	if !p.c.planes[addr].proven(nqn, host, [2]string{key, ctrlr}) {
		return jsonrpc.Errno(syscall.EACCES, "authentication failed")
	}
	return nil
}
