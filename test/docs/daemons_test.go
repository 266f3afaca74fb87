package docs

import (
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var (
	helpFlag = regexp.MustCompile(`(?m)^\s+(?:-\w, )?--([a-z][a-z-]*)`)
	pageFlag = regexp.MustCompile("`--([a-z][a-z-]*)`")
)

var update = flag.Bool("update", false, "write the tables of flags into the documents")

// pages are the documents that have the tables of a program's flags.
var pages = map[string]string{
	"vda_portal":   "daemons/vda_portal.md",
	"vda_monitor":  "daemons/vda_monitor.md",
	"vda_dn_agent": "daemons/vda_dn_agent.md",
	"vda_cn_agent": "daemons/vda_cn_agent.md",
	"vda_tgt":      "daemons/vda_tgt.md",
	"vda_rpc":      "daemons/vda_tgt.md",
	"vda_db":       "daemons/vda_db.md",
	"vda_cli":      "vda_cli.md",
	"vda_sandbox":  "daemons/README.md",
}

// everywhere are the flags that all programs have: daemons/README.md has them.
var everywhere = []string{"help", "version", "config"}

// build builds the programs with a version, as the Makefile does.
func build(t *testing.T) (bin string) {
	t.Helper()
	const stamp = "-X github.com/virtual-disk-array/vda/program.version="
	make, err := os.ReadFile("../../Makefile")
	if err != nil || !strings.Contains(string(make), stamp) {
		t.Errorf("the Makefile does not stamp a version: %v", err)
	}
	bin = t.TempDir()
	args := []string{"build", "-ldflags", stamp + "v9.8.7", "-o", bin}
	for p := range pages {
		args = append(args, "../../cmd/"+p)
	}
	if out, err := exec.Command("go", args...).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return bin
}

func output(t *testing.T, program string, args ...string) []byte {
	t.Helper()
	cmd := exec.Command(program, args...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH")}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("%s %v: %v\n%s", filepath.Base(program), args, err, out)
	}
	return out
}

// TestPrograms: all programs are built the same way, and the documents have
// their flags.
func TestPrograms(t *testing.T) {
	bin := build(t)
	for p := range pages {
		t.Run(p, func(t *testing.T) {
			path := filepath.Join(bin, p)
			if got := string(output(t, path, "--version")); !strings.HasPrefix(got, p+" v9.8.7 (commit ") || !strings.Contains(got, ", go1.") {
				t.Errorf("--version says %q", got)
			}
			for _, shell := range []string{"bash", "zsh", "fish"} {
				if got := string(output(t, path, "completion", shell)); !strings.Contains(got, p) {
					t.Errorf("completion %s prints %.100q", shell, got)
				}
			}
			help := output(t, path, "--help")
			have := names(helpFlag, help)
			for _, f := range everywhere {
				if !slices.Contains(have, f) {
					t.Errorf("it has no --%s", f)
				}
			}
			for _, block := range flagBlock.FindAllString(string(output(t, path, "flags-reference")), -1) {
				name := flagBlock.FindStringSubmatch(block)[1]
				if strings.HasPrefix(name, "vda_cli ") {
					continue // cli has a test of its commands
				}
				checkBlock(t, "../../docs/"+pages[p], name, block)
			}
			checkProse(t, p, have)
		})
	}
}

// flagBlock finds the tables of flags, and of which command they are.
var flagBlock = regexp.MustCompile(`(?s)<!-- flags of ([a-z_ ]+), generated[^>]*-->.*?<!-- end -->`)

// checkBlock compares the table of a command with that of a document, or writes
// it there.
func checkBlock(t *testing.T, page, name, want string) {
	t.Helper()
	text, err := os.ReadFile(page)
	if err != nil {
		t.Error(err)
		return
	}
	for _, at := range flagBlock.FindAllSubmatchIndex(text, -1) {
		if string(text[at[2]:at[3]]) != name {
			continue
		}
		switch {
		case string(text[at[0]:at[1]]) == want:
		case *update:
			if err := os.WriteFile(page, slices.Concat(text[:at[0]], []byte(want), text[at[1]:]), 0o644); err != nil {
				t.Error(err)
			}
		default:
			t.Errorf("%s does not have the flags of %s as they are: run go test ./test/docs -update", page, name)
		}
		return
	}
	t.Errorf("%s has no table of the flags of %s; add the lines\n%s", page, name, want)
}

// checkProse reports flags that a program's page tells of and that there are
// not.
func checkProse(t *testing.T, program string, have []string) {
	t.Helper()
	page := pages[program]
	if page == "daemons/vda_tgt.md" || page == "daemons/README.md" || page == "vda_cli.md" {
		return // they tell of several programs or commands
	}
	text, err := os.ReadFile("../../docs/" + page)
	if err != nil {
		t.Error(err)
		return
	}
	for _, f := range names(pageFlag, text) {
		if !slices.Contains(have, f) {
			t.Errorf("docs/%s names --%s, which %s does not have", page, f, program)
		}
	}
}

func names(pattern *regexp.Regexp, text []byte) []string {
	var out []string
	for _, m := range pattern.FindAllSubmatch(text, -1) {
		out = append(out, string(m[1]))
	}
	return out
}
