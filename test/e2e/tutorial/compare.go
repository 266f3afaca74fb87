package tutorial

import (
	"encoding/json"
	"fmt"
	"reflect"
	"regexp"
	"strings"
)

var id = regexp.MustCompile(`^[0-9a-f]{32}$`)

// Compare reports how got, what the step's command printed, differs from the
// document. JSON must be equal, object ids aside; of nvme list-subsys the
// paths count; anything else must print the document's lines, in any order.
func (s Step) Compare(got string) error {
	switch {
	case s.Output == "":
		return nil
	case strings.Contains(s.Command, "nvme list-subsys"):
		return comparePaths(s.Output, got)
	case strings.HasPrefix(s.Output, "{"):
		return compareJSON(s.Output, got)
	case strings.HasPrefix(s.Command, "ps "):
		return containsWord(got, regexp.MustCompile(`config_file=\S+`).FindString(s.Output))
	}
	have := map[string]bool{}
	for _, line := range strings.Split(got, "\n") {
		have[squeeze(line)] = true
	}
	for _, line := range strings.Split(s.Output, "\n") {
		if !have[squeeze(line)] {
			return fmt.Errorf("the document shows %q, printed was:\n%s", line, got)
		}
	}
	return nil
}

func squeeze(s string) string { return strings.Join(strings.Fields(s), " ") }

func containsWord(got, want string) error {
	if want == "" || !strings.Contains(got, want) {
		return fmt.Errorf("%q is not in:\n%s", want, got)
	}
	return nil
}

func compareJSON(want, got string) error {
	var w, g any
	if err := json.Unmarshal([]byte(want), &w); err != nil {
		return fmt.Errorf("the document's JSON: %w", err)
	}
	if err := json.Unmarshal([]byte(got), &g); err != nil {
		return fmt.Errorf("printed was no JSON: %w:\n%s", err, got)
	}
	if w, g = maskIDs(w), maskIDs(g); !reflect.DeepEqual(w, g) {
		return fmt.Errorf("the document shows:\n%s\nprinted was:\n%s", want, got)
	}
	return nil
}

func maskIDs(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for k := range v {
			v[k] = maskIDs(v[k])
		}
	case []any:
		for i := range v {
			v[i] = maskIDs(v[i])
		}
	case string:
		if id.MatchString(v) {
			return "ID"
		}
	}
	return v
}

type subsystem struct {
	NQN   string
	Paths []struct{ Transport, Address, State string }
}

// comparePaths compares NQN, transport, target address, port and state of
// every path; nvme-cli's releases write the address in different ways.
func comparePaths(want, got string) error {
	paths := func(text string) (string, error) {
		var s subsystem
		if err := json.Unmarshal([]byte(text), &s); err != nil {
			return "", fmt.Errorf("%w in:\n%s", err, text)
		}
		out := s.NQN
		for _, p := range s.Paths {
			out += "\n" + p.Transport + " " + p.State
			for _, key := range []string{"traddr=", "trsvcid="} {
				out += " " + regexp.MustCompile(key+`[^ ,]*`).FindString(p.Address)
			}
		}
		return out, nil
	}
	w, err := paths(want)
	if err != nil {
		return err
	}
	g, err := paths(got)
	if err != nil {
		return err
	}
	if w != g {
		return fmt.Errorf("the document shows:\n%s\nprinted was:\n%s", w, g)
	}
	return nil
}
