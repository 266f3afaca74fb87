package agent

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/virtual-disk-array/vda/spdk"
)

// HopKey is what the two ends of a connection between data planes of the cluster, a
// hop, prove to each other that they know, by DH-HMAC-CHAP. The control plane makes
// it for a term, and the agents of both ends hand it to their data planes, as two
// secrets: the host's and the controller's. nil: neither proves anything.
type HopKey []byte

// hopsDir, in the state directory, holds the files in which data planes are given
// keys.
const hopsDir = "hops"

// Prefixes of the names of keys in keyrings and of their files: of a target's
// subsystems, and of an initiator's connections. Agents of both kinds may share a
// data plane.
const (
	targetKeys    = "vda-target-"
	initiatorKeys = "vda-initiator-"
)

// For returns the key for one of several uses.
func (k HopKey) For(use string) HopKey {
	if len(k) == 0 {
		return nil
	}
	m := hmac.New(sha256.New, k)
	m.Write([]byte(use))
	return m.Sum(nil)
}

// text is the key as the file of a keyring has it.
func (k HopKey) text() []byte {
	raw := binary.LittleEndian.AppendUint32(append([]byte(nil), k...), crc32.ChecksumIEEE(k))
	return []byte("DHHC-1:01:" + base64.StdEncoding.EncodeToString(raw) + ":")
}

// Pair is the key as that of a host of users' is given to subsystems.
func (k HopKey) Pair() KeyPair {
	return KeyPair{ID: short(string(k)), Host: string(k.For("host").text()), Ctrlr: string(k.For("controller").text())}
}

// short stands for what may be long, in shortLen characters.
func short(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:shortLen/2])
}

const shortLen = 24

// hops are the keys that a run of the data plane has been given, by group: all of a
// subsystem's hosts, or of a connection. The names are those of the files too.
type hops map[string]map[string]bool

// groupOf returns the group of a key's name, "" for what is not a key's.
func groupOf(name string) string {
	for _, side := range []string{targetKeys, initiatorKeys} {
		if rest, ok := strings.CutPrefix(name, side); ok && len(rest) > shortLen {
			return name[:len(side)+shortLen+1]
		}
	}
	return ""
}

// hold has the data plane know a key, under names that begin with a group's.
func (p *Plane) hold(ctx context.Context, group, of string, key HopKey) (spdk.Keys, error) {
	if len(key) == 0 {
		return spdk.Keys{}, nil
	}
	if !p.Driver().Authenticates() {
		return spdk.Keys{}, errors.New("the cluster is secured, and this node's data plane cannot authenticate by DH-HMAC-CHAP: " +
			"run vda_tgt, or SPDK 24.09 or newer")
	}
	name := group + of + short(string(key)) // nobody finds a key of 256 random bits by its hash
	keys := spdk.Keys{Host: name + "-host", Ctrlr: name + "-ctrlr"}
	return keys, p.holdTexts(ctx, group, map[string][]byte{keys.Host: key.For("host").text(), keys.Ctrlr: key.For("controller").text()})
}

// holdTexts has the data plane know keys of a group, by their names.
func (p *Plane) holdTexts(ctx context.Context, group string, texts map[string][]byte) error {
	for name, text := range texts {
		p.mu.Lock()
		held := p.hops[group][name]
		p.mu.Unlock()
		if held {
			continue
		}
		if err := p.addKey(ctx, name, text); err != nil {
			return err
		}
		p.mu.Lock()
		if p.hops[group] == nil {
			p.hops[group] = map[string]bool{}
		}
		p.hops[group][name] = true
		p.mu.Unlock()
	}
	return nil
}

// addKey adds one key to the keyring.
func (p *Plane) addKey(ctx context.Context, name string, text []byte) error {
	dir, err := filepath.Abs(filepath.Join(p.cfg.StateDir, hopsDir))
	if err == nil {
		err = os.MkdirAll(dir, 0o700)
	}
	path := filepath.Join(dir, name)
	if err == nil { // that is not to outlive a crash, so it is not synced
		err = os.WriteFile(path+newFile, text, 0o600)
	}
	if err == nil {
		err = os.Rename(path+newFile, path)
	}
	if err != nil {
		return fmt.Errorf("the key of a connection cannot be kept: %w", err)
	}
	if err := p.KeyringFileAddKey(ctx, name, path); err != nil && !spdk.IsExists(err) {
		return fmt.Errorf("the data plane does not take the key of a connection from %s; it must see that file and run as the "+
			"user of the agent: %w", path, err)
	}
	return nil
}

// newFile ends the name of a file that is being written.
const newFile = ".new"

