package agent

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/virtual-disk-array/vda"
)

// stateName is the state file's name in its directory.
const stateName = "state.json"

// Formats of the state file. Builds of before the journal read the first only,
// and would take a file without its changes for all there is; so it is of the second
// for as long as there may be changes beside it, and of the first after Fold.
const (
	wholeFormat     = 1
	journaledFormat = 2
)

// State is what an agent must remember across restarts. Safe for concurrent
// use. Every change is on disk before the method that made it returns.
type State struct {
	path string
	lock *os.File
	made dirSync

	mu      sync.Mutex
	data    stateFile // Desired is as the file has it, without the journal's changes
	held    bool      // the desired set has objects
	journal journal
}

type stateFile struct {
	Format    int               `json:"format"`
	Agent     string            `json:"agent"` // "dn" or "cn"
	ClusterID string            `json:"cluster_id"`
	NodeID    string            `json:"node_id"`
	Former    string            `json:"former_node_id,omitempty"` // before this one
	Version   uint64            `json:"version"`
	Mark      string            `json:"mark,omitempty"` // of the version
	Terms     map[string]uint64 `json:"terms"`          // da id → highest term
	Desired   json.RawMessage   `json:"desired,omitempty"`
	// Generation is another each time the file is written; see journalName.
	Generation string `json:"generation,omitempty"`
}

// OpenState reads the state of an agent ("dn" or "cn") from dir, which it
// makes when it is not there, and locks it against a second agent until
// Close.
func OpenState(dir, agent string) (*State, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("state directory: %w; give a writable one with --state-dir", err)
	}
	lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR|syscall.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("state directory: %w; give a writable one with --state-dir", err)
	}
	err = syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	for try := 0; try < 20 && err != nil; try++ {
		// A predecessor may be about to end, or its file be open for a moment
		// more in a program that has just been forked.
		time.Sleep(10 * time.Millisecond)
		err = syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	}
	if err != nil {
		inUse := fmt.Errorf("state directory %s is in use by another agent; give each agent its own --state-dir", dir)
		return nil, errors.Join(inUse, lock.Close())
	}
	s := &State{path: filepath.Join(dir, stateName), lock: lock, journal: journal{path: filepath.Join(dir, journalName)}}
	if err := s.read(agent); err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return s, nil
}

func (s *State) read(agent string) error {
	s.data = stateFile{Format: journaledFormat, Agent: agent}
	raw, err := os.ReadFile(s.path)
	switch {
	case errors.Is(err, os.ErrNotExist):
	case err != nil:
		return fmt.Errorf("state: %w", err)
	default:
		var d stateFile
		if err := json.Unmarshal(raw, &d); err != nil {
			return fmt.Errorf("state file %s does not decode: %w; %s", s.path, err, s.undecoded())
		}
		if d.ClusterID != "" && strings.Trim(d.ClusterID, "-") == "" {
			return fmt.Errorf("state file %s carries cluster_id %q, which is not an id; %s", s.path, d.ClusterID, s.undecoded())
		}
		if d.Format != wholeFormat && d.Format != journaledFormat || d.Agent != agent {
			return fmt.Errorf("state file %s is of a %q agent in format %d; this is a %q agent and reads formats %d and %d; "+
				"to go back from a newer build, start that one again and stop it with SIGTERM first",
				s.path, d.Agent, d.Format, agent, wholeFormat, journaledFormat)
		}
		s.data = d
		s.held = len(d.Desired) > 0
		s.journal.base = int64(len(raw))
	}
	if s.data.Terms == nil {
		s.data.Terms = map[string]uint64{}
	}
	return s.replay()
}

// undecoded says what to do about a state file that is of no use. What it held
// comes back with the next Sync but for the highest terms: an old primary that
// still runs might be admitted, where another node would be asked first.
func (s *State) undecoded() string {
	return fmt.Sprintf("put it back from a copy; or remove this file alone (not %s, which says what has been made on the disks), "+
		"when no other portal or monitor than this cluster's reaches the node, and start the agent: it is sent its objects again",
		filepath.Join(filepath.Dir(s.path), "made"))
}

// Close gives up the lock.
func (s *State) Close() error { return errors.Join(s.journal.close(), s.lock.Close()) }

// Identity returns the cluster and node this agent belongs to, "" before the
// first Sync, and the version of the desired set it holds.
func (s *State) Identity() (cluster, node string, version uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.data.ClusterID, s.data.NodeID, s.data.Version
}

