package apiv1

// WithoutKeys takes away what only the node itself has to know of a vd.
func (x *VdSpec) WithoutKeys() *VdSpec {
	x.HopKey = nil
	return x
}

// WithoutKeys takes away what only the node itself has to know of a controller.
func (x *CntlrSpec) WithoutKeys() *CntlrSpec {
	x.HopKey, x.SecondaryHopKeys = nil, nil
	if x.Source != nil {
		x.Source.HopKey = nil
	}
	for _, e := range x.Exps {
		e.CloneHopKeys = nil
	}
	for _, g := range x.Grps {
		for _, v := range g.Vds {
			v.HopKey = nil
		}
		for _, m := range append(g.Mirrors, g.Columns...) {
			for _, l := range m.Legs {
				l.Vd.HopKey = nil
			}
		}
	}
	return x
}
