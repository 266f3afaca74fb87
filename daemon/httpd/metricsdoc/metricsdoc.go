// Package metricsdoc writes the tables of docs/metrics.md from what programs show: a test
// scrapes one and compares. It is for tests alone.
package metricsdoc

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
)

// Update has tests write the documents that are made from source, in place of comparing them.
var Update = flag.Bool("update-metrics", false, "rewrite the tables of docs/metrics.md, docs/alerts.md and what else is made from metrics")

// Check fails t when a page of metrics is not what promlint wants, or the part of the document
// at path between "<!-- section -->" and "<!-- end -->" is not the table of its metrics.
func Check(t testing.TB, path, section, page string) {
	t.Helper()
	problems, err := promlint.New(strings.NewReader(page)).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		if strings.HasPrefix(p.Metric, "vda_") {
			t.Errorf("%s: %s", p.Metric, p.Text)
		}
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	begin, end := "<!-- "+section+" -->\n\n", "\n<!-- end -->"
	before, rest, ok := strings.Cut(string(b), begin)
	is, after, ok2 := strings.Cut(rest, end)
	want := Table(page)
	switch {
	case !ok || !ok2:
		t.Fatalf("%s has no %q and %q", path, begin, end)
	case is != want && *Update:
		if err := os.WriteFile(path, []byte(before+begin+want+end+after), 0o644); err != nil {
			t.Fatal(err)
		}
	case is != want:
		t.Errorf("%s is not up to date: run this test with -update-metrics", path)
	}
}

var (
	help   = regexp.MustCompile(`(?m)^# HELP (vda_\S+) (.*)$`)
	typed  = regexp.MustCompile(`(?m)^# TYPE (vda_\S+) (.*)$`)
	series = regexp.MustCompile(`(?m)^(vda_[a-z_]+?)(?:_bucket|_sum|_count)?(?:\{(.*)\})? `)
	label  = regexp.MustCompile(`([a-z_]+)="`)
)

// Table is the Markdown table of VDA's own metrics on a page, by name.
func Table(page string) string {
	helps, types, labels := map[string]string{}, map[string]string{}, map[string]string{}
	for _, m := range help.FindAllStringSubmatch(page, -1) {
		helps[m[1]] = m[2]
	}
	for _, m := range typed.FindAllStringSubmatch(page, -1) {
		types[m[1]] = m[2]
	}
	for _, m := range series.FindAllStringSubmatch(page, -1) {
		var names []string
		for _, l := range label.FindAllStringSubmatch(m[2], -1) {
			if l[1] != "le" {
				names = append(names, l[1])
			}
		}
		labels[m[1]] = strings.Join(names, ", ")
	}
	table := "| metric | type | labels | it is |\n|---|---|---|---|\n"
	for _, name := range slices.Sorted(maps.Keys(helps)) {
		table += fmt.Sprintf("| `%s` | %s | %s | %s |\n", name, types[name], labels[name], helps[name])
	}
	return table
}
