package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// exported are the metrics of the documentation, which tests compare with what programs show.
func exported(t *testing.T) (types map[string]string, labels map[string]string) {
	t.Helper()
	types, labels = map[string]string{}, map[string]string{}
	b, err := os.ReadFile("../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile("(?m)^\\| `(vda_[a-z_]+)` \\| (\\w+) \\| ([a-z_, ]*) \\|").FindAllStringSubmatch(string(b), -1) {
		types[m[1]], labels[m[1]] = m[2], m[3]
	}
	return types, labels
}

// TestQueriesNameMetrics: each query names metrics that there are, with the labels that they
// have, a histogram by its buckets and a rate of a counter only.
func TestQueriesNameMetrics(t *testing.T) {
	types, labels := exported(t)
	if len(types) < 50 {
		t.Fatalf("%d metrics are documented", len(types))
	}
	types["vda_agent_objects_in_error"], labels["vda_agent_objects_in_error"] = "gauge", "" // docs/daemons
	name := regexp.MustCompile(`(\w+\()?\(?\b(vda_[a-z_]+)(?:\{([^}]*)\})?(\[)?`)
	by := regexp.MustCompile(`by \(([^)]*)\)`)
	check := func(board, expr string) {
		found := name.FindAllStringSubmatch(strings.ReplaceAll(expr, "vda-", ""), -1)
		if len(found) == 0 {
			t.Errorf("%s: %s names no metric", board, expr)
		}
		for _, m := range found {
			metric, histogram := m[2], false
			if base, ok := strings.CutSuffix(metric, "_bucket"); ok {
				metric, histogram = base, true
			}
			kind := types[metric]
			switch {
			case kind == "":
				t.Errorf("%s: there is no metric %s: %s", board, metric, expr)
				continue
			case histogram != (kind == "histogram"):
				t.Errorf("%s: %s is a %s: %s", board, metric, kind, expr)
			case (m[4] == "[") != (kind != "gauge"):
				t.Errorf("%s: a %s is used as if it were another: %s", board, kind, expr)
			}
			has := func(label string) bool {
				return regexp.MustCompile(`\b`+label+`\b`).MatchString(labels[metric]+", instance, job") || histogram && label == "le"
			}
			for _, l := range regexp.MustCompile(`(\w+)\s*(?:=|!=|=~)"`).FindAllStringSubmatch(m[3], -1) {
				if !has(l[1]) {
					t.Errorf("%s: %s has no label %s: %s", board, metric, l[1], expr)
				}
			}
			for _, group := range by.FindAllStringSubmatch(expr, -1) {
				for l := range strings.SplitSeq(group[1], ", ") {
					if !has(l) {
						t.Errorf("%s: %s has no label %s: %s", board, metric, l, expr)
					}
				}
			}
		}
	}
	for _, b := range boards {
		for _, v := range b.vars {
			m := regexp.MustCompile(`^label_values\((vda_[a-z_]+)(?:\{.*\})?, (\w+)\)$`).FindStringSubmatch(v.query)
			if m == nil || types[m[1]] == "" || !strings.Contains(labels[m[1]]+", instance", m[2]) {
				t.Errorf("%s: the variable %s asks for %s", b.name, v.name, v.query)
			}
		}
		for _, p := range b.panels {
			if p.title == "" || p.unit == "" || len(p.queries) == 0 {
				t.Errorf("%s: a panel lacks something: %+v", b.name, p)
			}
			for _, q := range p.queries {
				check(b.name, q.expr)
				for _, v := range regexp.MustCompile(`\$(\w+)`).FindAllStringSubmatch(q.expr, -1) {
					known := v[1] == "__rate_interval"
					for _, is := range b.vars {
						known = known || is.name == v[1]
					}
					if !known {
						t.Errorf("%s: there is no variable %s: %s", b.name, v[1], q.expr)
					}
				}
			}
		}
	}
}

// TestQueriesParse has Prometheus's own promtool read each query.
func TestQueriesParse(t *testing.T) {
	promtool, err := exec.LookPath("promtool")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("promtool is not installed: test/setup.sh installs it")
		}
		t.Skip("promtool is not installed: test/setup.sh installs it")
	}
	rules := "groups:\n  - name: g\n    rules:\n"
	for i := range boards {
		for k, p := range boards[i].panels {
			for n, q := range p.queries {
				expr := strings.ReplaceAll(q.expr, "$__rate_interval", "5m")
				rules += fmt.Sprintf("      - {record: 'q:%d:%d:%d', expr: '%s'}\n", i, k, n, expr)
			}
		}
	}
	file := filepath.Join(t.TempDir(), "queries.yml")
	if err := os.WriteFile(file, []byte(rules), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(promtool, "check", "rules", file).CombinedOutput(); err != nil {
		t.Errorf("promtool: %v\n%s", err, out)
	}
}

// TestFilesAreUpToDate: docs/dashboards has what is made here, panels that do not overlap, and
// nothing else.
func TestFilesAreUpToDate(t *testing.T) {
	made := files()
	there, err := filepath.Glob("../../docs/dashboards/*.json")
	if err != nil || len(there) != len(made) {
		t.Errorf("docs/dashboards has %q, %v", there, err)
	}
	for name, want := range made {
		is, err := os.ReadFile(filepath.Join("../../docs/dashboards", name))
		if err != nil || string(is) != string(want) {
			t.Errorf("docs/dashboards/%s is not up to date: go run ./packaging/dashboards docs/dashboards (%v)", name, err)
		}
		var b boardJSON
		if err := json.Unmarshal(want, &b); err != nil {
			t.Fatal(err)
		}
		taken := map[[2]int]bool{}
		for _, p := range b.Panels {
			for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
				for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
					if taken[[2]int{x, y}] || x >= 24 {
						t.Fatalf("%s: the panel %q is over another, or off the page", name, p.Title)
					}
					taken[[2]int{x, y}] = true
				}
			}
		}
	}
}
