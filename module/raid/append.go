package raid

import (
	"fmt"
	"slices"
	"syscall"

	"github.com/virtual-disk-array/vda/bdev"
)

// maxBases is how many bases an array has at most.
const maxBases = 255

// Append puts one more base behind those of a concat, whose users are told that it has
// grown. What the base holds becomes the concat's end, and I/O goes on meanwhile. It
// does nothing when the base is the array's already. ENODEV when there is no array, or
// no bdev, of that name; EINVAL for a raid0, for an array that is not online and for a
// base that does not fit; EPERM when the base is claimed. Nothing has changed then, and
// nothing changes with dry, which only tells whether it could be done.
func (m *Module) Append(name, with string, dry bool) error {
	m.mu.Lock()
	grown, err := m.append(name, with, dry)
	m.mu.Unlock()
	if err == nil && grown {
		m.reg.Resized(name)
	}
	return err
}

// append is Append; m.mu is held.
func (m *Module) append(name, with string, dry bool) (grown bool, err error) {
	a := m.find(name)
	switch {
	case a == nil:
		return false, fmt.Errorf("raid bdev %s not found: %w", name, syscall.ENODEV)
	case slices.ContainsFunc(a.bases, func(b base) bool { return b.name == with }):
		return false, nil
	case a.conf.Level != Concat:
		return false, fmt.Errorf("raid %q is a %s: only a concat can have another base: %w", name, a.conf.Level, syscall.EINVAL)
	case a.live.Load() == nil || a.failed.Load():
		return false, fmt.Errorf("raid %q is %s: it cannot have another base: %w", name, a.state, syscall.EINVAL)
	case len(a.bases) == maxBases:
		return false, fmt.Errorf("raid %q has %d bases, the most there are: %w", name, maxBases, syscall.EINVAL)
	}
	at := len(a.bases)
	a.bases = append(slices.Clone(a.bases), base{name: with})
	drop := func(err error) (bool, error) {
		if h := a.bases[at].handle; h != nil {
			a.bases[at].handle = nil
			h.Close()
		}
		a.bases = a.bases[:at]
		return false, err
	}
	if err := a.openBase(at); err != nil {
		return drop(err)
	}
	l, info, err := a.build()
	if err != nil {
		return drop(err)
	}
	if !fits(a.info.Load(), info) {
		return drop(fmt.Errorf("base %q makes raid %q another device than its users know: %w", with, name, syscall.EINVAL))
	}
	if dry {
		return drop(nil)
	}
	a.conf.Bases = append(slices.Clone(a.conf.Bases), with)
	a.info.Store(info)
	a.live.Store(l)
	return true, nil
}

// fits reports that users of a device who have seen it as it was can use it as it is
// now.
func fits(was, now *bdev.Info) bool {
	return now.Ops&was.Ops == was.Ops && now.Align <= was.Align && (was.MaxIO == 0 && now.MaxIO == 0 || now.MaxIO >= was.MaxIO) &&
		(was.WriteCache || !now.WriteCache) && (now.UnmapZeroes || !was.UnmapZeroes)
}
