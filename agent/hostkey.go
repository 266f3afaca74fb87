package agent

import (
	"context"
	"errors"
	"fmt"
	"maps"

	"github.com/virtual-disk-array/vda/spdk"
)

// KeyPair is what a host of users' and a subsystem prove to each other: texts as
// nvme gen-dhchap-key makes them.
type KeyPair struct {
	ID    string // another one for other keys; says nothing of them
	Host  string
	Ctrlr string // "": the subsystem cannot prove itself
}

// HostAuth is what a host authenticates by.
type HostAuth struct {
	New KeyPair
	Old *KeyPair // valid beside New; may be nil
}

// hostOf is a host of a subsystem.
type hostOf struct{ nqn, host string }

// holdPair has the data plane know the keys of a host.
func (p *Plane) holdPair(ctx context.Context, at hostOf, k *KeyPair) (spdk.Keys, error) {
	if k == nil {
		return spdk.Keys{}, nil
	}
	if !p.Driver().Authenticates() {
		return spdk.Keys{}, fmt.Errorf("host %s has to authenticate, and this node's data plane cannot have it do so by DH-HMAC-CHAP: "+
			"run vda_tgt, or SPDK 24.09 or newer", at.host)
	}
	if k.ID == "" || k.Host == "" {
		return spdk.Keys{}, errors.New("host " + at.host + " has to authenticate, and its key is not known")
	}
	group := targetKeys + short(at.nqn) + "-"
	name := group + short(at.host) + "-" + short(k.ID)
	keys := spdk.Keys{Host: name + "-host"}
	texts := map[string][]byte{keys.Host: []byte(k.Host)}
	if k.Ctrlr != "" {
		keys.Ctrlr = name + "-ctrlr"
		texts[keys.Ctrlr] = []byte(k.Ctrlr)
	}
	return keys, p.holdTexts(ctx, group, texts)
}

// admitUser admits a host with the keys of auth, or gives it those when it is
// admitted. It is on the list with a key or not at all; have is what the list says of
// it, nil when it is not there. While it may use two keys, none of them is refused.
func (p *Plane) admitUser(ctx context.Context, at hostOf, have *spdk.NvmfHost, auth HostAuth) error {
	if !p.Driver().KeepsKeys() {
		auth.Old = nil
	}
	now, err := p.holdPair(ctx, at, &auth.New)
	if err != nil {
		return err
	}
	old, err := p.holdPair(ctx, at, auth.Old)
	if err != nil {
		return err
	}
	want := [2]spdk.Keys{now, old}
	p.mu.Lock()
	settled := have != nil && have.Keys == now && p.pairs[at] == want
	p.mu.Unlock()
	if settled {
		return nil
	}
	if err := p.givePair(ctx, at, have, want); err != nil {
		return err
	}
	p.mu.Lock()
	p.pairs[at] = want
	p.mu.Unlock()
	group := targetKeys + short(at.nqn) + "-"
	if err := p.dropKeys(ctx, group, group+short(at.host)+"-", now, old); err != nil {
		p.log.Warn("keys that a host had before stay", "nqn", at.nqn, "host", at.host, "err", err)
	}
	return nil
}

// givePair makes the calls for admitUser. What is valid beside the newest key is the
// one that was the newest before, so that the old one is set first.
func (p *Plane) givePair(ctx context.Context, at hostOf, have *spdk.NvmfHost, want [2]spdk.Keys) error {
	now, old := want[0], want[1]
	first := now
	if old.Host != "" {
		first = old
	}
	switch {
	case have == nil:
		err := p.NvmfSubsystemAddHost(ctx, at.nqn, at.host, first)
		if err != nil && !p.Admits(ctx, at.nqn, spdk.NvmfHost{NQN: at.host, Keys: first}) {
			return err
		}
	case old.Host == "":
		return p.NvmfSubsystemSetKeys(ctx, at.nqn, at.host, now)
	case have.Keys != old:
		if err := p.NvmfSubsystemRotateKeys(ctx, at.nqn, at.host, old); err != nil {
			return err
		}
	}
	if old.Host == "" {
		return nil
	}
	return p.NvmfSubsystemRotateKeys(ctx, at.nqn, at.host, now)
}

// Readmitted has a host that was admitted again with its newest key get in by the one
// before as well, if it may.
func (p *Plane) Readmitted(ctx context.Context, nqn string, host spdk.NvmfHost) error {
	at, now := hostOf{nqn, host.NQN}, host.Keys
	p.mu.Lock()
	pair, known := p.pairs[at]
	p.mu.Unlock()
	if !known || pair[0] != now || pair[1].Host == "" {
		return nil
	}
	return p.givePair(ctx, at, &spdk.NvmfHost{NQN: at.host, Keys: now}, pair)
}

// forgetPairs forgets what a host of a subsystem was given, or all of its hosts for "".
func (p *Plane) forgetPairs(nqn, host string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	maps.DeleteFunc(p.pairs, func(at hostOf, _ [2]spdk.Keys) bool { return at.nqn == nqn && (host == "" || at.host == host) })
}
