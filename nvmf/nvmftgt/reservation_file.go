package nvmftgt

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"

	"github.com/google/uuid"

	"github.com/virtual-disk-array/vda/nvme"
)

// resvFile is where a namespace's reservation is kept over the end of the
// process, SPDK's ptpl_file. The members are SPDK's, so that either reads what
// the other wrote.
type resvFile struct {
	path string
	bdev func() uuid.UUID // of the namespace's device, which the reservation is about
	log  *slog.Logger
}

type resvFileJSON struct {
	Keep        bool                 `json:"ptpl"`
	Type        nvme.ReservationType `json:"rtype"`
	HolderKey   uint64               `json:"crkey"`
	Bdev        uuid.UUID            `json:"bdev_uuid"`
	Holder      uuid.UUID            `json:"holder_uuid"`
	Registrants []resvFileRegistrant `json:"registrants"`
}

type resvFileRegistrant struct {
	Key  uint64    `json:"rkey"`
	Host uuid.UUID `json:"host_uuid"`
}

// save replaces the file; it is on the medium when save returns. With keep
// unset it says that there is nothing to restore.
func (f *resvFile) save(s *resvState) error {
	j := resvFileJSON{Keep: s.keep, Bdev: f.bdev(), Registrants: []resvFileRegistrant{}}
	if s.keep {
		j.Type, j.Holder = s.typ, s.holder
		if i := s.find(s.holder); i >= 0 {
			j.HolderKey = s.regs[i].key
		}
		for _, r := range s.regs {
			j.Registrants = append(j.Registrants, resvFileRegistrant{Key: r.key, Host: r.host})
		}
	}
	text, err := json.Marshal(j)
	if err != nil {
		return err
	}
	tmp, err := os.CreateTemp(filepath.Dir(f.path), filepath.Base(f.path)+".new-")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(append(text, '\n'))
	err = errors.Join(err, tmp.Sync(), tmp.Close())
	if err != nil {
		return err
	}
	if err := os.Rename(tmp.Name(), f.path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(f.path))
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}

// load restores the reservation. A file that is not there is one that nothing
// was written to yet; one that cannot be read, or is about another device, is
// an error: a reservation must not get lost unnoticed.
func (f *resvFile) load(r *reservation) error {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("ptpl_file %q: %s: %w", f.path, fmt.Sprintf(format, args...), syscall.EINVAL)
	}
	if !filepath.IsAbs(f.path) {
		return bad("it must be an absolute path")
	}
	text, err := os.ReadFile(f.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if i, err := os.Stat(filepath.Dir(f.path)); err != nil || !i.IsDir() {
			return bad("its directory is not there")
		}
		return nil
	case err != nil:
		return bad("it cannot be read: %v", err)
	}
	var j resvFileJSON
	if len(text) > 0 { // as tools make it that prepare a place
		if err := json.Unmarshal(text, &j); err != nil {
			return bad("it is no record of a reservation: %v; remove it if the reservation may be forgotten", err)
		}
	}
	if !j.Keep {
		return nil
	}
	switch {
	case j.Bdev != f.bdev():
		return bad("it is about the bdev with UUID %s, the namespace's has %s", j.Bdev, f.bdev())
	case len(j.Registrants) > maxRegistrants:
		return bad("it has %d registrants, at most %d are possible", len(j.Registrants), maxRegistrants)
	case j.Type > nvme.ExclusiveAccessAll:
		return bad("%d is no type of reservations", j.Type)
	}
	s := &resvState{keep: true, typ: j.Type, holder: j.Holder}
	for _, g := range j.Registrants {
		if g.Key == 0 || g.Host == uuid.Nil || s.find(g.Host) >= 0 {
			return bad("registrant %s with key %d: it must have a key and be there once", g.Host, g.Key)
		}
		s.regs = append(s.regs, registrant{host: g.Host, key: g.Key})
	}
	if s.typ == 0 || s.typ.AllRegistrants() {
		s.holder = uuid.Nil
	}
	if s.typ != 0 && (len(s.regs) == 0 || !s.typ.AllRegistrants() && s.find(s.holder) < 0) {
		return bad("nobody holds its reservation")
	}
	r.state.Store(s)
	return nil
}

// path is the file's, or "".
func (r *reservation) path() string {
	if r.file == nil {
		return ""
	}
	return r.file.path
}

// kept reports whether the reservation outlives the process.
func (r *reservation) kept() bool {
	s := r.state.Load()
	return r.id != uuid.Nil || s != nil && s.keep
}

// moved is called when the namespace has another device: what is kept in a file is about
// that one from now on.
func (n *namespace) moved() {
	if r := n.resv.Load(); r.file != nil {
		_, _ = r.edit(n, nvme.PersistNoChange, func(*resvState) nvme.Status { return nvme.Success }) // a failure is logged
	}
}

// persist sets whether the reservations of a namespace, or of all, outlive the
// process.
func (s *Subsystem) persist(nsid uint32, keep bool) nvme.Status {
	for _, n := range *s.nss.Load() {
		if n == nil || nsid != nvme.NSIDAll && n.nsid != nsid {
			continue
		}
		how, r := nvme.PersistNot, n.resv.Load()
		if keep {
			how = nvme.PersistKeep
		}
		switch {
		case r.id != uuid.Nil && keep: // it is, always
			continue
		case r.id != uuid.Nil, keep && r.file == nil:
			return nvme.FeatureNotChangeable | nvme.DNR
		}
		if st, _ := r.edit(n, how, func(*resvState) nvme.Status { return nvme.Success }); st != nvme.Success {
			return st
		}
	}
	return nvme.Success
}
