package sim

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/spdk"
	"github.com/virtual-disk-array/vda/store"
)

// settle waits until all is well and checks that it is: what SQL says, what
// the data planes hold, and what the hosts read. It returns how long it took.
func (s *sim) settle() time.Duration {
	begun := time.Now()
	if s.cfg.Settle == 0 {
		s.cfg.Settle = 150 * time.Second
		if s.redundancy != "" || s.moved.Load() {
			s.cfg.Settle = 20 * time.Minute
		}
	}
	for {
		why := s.unwell()
		if why == "" {
			break
		}
		if time.Since(begun) > s.cfg.Settle {
			s.ledger.Wrong("not well %v after the last fault: %s", s.cfg.Settle, why)
			break
		}
		time.Sleep(500 * time.Millisecond)
	}
	healed := time.Since(begun)
	s.log.printf("well again after %v", healed)
	hosts := slices.Clone(s.hosts)
	for _, c := range s.clonesThat(inUse) {
		hosts = append(hosts, c.h)
	}
	if s.filled != nil {
		s.fillUp()
		hosts = append(hosts, s.filled.h)
	}
	for _, h := range hosts {
		_ = s.lookUp(h) // the addresses that it should have now
		if at := h.lost(); at != "" {
			s.ledger.Wrong("a path is lost for ever: %s was told by %s not to come back", h.name, at)
		}
		if err := h.finish(time.Minute); err != nil {
			s.ledger.Wrong("%v", err)
		}
	}
	for _, h := range s.hosts {
		s.lookAtSnaps(h)
	}
	if s.redundancy != "" || s.moved.Load() {
		s.compareLegs()
	}
	return healed
}

// unwell returns the first thing that is not as it should be, "" for none.
func (s *sim) unwell() string {
	why := ""
	err := s.db.Store.View(context.Background(), func(tx store.Reader) error {
		var err error
		why, err = s.unwellRows(tx)
		return err
	})
	if err != nil {
		return err.Error()
	}
	for _, h := range s.hosts {
		if at := h.unconnected(); why == "" && at != "" {
			why = h.name + " has no connection to " + at
		}
	}
	return why
}

func (s *sim) unwellRows(tx store.Reader) (string, error) {
	dns, _, err := tx.ListDN(store.NodeFilter{}, store.Page{})
	if err != nil {
		return "", err
	}
	for _, n := range dns {
		if n.Health.Error || n.Applied != n.Version {
			return fmt.Sprintf("dn %s: version %d, applied %d, error %q", n.Name, n.Version, n.Applied, n.Health.Msg), nil
		}
	}
	cns, _, err := tx.ListCN(store.NodeFilter{}, store.Page{})
	if err != nil {
		return "", err
	}
	for _, n := range cns {
		if n.Health.Error || n.Applied != n.Version || !n.Online {
			return fmt.Sprintf("cn %s: version %d, applied %d, online %v, error %q", n.Name, n.Version, n.Applied, n.Online, n.Health.Msg), nil
		}
	}
	if why, err := s.unwellDisks(tx); why != "" || err != nil {
		return why, err
	}
	das, _, err := tx.ListDA(store.DAFilter{}, store.Page{})
	if err != nil {
		return "", err
	}
	if why, err := s.unwellSnaps(tx, das); why != "" || err != nil {
		return why, err
	}
	for i := range das {
		if why, err := s.unwellArray(tx, &das[i]); why != "" || err != nil {
			return why, err
		}
	}
	return "", nil
}

