// Command spdkcalls writes into docs/spdk.md which JSON-RPC methods VDA's
// agents call, as found in their source:
//
//	go run ./test/docs/spdkcalls docs/spdk.md
//
// A method is called where package agent, agent/dn or agent/cn uses a method
// of spdk.API, or passes a name to Call, or uses a method of a plane.Driver that
// does; it is required where package agent/plane lists it. The text beside it is the first sentence of its documentation in
// package spdk.
package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

const (
	begin = "<!-- calls: go run ./test/docs/spdkcalls docs/spdk.md writes this part -->\n"
	end   = "<!-- end of calls -->"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: spdkcalls docs/spdk.md, in the repository's root")
		os.Exit(2)
	}
	text, err := document(".", os.Args[1])
	if err == nil {
		err = os.WriteFile(os.Args[1], []byte(text), 0o644)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "spdkcalls:", err)
		os.Exit(1)
	}
}

// document is the document at path with a new table.
func document(root, path string) (string, error) {
	t, err := table(root)
	if err != nil {
		return "", err
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	head, rest, ok := strings.Cut(string(text), begin)
	_, tail, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		return "", fmt.Errorf("%s has no lines %q and %q to put the table between", path, begin, end)
	}
	return head + begin + "\n" + t + "\n" + end + tail, nil
}

// untyped is what methods without documentation in package spdk are for.
var untyped = map[string]string{
	"bdev_nvme_set_options": "shortens the keep-alive of a controller node's connections, and says how they authenticate",
	"framework_get_config":  "tells whether bdevs are examined by themselves",
}

// method is one of the data plane's methods.
type method struct {
	what     string          // the first sentence
	by       map[string]bool // agents that call it: "dn", "cn"
	required map[string]bool // agents that refuse a data plane without it
}

// table is the Markdown table of what the agents call.
func table(root string) (string, error) {
	names, what, err := api(filepath.Join(root, "spdk"))
	if err != nil {
		return "", err
	}
	maps.Copy(what, untyped)
	all := map[string]*method{}
	at := func(name string) *method {
		if all[name] == nil {
			all[name] = &method{what: what[name], by: map[string]bool{}, required: map[string]bool{}}
		}
		return all[name]
	}
	drivers, required, err := drivers(filepath.Join(root, "agent/plane"), names)
	if err != nil {
		return "", err
	}
	for dir, agents := range map[string][]string{"agent": {"dn", "cn"}, "agent/dn": {"dn"}, "agent/cn": {"cn"}} {
		calls, err := calls(filepath.Join(root, dir), names, drivers)
		if err != nil {
			return "", err
		}
		for name := range calls {
			for _, a := range agents {
				at(name).by[a] = true
			}
		}
	}
	for a, list := range required {
		for _, name := range list {
			for _, each := range []string{"dn", "cn"} {
				if a == "" || a == each {
					at(name).required[each] = true
					at(name).by[each] = true
				}
			}
		}
	}
	for _, name := range []string{"spdk_get_version", "rpc_get_methods"} { // how the rest is learned
		at(name).required = at(name).by
	}
	var b strings.Builder
	b.WriteString("| method | called by | without it | |\n|---|---|---|---|\n")
	for _, name := range slices.Sorted(maps.Keys(all)) {
		m := all[name]
		lack := "VDA goes without"
		if len(m.required) > 0 {
			lack = "refused: " + agents(m.required)
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", name, agents(m.by), lack, m.what)
	}
	return b.String(), nil
}

func agents(set map[string]bool) string {
	return strings.Join(slices.Sorted(maps.Keys(set)), ", ")
}

func parse(dir string) ([]*ast.File, error) {
	paths, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		return nil, err
	}
	var files []*ast.File
	for _, p := range paths {
		if strings.HasSuffix(p, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), p, nil, parser.ParseComments)
		if err != nil {
			return nil, err
		}
		files = append(files, f)
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("no Go files in %s", dir)
	}
	return files, nil
}

// api returns, by Go name, the JSON-RPC method of each method of spdk.API, and
// by JSON-RPC name its first sentence.
func api(dir string) (names, what map[string]string, err error) {
	files, err := parse(dir)
	if err != nil {
		return nil, nil, err
	}
	names, what = map[string]string{}, map[string]string{}
	for _, f := range files {
		for _, d := range f.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok || fn.Recv == nil || !fn.Name.IsExported() {
				continue
			}
			if t, ok := fn.Recv.List[0].Type.(*ast.Ident); !ok || t.Name != "API" {
				continue
			}
			if name := methodName(fn.Body); name != "" {
				names[fn.Name.Name] = name
				if what[name] == "" {
					what[name] = sentence(fn.Name.Name, fn.Doc.Text())
				}
			}
		}
	}
	return names, what, nil
}

