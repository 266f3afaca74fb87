package target

import (
	"net"
	"syscall"

	"vda/bdev"
	"vda/nvme"
)

type conn struct {
	lis    *listener
	portal *portal
}
type controller struct{ lis *listener }
type cmd struct{}
type reservation struct{}

func (c *conn) hostNQN() string                    { return "" }
func (c *cmd) submit(b *bdev.Batch)                {}
func (c *cmd) keep()                               {}
func (c *cmd) finish(s nvme.Status, b *bdev.Batch) {}
func (n *namespace) cutLaggards()                  {}

func (t *Target) serve(nc *net.TCPConn, p *portal)                    { _ = nc.Close() }
func (t *Target) closeConns(match func(*conn) bool)                   {}
func (s *Subsystem) closeConns(match func(*conn) bool)                {}
func (s *Subsystem) anaChanged(match func(*controller) bool)          {}
func (s *Subsystem) namespaceChanged(nsid uint32)                     {}
func (t *Target) discoveryChanged()                                   {}
func listenOptions(network, address string, rc syscall.RawConn) error { return nil }

// Controllers returns the controllers of connected hosts.
func (s *Subsystem) Controllers() []ControllerInfo { return nil }

// Qpairs returns the connections of the subsystem's controllers.
func (s *Subsystem) Qpairs() []QpairInfo { return nil }

// Stats returns the target's counters.
func (t *Target) Stats() Stats { return Stats{} }

// AddReferral adds a referral. EEXIST when it is there.
func (t *Target) AddReferral(r Referral) error { return nil }

// RemoveReferral removes a referral. ENOENT when there is none.
func (t *Target) RemoveReferral(r Referral) error { return nil }

// Referrals returns the referrals.
func (t *Target) Referrals() []Referral { return nil }
