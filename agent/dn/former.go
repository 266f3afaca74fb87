package dn

import (
	"context"

	apiv1 "github.com/virtual-disk-array/vda/api/v1"
)

// settleFormer waits for the tombstones of pds that had the disk of a live one
// before: until the old stamp is off it, the disk is the other pd's, and two
// units must not work on one disk.
func (a *Agent) settleFormer(ctx context.Context, spec *apiv1.PdSpec) error {
	c, err := parseConf(spec.ConfJson)
	if err != nil || c.Type == "malloc" {
		return err
	}
	a.mu.Lock()
	var wait []string
	for id, p := range a.set.pds {
		if a.set.gone.Has(id) || !p.Deleted {
			continue
		}
		if of, err := parseConf(p.ConfJson); err == nil && of.Type == c.Type && of.where() == c.where() {
			wait = append(wait, id)
		}
	}
	a.mu.Unlock()
	for _, id := range wait {
		if _, err := a.Loop.Settle(ctx, pdKey+id); err != nil {
			return err
		}
	}
	return nil
}
