package docs

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/virtual-disk-array/vda/agent/cn"
	"github.com/virtual-disk-array/vda/agent/dn"
	"github.com/virtual-disk-array/vda/cli"
	"github.com/virtual-disk-array/vda/csi"
	"github.com/virtual-disk-array/vda/monitor"
	"github.com/virtual-disk-array/vda/portal"
	"github.com/virtual-disk-array/vda/program"
	"github.com/virtual-disk-array/vda/sandbox"
	"github.com/virtual-disk-array/vda/spdk/rpccli"
	"github.com/virtual-disk-array/vda/store/dbcli"
	"github.com/virtual-disk-array/vda/vdatgt/tgtcli"
)

var (
	helpFlag = regexp.MustCompile(`(?m)^\s+(?:-\w, )?--([a-z][a-z-]*)`)
	pageFlag = regexp.MustCompile("`--([a-z][a-z-]*)`")
)

var update = flag.Bool("update", false, "write the tables of flags into the documents")

// programs are all programs, with the documents that have their flags.
var programs = []struct {
	name, page string
	make       func() program.Program
}{
	{"vda_portal", "daemons/vda_portal.md", portal.Program},
	{"vda_monitor", "daemons/vda_monitor.md", monitor.Program},
	{"vda_dn_agent", "daemons/vda_dn_agent.md", dn.App.Program},
	{"vda_cn_agent", "daemons/vda_cn_agent.md", cn.App.Program},
	{"vda_tgt", "daemons/vda_tgt.md", tgtcli.Program},
	{"vda_rpc", "daemons/vda_tgt.md", rpccli.Program},
	{"vda_db", "daemons/vda_db.md", dbcli.Program},
	{"vda_cli", "vda_cli.md", cli.Program},
	{"vda_csi", "daemons/vda_csi.md", csi.Program},
	{"vda_sandbox", "daemons/README.md", sandbox.Program},
}

// everywhere are the flags that all programs have: daemons/README.md has them.
var everywhere = []string{"help", "version", "config"}

// output runs a program that must succeed.
func output(t *testing.T, p program.Program, args ...string) []byte {
	t.Helper()
	var out, errs bytes.Buffer
	if exit := p.Run(t.Context(), program.Process{Args: args, Stdout: &out, Stderr: &errs}); exit != 0 || errs.Len() > 0 {
		t.Errorf("%s %v: exit %d, %s", p.Root.Name(), args, exit, errs.String())
	}
	return out.Bytes()
}

// TestEveryProgramIsHere: cmd/ has no other, and each is one line.
func TestEveryProgramIsHere(t *testing.T) {
	mains, err := filepath.Glob("../../cmd/*/main.go")
	if err != nil || len(mains) != len(programs) {
		t.Errorf("cmd/ has %d programs, %d are checked: %v", len(mains), len(programs), err)
	}
	for _, p := range programs {
		text, err := os.ReadFile("../../cmd/" + p.name + "/main.go")
		if err != nil || !strings.Contains(string(text), "func main() { program.Main(") {
			t.Errorf("cmd/%s is not built as the others: %v", p.name, err)
		}
		if root := p.make().Root; root.Name() != p.name {
			t.Errorf("%s is called %s", p.name, root.Name())
		}
	}
}

// TestPrograms: all programs have the same flags and commands of their own, and
// the documents have the others.
func TestPrograms(t *testing.T) {
	for _, p := range programs {
		t.Run(p.name, func(t *testing.T) {
			for _, shell := range []string{"bash", "zsh", "fish"} {
				if got := string(output(t, p.make(), "completion", shell)); !strings.Contains(got, p.name) {
					t.Errorf("completion %s prints %.100q", shell, got)
				}
			}
			help := output(t, p.make(), "--help")
			have := names(helpFlag, help)
			for _, f := range everywhere {
				if !slices.Contains(have, f) {
					t.Errorf("it has no --%s", f)
				}
			}
			for _, block := range flagBlock.FindAllString(string(output(t, p.make(), "flags-reference")), -1) {
				name := flagBlock.FindStringSubmatch(block)[1]
				if strings.HasPrefix(name, "vda_cli ") {
					continue // cli has a test of its commands
				}
				checkBlock(t, "../../docs/"+p.page, name, block)
			}
			checkProse(t, p.name, p.page, have)
		})
	}
}

