package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// disksDir, in the state directory, is a place for files that are disks;
// notesDir holds what State.Keep keeps.
const (
	disksDir = "disks"
	notesDir = "notes"
)

// Keep remembers a note under a name, in a file of its own. It is on disk when
// Keep returns.
func (s *State) Keep(name string, note any) error {
	raw, err := json.Marshal(note)
	if err != nil {
		return fmt.Errorf("note %s does not encode: %w", name, err)
	}
	path := s.notePath(name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	return replaceFile(path, append(raw, '\n'))
}

// Kept reads a note; false when there is not one of that name, or one that does
// not decode.
func (s *State) Kept(name string, note any) (bool, error) {
	raw, err := os.ReadFile(s.notePath(name))
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return json.Unmarshal(raw, note) == nil, nil
}

// Forget removes a note.
func (s *State) Forget(name string) error {
	if err := os.Remove(s.notePath(name)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// NoteFile is the path of a note.
func (s *State) NoteFile(name string) string { return s.notePath(name) }

func (s *State) notePath(name string) string {
	return filepath.Join(filepath.Dir(s.path), notesDir, filepath.Base(name))
}
