package nvmftgt

import (
	"errors"
	"syscall"
)

// maxRetired bounds the names of retired subsystems that are remembered; the
// oldest are forgotten first, and their hosts then retry.
const maxRetired = 4096

// retired remembers names of subsystems that are not coming back. The target's
// mu guards it.
type retired struct {
	names map[string]struct{}
	order []string // of names, oldest first
}

func (r *retired) add(nqn string) {
	if _, known := r.names[nqn]; known {
		return
	}
	if r.names == nil {
		r.names = map[string]struct{}{}
	}
	r.names[nqn] = struct{}{}
	r.order = append(r.order, nqn)
	if len(r.order) > maxRetired {
		delete(r.names, r.order[0])
		r.order = append(r.order[:0], r.order[1:]...)
	}
}

func (r *retired) remove(nqn string) {
	if _, known := r.names[nqn]; !known {
		return
	}
	delete(r.names, nqn)
	for i, have := range r.order {
		if have == nqn {
			r.order = append(r.order[:i], r.order[i+1:]...)
			return
		}
	}
}

// RetireSubsystem deletes a subsystem, if it is there, and has hosts that come
// back told not to retry, until a subsystem of that name is made again, or announced
// by UnretireSubsystem, or this process ends. Without it a name that is not there is refused as one that may
// come: after a restart each is missing until it has been put back. EINVAL for
// the discovery subsystem.
func (t *Target) RetireSubsystem(nqn string) error {
	if err := t.DeleteSubsystem(nqn); err != nil && !errors.Is(err, syscall.ENOENT) {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.find(nqn) == nil {
		t.retired.add(nqn)
	}
	return nil
}

// UnretireSubsystem takes RetireSubsystem back for the hosts: a subsystem of that
// name is to come.
func (t *Target) UnretireSubsystem(nqn string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.retired.remove(nqn)
}

// isRetired reports that hosts of a name need not come back.
func (t *Target) isRetired(nqn string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	_, is := t.retired.names[nqn]
	return is && t.find(nqn) == nil
}
