package planetest

import (
	"maps"
	"slices"
)

// Data planes find a bdev by any of its names, an lvstore by its name and an lvol's store at once,
// however many there are. So do the models, or tests with a thousand arrays would measure them.

// put shows a bdev under its name, its UUID and its aliases.
func (p *Plane) put(b *bdev) {
	p.bdevs[b.name] = b
	for _, n := range append([]string{b.uuid}, b.aliases...) {
		p.known(n, b)
	}
}

func (p *Plane) known(name string, b *bdev) {
	p.names[name] = append(p.names[name], b)
}

// take is the opposite of put.
func (p *Plane) take(b *bdev) {
	delete(p.bdevs, b.name)
	for _, n := range append([]string{b.uuid}, b.aliases...) {
		p.unknown(n, b)
	}
}

func (p *Plane) unknown(name string, b *bdev) {
	rest := slices.DeleteFunc(p.names[name], func(o *bdev) bool { return o == b })
	if len(rest) == 0 {
		delete(p.names, name)
		return
	}
	p.names[name] = rest
}

// bdev finds one by its name, its UUID or an alias; nil: there is none.
func (p *Plane) bdev(name string) *bdev {
	if b := p.bdevs[name]; b != nil {
		return b
	}
	if all := p.names[name]; len(all) > 0 {
		return all[0]
	}
	return nil
}

// storeNamed is an lvstore that is open, and the bdev that it is on.
func (p *Plane) storeNamed(name string) (*bdev, *store) {
	if b := p.stores[name]; b != nil {
		return b, b.loaded
	}
	return nil, nil
}

// lvol is one that is shown, and its store.
func (p *Plane) lvol(name string) (*store, *lvol) {
	if b := p.bdev(name); b != nil {
		return b.of, b.lvol
	}
	return nil, nil
}

// asked are all there is, or what has the name.
func asked[T any](all map[string]T, name string) []T {
	if name == "" {
		return slices.Collect(maps.Values(all))
	}
	if one, ok := all[name]; ok {
		return []T{one}
	}
	return nil
}