// TestManPages: each program prints a man page with all its commands and flags, and is packaged with it,
// in its section; no line of the text is taken for a command of roff.
func TestManPages(t *testing.T) {
	request := regexp.MustCompile(`^\.(TH|SH|SS|TP|PP|nf|fi)\b`)
	recipes, err := filepath.Glob("../../packaging/nfpm/*.yaml")
	if err != nil || len(recipes) == 0 {
		t.Fatal(err)
	}
	var packaged strings.Builder
	for _, r := range recipes {
		text, err := os.ReadFile(r)
		if err != nil {
			t.Fatal(err)
		}
		packaged.Write(text)
	}
	for _, p := range programs {
		page := string(output(t, p.make(), "man-page"))
		for line := range strings.Lines(page) {
			if strings.HasPrefix(line, ".") && !request.MatchString(line) || strings.HasPrefix(line, "'") {
				t.Errorf("%s: roff takes %q for a command", p.name, line)
			}
		}
		section := program.ManSection(p.name)
		if !strings.HasPrefix(page, fmt.Sprintf(".TH %s %d ", strings.ToUpper(p.name), section)) {
			t.Errorf("%s: the page begins with %.60q", p.name, page)
		}
		for _, block := range flagBlock.FindAllString(string(output(t, p.make(), "flags-reference")), -1) {
			for _, m := range regexp.MustCompile("(?m)^\\| (?:`-.`, )?`--([a-z-]+)`").FindAllStringSubmatch(block, -1) {
				if !strings.Contains(page, `\-\-`+strings.ReplaceAll(m[1], "-", `\-`)) {
					t.Errorf("%s: the page does not have --%s", p.name, m[1])
				}
			}
		}
		if strings.Contains(packaged.String(), "src: bin/"+p.name+",") {
			want := fmt.Sprintf("src: bin/man/%s.%d.gz, dst: /usr/share/man/man%d/%s.%d.gz", p.name, section, section, p.name, section)
			if !strings.Contains(packaged.String(), want) {
				t.Errorf("%s is packaged without its man page", p.name)
			}
		}
	}
}

// TestChoices: a shell completes values of which there are a few.
func TestChoices(t *testing.T) {
	for name, want := range map[string]string{
		"vda_portal --log-level": "debug\ninfo\nwarn\nerror\n", "vda_tgt --log-level": "debug\ninfo\nwarn\nerror\n",
		"vda_cli dn list -o": "json\nyaml\ntable\nwide\nname\njsonpath=\n",
		"vda_db --action":    "backup\ncreate\ndrop\nmake-ca\nmembers\nmigrate\nrestore\nrestored\nrevoke\nsecure\nstatus\ntoken\nuser\n",
	} {
		words := strings.Fields(name)
		for _, p := range programs {
			if p.name != words[0] {
				continue
			}
			var out, errs bytes.Buffer
			args := slices.Concat([]string{"__complete"}, words[1:], []string{""})
			p.make().Run(t.Context(), program.Process{Args: args, Stdout: &out, Stderr: &errs})
			if !strings.HasPrefix(out.String(), want) {
				t.Errorf("%s is completed to %q", name, out.String())
			}
		}
	}
}

// TestVersion builds a program as the Makefile does.
func TestVersion(t *testing.T) {
	const stamp = "-X github.com/virtual-disk-array/vda/program.version="
	makefile, err := os.ReadFile("../../Makefile")
	if err != nil || !strings.Contains(string(makefile), stamp) {
		t.Errorf("the Makefile does not stamp a version: %v", err)
	}
	bin := filepath.Join(t.TempDir(), "vda_db")
	build := exec.Command("go", "build", "-ldflags", stamp+"v9.8.7", "-o", bin, "../../cmd/vda_db")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	out, err := exec.Command(bin, "--version").CombinedOutput()
	if err != nil || !regexp.MustCompile(`^vda_db v9\.8\.7 \(commit \w+(, modified)?, go1\.\S+\)\n$`).Match(out) {
		t.Errorf("--version says %q, %v", out, err)
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
func checkProse(t *testing.T, name, page string, have []string) {
	t.Helper()
	if page != "daemons/"+name+".md" || name == "vda_tgt" {
		return // it tells of several programs or commands
	}
	text, err := os.ReadFile("../../docs/" + page)
	if err != nil {
		t.Error(err)
		return
	}
	for _, f := range names(pageFlag, text) {
		if !slices.Contains(have, f) {
			t.Errorf("docs/%s names --%s, which %s does not have", page, f, name)
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
