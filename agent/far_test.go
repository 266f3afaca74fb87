package agent

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/program"
)

// after is a claim of the usual cluster and node.
func after(version uint64, terms map[string]uint64) Claim {
	return Claim{ClusterID: "c", NodeID: "n", Version: version, Terms: terms}
}

const clock = 1_764_000_000_000 // ms; what first versions look like

// Versions and terms that would lock the node out for good are refused, and
// leave it as it was; those that restored databases have are taken.
func TestVersionsFarAheadAreRefused(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir())
	for name, c := range map[string]Claim{
		"a version of a new node": after(1<<64-1, nil),
		"a term of a new array":   after(clock, map[string]uint64{"da": 1<<64 - 1}),
	} {
		if err := s.Accept(c, set("p")); vda.KindOf(err) != vda.FailedPrecondition {
			t.Errorf("%s: %v", name, err)
		}
	}
	if c, _, v := s.Identity(); c != "" || v != 0 {
		t.Errorf("a refused request made it %q, %d", c, v)
	}
	if err := s.Accept(after(clock, map[string]uint64{"da": 3}), set("p")); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]Claim{
		"version":      after(1<<64-1, nil),
		"less so":      after(vda.FirstVersionMax+vda.MaxVersionAhead+1, nil),
		"term":         after(clock+1, map[string]uint64{"da": 1<<64 - 1}),
		"another term": after(clock+1, map[string]uint64{"da2": 2*vda.MaxTermAhead + 1}),
	} {
		err := s.Accept(c, set("p"))
		if vda.KindOf(err) != vda.FailedPrecondition || !strings.Contains(err.Error(), "would lock every portal out") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, _, v := s.Identity(); v != clock {
		t.Errorf("version %d", v)
	}
	// 200 times restored from a backup.
	if err := s.Accept(after(clock+200<<32, map[string]uint64{"da": 200_000_003, "da2": 200_000_001}), set("p")); err != nil {
		t.Error(err)
	}
}

// An agent that holds such versions all the same, as older ones do, says how it
// is brought back, and forgets nothing else.
func TestForgetVersionsIsTheWayBack(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, dir)
	if err := s.Accept(after(clock, map[string]uint64{"da": 3}), set("p")); err != nil {
		t.Fatal(err)
	}
	if err := s.SetMade("vd", true); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, stateName)
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Replace(strings.Replace(string(raw), "1764000000000", "18446744073709551615", 1), `"da":3`, `"da":18446744073709551615`, 1)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir)
	if err := s.Accept(after(clock+1<<32, nil), set("p")); err == nil || !strings.Contains(err.Error(), "--forget-versions") {
		t.Errorf("it says %v", err)
	}
	var out bytes.Buffer
	forget := func(dir string) int {
		app := App{Name: "vda_dn_agent", Kind: "dn"}
		args := []string{"--forget-versions", "--state-dir", dir}
		return app.Program().Run(t.Context(), program.Process{Args: args, Stdout: &out, Stderr: &out})
	}
	if code := forget(dir); code != 1 { // it runs
		t.Errorf("exit %d while an agent runs", code)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if code := forget(dir); code != 0 {
		t.Errorf("exit %d", code)
	}
	said := out.String()
	for _, w := range []string{"in use", "version 18446744073709551615 and the highest terms of 1 disk arrays are forgotten"} {
		if !strings.Contains(said, w) {
			t.Errorf("%q does not say %q", said, w)
		}
	}
	if code := forget(t.TempDir()); code != 1 {
		t.Errorf("exit %d without a state", code)
	}
	s = open(t, dir)
	if c, n, v := s.Identity(); c != "c" || n != "n" || v != 0 || !s.holds() {
		t.Errorf("%q %q %d, holds %v", c, n, v, s.holds())
	}
	if made, err := s.Made("vd"); !made || err != nil {
		t.Errorf("made %v, %v", made, err)
	}
	if err := s.Accept(after(clock+1, map[string]uint64{"da": 3}), set("p")); err != nil {
		t.Error(err)
	}
}

// A state file that is of no use says what to do.
func TestAStateFileThatDoesNotDecodeSaysWhatToDo(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", "{", `{"format":1,"agent":"dn","cluster_id":"----------------","node_id":"d0"}`} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, stateName), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := OpenState(dir, "dn")
		if err == nil {
			t.Errorf("%q is taken", text)
			continue
		}
		for _, w := range []string{filepath.Join(dir, stateName), "put it back from a copy", "remove this file alone",
			filepath.Join(dir, "made")} {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%q: %q does not say %q", text, err, w)
			}
		}
	}
}
