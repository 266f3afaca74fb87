package planetest

import (
	"context"
	"errors"

	"github.com/virtual-disk-array/vda/spdk"
)

// Cut keeps the plane from another, or lets it through again: what it is
// connected to there is lost, and it connects in vain.
func (p *Plane) Cut(to *Plane, on bool) {
	p.c.mu.Lock()
	defer p.c.mu.Unlock()
	if p.cut == nil {
		p.cut = map[*Plane]bool{}
	}
	p.cut[to] = on
}

// isCut reports that the plane at an address is kept from this one. The lock
// is held.
func (p *Plane) isCut(addr string) bool { return p.cut[p.c.planes[addr]] }

// Reach is for agent.Plane. A plane that hangs is reached: its machine
// answers.
func (p *Plane) Reach(ctx context.Context, at spdk.TransportID) error {
	p.c.mu.Lock()
	defer p.c.mu.Unlock()
	for p.c.live != nil {
		there, ok := p.c.live.Path(p.addr, at.TrAddr)
		back, ok2 := p.c.live.Path(at.TrAddr, p.addr)
		if ok && ok2 {
			p.c.sleep(there + back)
			break
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		p.c.sleep(retransmit)
	}
	if addr := at.TrAddr + ":" + at.TrSvcID; p.c.planes[addr] == nil || p.isCut(addr) {
		return errors.New("connection refused")
	}
	return nil
}