// owner returns what the mark of the data plane's owner is made of; it may still
// carry the former node's id.
func (s *State) owner() (cluster, node, former string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.data.ClusterID, s.data.NodeID, s.data.Former
}

// holds reports that the desired set has objects.
func (s *State) holds() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.held
}

// Desired decodes the persisted desired set into m; false when there is none.
func (s *State) Desired(m proto.Message) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.data.Desired) == 0 {
		return false, nil
	}
	if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(s.data.Desired, m); err != nil {
		return false, fmt.Errorf("state file %s: desired set does not decode: %w; %s", s.path, err, s.undecoded())
	}
	return true, nil
}

// Claim is what a Sync says of itself.
type Claim struct {
	ClusterID, NodeID string
	Version, Base     uint64            // Base 0: a full set
	Marks             vda.VersionMarks  // of the sender's last versions
	Terms             map[string]uint64 // by da, the highest in the request
	Vacant            bool              // the agent holds no object of the node it is
	Held              map[string]bool   // das that objects of the present set belong to
}

// StaleError says that a request does not fit the version an agent holds.
type StaleError struct {
	Version uint64 // held
	msg     string
}

func (e *StaleError) Error() string { return e.msg }

// Accept checks a claim, calls next for the full desired set that results
// (nil when no object is in it), and persists all of it. next must not have
// effects; it may refuse. After an error nothing has changed.
func (s *State) Accept(c Claim, next func() (proto.Message, error)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.check(c); err != nil {
		return err
	}
	m, err := next()
	if err != nil {
		return err
	}
	d := s.data
	if d.NodeID != c.NodeID {
		d.Former = d.NodeID
	}
	d.ClusterID, d.NodeID, d.Version, d.Mark = c.ClusterID, c.NodeID, c.Version, c.Marks.Of(c.Version)
	if d.Desired, err = encode(m); err != nil {
		return err
	}
	d.Terms = maps.Clone(d.Terms)
	if c.Base == 0 {
		// Requests about an array that neither set knows are older than both.
		maps.DeleteFunc(d.Terms, func(da string, _ uint64) bool { return !c.Held[da] })
	}
	maps.Copy(d.Terms, c.Terms)
	return s.write(d)
}

func (s *State) check(c Claim) error {
	d := &s.data
	var held uint64 // version of this node
	if d.NodeID == c.NodeID {
		held = d.Version
	}
	switch {
	case c.ClusterID == "" || c.NodeID == "":
		return vda.Errorf(vda.InvalidArgument, "cluster_id %q and node_id %q must both be set", c.ClusterID, c.NodeID)
	case d.ClusterID != "" && d.ClusterID != c.ClusterID:
		return vda.Errorf(vda.FailedPrecondition, "this agent belongs to cluster %s; the request is from cluster %s; "+
			"to hand the node over, stop the agent and remove its state directory", d.ClusterID, c.ClusterID)
	case d.NodeID != "" && d.NodeID != c.NodeID && !c.Vacant:
		return vda.Errorf(vda.FailedPrecondition, "this agent is node %s; the request is for node %s", d.NodeID, c.NodeID)
	case d.NodeID != c.NodeID:
		// A node that holds nothing may be created again under another id,
		// with versions that start over.
		if c.Base != 0 {
			return &StaleError{msg: "this agent holds no set yet; send a full one"}
		}
	case c.Version < d.Version:
		msg := fmt.Sprintf("version %d is older than version %d, which this agent holds", c.Version, d.Version)
		if vda.TooFar(d.Version, c.Version, vda.MaxVersionAhead) {
			msg += "; no portal has given that one: stop the agent, run it once with --forget-versions, and start it again"
		}
		return &StaleError{Version: d.Version, msg: msg}
	case c.Base > d.Version:
		return &StaleError{Version: d.Version,
			msg: fmt.Sprintf("delta to version %d, but this agent holds version %d; send a full set", c.Base, d.Version)}
	}
	if mark := c.Marks.Of(held); held != 0 && mark != "" && d.Mark != "" && mark != d.Mark {
		return vda.Errorf(vda.FailedPrecondition, "version %d of this node was another one when the agent got it: the database was "+
			"restored from a backup and does not know what the node has; nothing is changed here until vda_db --action restored is run on it", held)
	}
	if vda.TooFar(c.Version, max(held, vda.FirstVersionMax), vda.MaxVersionAhead) {
		return vda.Errorf(vda.FailedPrecondition, "version %d is refused: it lies more than %d above version %d, which this agent "+
			"holds, and would lock every portal out", c.Version, uint64(vda.MaxVersionAhead), held)
	}
	for da, t := range c.Terms {
		switch seen := d.Terms[da]; {
		case t < seen && vda.TooFar(seen, t, vda.MaxTermAhead):
			return vda.Errorf(vda.FailedPrecondition, "term %d of disk array %s is refused: term %d has been seen; "+
				"no portal has given that one: stop the agent, run it once with --forget-versions, and start it again", t, da, seen)
		case t < seen:
			return vda.Errorf(vda.FailedPrecondition, "term %d of disk array %s is refused: term %d has been seen", t, da, seen)
		case vda.TooFar(t, max(seen, vda.MaxTermAhead), vda.MaxTermAhead):
			return vda.Errorf(vda.FailedPrecondition, "term %d of disk array %s is refused: it lies more than %d above term %d, "+
				"which has been seen, and would lock every portal out", t, da, uint64(vda.MaxTermAhead), seen)
		}
	}
	return nil
}

