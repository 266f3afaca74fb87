package array

import (
	"slices"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/store"
)

// alike gathers rows that are given the same values, as those of a thousand arrays are when the
// node dies on which each has a leg: one statement writes them all. Not safe for concurrent use.
type alike struct {
	legs   groups[store.LegState]
	lacks  groups[lack]
	gens   groups[uint64]
	cntlrs groups[uint64]
}

type lack struct{ bytes, rate uint64 }

// groups are values by id. Of one that is given twice the last counts.
type groups[K comparable] struct {
	of    map[string]K
	order []string // the ids
}

func (g *groups[K]) add(value K, id string) {
	if g.of == nil {
		g.of = map[string]K{}
	}
	if _, is := g.of[id]; !is {
		g.order = append(g.order, id)
	}
	g.of[id] = value
}

// write calls set once per value, in the order in which they come up.
func (g *groups[K]) write(set func(ids []string, value K) error) error {
	ids := map[K][]string{}
	var values []K
	for _, id := range g.order {
		v := g.of[id]
		if ids[v] == nil {
			values = append(values, v)
		}
		ids[v] = append(ids[v], id)
	}
	for _, v := range values {
		if err := set(ids[v], v); err != nil {
			return err
		}
	}
	return nil
}

// write ends a change: the versions that rows are stamped with are known.
func (a *alike) write(tx store.Tx) error {
	if err := a.legs.write(tx.SetLegs); err != nil {
		return err
	}
	if err := a.gens.write(tx.SetMirrorGens); err != nil {
		return err
	}
	if err := a.cntlrs.write(tx.SetCntlrVersions); err != nil {
		return err
	}
	return a.lacks.write(func(ids []string, l lack) error { return tx.SetVDLacks(ids, l.bytes, l.rate) })
}

// Healths gathers healths of objects that are not nodes, nor disks, nor arrays, and writes those that are the
// same at once. The arrays are locked.
type Healths struct{ of groups[objectHealth] }

type objectHealth struct {
	object store.Object
	health vda.Health
}

// Add has an object get a health.
func (h *Healths) Add(o store.Object, id string, is vda.Health) { h.of.add(objectHealth{o, is}, id) }

// Write writes them; objects that are gone are passed over.
func (h *Healths) Write(tx store.Tx) error {
	return h.of.write(func(ids []string, is objectHealth) error {
		slices.Sort(ids)
		return tx.SetHealths(is.object, ids, is.health)
	})
}
