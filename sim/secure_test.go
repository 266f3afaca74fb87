//go:build !race

package sim

import (
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/virtual-disk-array/vda/pki"
)

// TestMissingChecksAreFound: agents that take orders from all members, and data planes that let hosts in without a key,
// are found by those who try.
func TestMissingChecksAreFound(t *testing.T) {
	t.Run("an agent takes orders from a node", func(t *testing.T) {
		mustFind(t, Config{}, func(cfg *Config) { cfg.NoRoles = true }, aNodeGivesOrders, "a stranger is served")
	})
	t.Run("a data plane asks for no key", func(t *testing.T) {
		mustFind(t, Config{}, func(cfg *Config) { cfg.NoProof = true }, aStrangerIsAtTheDoors, "a stranger gets in")
	})
}

// aNodeGivesOrders: the first dn was taken over.
func aNodeGivesOrders(p *player) {
	for _, n := range p.s.nodes {
		p.s.intruder.call("with a node's certificate", n.agent, p.s.intruder.as(p.s.intruder.node))
	}
	p.write(3)
}

func aStrangerIsAtTheDoors(p *player) {
	p.write(3)
	p.s.intruder.atDoors()
}

// TestSecurityStories: certificates are revoked and keys changed while something is away that has to hear of it.
func TestSecurityStories(t *testing.T) {
	for _, st := range []struct {
		name string
		tell func(p *player)
	}{
		{"a monitor's certificate is copied and revoked, and agents start while nobody tells them", aStolenMonitor},
		{"a dn's certificate is revoked while its array is written to", aRevokedDN},
		{"a host's key is changed while an agent is away, and then the primary dies", keysBesideAFailover},
	} {
		t.Run(st.name, func(t *testing.T) {
			o := play(t, Config{Schema: schema(t)}, 2, 2, st.tell)
			keepLog(t, strings.ReplaceAll(st.name, " ", "-"), o)
			if len(o.Wrongs) > 0 {
				t.Errorf("%q\n%s", o.Wrongs, o.Log)
			}
		})
	}
}

// serves reports whether a daemon serves somebody with an identity, or refuses him for it; neither when it is not reached.
func (p *player) serves(d *daemon, id *pki.Identity) (served, refused bool) {
	err := p.s.callAs(d, p.s.intruder.as(id))
	switch status.Code(err) {
	case codes.Unavailable:
		return false, strings.Contains(err.Error(), "tls: ")
	case codes.Unauthenticated:
		return false, true
	case codes.DeadlineExceeded:
		return false, false
	}
	return true, false
}

func (p *player) daemon(name string) *daemon {
	return p.s.daemons[slices.IndexFunc(p.s.daemons, func(d *daemon) bool { return d.name == name })]
}

// aStolenMonitor gives orders by a copy of a monitor's certificate. One agent does not hear of the revocation before it
// is reached again, and all remember it.
func aStolenMonitor(p *player) {
	monitor, away := p.daemon("monitor0"), p.s.of("dn")[0]
	heal := p.s.part(away.machine, p.s.machines()[:5])
	thief, err := p.s.revoke(monitor)
	if err != nil {
		p.s.ledger.Wrong("the certificate of %s cannot be revoked: %v", monitor.name, err)
		return
	}
	if served, _ := p.serves(away.agent, thief); !served {
		p.s.ledger.Wrong("a monitor's certificate is not served by %s, which has not heard that it is revoked", away.name)
	}
	p.s.enrolAgain(monitor)
	refuses := func(n *simNode) {
		p.until(n.name+" refuses it", func() bool { _, refused := p.serves(n.agent, thief); return refused })
	}
	for begun := time.Now(); time.Since(begun) < heard; time.Sleep(time.Second) { // they have that time, and go on
		p.write(3)
	}
	for _, n := range p.s.nodes[1:] {
		if _, refused := p.serves(n.agent, thief); !refused {
			p.s.ledger.Wrong("%s serves a certificate that was revoked %v ago", n.name, heard)
		}
	}
	heal()
	refuses(away)
	for _, n := range p.s.nodes {
		heal := p.s.part(n.machine, p.s.machines()[:5])
		n.agent.kill()
		n.agent.start()
		if served, _ := p.serves(n.agent, thief); served {
			p.s.ledger.Wrong("%s has forgotten a revocation", n.name)
		}
		refuses(n)
		heal()
	}
	p.write(3)
}

// aRevokedDN gets no orders until it has enrolled again, and serves its hosts.
func aRevokedDN(p *player) {
	p.write(3)
	dn := p.legs()[0].dn
	if _, err := p.s.revoke(dn.agent); err != nil {
		p.s.ledger.Wrong("the certificate of %s cannot be revoked: %v", dn.name, err)
		return
	}
	for range 15 {
		p.write(3)
		p.pass(time.Second)
	}
	p.s.enrolAgain(dn.agent)
	p.write(3)
}

// keysBesideAFailover: the secondary hears late of a key by which its host has connected elsewhere, as primary.
func keysBesideAFailover(p *player) {
	p.write(3)
	old, next := p.primary(), p.other()
	before := p.h.secrets()
	next.agent.kill()
	p.s.rekey(p.h, time.Second, true)
	p.write(3)
	p.kill(old)
	next.agent.start()
	p.moved(old)
	p.write(3)
	p.revive(old)
	p.until("all paths are there", func() bool { return p.s.unwell() == "" })
	for _, n := range p.s.of("cn") {
		at, now := n.machine+":"+cnSvc, p.h.secrets()
		if err := n.model.Prove(at, p.h.sub, p.h.nqn, now[0], now[1]); err != nil {
			p.s.ledger.Wrong("the host's key is refused by %s: %v", n.name, err)
		}
		if n.model.Prove(at, p.h.sub, p.h.nqn, before[0], before[1]) == nil {
			p.s.ledger.Wrong("a stranger gets in: %s takes a key of the host that was dropped", n.name)
		}
	}
}