// ForgetVersions has the agent take the next full set whatever its version and
// terms are: the operator's way back when the ones it holds are above all that
// the cluster will ever give. The rest is kept, what has been made on media
// above all. It returns what was forgotten.
func (s *State) ForgetVersions() (version uint64, terms int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := s.data
	version, terms = d.Version, len(d.Terms)
	if s.journal.size > 0 { // whose changes the file lacks
		l := &journalLine{Generation: d.Generation, Holds: s.held, Forget: true}
		if err := s.journal.append(l); err != nil {
			return 0, 0, fmt.Errorf("state is not kept, so nothing is forgotten: %w", err)
		}
		s.apply(l)
		return version, terms, nil
	}
	d.Version, d.Mark, d.Terms = 0, "", map[string]uint64{}
	return version, terms, s.write(d)
}

func encode(m proto.Message) (json.RawMessage, error) {
	if m == nil {
		return nil, nil
	}
	raw, err := protojson.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("desired set does not encode: %w", err)
	}
	return raw, nil
}

// Made reports that an object has been made on media once. It is kept as an
// empty file of its own, so that it costs the same however many there are.
func (s *State) Made(id string) (bool, error) {
	_, err := os.Stat(s.madePath(id))
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// SetMade records it, or forgets it.
func (s *State) SetMade(id string, made bool) error {
	path := s.madePath(id)
	if !made {
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		return nil
	}
	if _, err := os.Stat(path); err == nil {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|syscall.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	return errors.Join(f.Close(), s.made.sync(filepath.Dir(path)))
}

// dirSync makes new entries of a directory durable, those of many callers at
// once.
type dirSync struct {
	asked atomic.Uint64
	mu    sync.Mutex
	done  uint64 // asked when the last sync began
}

func (d *dirSync) sync(dir string) error {
	ticket := d.asked.Add(1)
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.done >= ticket {
		return nil
	}
	upTo := d.asked.Load()
	if err := syncDir(dir); err != nil {
		return err
	}
	d.done = upTo
	return nil
}

func (s *State) madePath(id string) string {
	return filepath.Join(filepath.Dir(s.path), "made", filepath.Base(id))
}

// write replaces the file and, once that is durable, s.data. s.mu is held.
func (s *State) write(d stateFile) error {
	return s.writeAs(journaledFormat, d)
}

// Fold writes full, the set with all changes, nil for an empty one, in the state
// file alone, so that an older build that is started on it takes nothing for
// the whole that is not. The next change begins another journal.
func (s *State) Fold(full proto.Message) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.data.NodeID == "" || s.data.Format == wholeFormat && s.journal.size == 0 {
		return nil
	}
	d := s.data
	var err error
	if d.Desired, err = encode(full); err != nil {
		return err
	}
	return s.writeAs(wholeFormat, d)
}

func (s *State) writeAs(format int, d stateFile) error {
	d.Format, d.Generation = format, rand.Text()
	raw, err := json.Marshal(d)
	if err != nil {
		return fmt.Errorf("state does not encode: %w", err)
	}
	if err := replaceFile(s.path, append(raw, '\n')); err != nil {
		return fmt.Errorf("state is not kept, so nothing is done: %w", err)
	}
	s.data, s.held = d, len(d.Desired) > 0
	s.journal.restart(len(raw))
	return nil
}

// replaceFile puts data at path so that after a crash there is the old
// content or the new.
func replaceFile(path string, data []byte) error {
	tmp := path + ".new"
	f, err := os.OpenFile(tmp, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := os.Rename(tmp, path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
