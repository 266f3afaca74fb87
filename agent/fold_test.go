package agent

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	apiv1 "github.com/virtual-disk-array/vda/api/v1"
)

// TestAnOlderBuildIsNotGivenHalf: a build that does not know the journal refuses
// a state file that may have changes beside it, by its format, and gets all of
// it in the one it reads when the agent was stopped.
func TestAnOlderBuildIsNotGivenHalf(t *testing.T) {
	dir := t.TempDir()
	var file struct {
		Format  int
		Version uint64
		Terms   map[string]uint64
		Desired json.RawMessage
	}
	older := func(what string, format int, version uint64) {
		t.Helper()
		raw, err := os.ReadFile(filepath.Join(dir, stateName))
		if err == nil {
			err = json.Unmarshal(raw, &file)
		}
		if err != nil || file.Format != format || file.Version != version {
			t.Errorf("%s: format %d, version %d (%v), want %d and %d", what, file.Format, file.Version, err, format, version)
		}
	}
	s := open(t, dir)
	if err := s.Accept(Claim{ClusterID: "c", NodeID: "n", Version: 1}, set("p1")); err != nil {
		t.Fatal(err)
	}
	older("a set", 2, 1)
	add := func(version uint64) {
		t.Helper()
		if err := change(s, version, "p", map[string]uint64{"da": version}); err != nil {
			t.Fatal(err)
		}
	}
	add(2)
	older("a change", 2, 1)
	if err := s.Fold(&apiv1.SyncDnRequest{Pds: []*apiv1.PdSpec{{Id: "p1"}, {Id: "p"}}}); err != nil {
		t.Fatal(err)
	}
	whole := func() {
		t.Helper()
		older("stopped", 1, 2)
		if n := size(t, filepath.Join(dir, journalName)); n != 0 || file.Terms["da"] != 2 || !json.Valid(file.Desired) {
			t.Errorf("stopped: %d bytes of journal, %+v", n, file)
		}
	}
	whole()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir)
	if _, _, v := s.Identity(); v != 2 || changes(t, s) != "" || !s.holds() {
		t.Errorf("version %d, changes, or no objects, after it was stopped", v)
	}
	whole() // a start changes nothing
	add(3)
	older("the next change", 2, 3)
	add(4)
	older("the one after", 2, 3)
	if n := size(t, filepath.Join(dir, journalName)); n == 0 {
		t.Error("the second change after a start is not in the journal")
	}
}
