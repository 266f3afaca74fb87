package docs

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/virtual-disk-array/vda/test/tree"
)

// metricName is a metric of VDA's own.
var metricName = regexp.MustCompile(`^vda_[a-z][a-z_]*$`)

// registered are the metrics that the sources register: the first argument of
// prometheus.NewDesc, or of a function named desc, and Name in Opts.
func registered(t *testing.T, root string) map[string]string {
	t.Helper()
	names := map[string]string{}
	name := func(path string, e ast.Expr) {
		if lit, ok := e.(*ast.BasicLit); ok && lit.Kind == token.STRING {
			if s, err := strconv.Unquote(lit.Value); err == nil && metricName.MatchString(s) {
				names[s] = path
			}
		}
	}
	err := tree.Files(root, ".go", func(path string, src []byte) error {
		if strings.HasSuffix(path, "_test.go") || !strings.Contains(string(src), "client_golang/prometheus") {
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, src, 0)
		if err != nil {
			return err
		}
		ast.Inspect(file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.CallExpr:
				if len(n.Args) > 1 {
					name(path, n.Args[0])
				}
			case *ast.KeyValueExpr:
				if key, ok := n.Key.(*ast.Ident); ok && key.Name == "Name" {
					name(path, n.Value)
				}
			}
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// TestEveryMetricIsDocumented: the pages of the daemons, and docs/metrics.md, have a row for each
// metric, and for none that there is not.
func TestEveryMetricIsDocumented(t *testing.T) {
	names := registered(t, "../..")
	if len(names) < 20 {
		t.Fatalf("%d metrics are found in the sources", len(names))
	}
	documented := map[string]bool{}
	row := regexp.MustCompile("`(vda_[a-z][a-z_]*)`")
	pages, err := filepath.Glob("../../docs/daemons/*.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, page := range append(pages, "../../docs/metrics.md") {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		table := false
		for line := range strings.Lines(string(text)) {
			if strings.HasPrefix(line, "| metric |") {
				table = true
			}
			table = table && strings.HasPrefix(line, "|")
			if !table {
				continue
			}
			for _, m := range row.FindAllStringSubmatch(strings.Join(strings.Split(line, "|")[:2], "|"), -1) {
				documented[m[1]] = true
				if names[m[1]] == "" {
					t.Errorf("%s: there is no metric %s", page, m[1])
				}
			}
		}
	}
	for n, path := range names {
		if !documented[n] {
			t.Errorf("%s: the metric %s is in no table of docs/daemons, nor in docs/metrics.md", path, n)
		}
	}
}
