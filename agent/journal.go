package agent

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"syscall"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// journalName, in the state directory, is the file of changes since the state
// file was written: a line of JSON each, synced before the change counts. So a
// change costs the same however much the node has. Lines of another
// generation than the state file's are older than it. When the journal has
// grown to the size of the state file, that is written again.
const journalName = "changes.json"

// journalMin is how long a journal may be beside a small state file, bytes.
const journalMin = 64 << 10

// journalLine is one change.
type journalLine struct {
	Generation string            `json:"generation"`
	Version    uint64            `json:"version"`
	Mark       string            `json:"mark,omitempty"`
	Terms      map[string]uint64 `json:"terms,omitempty"`
	Holds      bool              `json:"holds"` // the set has objects after it
	Change     json.RawMessage   `json:"change,omitempty"`
	// Forget: the version and the terms seen so far count no more.
	Forget bool `json:"forget,omitempty"`
}

// journal is the open file. The State's lock guards it.
type journal struct {
	path    string
	file    *os.File // nil until the first change
	size    int64    // of what counts
	broken  bool     // a line may be there in part
	base    int64    // size of the state file; 0: there is none
	changes []json.RawMessage
}

// replay applies the journal to what the state file said. A line that was cut
// off was never acknowledged, and is cut away.
func (s *State) replay() error {
	j := &s.journal
	raw, err := os.ReadFile(j.path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("state: %w", err)
	}
	at, current := 0, false // behind the last whole line; there is one that counts
	for rest := raw; len(rest) > 0; {
		line, after, whole := bytes.Cut(rest, []byte("\n"))
		var l journalLine
		err := json.Unmarshal(line, &l)
		switch {
		case !whole, err != nil && len(after) == 0:
			return j.cut(len(raw), at, current)
		case err != nil:
			return fmt.Errorf("state file %s does not decode: %w; %s", j.path, err, s.undecoded())
		}
		at, rest = at+len(line)+1, after
		if l.Generation != s.data.Generation || l.Generation == "" {
			continue // older than the state file
		}
		current = true
		s.apply(&l)
		if l.Change != nil {
			j.changes = append(j.changes, l.Change)
		}
	}
	return j.cut(len(raw), at, current)
}

// cut makes a file of so many bytes end behind its last whole line, or be empty
// when no line counts.
func (j *journal) cut(size, at int, current bool) error {
	if current {
		j.size = int64(at)
	}
	if j.size == int64(size) {
		return nil
	}
	return os.Truncate(j.path, j.size)
}

// apply takes a line over.
func (s *State) apply(l *journalLine) {
	s.data.Version, s.data.Mark, s.held = l.Version, l.Mark, l.Holds
	if l.Forget {
		s.data.Terms = map[string]uint64{}
	}
	maps.Copy(s.data.Terms, l.Terms)
}

// Changes returns what was asked for after the set that Desired returns, in
// order; each is to be merged into it. make makes an empty message.
func (s *State) Changes(make func() proto.Message) (all []proto.Message, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, raw := range s.journal.changes {
		m := make()
		if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(raw, m); err != nil {
			return nil, fmt.Errorf("state file %s: a change does not decode: %w; %s", s.journal.path, err, s.undecoded())
		}
		all = append(all, m)
	}
	s.journal.changes = nil // nobody else wants them
	return all, nil
}

// AcceptChange is Accept of a change to the set that is held. next returns the
// full set, which is not made unless it is written, and whether there is any
// object in it.
func (s *State) AcceptChange(c Claim, change proto.Message, next func() (full func() proto.Message, holds bool, err error)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.check(c); err != nil {
		return err
	}
	full, holds, err := next()
	if err != nil {
		return err
	}
	raw, err := protojson.Marshal(change)
	if err != nil {
		return fmt.Errorf("change does not encode: %w", err)
	}
	l := &journalLine{Generation: s.data.Generation, Version: c.Version, Mark: c.Marks.Of(c.Version), Terms: c.Terms,
		Holds: holds, Change: raw}
	if s.journal.full() || l.Generation == "" || s.data.Format != journaledFormat {
		d := s.data
		d.Version, d.Mark, d.Terms = c.Version, l.Mark, maps.Clone(d.Terms)
		maps.Copy(d.Terms, c.Terms)
		if d.Desired, err = encode(full()); err != nil {
			return err
		}
		return s.write(d)
	}
	if err := s.journal.append(l); err != nil {
		return fmt.Errorf("state is not kept, so nothing is done: %w", err)
	}
	s.apply(l)
	return nil
}

// full reports that the state file is to be written next.
func (j *journal) full() bool { return j.broken || j.base == 0 || j.size > max(j.base, journalMin) }

// append adds a line; it is on disk when append returns.
func (j *journal) append(l *journalLine) error {
	raw, err := json.Marshal(l)
	if err != nil {
		return err
	}
	if j.file == nil {
		if j.file, err = j.open(); err != nil {
			return err
		}
	}
	n, err := j.file.Write(append(raw, '\n'))
	if err == nil {
		err = syscall.Fdatasync(int(j.file.Fd()))
	}
	if err != nil {
		j.broken = true // until the state file has been written, whose generation is another
		return err
	}
	j.size += int64(n)
	return nil
}

// open opens the file to go on behind what counts. Lines of before the state
// file was written may still be there.
func (j *journal) open() (*os.File, error) {
	f, err := os.OpenFile(j.path, os.O_CREATE|os.O_WRONLY|os.O_APPEND|syscall.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(f.Truncate(j.size), syncDir(filepath.Dir(j.path))); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// restart empties the journal after the state file was written. Should it not
// become empty, its lines are of an old generation.
func (j *journal) restart(base int) {
	j.base, j.size, j.changes = int64(base), 0, nil
	if j.file == nil {
		return
	}
	if err := errors.Join(j.file.Truncate(0), j.file.Close()); err != nil {
		_ = os.Remove(j.path)
	}
	j.file, j.broken = nil, false
}

func (j *journal) close() error {
	if j.file == nil {
		return nil
	}
	return j.file.Close()
}
