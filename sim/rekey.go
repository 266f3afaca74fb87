package sim

import (
	"context"
	"math/rand/v2"
	"time"

	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/pki"
	"github.com/virtual-disk-array/vda/store/dbcli"
)

// securities are what an administrator does beside the faults who keeps a secured cluster. They are drawn from numbers
// of their own, so that a seed has the same faults with and without them.
var securities = []kind{
	{3, "rekey of a host", (*sim).drawRekey},
	{2, "revocation", (*sim).drawRevoke},
}

// securityPlan draws them.
func (s *sim) securityPlan() []fault {
	faults := s.rng
	defer func() { s.rng = faults }()
	s.rng = rand.New(rand.NewPCG(s.cfg.Seed, 8))
	return s.draw(securities, time.Duration(15+s.rng.IntN(20))*time.Second)
}

func (s *sim) drawRekey() (string, func() func()) {
	h, late, again := pick(s.rng, s.hosts), time.Duration(s.rng.IntN(5000))*time.Millisecond, s.rng.IntN(2) == 0
	return h.name, func() func() {
		if s.cfg.Volumes { // its exporter comes and goes
			return func() {}
		}
		return begin(func() { s.rekey(h, late, again) })
	}
}

// rekey gives a host's exporter another key, after a while the host, which may connect again by it, and then has the one
// of before be refused.
func (s *sim) rekey(h *host, late time.Duration, again bool) {
	if !h.rekeying.CompareAndSwap(false, true) {
		return
	}
	defer h.rekeying.Store(false)
	keys := newKeys()
	if !s.modifyKeys(h, &apiv1.ModifyExpRequest{DhchapKey: keys[0], DhchapCtrlrKey: keys[1]}) {
		return
	}
	time.Sleep(late)
	h.keyed.Lock()
	h.keys = keys
	h.keyed.Unlock()
	if again {
		h.follow(nil)
		_ = s.lookUp(h)
	}
	s.modifyKeys(h, &apiv1.ModifyExpRequest{DropOldDhchapKey: true})
}

func (s *sim) modifyKeys(h *host, req *apiv1.ModifyExpRequest) bool {
	req.DaName, req.ExpName = h.array, "exp0"
	err := s.call("exp modify", func(ctx context.Context) (*apiv1.ReplyInfo, error) {
		if _, err := s.admin.ModifyExp(ctx, req); err != nil {
			return nil, err
		}
		return granted, nil
	})
	if err != nil {
		s.ledger.Wrong("exp modify of the keys of %s: %v", h.name, err)
	}
	s.log.printf("admin          exp modify of the keys of %s: %v", h.name, err)
	return err == nil
}

// drawRevoke is an administrator who has a daemon's certificate refused, of which somebody has a copy, and gives it
// another one.
func (s *sim) drawRevoke() (string, func() func()) {
	var all []*daemon
	for _, d := range s.daemons {
		if d.who != "" {
			all = append(all, d)
		}
	}
	d := pick(s.rng, all)
	return d.name, func() func() {
		if !d.revoking.CompareAndSwap(false, true) {
			return func() {}
		}
		thief, err := s.revoke(d)
		if err != nil {
			s.ledger.Wrong("the certificate of %s cannot be revoked: %v", d.name, err)
			return func() {}
		}
		s.mu.Lock()
		s.thieves = append(s.thieves, thief)
		s.mu.Unlock()
		return begin(func() { s.enrolAgain(d) })
	}
}

// revoke returns a copy of what it revokes.
func (s *sim) revoke(d *daemon) (thief *pki.Identity, err error) {
	if thief, err = s.stolen(d); err == nil {
		_, err = s.vdaDB(dbcli.Main{Action: "revoke", For: d.who})
	}
	s.log.printf("admin          revoke --for %s: %v", d.who, err)
	return thief, err
}

// enrolAgain starts a daemon with tokens until it has another certificate.
func (s *sim) enrolAgain(d *daemon) {
	for {
		err := s.issue(d)
		if err == nil {
			d.kill()
			d.start()
			var id *pki.Identity
			var t pki.Token
			if t, err = pki.ParseToken(d.token); err == nil {
				if id, err = pki.Open(d.dir); err == nil && id.EnrolledBy(t) {
					s.log.printf("admin          %s has another certificate", d.name)
					return
				}
			}
		}
		s.log.printf("admin          %s has no other certificate yet: %v", d.name, err)
		time.Sleep(5 * time.Second)
	}
}

// heard is when all daemons refuse what was revoked, when nothing is wrong: docs/security.md says so.
const heard = 10 * time.Second

// tryThieves has those who have copied certificates that are revoked call all daemons.
func (s *sim) tryThieves(i *intruder) {
	if len(s.thieves) > 0 {
		time.Sleep(heard)
	}
	for _, thief := range s.thieves {
		for _, d := range s.daemons {
			if d.dir != "" {
				i.call("with the revoked certificate of "+thief.Name().String(), d, i.as(thief))
			}
		}
	}
}
