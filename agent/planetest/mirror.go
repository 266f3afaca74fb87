package planetest

import (
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/virtual-disk-array/vda/spdk"
	"github.com/virtual-disk-array/vda/spdk/jsonrpc"
)

// mirrorMethods are vda_tgt's. The model of a mirror has no I/O: a target lacks
// nothing as soon as it is attached, and a member is lost when a look finds its
// connection broken.
var mirrorMethods = map[string]handler{
	"vda_mirror_create":    {true, (*Plane).createMirror},
	"vda_mirror_set":       {true, (*Plane).setMirror},
	"vda_mirror_get_bdevs": {false, (*Plane).getMirrors},
	"vda_mirror_wait": {false, func(p *Plane, a *params) (any, error) {
		if m := p.mirrors[a.Name]; m != nil {
			return p.lookAt(m), nil
		}
		return nil, errNoDev
	}},
	"vda_mirror_watch": {false, (*Plane).watchMirrors},
	"vda_mirror_set_options": {true, func(p *Plane, a *params) (any, error) {
		if a.Name == "" {
			p.copyMB = a.CopyMB
			return true, nil
		}
		m := p.mirrors[a.Name]
		if m == nil {
			return nil, errNoDev
		}
		m.CopyMB = a.CopyMB
		return true, nil
	}},
	"vda_mirror_delete": {true, func(p *Plane, a *params) (any, error) {
		m := p.mirrors[a.Name]
		if m == nil {
			return nil, errNoDev
		}
		for _, l := range m.Legs {
			if b := p.bdevs[l.Bdev]; b != nil {
				b.claimed = false
			}
		}
		delete(p.mirrors, a.Name)
		p.remove(p.bdevs[a.Name])
		return true, nil
	}},
}

// OnlineMirrors counts the mirrors that serve I/O now: those that wait for no leg.
func (p *Plane) OnlineMirrors() (n int) {
	p.c.mu.Lock()
	defer p.c.mu.Unlock()
	for _, m := range p.mirrors {
		if p.lookAt(m).Online {
			n++
		}
	}
	return n
}

func (p *Plane) createMirror(a *params) (any, error) {
	if p.bdevs[a.Name] != nil {
		return nil, errExists
	}
	var medium *Medium
	var legs []*bdev
	for _, l := range a.Legs {
		b := p.bdevs[l.Bdev]
		if b == nil || l.Role != spdk.MirrorMember || !p.reaches(l.Bdev) {
			continue
		}
		legs = append(legs, b)
		if l.Bare && b.medium.mirrored == nil {
			medium = b.medium // what stands on the mirror is what would stand on the vd
		}
		if b.medium.mirrored != nil {
			medium = b.medium.mirrored
		}
	}
	if legs == nil {
		return nil, errIO
	}
	if medium == nil {
		medium = &Medium{Zero: true}
	}
	for _, b := range legs {
		b.medium.mirrored = medium
	}
	m := &spdk.Mirror{Name: a.Name, UUID: newUUID(a.UUID), Mirror: a.Mirror, DA: a.DA, Size: a.Size, Term: a.Term, Gen: a.Gen,
		CopyMB: a.CopyMB}
	p.mirrors[a.Name] = m
	for _, l := range a.Legs {
		s := spdk.MirrorLegState{VD: l.VD, Bdev: l.Bdev, Role: spdk.MirrorAbsent}
		if l.Role == spdk.MirrorMember {
			s.Role, s.Lost = spdk.MirrorMember, !p.reaches(l.Bdev)
		}
		m.Legs = append(m.Legs, s)
	}
	p.join(m, a.Legs)
	return p.lookAt(m), p.add(&bdev{name: a.Name, product: "VDA Mirror", uuid: m.UUID, blocks: a.Size / 4096, medium: medium})
}

// setMirror refuses what does not follow.
func (p *Plane) setMirror(a *params) (any, error) {
	m := p.mirrors[a.Name]
	if m == nil {
		return nil, errNoDev
	}
	answers := false
	for _, l := range a.Legs {
		has := slices.IndexFunc(m.Legs, func(s spdk.MirrorLegState) bool { return s.VD == l.VD })
		if l.Role != spdk.MirrorMember {
			continue
		}
		if has < 0 || m.Legs[has].Role != spdk.MirrorMember && m.Legs[has].Role != spdk.MirrorJoining {
			return nil, jsonrpc.Errno(syscall.EINVAL, "it may lack writes")
		}
		answers = answers || !m.Legs[has].Lost
	}
	if a.Term != m.Term || a.Gen < m.Gen || a.Gen > m.Gen && !answers {
		return nil, jsonrpc.Errno(syscall.EINVAL, "it does not follow")
	}
	var legs []spdk.MirrorLegState
	for _, l := range a.Legs {
		s := spdk.MirrorLegState{VD: l.VD, Bdev: l.Bdev, Role: spdk.MirrorAbsent}
		if has := slices.IndexFunc(m.Legs, func(s spdk.MirrorLegState) bool { return s.VD == l.VD }); has >= 0 && l.Role != spdk.MirrorAbsent {
			s = m.Legs[has]
		}
		if l.Role == spdk.MirrorMember {
			s.Role, s.Lost = spdk.MirrorMember, s.Lost && !p.reaches(l.Bdev)
		}
		legs = append(legs, s)
	}
	for _, l := range m.Legs {
		if b := p.bdevs[l.Bdev]; b != nil {
			b.claimed = false
		}
	}
	m.Gen, m.Legs = a.Gen, legs
	p.join(m, a.Legs)
	return p.lookAt(m), nil
}

