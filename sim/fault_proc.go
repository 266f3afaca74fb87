package sim

import (
	"context"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	apiv1 "github.com/virtual-disk-array/vda/api/v1"
)

// kill ends daemons; the undo starts them again.
func kill(ds ...*daemon) func() {
	for _, d := range ds {
		d.kill()
	}
	return func() {
		for _, d := range ds {
			d.start()
		}
	}
}

// victim draws a program, the primaries' nodes more often than others.
func (s *sim) victim() *daemon {
	if s.rng.IntN(2) == 0 {
		n := pick(s.rng, s.of("cn"))
		if s.rng.IntN(3) == 0 {
			return n.agent
		}
		return n.plane
	}
	return pick(s.rng, s.daemons)
}

func (s *sim) drawKill() (string, func() func()) {
	d := s.victim()
	return d.name, func() func() { return kill(d) }
}

func (s *sim) drawKillNode() (string, func() func()) {
	n := pick(s.rng, s.nodes)
	return n.name, func() func() { return kill(n.plane, n.agent) }
}

func (s *sim) drawPower() (string, func() func()) {
	n := pick(s.rng, s.nodes)
	return n.name, func() func() {
		s.net.Power(n.machine, false)
		start := kill(n.plane, n.agent)
		s.powerCut(n, s.power)
		return func() {
			s.net.Power(n.machine, true)
			start()
		}
	}
}

func (s *sim) drawKillAll() (string, func() func()) {
	return "every program", func() func() {
		s.db.set(true, 0)
		start := kill(s.daemons...)
		return func() {
			s.db.set(false, 0)
			start()
		}
	}
}

func hang(ds ...*daemon) func() {
	for _, d := range ds {
		d.hang(true)
	}
	return func() {
		for _, d := range ds {
			d.hang(false)
		}
	}
}

func (s *sim) drawHang() (string, func() func()) {
	d := s.victim()
	return d.name, func() func() { return hang(d) }
}

func (s *sim) drawHangNode() (string, func() func()) {
	n := pick(s.rng, s.nodes)
	return n.name, func() func() { return hang(n.plane, n.agent) }
}

// drawSwitch is an administrator who moves an array's primary.
func (s *sim) drawSwitch() (string, func() func()) {
	array, to := pick(s.rng, s.hosts).array, pick(s.rng, s.of("cn"))
	return array + " to " + to.name, func() func() {
		return begin(func() {
			ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
			defer cancel()
			r, err := s.admin.FailoverDa(ctx, &apiv1.FailoverDaRequest{DaName: array, ToCn: to.machine + ":" + cnPort})
			s.log.printf("admin          da failover %s to %s: %v", array, to.name, replied(r.GetReplyInfo(), err))
		})
	}
}

// drawDrain is an administrator who takes a cn's primaries away and gives the
// cn back.
func (s *sim) drawDrain() (string, func() func()) {
	n := pick(s.rng, s.of("cn"))
	return n.name, func() func() {
		off := make(chan struct{})
		go func() {
			defer close(off)
			s.log.printf("admin          cn modify %s --new-online 0: %v", n.name, s.setOnline(n, false))
		}()
		return func() {
			<-off
			for {
				err := s.setOnline(n, true)
				s.log.printf("admin          cn modify %s --new-online 1: %v", n.name, err)
				if err == nil {
					return
				}
				time.Sleep(2 * time.Second)
			}
		}
	}
}

func (s *sim) setOnline(n *simNode, online bool) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	_, err := s.admin.ModifyCn(ctx, &apiv1.ModifyCnRequest{CnName: n.machine + ":" + cnPort, NewOnline: &online})
	return err
}

// churns are arrays and exporters that are made and deleted all the time. Their
// names join to one NQN.
var churns = [2]struct{ da, exp string }{{"churn", "a-b"}, {"churn-a", "b"}}

// drawChurn is an administrator who makes and deletes arrays and exporters
// under the same names again and again, whatever answers he gets.
func (s *sim) drawChurn() (string, func() func()) {
	s.churned++
	cntlrs := uint32(1 + s.rng.IntN(len(s.of("cn"))))
	one, other := churns[s.churned%2], churns[(s.churned+1)%2]
	return one.da, func() func() {
		made := make(chan struct{})
		go func() {
			defer close(made)
			ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
			defer cancel()
			s.make(ctx, one.da, one.exp, cntlrs)
			s.removeExp(ctx, one.da, one.exp) // its tombstone stays with the array
			s.make(ctx, other.da, other.exp, cntlrs)
			s.remove(other.da, other.exp)
			s.make(ctx, one.da, one.exp, cntlrs)
		}()
		return func() {
			<-made
			for !s.remove(one.da, one.exp) || !s.remove(other.da, other.exp) {
				time.Sleep(2 * time.Second)
			}
		}
	}
}

// make makes an array that may be there, and an exporter of it.
func (s *sim) make(ctx context.Context, da, exp string, cntlrs uint32) {
	r, err := s.admin.CreateDa(ctx, &apiv1.CreateDaRequest{DaName: da, CntlrCnt: cntlrs, DaSize: 4 << 20})
	s.log.printf("admin          da create %s: %v", da, replied(r.GetReplyInfo(), err))
	e, err := s.admin.CreateExp(ctx, &apiv1.CreateExpRequest{DaName: da, ExpName: exp, InitiatorNqn: nobody})
	s.log.printf("admin          exp create %s: %v", exp, replied(e.GetReplyInfo(), err))
}

func (s *sim) removeExp(ctx context.Context, da, exp string) {
	e, err := s.admin.DeleteExp(ctx, &apiv1.DeleteExpRequest{DaName: da, ExpName: exp})
	s.log.printf("admin          exp delete %s: %v", exp, replied(e.GetReplyInfo(), err))
}

// remove deletes an array that may not be there, and reports whether it is
// gone for the portal.
func (s *sim) remove(da, exp string) bool {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	s.removeExp(ctx, da, exp)
	r, err := s.admin.DeleteDa(ctx, &apiv1.DeleteDaRequest{DaName: da})
	s.log.printf("admin          da delete %s: %v", da, replied(r.GetReplyInfo(), err))
	return err == nil || status.Code(err) == codes.NotFound
}
