package dn

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"syscall"
	"time"

	"github.com/virtual-disk-array/vda"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
)

// little is the free space of a file system, in bytes, below which a pd's file
// that still needs some is in error.
const little = 16 << 20

// ailing is what is known of a disk's I/O errors.
type ailing struct {
	seen, seenFull uint64 // the data plane's counters at the last look
	errors         uint64 // since first
	first, last    time.Time
}

// examineHealth counts the I/O errors of a pd's disk. The error says that
// there have been some lately, or that there is no space.
func (a *Agent) examineHealth(ctx context.Context, spec *apiv1.PdSpec, c conf) error {
	stats, err := a.Plane.BdevGetIOStat(ctx, baseName(c, spec.Id))
	if err == nil && len(stats.Bdevs) == 1 {
		a.noteErrors(spec, c, stats.Bdevs[0].IOError)
	} // else a data plane that does not count by name: nothing is known
	return cmp.Or(a.sick(spec.Id), a.fullLately(spec.Id), shortOfSpace(c))
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
	if err := cmp.Or(a.sick(pd), a.fullWrites(pd)); err != nil {
		return fmt.Errorf("it is exported, but its pd is in error: %w", err)
	}
	return nil
}

// fullWrites is an error while writes to vds have failed lately for want of
// space below their pd.
func (a *Agent) fullWrites(pd string) error {
	a.mu.Lock()
	counted := a.ailing[pd] != nil && a.ailing[pd].seenFull > 0
	a.mu.Unlock()
	if !counted {
		return nil
	}
	return a.fullLately(pd)
}

// shortOfSpace is an error when the file of a pd still needs space from a file
// system that has none left.
func shortOfSpace(c conf) error {
	if c.Type != "aio" {
		return nil
	}
	i, err := os.Stat(c.Filename)
	if err != nil || !i.Mode().IsRegular() {
		return nil // that it is not there is somebody else's to say
	}
	st, ok := i.Sys().(*syscall.Stat_t)
	var fs syscall.Statfs_t
	if !ok || syscall.Statfs(c.Filename, &fs) != nil {
		return nil
	}
	return tooLittle(c.Filename, i.Size(), st.Blocks*512, int64(fs.Bavail)*fs.Bsize)
}

// tooLittle judges a file of size bytes, of which so many are allocated, by
// what its file system has left.
func tooLittle(name string, size, allocated, left int64) error {
	missing := size - allocated
	if missing <= 0 || left >= min(missing, little) {
		return nil
	}
	return fmt.Errorf(vda.NoSpace+"%d bytes of %s are not allocated yet, and its file system has %d left; writes will fail; make room there",
		missing, name, left)
}
