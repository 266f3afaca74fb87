package dn

import "github.com/virtual-disk-array/vda/agent"

// Measured is agent.Service's: the disks.
func (a *Agent) Measured() []agent.Measured {
	a.mu.Lock()
	defer a.mu.Unlock()
	var all []agent.Measured
	for _, pd := range a.set.pds {
		if c, err := parseConf(pd.ConfJson); err == nil && !pd.Deleted {
			all = append(all, agent.Measured{Kind: agent.MeasuredPD, Bdev: baseName(c, pd.Id), Labels: []string{pd.Name}})
		}
	}
	return all
}
