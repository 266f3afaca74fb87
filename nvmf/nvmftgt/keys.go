package nvmftgt

import (
	"fmt"
	"slices"
	"syscall"

	"github.com/virtual-disk-array/vda/nvmf/dhchap"
)

// HostKeys are what a host of a subsystem authenticates by, and the names that
// they go by.
type HostKeys struct {
	dhchap.Keys
	Name           string // of Host
	ControllerName string // of Controller
}

// setKeys replaces a host's keys; s.mu is held.
func (s *Subsystem) setKeys(host string, keys []HostKeys) {
	keys = slices.DeleteFunc(slices.Clone(keys), func(k HostKeys) bool { return k.Host == nil })
	if len(keys) == 0 {
		delete(s.keys, host)
		return
	}
	if s.keys == nil {
		s.keys = map[string][]HostKeys{}
	}
	s.keys[host] = keys
}

// SetHostKeys replaces what a host on the list authenticates by from now on;
// without a key of the host it need not any more. What is connected stays
// connected. With keep the keys that were the newest stay valid beside the new
// ones, until the next call, so that a host may change its own later. ENOENT
// when the host is not on the list.
func (s *Subsystem) SetHostKeys(host string, keys HostKeys, keep bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !slices.Contains(s.hosts, host) {
		return fmt.Errorf("host %s: %w", host, syscall.ENOENT)
	}
	all := []HostKeys{keys}
	if was := s.keys[host]; keep && len(was) > 0 {
		all = append(all, was[0])
	}
	s.setKeys(host, all)
	return nil
}

// HostKeys returns what a host authenticates by, the newest first; none: it need
// not.
func (s *Subsystem) HostKeys(host string) []HostKeys {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.keys[host])
}

// validKeys is HostKeys for an authentication.
func (s *Subsystem) validKeys(host string) (out []dhchap.Keys) {
	for _, k := range s.HostKeys(host) {
		out = append(out, k.Keys)
	}
	return out
}

// placeKeys are those of Config.PlaceKeys, none but at the discovery subsystem. That they
// cannot be told is in the log. s.mu is not held.
func (conn *conn) placeKeys(s *Subsystem, host string) ([]dhchap.Keys, error) {
	if !s.discovery || conn.tgt.cfg.PlaceKeys == nil {
		return nil, nil
	}
	keys, err := conn.tgt.cfg.PlaceKeys(host)
	if err != nil {
		conn.tgt.complain("nvmf: the keys of a host cannot be told: "+err.Error(), conn.attrs()...)
	}
	return keys, err
}

// demands reports whether a host has to authenticate; s.mu is held.
func (s *Subsystem) demands(host string) bool { return len(s.keys[host]) > 0 }
