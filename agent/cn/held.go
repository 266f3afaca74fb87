package cn

import "context"

// closeHeld closes a primary's paths when one of its vds is lost and the data
// plane would hold what hosts send, or when something may be held since a vd was
// lost before: the caller that reopens them (agent.Plane.Ensure) waits for held
// I/O to drain.
func (p *pass) closeHeld(ctx context.Context, lost bool) error {
	driver, broken := p.Plane.Driver(), false
	for _, v := range p.vds() {
		if c := p.inv.Controllers[vdPrefix+v.VdId]; c != nil {
			broken = driver.MayHold(c, c.Connected()) || broken
		}
	}
	if !lost && !broken {
		return nil
	}
	if err := p.closeNow(ctx); err != nil || lost {
		return err
	}
	for _, v := range p.vds() {
		if c := p.inv.Controllers[vdPrefix+v.VdId]; c != nil {
			driver.Clean(c)
		}
	}
	return nil
}
