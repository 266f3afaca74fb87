package cn

import "github.com/virtual-disk-array/vda/agent"

// Measured is agent.Service's: the volumes of the arrays whose primary is here, and the paths
// of all exporters.
func (a *Agent) Measured() []agent.Measured {
	a.mu.Lock()
	defer a.mu.Unlock()
	var all []agent.Measured
	for _, c := range a.set.cntlrs {
		if c.Deleted {
			continue
		}
		if c.Primary {
			all = append(all, agent.Measured{Kind: agent.MeasuredDA, Bdev: volAlias(c.DaId), Labels: []string{c.DaName}})
		}
		for _, e := range c.Exps {
			if !e.Deleted && !ofHop(e) { // what passes there is measured where hosts are
				all = append(all, agent.Measured{Kind: agent.MeasuredPath, NQN: e.Nqn, Labels: []string{c.DaName, e.Name}, Hosts: e.Hosts(),
					State: a.Plane.ANA(e.Nqn)})
			}
		}
	}
	return all
}
