package array_test

import (
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/virtual-disk-array/vda/store"
)

const (
	module    = "github.com/virtual-disk-array/vda"
	thisOne   = module + "/array"
	storePath = module + "/store"
)

// raising are the methods of a transaction that raise a node's version.
var raising = []string{"BumpNode", "RaiseNode"}

// TestNobodyElseRaisesAVersion: programs raise the version of a node, or stamp
// a row with one, by the transitions of package array alone, whose lock order is
// tested. It reads the source of every package that can reach a transaction.
func TestNobodyElseRaisesAVersion(t *testing.T) {
	for _, name := range raising {
		if _, is := reflect.TypeFor[store.Tx]().MethodByName(name); !is {
			t.Errorf("store.Tx has no %s: say here what raises a version now", name)
		}
	}
	s := newSource(t)
	for path := range s.files {
		found := s.raises(t, path)
		switch {
		case path == storePath, path == storePath+"/storetest": // have the methods and their suite
		case path == thisOne:
			if len(found) < 2+len(raising) {
				t.Errorf("found %d raises here, so others' are not found either: %v", len(found), found)
			}
		default:
			for _, f := range found {
				t.Errorf("%s: use a transition of package array", f)
			}
		}
	}
}

// source are the packages that import the store or this package.
type source struct {
	fset     *token.FileSet
	files    map[string][]string // by import path
	importer types.Importer
}

func newSource(t *testing.T) *source {
	t.Helper()
	s := &source{fset: token.NewFileSet(), files: map[string][]string{storePath: nil}}
	const form = `{{.ImportPath}}	{{.Dir}}	{{join .GoFiles " "}}	{{join .Imports " "}}`
	for _, l := range golist(t, "-f", form, module+"/...") {
		f := strings.Split(l, "\t")
		uses := strings.Fields(f[3])
		if f[0] != storePath && !slices.Contains(uses, storePath) && !slices.Contains(uses, thisOne) {
			continue
		}
		for _, name := range strings.Fields(f[2]) {
			s.files[f[0]] = append(s.files[f[0]], filepath.Join(f[1], name))
		}
	}
	args := []string{"-export", "-deps", "-f", "{{.ImportPath}}\t{{.Export}}"}
	for path := range s.files {
		args = append(args, path)
	}
	exports := map[string]string{}
	for _, l := range golist(t, args...) {
		path, file, _ := strings.Cut(l, "\t")
		exports[path] = file
	}
	s.importer = importer.ForCompiler(s.fset, "gc", func(path string) (io.ReadCloser, error) { return os.Open(exports[path]) })
	return s
}

func golist(t *testing.T, args ...string) []string {
	t.Helper()
	cmd := exec.Command("go", append([]string{"list"}, args...)...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0") // as vet has built it all
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	return strings.Split(strings.TrimSpace(string(out)), "\n")
}

// raises are the places in a package that raise a version or write one into a row.
func (s *source) raises(t *testing.T, path string) (found []string) {
	t.Helper()
	var files []*ast.File
	for _, name := range s.files[path] {
		f, err := parser.ParseFile(s.fset, name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, f)
	}
	info := &types.Info{Uses: map[*ast.Ident]types.Object{}, Selections: map[*ast.SelectorExpr]*types.Selection{}}
	cfg := types.Config{Importer: s.importer}
	if _, err := cfg.Check(path, s.fset, files, info); err != nil {
		t.Fatal(err)
	}
	say := func(at ast.Node, what string) {
		found = append(found, fmt.Sprintf("%s %s", s.fset.Position(at.Pos()), what))
	}
	// version reports whether an expression is the Version of a row.
	version := func(e ast.Expr) bool {
		sel, ok := e.(*ast.SelectorExpr)
		if !ok {
			return false
		}
		is := info.Selections[sel]
		return is != nil && isVersion(is.Obj())
	}
	for _, f := range files {
		ast.Inspect(f, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.SelectorExpr:
				if is := info.Selections[n]; is != nil && slices.Contains(raising, n.Sel.Name) && is.Obj().Pkg().Path() == storePath {
					say(n, "calls "+n.Sel.Name)
				}
			case *ast.AssignStmt:
				if slices.ContainsFunc(n.Lhs, version) {
					say(n, "writes a row's Version")
				}
			case *ast.IncDecStmt:
				if version(n.X) {
					say(n, "counts a row's Version")
				}
			case *ast.UnaryExpr:
				if n.Op == token.AND && version(n.X) {
					say(n, "takes the address of a row's Version")
				}
			case *ast.CompositeLit:
				for _, el := range n.Elts {
					kv, ok := el.(*ast.KeyValueExpr)
					if !ok {
						continue
					}
					if id, ok := kv.Key.(*ast.Ident); ok && isVersion(info.Uses[id]) {
						say(kv, "makes a row with a Version")
					}
				}
			}
			return true
		})
	}
	return found
}

func isVersion(o types.Object) bool {
	v, ok := o.(*types.Var)
	return ok && v.IsField() && v.Name() == "Version" && v.Pkg() != nil && v.Pkg().Path() == module
}
