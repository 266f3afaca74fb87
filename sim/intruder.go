package sim

import (
	"context"
	"crypto/tls"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/virtual-disk-array/vda"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/client"
	"github.com/virtual-disk-array/vda/pki"
	"github.com/virtual-disk-array/vda/rpc"
	"github.com/virtual-disk-array/vda/sim/simnet"
)

// intruder is somebody on the network who tries, beside the faults, what nobody may: calls without a certificate, with
// another cluster's and with a node's, changes with a viewer's token, connections to data planes without a key.
type intruder struct {
	s       *sim
	p       *simnet.Process
	rng     *rand.Rand
	foreign *pki.Identity // a portal, for another CA
	node    *pki.Identity // a copy of the first dn's
	viewer  *client.Client
	tries   int // which had an answer
}

const intruderMachine = "10.0.9.1"

// newIntruder copies what there is to be copied.
func (s *sim) newIntruder() (*intruder, error) {
	i := &intruder{s: s, p: s.net.Start("intruder", intruderMachine), rng: rand.New(rand.NewPCG(s.cfg.Seed, 7))}
	s.end = append(s.end, i.p.Kill)
	ca, err := pki.NewCA("elsewhere", time.Now())
	if err != nil {
		return nil, err
	}
	if i.foreign, err = pki.Open(filepath.Join(s.dir, "elsewhere")); err != nil {
		return nil, err
	}
	if err = i.foreign.IssueOwn(ca, pki.Name{Cluster: "elsewhere", Kind: pki.Portal, Name: portalAddress}); err != nil {
		return nil, err
	}
	if i.node, err = s.stolen(s.of("dn")[0].agent); err != nil {
		return nil, err
	}
	if i.viewer, err = s.user(i.p, "viewer"); err == nil {
		s.end = append(s.end, func() { _ = i.viewer.Close() })
	}
	return i, err
}

// lurk tries one thing after another until stop is closed.
func (i *intruder) lurk(stop <-chan struct{}) {
	for {
		select {
		case <-stop:
			return
		case <-time.After(time.Duration(500+i.rng.IntN(3000)) * time.Millisecond):
		}
		d := pick(i.rng, i.s.daemons)
		switch k := i.rng.IntN(6); {
		case k == 0:
			i.asViewer()
		case d.dir == "" || k == 1:
			i.atDoors()
		case k == 2:
			i.call("without a certificate", d, i.as(nil))
		case k == 3:
			i.call("with another cluster's certificate", d, i.as(i.foreign))
		case k == 4:
			i.call("in the clear", d, i.s.dialing(i.p))
		default:
			i.call("with a node's certificate", d, i.as(i.node))
		}
	}
}

// as dials with an identity, nil for none, and asks nothing of the other side.
func (i *intruder) as(id *pki.Identity) rpc.DialConfig {
	cfg := i.s.dialing(i.p)
	if cfg.TLS = (&tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS13}); id != nil {
		cfg.TLS = id.ClientTLS(func(pki.Name) error { return nil })
		cfg.TLS.VerifyConnection = nil
	}
	return cfg
}

// call calls a daemon, which must not serve it.
func (i *intruder) call(how string, d *daemon, cfg rpc.DialConfig) {
	err := i.s.callAs(d, cfg)
	switch status.Code(err) {
	case codes.Unauthenticated, codes.PermissionDenied:
		i.tries++
	case codes.Unavailable, codes.DeadlineExceeded: // a refused connection, or a fault
	default:
		i.s.ledger.Wrong("a stranger is served: %s takes a call %s: %v", d.name, how, err)
	}
}

// callAs makes a call to a daemon that its own portals and monitors, or users, make; nil: it was served.
func (s *sim) callAs(d *daemon, cfg rpc.DialConfig) error {
	kind, at, _ := strings.Cut(d.who, "/")
	if d.who == "" {
		kind, at = pki.Portal, portalAddress
	}
	cfg.Ping = -1
	conn, err := rpc.Dial(at, cfg)
	if err != nil {
		return err
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	switch kind {
	case pki.DN:
		_, err = apiv1.NewDnAgentClient(conn).Heartbeat(ctx, &apiv1.HeartbeatRequest{})
	case pki.CN:
		_, err = apiv1.NewCnAgentClient(conn).Heartbeat(ctx, &apiv1.HeartbeatRequest{})
	case pki.Monitor:
		_, err = apiv1.NewMonitorClient(conn).Hear(ctx, &apiv1.HearRequest{})
	default:
		_, err = apiv1.NewPortalClient(conn).ListDn(ctx, &apiv1.ListDnRequest{})
	}
	return err
}

// asViewer asks for a change.
func (i *intruder) asViewer() {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	_, err := i.viewer.DeleteDa(ctx, &apiv1.DeleteDaRequest{DaName: "none"})
	switch code := client.CodeOf(err); {
	case code == apiv1.CodePermissionDenied:
		i.tries++
	case err == nil || !unsure(err):
		i.s.ledger.Wrong("a stranger is served: a viewer changes something: %v", err)
	}
}

// atDoors tries to get into subsystems by the NQN of each host that they admit, and no key.
func (i *intruder) atDoors() {
	for _, n := range i.s.nodes {
		at := fmt.Sprint(n.machine, ":", map[string]string{"dn": dnSvc, "cn": cnSvc}[n.kind])
		for _, door := range n.model.Doors() {
			// An owner's mark has no namespace; a disk is read under a name that nobody can guess.
			if door.Host == nobody || door.NQN == vda.OwnerNQN || strings.HasPrefix(door.NQN, vda.NQNPrefix+"raw-") {
				continue
			}
			if n.model.Break(at, door.NQN, door.Host) == nil {
				i.s.ledger.Wrong("a stranger gets in: %s at %s by the NQN %s", door.NQN, at, door.Host)
			}
			i.tries++
		}
	}
}
