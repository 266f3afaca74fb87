package agent

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	apiv1 "github.com/virtual-disk-array/vda/api/v1"
)

// change asks for one more pd.
func change(s *State, version uint64, name string, terms map[string]uint64) error {
	m := &apiv1.SyncDnRequest{Pds: []*apiv1.PdSpec{{Id: name}}}
	return s.AcceptChange(Claim{ClusterID: "c", NodeID: "n", Version: version, Base: version - 1, Terms: terms}, m,
		func() (func() proto.Message, bool, error) {
			return func() proto.Message { return &apiv1.SyncDnRequest{Pds: []*apiv1.PdSpec{{Id: "all-of-it"}}} }, true, nil
		})
}

// changes are the names of the pds that a state was asked for since its file
// was written.
func changes(t *testing.T, s *State) (names string) {
	t.Helper()
	all, err := s.Changes(func() proto.Message { return &apiv1.SyncDnRequest{} })
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range all {
		names += m.(*apiv1.SyncDnRequest).Pds[0].Id + " "
	}
	return names
}

func size(t *testing.T, path string) int64 {
	t.Helper()
	st, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return st.Size()
}

// TestAChangeCostsAsMuchAsItIs: the state file of a node that has a lot is not
// rewritten for one change, and nothing is lost by that, neither in a
// restart nor when the last line was cut off.
func TestAChangeCostsAsMuchAsItIs(t *testing.T) {
	dir := t.TempDir()
	file, journal := filepath.Join(dir, stateName), filepath.Join(dir, journalName)
	s := open(t, dir)
	var many []string
	for i := range 5000 {
		many = append(many, fmt.Sprintf("pd-of-a-node-that-has-many-%d", i))
	}
	if err := s.Accept(Claim{ClusterID: "c", NodeID: "n", Version: 1}, set(many...)); err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for v := uint64(2); v <= 9; v++ {
		if err := change(s, v, fmt.Sprintf("p%d", v), map[string]uint64{"da": v}); err != nil {
			t.Fatal(err)
		}
	}
	if after, _ := os.ReadFile(file); string(after) != string(before) {
		t.Error("the state file was written for a change")
	}
	if n := size(t, journal); n > 8*200 {
		t.Errorf("8 changes took %d bytes", n)
	}
	check := func(what string, version uint64, names string) {
		t.Helper()
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = open(t, dir)
		if _, _, v := s.Identity(); v != version || !s.holds() {
			t.Errorf("%s: version %d, holds %v", what, v, s.holds())
		}
		if got := changes(t, s); got != names {
			t.Errorf("%s: changes %q, want %q", what, got, names)
		}
		if err := change(s, version+1, "old", map[string]uint64{"da": version - 1}); err == nil {
			t.Errorf("%s: a lower term is taken", what)
		}
	}
	check("restart", 9, "p2 p3 p4 p5 p6 p7 p8 p9 ")

	// The machine lost power over the tenth.
	raw, err := os.ReadFile(journal)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(journal, append(raw, []byte(`{"generation":"`)...), 0o600); err != nil {
		t.Fatal(err)
	}
	check("cut off", 9, "p2 p3 p4 p5 p6 p7 p8 p9 ")
	if err := change(s, 10, "p10", map[string]uint64{"da": 10}); err != nil {
		t.Fatal(err)
	}
	check("after that", 10, "p2 p3 p4 p5 p6 p7 p8 p9 p10 ")

	// A line in the middle that is none was not cut off.
	bad := strings.Replace(string(raw), `{"generation`, `{"gen`, 1)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(journal, []byte(strings.Replace(bad, "{", "", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenState(dir, "dn"); err == nil || !strings.Contains(err.Error(), journal) || !strings.Contains(err.Error(), "put it back") {
		t.Errorf("a broken journal: %v", err)
	}
	if err := os.WriteFile(journal, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir)
	if err := s.Accept(Claim{ClusterID: "c", NodeID: "n", Version: 20, Held: map[string]bool{"da": true}, Terms: map[string]uint64{"da": 20}},
		set("p")); err != nil {
		t.Fatal(err)
	}
	check("a full set", 20, "")
	// A journal that belongs to an older state file does not count.
	if err := os.WriteFile(journal, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	check("a journal of before", 20, "")
}

// TestTheJournalEnds: a small state file is rewritten when the journal has
// grown beyond it, with all that there is.
func TestTheJournalEnds(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	if err := s.Accept(Claim{ClusterID: "c", NodeID: "n", Version: 1}, set("p1")); err != nil {
		t.Fatal(err)
	}
	for v := uint64(2); v < 2000; v++ {
		if err := change(s, v, "p", nil); err != nil {
			t.Fatal(err)
		}
		if n := size(t, filepath.Join(dir, journalName)); n > 2*journalMin {
			t.Fatalf("the journal has %d bytes after %d changes", n, v)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir)
	var m apiv1.SyncDnRequest
	if ok, err := s.Desired(&m); !ok || err != nil || m.Pds[0].Id != "all-of-it" {
		t.Errorf("%v %v %v", ok, err, &m)
	}
	// The operator's way back counts as well while there is a journal.
	if v, _, err := s.ForgetVersions(); v != 1999 || err != nil {
		t.Errorf("version %d, %v", v, err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, _, v := open(t, dir).Identity(); v != 0 {
		t.Errorf("version %d after it was forgotten", v)
	}
}

// TestAJournalOfBeforeTakesNoChangeAway: lines that are older than the state
// file may stand before those that count, when the file was written after a
// restart: by an agent that did not empty the journal, or was killed between the
// two. What was acknowledged is there after each restart.
func TestAJournalOfBeforeTakesNoChangeAway(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, dir)
	full := func(version, term uint64) {
		t.Helper()
		if err := s.Accept(Claim{ClusterID: "c", NodeID: "n", Version: version, Terms: map[string]uint64{"da": term}}, set("p")); err != nil {
			t.Fatal(err)
		}
	}
	add := func(version, term uint64) {
		t.Helper()
		if err := change(s, version, fmt.Sprint("p", version), map[string]uint64{"da": term}); err != nil {
			t.Fatal(err)
		}
	}
	again := func(version, term uint64, want string) {
		t.Helper()
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = open(t, dir)
		_, _, v := s.Identity()
		if got := changes(t, s); v != version || s.data.Terms["da"] != term || got != want || !s.holds() {
			t.Errorf("version %d, term %d, changes %q; want %d, %d, %q", v, s.data.Terms["da"], got, version, term, want)
		}
	}
	full(1, 1)
	add(2, 1)
	again(2, 1, "p2 ")
	full(3, 2) // by a run that has not written to the journal
	add(4, 3)
	add(5, 4)
	again(5, 4, "p4 p5 ")
	full(6, 4)
	again(6, 4, "")
	add(7, 5)
	again(7, 5, "p7 ")

	// As another agent left it: old lines, then those that count.
	path := filepath.Join(dir, journalName)
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	old := `{"generation":"OF BEFORE","version":2,"terms":{"da":1},"holds":true}` + "\n"
	if err := os.WriteFile(path, append([]byte(old), raw...), 0o600); err != nil {
		t.Fatal(err)
	}
	again(7, 5, "p7 ")
	add(8, 6)
	again(8, 6, "p7 p8 ")
}
