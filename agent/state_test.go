package agent

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	apiv1 "github.com/virtual-disk-array/vda/api/v1"
)

func open(t *testing.T, dir string) *State {
	t.Helper()
	s, err := OpenState(dir, "dn")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func set(names ...string) func() (proto.Message, error) {
	m := &apiv1.SyncDnRequest{}
	for _, n := range names {
		m.Pds = append(m.Pds, &apiv1.PdSpec{Id: n})
	}
	return func() (proto.Message, error) { return m, nil }
}

func TestStateSurvives(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	if err := s.Accept(Claim{ClusterID: "c", NodeID: "n", Version: 3, Terms: map[string]uint64{"da": 2}}, set("p1")); err != nil {
		t.Fatal(err)
	}
	if err := s.SetMade("p1", true); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir)
	if c, n, v := s.Identity(); c != "c" || n != "n" || v != 3 {
		t.Errorf("%s %s %d", c, n, v)
	}
	var m apiv1.SyncDnRequest
	if ok, err := s.Desired(&m); !ok || err != nil || len(m.Pds) != 1 || m.Pds[0].Id != "p1" {
		t.Errorf("%v %v %v", ok, err, &m)
	}
	if made, err := s.Made("p1"); !made || err != nil {
		t.Errorf("made %v, %v", made, err)
	}
	if err := s.Accept(Claim{ClusterID: "c", NodeID: "n", Version: 4, Terms: map[string]uint64{"da": 1}}, set()); err == nil {
		t.Error("a lower term is accepted")
	}
}

func TestStateChangesNothingWhenRefused(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	if err := s.Accept(Claim{ClusterID: "c", NodeID: "n", Version: 3}, set("p1")); err != nil {
		t.Fatal(err)
	}
	before, _ := os.ReadFile(filepath.Join(dir, "state.json"))
	no := errors.New("no")
	for name, c := range map[string]Claim{
		"other cluster": {ClusterID: "x", NodeID: "n", Version: 4},
		"other node":    {ClusterID: "c", NodeID: "x", Version: 4},
		"no cluster":    {NodeID: "n", Version: 4},
		"older":         {ClusterID: "c", NodeID: "n", Version: 2},
		"delta too far": {ClusterID: "c", NodeID: "n", Version: 9, Base: 4},
		"by next":       {ClusterID: "c", NodeID: "n", Version: 9},
	} {
		next := set("p2")
		if name == "by next" {
			next = func() (proto.Message, error) { return nil, no }
		}
		if err := s.Accept(c, next); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if after, _ := os.ReadFile(filepath.Join(dir, "state.json")); string(after) != string(before) {
		t.Errorf("the file has changed to %s", after)
	}
}

func TestStateDirIsForOneAgent(t *testing.T) {
	dir := t.TempDir()
	open(t, dir)
	if _, err := OpenState(dir, "dn"); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("second agent: %v", err)
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenState(file, "dn"); err == nil || !strings.Contains(err.Error(), "--state-dir") {
		t.Errorf("a file: %v", err)
	}
}

func TestStateOfTheOtherKindOrBrokenIsRefused(t *testing.T) {
	for _, text := range []string{`{"format":1,"agent":"cn"}`, `{"format":3,"agent":"dn"}`, `{"format":1,`} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "state.json"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := OpenState(dir, "dn"); err == nil || !strings.Contains(err.Error(), dir) {
			t.Errorf("%s: %v", text, err)
		}
	}
}
