package cn

import (
	"context"
	"fmt"
	"slices"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/agent"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
)

// prove has connections authenticate that were made before there were keys for them,
// as those of a cluster that has been secured meanwhile; I/O goes on. Of others that
// is known, or done again: the agent has started since. One that is lost comes back by the
// key: without it, it would be refused for ever.
func (p *pass) prove(ctx context.Context) error {
	var names []string
	var keys []agent.HopKey
	add := func(name string, key agent.HopKey) {
		if c := p.inv.Controller(name); c != nil && len(key) > 0 {
			names, keys = append(names, name), append(keys, key)
		}
	}
	key := agent.HopKey(p.c.HopKey)
	if p.c.Primary {
		for _, v := range vdsOf(p.spec) { // of groups that are joining, too
			if c := p.inv.Controller(vdPrefix + v.VdId); c != nil && p.fits(c, v) {
				add(vdPrefix+v.VdId, v.HopKey)
			}
		}
		add(srcPrefix+p.c.DaId, p.c.GetSource().GetHopKey())
	}
	for _, e := range p.c.Exps {
		if c := p.inv.Controller(pxPrefix + e.Id); !p.c.Primary && c != nil && p.leads(c, e) {
			add(pxPrefix+e.Id, key.For(led(e)))
		}
		if c := p.inv.Controller(linkPrefix + e.Id); p.c.Primary && c != nil && len(c.Ctrlrs) == 1 {
			add(linkPrefix+e.Id, key.For(c.Ctrlrs[0].TrID.SubNQN))
		}
	}
	return agent.Parallel(len(names), func(i int) error {
		if err := p.Plane.Prove(ctx, names[i], keys[i]); err != nil {
			return fmt.Errorf("connection %s does not authenticate: %w", names[i], err)
		}
		return nil
	})
}

// proxyKeys are what those hosts of an exporter prove to know that are controllers of
// the array: the secondaries, and this one by its links.
func (p *pass) proxyKeys(e *apiv1.ExpSpec) map[string]agent.HopKey {
	keys := map[string]agent.HopKey{}
	if key := agent.HopKey(p.c.HopKey).For(e.Nqn); key != nil {
		keys[vda.ProxyHostNQN(p.c.Id)] = key
	}
	for i, host := range p.c.SecondaryHostNqns {
		if p.atBack(host) != ofHop(e) {
			continue
		}
		if i < len(p.c.SecondaryHopKeys) {
			keys[host] = agent.HopKey(p.c.SecondaryHopKeys[i]).For(e.Nqn)
		}
	}
	return keys
}

// atBack reports that a secondary connects to hops, and to no exporter that hosts use.
func (p *pass) atBack(host string) bool { return slices.Contains(p.c.BackendHostNqns, host) }

// secondaries are the hosts of an exporter that are secondaries of the array.
func (p *pass) secondaries(e *apiv1.ExpSpec) []string {
	return slices.DeleteFunc(slices.Clone(p.c.SecondaryHostNqns), func(host string) bool { return p.atBack(host) != ofHop(e) })
}

// cloneAuth is what the primary of a clone authenticates by, which is copied from what an
// exporter shows.
func cloneAuth(e *apiv1.ExpSpec) agent.HostAuth {
	auth := agent.HostAuth{New: agent.HopKey(e.CloneHopKeys[0]).Pair()}
	if len(e.CloneHopKeys) > 1 {
		old := agent.HopKey(e.CloneHopKeys[1]).Pair()
		auth.Old = &old
	}
	return auth
}

// hostAuth is what a user's host authenticates by.
func hostAuth(h *apiv1.AuthHost) agent.HostAuth {
	pair := func(k *apiv1.AuthKeys) agent.KeyPair {
		return agent.KeyPair{ID: k.GetId(), Host: k.GetHost(), Ctrlr: k.GetCtrlr()}
	}
	auth := agent.HostAuth{New: pair(h.New)}
	if h.Old != nil {
		old := pair(h.Old)
		auth.Old = &old
	}
	return auth
}
