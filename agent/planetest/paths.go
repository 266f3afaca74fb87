package planetest

import (
	"time"

	"github.com/virtual-disk-array/vda/spdk"
)

// A controller that was attached with multipath has one bdev by all of its paths, which is there from
// when the first of them shows the namespace. I/O takes a path that is open, tries again on another,
// and waits a while when there is none.

// paths are all of a controller, itself being the first.
func (c *ctrlr) paths() []*ctrlr { return append([]*ctrlr{c}, c.more...) }

// takes reports that a controller may have one more path, which leads to addr.
func (c *ctrlr) takes(a *params, addr string) bool {
	for _, k := range c.paths() {
		if k.addr == addr {
			return false
		}
	}
	return c.multi && a.Multipath == "multipath" && c.nqn == a.SubNQN && c.host == a.HostNQN
}

// addPath gives a controller, or a new one when of is nil, a path, and returns the bdevs.
func (p *Plane) addPath(c, of *ctrlr) []string {
	if of == nil {
		p.ctrlrs[c.name] = c
	} else {
		of.more = append(of.more, c)
	}
	p.appears(p.ctrlrs[c.name])
	if b := p.bdevs[c.name+"n1"]; b != nil {
		return []string{b.name}
	}
	return []string{}
}

// appear makes the bdevs of namespaces that paths have come to show.
func (p *Plane) appear() {
	for _, c := range p.ctrlrs {
		p.appears(c)
	}
}

func (p *Plane) appears(c *ctrlr) {
	if !c.multi || p.bdevs[c.name+"n1"] != nil {
		return
	}
	for _, k := range c.paths() {
		ns, remote := p.shows(k)
		if remote == nil || p.bdev(ns.UUID) != nil {
			continue
		}
		p.put(&bdev{name: c.name + "n1", uuid: ns.UUID, product: "NVMe disk", blocks: remote.blocks, medium: remote.medium})
		return
	}
}

// shows returns the namespace that a path shows, and what is behind it, nil for nothing.
func (p *Plane) shows(k *ctrlr) (*spdk.NvmfNamespace, *bdev) {
	if k.path != nil && (k.path.conn == nil || k.path.ana == spdk.ANAInaccessible) {
		return nil, nil
	}
	q := p.c.planes[k.addr]
	if q == nil || q.subs[k.nqn] == nil || len(q.subs[k.nqn].Namespaces) == 0 || q.ana[k.nqn] == spdk.ANAInaccessible {
		return nil, nil
	}
	ns := &q.subs[k.nqn].Namespaces[0]
	return ns, q.bdev(ns.BdevName)
}

const (
	lostFor   = 2 * time.Second  // as agents attach the sources of clones
	closedFor = 10 * time.Second // as long as vda_tgt waits for a path that is closed
	pathPause = 20 * time.Millisecond
	// mostLosses is how many paths a command may see fail.
	mostLosses = 10
)

// anyPath is a command on a controller of several paths. The lock is held, and given up meanwhile.
func (p *Plane) anyPath(c *ctrlr, cmd Command) (uint64, Status) {
	run, begun := p.run, time.Now()
	failed := map[*ctrlr]time.Time{}
	for losses := 0; losses < mostLosses && p.run == run && p.ctrlrs[c.name] == c && !c.disabled; {
		var best *ctrlr
		hope := false
		for _, k := range c.paths() {
			i := k.path
			switch {
			case i.conn == nil:
				hope = hope || time.Since(i.lostAt) < lostFor
			case i.ana == spdk.ANAInaccessible:
				hope = hope || time.Since(begun) < closedFor
			case time.Since(failed[k]) < time.Second:
				hope = true
			case best == nil || i.ana == spdk.ANAOptimized:
				best = k
			}
		}
		switch {
		case best != nil:
			value, status := best.path.submit(cmd)
			if status != PathError && status != Inaccessible && status != NoNamespace {
				return value, status
			}
			failed[best] = time.Now()
			losses++
		case !hope:
			return 0, PathError
		default:
			p.c.sleep(pathPause)
		}
	}
	return 0, PathError
}
