package cn

// heldIO notes what a primary's connections look like, and reports whether
// something may be held on one since its vd was lost.
func (p *pass) heldIO() bool {
	may := false
	for _, v := range p.vds() {
		if c := p.inv.Controller(vdPrefix + v.VdId); c != nil {
			may = p.Plane.Driver().MayHold(c, c.Connected()) || may
		}
	}
	return may
}

// noneHeld notes that nothing is held on a primary's connections.
func (p *pass) noneHeld() {
	for _, v := range p.vds() {
		if c := p.inv.Controller(vdPrefix + v.VdId); c != nil {
			p.Plane.Driver().Clean(c)
		}
	}
}
