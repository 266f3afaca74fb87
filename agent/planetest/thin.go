package planetest

// A thin volume of an array, on a live cluster: it gets a cluster with the first write to that, as
// long as its lvstore has one. There are no snapshots of it.

// thinly is a command at a thin volume, on base. The lock is held, and given up while it waits.
func (p *Plane) thinly(l *lvol, base *bdev, s *store, cmd Command) (uint64, Status) {
	cluster := cmd.Off / s.cluster
	if _, there := l.given[cluster]; !there && !cmd.Write {
		return 0, OK
	}
	if status := p.provide(l, base, s, cluster); status != OK {
		return 0, status
	}
	cmd.Off = l.given[cluster]*s.cluster + cmd.Off%s.cluster + s.cluster
	return p.io(base, cmd)
}

// provide gives a volume a cluster that it does not have yet.
func (p *Plane) provide(l *lvol, base *bdev, s *store, cluster uint64) Status {
	if _, there := l.given[cluster]; there {
		return OK
	}
	if s.free() == 0 {
		return CapacityExceeded
	}
	at := s.given
	if n := len(s.spare); n > 0 {
		at, s.spare = s.spare[n-1], s.spare[:n-1]
	} else {
		s.given++
	}
	l.held++
	run, err := p.run, p.touch(base, true)
	if _, there := l.given[cluster]; there || err != nil || p.run != run { // another write, or primary, was faster
		s.spare = append(s.spare, at)
		l.held--
		switch {
		case p.run != run:
			return pending
		case err != nil:
			return PathError
		}
		return OK
	}
	if l.given == nil {
		l.given = map[uint64]uint64{}
	}
	l.given[cluster] = at
	return OK
}
