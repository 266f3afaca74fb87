package dn

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/virtual-disk-array/vda"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/disk"
	"github.com/virtual-disk-array/vda/spdk"
)

// little is the free space of a file system, in bytes, below which a pd's file
// that still needs some is in error.
const little = 16 << 20

// ailing is what is known of a disk's I/O errors.
type ailing struct {
	seen, seenFull uint64 // the data plane's counters at the last look
	errors         uint64 // since first
	first, last    time.Time

	progress uint64    // of requests at the last look
	depth    uint64    // how many were under way
	still    time.Time // since when some are and none has ended; zero: some have
	told     bool      // that it hangs

	file error // what is wrong with the file of an aio pd
}

// hungAfter is how long a disk may answer nothing, while something is under way,
// until it is in error.
const hungAfter = 10 * time.Second

// examineHealth counts the I/O errors of a pd's disk. The error says that
// there have been some lately, or that there is no space.
func (a *Agent) examineHealth(ctx context.Context, spec *apiv1.PdSpec, c conf) error {
	stats, err := a.Plane.BdevGetIOStat(ctx, baseName(c, spec.Id))
	if err == nil && len(stats.Bdevs) == 1 {
		a.noteErrors(spec, c, stats.Bdevs[0].IOError)
		a.noteProgress(spec, c, &stats.Bdevs[0])
		if err := a.Plane.Driver().CountQueue(ctx, &stats.Bdevs[0]); err != nil {
			a.Log.Warn("a disk that hangs is not noticed", "pd", spec.Name, "err", err)
		}
	} // else a data plane that does not count by name: nothing is known
	file := a.examineFile(c)
	a.mu.Lock()
	if s := a.ailing[spec.Id]; s != nil {
		s.file = file
	}
	a.mu.Unlock()
	return cmp.Or(a.hung(spec.Id), a.sick(spec.Id), a.fullLately(spec.Id), file)
}

func (a *Agent) noteErrors(spec *apiv1.PdSpec, c conf, by map[string]uint64) {
	bad, full := a.Plane.Driver().Errors(by)
	a.mu.Lock()
	defer a.mu.Unlock()
	s := a.ailing[spec.Id]
	if s == nil {
		s = &ailing{}
		a.ailing[spec.Id] = s
	}
	now := time.Now()
	if bad < s.seen || full < s.seenFull { // the data plane has started again
		s.seen, s.seenFull = 0, 0
	}
	if n := bad - s.seen; n > 0 {
		if now.Sub(s.last) > a.Cfg.DiskErrorHold {
			s.errors, s.first = 0, now
		}
		s.errors, s.last = s.errors+n, now
		a.Log.Error("I/O errors of a disk", "pd", spec.Name, "disk", c.where(), "new", n, "in_all", s.errors)
	}
	if n := full - s.seenFull; n > 0 {
		a.full[spec.Id] = now
		a.Log.Error("writes failed because there is no space below a pd", "pd", spec.Name, "disk", c.where(), "new", n)
	}
	s.seen, s.seenFull = bad, full
}

// noteProgress sees whether a disk answers. While vds on it are being zeroed or
// cleared nothing is said, as not all data planes count what that takes.
func (a *Agent) noteProgress(spec *apiv1.PdSpec, c conf, st *spdk.IOStat) {
	a.mu.Lock()
	defer a.mu.Unlock()
	s := a.ailing[spec.Id]
	if s == nil {
		return
	}
	if n := st.Progress(); st.QueueDepth == 0 || s.depth == 0 || n != s.progress || a.rewriting[spec.Id] > 0 {
		s.progress, s.still = n, time.Time{}
	} else if s.still.IsZero() {
		s.still = time.Now()
	}
	s.depth = st.QueueDepth
	switch hung := !s.still.IsZero() && time.Since(s.still) >= hungAfter; {
	case hung && !s.told:
		a.Log.Error("a disk does not answer", "pd", spec.Name, "disk", c.where(), "since", s.still.UTC(), "under_way", s.depth)
	case s.told && !hung:
		a.Log.Info("a disk answers again", "pd", spec.Name, "disk", c.where())
	default:
		return
	}
	s.told = !s.told
}

// hung is an error while a disk answers nothing.
func (a *Agent) hung(pd string) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	s := a.ailing[pd]
	if s == nil || s.still.IsZero() || time.Since(s.still) < hungAfter {
		return nil
	}
	return fmt.Errorf("the disk has answered nothing since %s, with %d requests under way", s.still.UTC().Format(time.RFC3339), s.depth)
}

// sick says what is wrong with a pd's disk for all that is on it.
func (a *Agent) sick(pd string) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	s := a.ailing[pd]
	if s == nil || s.errors == 0 || time.Since(s.last) > a.Cfg.DiskErrorHold {
		return nil
	}
	return fmt.Errorf("the disk has had %d I/O errors since %s, the last at %s",
		s.errors, s.first.UTC().Format(time.RFC3339), s.last.UTC().Format(time.RFC3339))
}

// sickPD is what a vd says of its pd's disk.
func (a *Agent) sickPD(pd string) error {
	if err := cmp.Or(a.hung(pd), a.sick(pd), a.gone(pd), a.fullWrites(pd)); err != nil {
		return fmt.Errorf("it is exported, but its pd is in error: %w", err)
	}
	return nil
}

// fullWrites is an error while writes to vds have failed for want of space below
// their pd: lately, or with no more space there since.
func (a *Agent) fullWrites(pd string) error {
	a.mu.Lock()
	s := a.ailing[pd]
	if s == nil || s.seenFull == 0 {
		a.mu.Unlock()
		return nil
	}
	file := s.file
	a.mu.Unlock()
	return cmp.Or(a.fullLately(pd), file)
}

// gone is an error while a pd's file is not there any more.
func (a *Agent) gone(pd string) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if s := a.ailing[pd]; s != nil && errors.Is(s.file, disk.ErrNotFound) {
		return s.file
	}
	return nil
}

// examineFile is an error when the file of a pd still needs space from a file system
// that has none left, or is not there any more.
func (a *Agent) examineFile(c conf) error {
	if c.Type != "aio" {
		return nil
	}
	room, err := a.Disks.Room(c.Filename)
	switch {
	case errors.Is(err, disk.ErrNotFound):
		return fmt.Errorf("%w any more: the data plane goes on with what it has open, and all that is on it is lost when that ends; "+
			"put it back, or move its vds to another pd", err)
	case err != nil:
		return fmt.Errorf("what is at its place cannot be looked at: %w", err)
	}
	return tooLittle(c.Filename, room)
}

// tooLittle judges a file by what its file system has left.
func tooLittle(name string, r disk.Room) error {
	missing := r.Size - r.Allocated
	if missing <= 0 || r.Left >= min(missing, little) {
		return nil
	}
	return fmt.Errorf(vda.NoSpace+"%d bytes of %s are not allocated yet, and its file system has %d left; writes will fail; make room there",
		missing, name, r.Left)
}