// methodName is the first string that looks like the name of a method.
func methodName(n ast.Node) (name string) {
	ast.Inspect(n, func(n ast.Node) bool {
		if s, ok := literal(n); ok && name == "" && strings.Contains(s, "_") && !strings.ContainsAny(s, " :") {
			name = s
		}
		return name == ""
	})
	return name
}

func literal(n ast.Node) (string, bool) {
	l, ok := n.(*ast.BasicLit)
	if !ok || l.Kind != token.STRING {
		return "", false
	}
	s, err := strconv.Unquote(l.Value)
	return s, err == nil
}

// sentence is the first sentence of a method's documentation without its
// name.
func sentence(name, doc string) string {
	doc = strings.Join(strings.Fields(doc), " ")
	doc, _, _ = strings.Cut(doc+" ", ". ")
	doc, _, _ = strings.Cut(doc, ";")
	return strings.TrimSuffix(strings.TrimSpace(strings.TrimPrefix(doc, name)), ".")
}

// calls finds the methods that a package calls, by itself or by a driver.
func calls(dir string, names map[string]string, drivers map[string]map[string]bool) (map[string]bool, error) {
	files, err := parse(dir)
	if err != nil {
		return nil, err
	}
	called := map[string]bool{}
	for _, f := range files {
		ast.Inspect(f, func(n ast.Node) bool {
			if sel, ok := n.(*ast.SelectorExpr); ok && isDriver(sel.X) {
				maps.Copy(called, drivers[sel.Sel.Name])
			}
			return call(n, names, called)
		})
	}
	return called, nil
}

// call adds the method that a node calls, and reports whether to look into it.
func call(n ast.Node, names map[string]string, called map[string]bool) bool {
	switch n := n.(type) {
	case *ast.SelectorExpr:
		if x, ok := n.X.(*ast.Ident); ok && x.Name == "spdk" {
			return false // a type of the package
		}
		if name := names[n.Sel.Name]; name != "" {
			called[name] = true
		}
	case *ast.CallExpr:
		if sel, ok := n.Fun.(*ast.SelectorExpr); ok && sel.Sel.Name == "Call" && len(n.Args) > 1 {
			if s, ok := literal(n.Args[1]); ok {
				called[s] = true
			}
		}
	}
	return true
}

// isDriver reports that an expression is a plane.Driver, a call of Driver or a
// variable "driver", or package plane.
func isDriver(x ast.Expr) bool {
	if c, ok := x.(*ast.CallExpr); ok {
		sel, ok := c.Fun.(*ast.SelectorExpr)
		return ok && sel.Sel.Name == "Driver"
	}
	id, ok := x.(*ast.Ident)
	return ok && (id.Name == "driver" || id.Name == "plane")
}

// drivers finds the methods that each function of package plane calls, by itself
// or by others of the package, by its name; and those that the package's
// variable "methods" requires, by agent.
func drivers(dir string, names map[string]string) (by map[string]map[string]bool, required map[string][]string, err error) {
	files, err := parse(dir)
	if err != nil {
		return nil, nil, err
	}
	by, required = map[string]map[string]bool{}, map[string][]string{}
	uses := map[string]map[string]bool{} // which others of its package or receiver a function calls
	for _, f := range files {
		for _, d := range f.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok {
				ast.Inspect(d, func(n ast.Node) bool {
					if v, ok := n.(*ast.ValueSpec); ok && v.Names[0].Name == "methods" && len(v.Values) == 1 {
						list(v.Values[0], required)
					}
					return true
				})
				continue
			}
			name := fn.Name.Name
			if by[name] == nil {
				by[name], uses[name] = map[string]bool{}, map[string]bool{}
			}
			ast.Inspect(fn.Body, func(n ast.Node) bool {
				if c, ok := n.(*ast.CallExpr); ok {
					switch f := c.Fun.(type) {
					case *ast.Ident:
						uses[name][f.Name] = true
					case *ast.SelectorExpr:
						if x, ok := f.X.(*ast.Ident); ok && x.Name == "d" {
							uses[name][f.Sel.Name] = true
						}
					}
				}
				return call(n, names, by[name])
			})
		}
	}
	for range by { // as deep as there are functions
		for name, ids := range uses {
			for id := range ids {
				maps.Copy(by[name], by[id])
			}
		}
	}
	return by, required, nil
}

// list reads a map of lists of strings.
func list(n ast.Expr, into map[string][]string) {
	m, ok := n.(*ast.CompositeLit)
	if !ok {
		return
	}
	for _, e := range m.Elts {
		kv, ok := e.(*ast.KeyValueExpr)
		if !ok {
			continue
		}
		key, _ := literal(kv.Key)
		ast.Inspect(kv.Value, func(n ast.Node) bool {
			if s, ok := literal(n); ok {
				into[key] = append(into[key], s)
			}
			return true
		})
	}
}