// join attaches the targets that are there.
func (p *Plane) join(m *spdk.Mirror, legs []spdk.MirrorLeg) {
	for i, l := range legs {
		if l.Role == spdk.MirrorTarget && m.Legs[i].Role == spdk.MirrorAbsent && p.reaches(l.Bdev) {
			m.Legs[i].Role = spdk.MirrorJoining
			if p.unread != "" {
				m.Legs[i].Role, m.Legs[i].Lack, m.Legs[i].Why = spdk.MirrorTarget, 1<<22, p.unread
			}
		}
	}
	m.Changes++
}

// Unread has targets lack what no member can read, and their mirrors say why, until it is
// called with "".
func (p *Plane) Unread(why string) {
	p.c.mu.Lock()
	defer p.c.mu.Unlock()
	p.unread = why
	for _, m := range p.mirrors {
		for i := range m.Legs {
			if l := &m.Legs[i]; why == "" && l.Role == spdk.MirrorTarget {
				l.Role, l.Lack, l.Why = spdk.MirrorJoining, 0, ""
				m.Changes++
			}
		}
	}
}

// CatchUp has the members on a bdev lack so many bytes of what the others have, until it is called with 0.
func (p *Plane) CatchUp(bdev string, bytes uint64) {
	p.c.mu.Lock()
	defer p.c.mu.Unlock()
	for _, m := range p.mirrors {
		for i := range m.Legs {
			if l := &m.Legs[i]; l.Bdev == bdev && l.Role == spdk.MirrorMember {
				l.CatchingUp, m.Repair = bytes > 0, bytes
				m.Changes++
			}
		}
	}
}

func (p *Plane) getMirrors(a *params) (any, error) {
	list := []*spdk.Mirror{}
	for _, m := range asked(p.mirrors, a.Name) {
		list = append(list, p.lookAt(m))
	}
	if a.Name != "" && len(list) == 0 {
		return nil, errNoDev
	}
	return list, nil
}

// mirrorNews counts what was seen of the mirrors of a run.
type mirrorNews struct {
	run     int
	n, gone uint64
	seen    map[string]uint64 // Changes by name
	at      map[string]uint64 // the number that they had
}

// lookEvery is how often a plane looks for changes while somebody waits for one.
const lookEvery = 50 * time.Millisecond

// watchMirrors waits for a change, as vda_tgt does.
func (p *Plane) watchMirrors(a *params) (any, error) {
	run := p.run
	for left := time.Duration(a.TimeoutMS) * time.Millisecond; ; left -= lookEvery {
		p.lookForNews()
		n := &p.news
		all := a.Changes < n.gone || a.Changes > n.n
		if n.n == a.Changes && left > 0 {
			if p.c.sleep(min(left, lookEvery)); p.run != run || !p.up {
				return nil, errIO
			}
			continue
		}
		out := spdk.MirrorNews{Changes: n.n, All: all, Mirrors: []spdk.Mirror{}}
		for name, m := range p.mirrors {
			if all || n.at[name] > a.Changes || slices.ContainsFunc(m.Legs, func(l spdk.MirrorLegState) bool { return l.Lost || l.Why != "" }) {
				out.Mirrors = append(out.Mirrors, *m)
			}
		}
		return out, nil
	}
}

// lookForNews looks at all mirrors, and counts what has changed.
func (p *Plane) lookForNews() {
	n := &p.news
	if n.run != p.run || n.seen == nil {
		first := uint64(p.run) << 32
		*n = mirrorNews{run: p.run, n: first, gone: first, seen: map[string]uint64{}, at: map[string]uint64{}}
	}
	for name, m := range p.mirrors {
		p.lookAt(m)
		if was, known := n.seen[name]; !known || was != m.Changes {
			n.n++
			n.seen[name], n.at[name] = m.Changes, n.n
		}
	}
	for name := range n.seen {
		if p.mirrors[name] == nil {
			n.n++
			n.gone = n.n
			delete(n.seen, name)
			delete(n.at, name)
		}
	}
}

// lookAt finds out which legs are lost, and returns the state.
func (p *Plane) lookAt(m *spdk.Mirror) *spdk.Mirror {
	m.Online = true
	for i := range m.Legs {
		l := &m.Legs[i]
		there := p.reaches(l.Bdev)
		switch {
		case l.Role == spdk.MirrorAbsent:
		case !there && l.Role == spdk.MirrorMember && !l.Lost:
			l.Lost, l.Why = true, "its connection is lost"
			m.Changes++
		case !there && l.Role == spdk.MirrorJoining:
			l.Role = spdk.MirrorAbsent
			m.Changes++
		}
		if b := p.bdevs[l.Bdev]; b != nil && l.Role != spdk.MirrorAbsent {
			b.claimed = true
		}
		l.Connected, l.Ready = l.Role == spdk.MirrorMember && !l.Lost && !l.CatchingUp, l.Role == spdk.MirrorJoining
		m.Online = m.Online && !l.Lost
	}
	m.Assembled = m.Assembled || m.Online // no lost member keeps labels from being written
	return m
}

// reaches reports that the bdev of a remote namespace is there and connected.
func (p *Plane) reaches(name string) bool {
	c := p.ctrlrs[strings.TrimSuffix(name, "n1")]
	return c != nil && p.bdevs[name] != nil && p.stateOf(c) == "enabled"
}