// dropKeys takes the keys of a group whose names begin with prefix from the data plane
// and from the disk, but for those of keep. What has authenticated by them stays
// connected.
func (p *Plane) dropKeys(ctx context.Context, group, prefix string, keep ...spdk.Keys) error {
	var names []string
	p.mu.Lock()
	for name := range p.hops[group] {
		kept := slices.ContainsFunc(keep, func(k spdk.Keys) bool { return name == k.Host || name == k.Ctrlr })
		if strings.HasPrefix(name, prefix) && !kept {
			names = append(names, name)
			delete(p.hops[group], name)
		}
	}
	if len(p.hops[group]) == 0 {
		delete(p.hops, group)
	}
	p.mu.Unlock()
	var errs []error
	for _, name := range names {
		if err := p.KeyringFileRemoveKey(ctx, name); err != nil && !spdk.IsNoKey(err) {
			errs = append(errs, err)
		}
		if err := os.Remove(filepath.Join(p.cfg.StateDir, hopsDir, name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// newHops begins with a run of the data plane. One that has just started has an empty
// keyring, and no file is of use; else the files say what it was given.
func (p *Plane) newHops(fresh bool) {
	dir, all := filepath.Join(p.cfg.StateDir, hopsDir), hops{}
	if fresh {
		if err := os.RemoveAll(dir); err != nil {
			p.log.Warn("files with keys of connections of before stay", "err", err)
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		p.log.Warn("keys of connections of before stay", "err", err)
	}
	for _, e := range entries {
		if group := groupOf(e.Name()); group != "" && !strings.HasSuffix(e.Name(), newFile) {
			if all[group] == nil {
				all[group] = map[string]bool{}
			}
			all[group][e.Name()] = true
		}
	}
	p.mu.Lock()
	p.hops, p.proven, p.pairs = all, map[string]spdk.Keys{}, map[hostOf][2]spdk.Keys{}
	p.mu.Unlock()
}

// hostKeys gives the data plane what a host of a subsystem has to prove.
func (p *Plane) hostKeys(ctx context.Context, nqn, host string, key HopKey) (spdk.Keys, error) {
	return p.hold(ctx, targetKeys+short(nqn)+"-", short(host)+"-", key)
}

// dropHostKeys forgets what the hosts of a subsystem, or one of them, had to prove.
func (p *Plane) dropHostKeys(ctx context.Context, nqn, host string) {
	p.forgetPairs(nqn, host)
	group := targetKeys + short(nqn) + "-"
	prefix := group
	if host != "" {
		prefix += short(host) + "-"
	}
	if err := p.dropKeys(ctx, group, prefix); err != nil {
		p.log.Warn("keys of hosts that are not admitted any more stay", "nqn", nqn, "err", err)
	}
}

// Attach connects an NVMe controller that proves itself by key, and has the other
// side prove itself.
func (p *Plane) Attach(ctx context.Context, n spdk.NvmeAttach, key HopKey) (bdevs []string, err error) {
	if n.Keys, err = p.connKeys(ctx, n.Name, key); err != nil {
		return nil, err
	}
	bdevs, err = p.Driver().Attach(ctx, n)
	if err == nil {
		p.prove(n.Name, n.Keys)
		p.dropConnKeys(ctx, n.Name, n.Keys)
	}
	return bdevs, err
}

// Prove has a connection that is there authenticate by key, under I/O, unless it is
// known to have done so. nil changes nothing.
func (p *Plane) Prove(ctx context.Context, name string, key HopKey) error {
	if len(key) == 0 {
		return nil
	}
	keys, err := p.connKeys(ctx, name, key)
	p.mu.Lock()
	proven := p.proven[name]
	p.mu.Unlock()
	if err != nil || keys == proven {
		return err
	}
	if err := p.BdevNvmeSetKeys(ctx, name, keys); err != nil {
		return err
	}
	p.prove(name, keys)
	p.dropConnKeys(ctx, name, keys)
	return nil
}

func (p *Plane) prove(name string, keys spdk.Keys) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.proven[name] = keys
}

// connKeys gives the data plane what a connection proves itself by.
func (p *Plane) connKeys(ctx context.Context, name string, key HopKey) (spdk.Keys, error) {
	return p.hold(ctx, initiatorKeys+short(name)+"-", "", key)
}

// forgetConn forgets all about a connection that has ended.
func (p *Plane) forgetConn(ctx context.Context, name string) {
	p.mu.Lock()
	delete(p.proven, name)
	p.mu.Unlock()
	p.dropConnKeys(ctx, name, spdk.Keys{})
}

// dropConnKeys forgets what a connection proved itself by, but for keep.
func (p *Plane) dropConnKeys(ctx context.Context, name string, keep spdk.Keys) {
	group := initiatorKeys + short(name) + "-"
	if err := p.dropKeys(ctx, group, group, keep); err != nil {
		p.log.Warn("keys that a connection has proven itself by before stay", "name", name, "err", err)
	}
}
