package sim

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/store"
)

// drawRedundancy is what the seed makes the arrays of hosts. It has numbers of its
// own, so that a seed without mirrors means what it did before there were any.
func (s *sim) drawRedundancy() string {
	rng := rand.New(rand.NewPCG(s.cfg.Seed, 1))
	r := s.cfg.Redundancy
	if r == "any" {
		r = ""
		if n := rng.IntN(10); n < 6 {
			r = "mirror:2"
		} else if n == 6 {
			r = "mirror:3"
		}
	}
	if !s.swaps || r == "none" {
		return ""
	}
	if r == "mirror:3" && len(s.of("dn")) < 3 {
		r = "mirror:2"
	}
	return r
}

// copyRate is Live.CopyRate.
func (s *sim) copyRate() uint64 {
	if s.cfg.CopyRate > 0 || s.cfg.story != nil || rand.New(rand.NewPCG(s.cfg.Seed, 3)).IntN(2) == 0 {
		return s.cfg.CopyRate
	}
	return 1 << 20
}

// awaitMirrors waits until monitors know that the cns can mirror.
func (s *sim) awaitMirrors(ctx context.Context) error {
	for {
		able := true
		if err := s.db.Store.View(ctx, func(tx store.Reader) error {
			cns, _, err := tx.ListCN(store.NodeFilter{}, store.Page{})
			able = len(cns) > 0
			for _, n := range cns {
				able = able && n.Mirrors
			}
			return err
		}); err != nil {
			return err
		}
		if able {
			return nil
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return errors.New("no monitor says that the cns can mirror")
		}
	}
}

// acked is Live.Acked: what a mirror acknowledges is on every leg that SQL calls
// a member (M1, M2). Numbers of a block only rise.
func (s *sim) acked(mirror string, off, value uint64) {
	var members []string
	err := s.db.Store.View(context.Background(), func(tx store.Reader) error {
		members = nil
		da, err := s.arrayOf(tx, mirror)
		if err != nil {
			return err
		}
		vds, err := tx.VDsOfDA(da)
		for _, vd := range vds {
			if vd.MirrorID == mirror && vd.Role == vda.Member {
				members = append(members, vd.ID)
			}
		}
		return err
	})
	if err != nil { // the array is deleted
		return
	}
	for _, vd := range members {
		if has := s.planes.Holds(vd, off); has < value {
			s.ledger.Wrong("acknowledged without a member: mirror %s acknowledges %d at offset %d, and vd %s has %d", mirror, value, off, vd, has)
		}
	}
}

// arrayOf returns the id of a mirror's array.
func (s *sim) arrayOf(tx store.Reader, mirror string) (string, error) {
	s.mu.Lock()
	da := s.arrays[mirror]
	s.mu.Unlock()
	if da != "" {
		return da, nil
	}
	das, _, err := tx.ListDA(store.DAFilter{}, store.Page{})
	if err != nil {
		return "", err
	}
	for i := range das {
		ms, err := tx.MirrorsOfDA(das[i].ID)
		if err != nil {
			return "", err
		}
		s.mu.Lock()
		for _, m := range ms {
			s.arrays[m.ID] = m.DAID
		}
		da = s.arrays[mirror]
		s.mu.Unlock()
	}
	if da == "" {
		return "", fmt.Errorf("no array has mirror %s", mirror)
	}
	return da, nil
}

// rested is longer than a region's bit stays set when nobody writes.
const rested = 20 * time.Second

// compareLegs compares the legs of all mirrors, when hosts have ended (M13).
func (s *sim) compareLegs() {
	time.Sleep(rested)
	type pair struct {
		mirror vda.Mirror
		x, y   string
	}
	var pairs []pair
	err := s.db.Store.View(context.Background(), func(tx store.Reader) error {
		pairs = nil
		das, _, err := tx.ListDA(store.DAFilter{}, store.Page{})
		if err != nil {
			return err
		}
		for _, da := range das {
			vds, err := tx.VDsOfDA(da.ID)
			if err != nil {
				return err
			}
			ms, err := tx.MirrorsOfDA(da.ID)
			if err != nil {
				return err
			}
			byID, first := map[string]vda.Mirror{}, map[string]string{}
			for _, m := range ms {
				byID[m.ID] = m
			}
			for _, vd := range vds {
				if vd.MirrorID == "" || vd.Role != vda.Member {
					continue
				}
				if first[vd.MirrorID] == "" {
					first[vd.MirrorID] = vd.ID
					continue
				}
				pairs = append(pairs, pair{byID[vd.MirrorID], first[vd.MirrorID], vd.ID})
			}
		}
		return nil
	})
	if err != nil {
		s.ledger.Wrong("legs are not compared: %v", err)
	}
	for _, p := range pairs {
		why, marked := s.planes.Differ(p.mirror.ID, p.mirror.Size, p.x, p.y)
		if why != "" {
			s.ledger.Wrong("legs differ: %s", why)
		}
		s.log.printf("legs %s and %s of mirror %s of gen %d are compared; %d regions may differ", p.x, p.y, p.mirror.ID, p.mirror.Gen,
			marked)
		s.ledger.Compared(p.mirror.Gen)
	}
}

// powerCut has the disks of a machine lose what they like of their write caches.
func (s *sim) powerCut(n *simNode, rng *rand.Rand) {
	if n.kind == "dn" {
		lost := s.planes.LosePower(s.disk(n), func() bool { return rng.IntN(2) == 0 })
		s.log.printf("%s loses %d blocks from its write cache", n.name, lost)
	}
}