// unwellDisks looks for what deleted arrays have left behind: rows, lvols and
// space that nobody has.
func (s *sim) unwellDisks(tx store.Reader) (string, error) {
	deleted, err := tx.DeletedDAs()
	if err != nil || len(deleted) > 0 {
		return fmt.Sprintf("%d arrays are still being deleted", len(deleted)), err
	}
	pds, _, err := tx.ListPD(store.PDFilter{}, store.Page{})
	if err != nil {
		return "", err
	}
	for i := range pds {
		pd := &pds[i]
		vds, err := tx.VDsOfPD(pd.ID)
		if err != nil {
			return "", err
		}
		free, lvols := pd.TotalClusters, map[string]bool{}
		for j := range vds {
			free -= vds[j].Clusters
			lvols[vda.VDPrefix+vds[j].ID] = true
		}
		dn, err := tx.DN(pd.DNID)
		if err != nil {
			return "", err
		}
		if pd.Health.Error || pd.FreeClusters != free {
			return fmt.Sprintf("pd of dn %s: %d clusters free, not %d, error %q", dn.Name, pd.FreeClusters, free, pd.Health.Msg), nil
		}
		for _, n := range s.nodes {
			if n.machine != dn.Listener.TrAddr {
				continue
			}
			for _, name := range s.planes.Lvols(s.planes.Disk(s.disk(n))) {
				if !lvols[name] {
					return fmt.Sprintf("lvol %s on %s belongs to nobody", name, n.name), nil
				}
			}
		}
	}
	return "", nil
}

func (s *sim) unwellArray(tx store.Reader, da *vda.DA) (string, error) {
	if da.Health.Error {
		return fmt.Sprintf("da %s: %s", da.Name, da.Health.Msg), nil
	}
	vds, err := tx.VDsOfDA(da.ID)
	if err != nil {
		return "", err
	}
	if why := unfinished(da, vds, s.moved.Load()); why != "" {
		return why, nil
	}
	for _, vd := range vds {
		if vd.Health.Error {
			return fmt.Sprintf("vd %s of %s: %s", vd.ID, da.Name, vd.Health.Msg), nil
		}
	}
	cntlrs, err := tx.CntlrsOfDA(da.ID)
	if err != nil {
		return "", err
	}
	exps, err := tx.ExpsOfDA(da.ID)
	if err != nil {
		return "", err
	}
	if why := unwellClone(da, exps); why != "" {
		return why, nil
	}
	if why := s.unwellFilling(da); why != "" {
		return why, nil
	}
	primaries, live := 0, 0
	for i := range cntlrs {
		c := &cntlrs[i]
		if c.Deleted {
			return fmt.Sprintf("controller %d of %s is still being deleted", c.Idx, da.Name), nil
		}
		if c.Health.Error {
			return fmt.Sprintf("controller %d of %s: %s", c.Idx, da.Name, c.Health.Msg), nil
		}
		live++
		if c.Primary {
			primaries++
		}
		for j := range exps {
			if why, err := s.unwellExp(tx, &exps[j], c); why != "" || err != nil {
				return why, err
			}
		}
	}
	if primaries != 1 || live != int(da.CntlrCnt) {
		return fmt.Sprintf("da %s has %d controllers of %d, %d of them primary", da.Name, live, da.CntlrCnt, primaries), nil
	}
	return "", nil
}

// unwellExp compares an exporter on one controller with the data plane there.
func (s *sim) unwellExp(tx store.Reader, exp *vda.Exp, c *vda.Cntlr) (string, error) {
	ess, err := tx.ESsOfExp(exp.ID)
	if err != nil {
		return "", err
	}
	found := false
	for _, es := range ess {
		if es.CntlrID != c.ID {
			continue
		}
		found = true
		if es.Health.Error {
			return fmt.Sprintf("exporter %s on controller %d: %s", exp.NQN, c.Idx, es.Health.Msg), nil
		}
	}
	if !found {
		return fmt.Sprintf("exporter %s has no state on controller %d", exp.NQN, c.Idx), nil
	}
	cn, err := tx.CN(c.CNID)
	if err != nil {
		return "", err
	}
	want := spdk.ANANonOptimized
	if c.Primary {
		want = spdk.ANAOptimized
	}
	for _, n := range s.nodes {
		if n.machine != cn.Listener.TrAddr {
			continue
		}
		if ana := n.model.ANA(exp.NQN); ana != want {
			return fmt.Sprintf("exporter %s on %s is %q, not %q", exp.NQN, n.name, ana, want), nil
		}
	}
	return "", nil
}
