package tcp

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"strings"
	"testing"
)

// TestOneSocketLayer: host and target take only error numbers from syscall.
// Code that has a descriptor, or iovecs, would go past what stands here one day
// between it and the wire, such as TLS.
func TestOneSocketLayer(t *testing.T) {
	for _, dir := range []string{"../host", "../nvmftgt"} {
		files, err := filepath.Glob(dir + "/*.go")
		if err != nil || len(files) == 0 {
			t.Fatal(dir, err)
		}
		for _, name := range files {
			if strings.HasSuffix(name, "_test.go") {
				continue
			}
			fset := token.NewFileSet()
			f, err := parser.ParseFile(fset, name, nil, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			ast.Inspect(f, func(n ast.Node) bool {
				s, ok := n.(*ast.SelectorExpr)
				if !ok {
					return true
				}
				if x, ok := s.X.(*ast.Ident); ok && (x.Name == "syscall" || x.Name == "unix") && !strings.HasPrefix(s.Sel.Name, "E") {
					t.Errorf("%s uses %s.%s, which is nvmf/tcp's", fset.Position(s.Pos()), x.Name, s.Sel.Name)
				}
				return true
			})
		}
	}
}
