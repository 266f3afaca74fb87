package docs

import (
	"bytes"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	pages "github.com/virtual-disk-array/vda/docs"
	"github.com/virtual-disk-array/vda/program"
)

// typed are pages of which a test types every command, by its folder and name. What it runs it
// reads from the page.
var typed = map[string]string{
	"docs/getting_started.md":              "test/e2e TestGettingStarted",
	"docs/multiple_servers_deployment.rst": "test/e2e TestTutorial",
	"docs/install.md":                      "test/packages TestInstall",
	"docs/rest.md":                         "portal/web TestCurl",
	"docs/volumes.md":                      "test/csi TestVolumesDoc",
}

// foreign are commands of other programs that stand elsewhere, by how they begin, with the test
// that runs the like, or checks what they name.
var foreign = map[string]string{
	"nvme gen-dhchap-key":           "test/e2e TestLinuxHostAuthenticates",
	"nvme connect ":                 "test/e2e TestLinuxHostAuthenticates",
	"nvme discover":                 "test/e2e TestHostDiscovers",
	"nvme connect-all":              "test/e2e TestHostDiscovers",
	"kubectl create secret generic": "test/helm TestDocs",
	"kubectl create namespace":      "test/helm TestDocs",
	"helm install vda ":             "test/helm TestDocs",
	"helm install vda-csi ":         "test/helm TestDocs",
	"spdk_tgt --rpc-socket":         "test/chaos TestMoveBetweenDataPlanes",
	"chmod 777 /tmp/dn.sock":        "test/chaos TestMoveBetweenDataPlanes",
	"umask 077":                     "test/controlplane TestSecuredCluster",
}

// words splits a line as a shell does, as far as documents go: simple commands, each of words; what
// it writes to or reads from is left out.
func words(line string) (commands [][]string, err error) {
	var command []string
	var word strings.Builder
	in, quote, skip := false, rune(0), false
	end := func() {
		if in && !skip {
			command = append(command, word.String())
		}
		if in {
			skip = false
		}
		word.Reset()
		in = false
	}
	runes := []rune(line)
	for i := 0; i < len(runes); i++ {
		r := runes[i]
		switch {
		case quote == 0 && r == '\\' && i+1 < len(runes):
			i++
			word.WriteRune(runes[i])
			in = true
		case quote != 0 && r == quote:
			quote = 0
		case quote != 0:
			word.WriteRune(r)
		case r == '\'' || r == '"':
			quote, in = r, true
		case r == '$' && i+1 < len(runes) && runes[i+1] == '(': // what it prints is one value
			depth := 0
			for ; i < len(runes); i++ {
				word.WriteRune(runes[i])
				if runes[i] == '(' {
					depth++
				} else if runes[i] == ')' {
					if depth--; depth == 0 {
						break
					}
				}
			}
			in = true
		case r == ' ' || r == '\t':
			end()
		case r == '#' && !in:
			end()
			i = len(runes)
		case r == '>' || r == '<':
			if word.String() == "2" {
				word.Reset()
				in = false
			}
			end()
			for i+1 < len(runes) && (runes[i+1] == '>' || runes[i+1] == '&') {
				i++
			}
			skip = true
		case r == '|' || r == ';' || r == '&':
			end()
			commands, command, skip = append(commands, command), nil, false
		default:
			word.WriteRune(r)
			in = true
		}
	}
	if quote != 0 {
		return nil, fmt.Errorf("a quote %c has no end", quote)
	}
	end()
	return slices.DeleteFunc(append(commands, command), func(c []string) bool { return len(c) == 0 }), nil
}

// TestWords: lines of documents are split as a shell would.
func TestWords(t *testing.T) {
	for line, want := range map[string]string{
		`vda_cli da get da0   # comment`:                          `[[vda_cli da get da0]]`,
		`a 'b "c" d' "e f"\ g > out 2>&1 & # h`:                   `[[a b "c" d e f g]]`,
		`umask 077; vda_db --for user/ann > ~/.t && x | tee -a y`: `[[umask 077] [vda_db --for user/ann] [x] [tee -a y]]`,
		`device=$(tail -n 1 /etc/fstab | cut -f 1) go`:            `[[device=$(tail -n 1 /etc/fstab | cut -f 1) go]]`,
		`'443'$i'x'`: `[[443$ix]]`,
	} {
		if got, err := words(line); err != nil || fmt.Sprint(got) != want {
			t.Errorf("%s: %v, %v", line, got, err)
		}
	}
	if _, err := words(`a 'b`); err == nil {
		t.Error("a quote without an end is taken")
	}
}

// untagged finds commands where there are to be none.
var untagged = regexp.MustCompile(`^(?:\$ |sudo |[A-Z_]+=\S* )?(?:vda_[a-z_]+ (?:-|[a-z]+ )|` +
	`(?:nvme|curl|helm|kubectl|systemctl|apt-get|make|go) [a-z])`)

// variable is one of a shell, which has some value.
var variable = regexp.MustCompile(`\$[a-z]+`)

// lead are words that stand before a command.
var lead = regexp.MustCompile(`^(?:sudo|nohup|do|then|exec|env|time|runuser|-u|vda|--|export|[A-Za-z_][A-Za-z0-9_]*=.*)$`)

// found is a command of a document.
type found struct {
	page, line string
	words      []string
}

// commandsOf are the commands of the blocks of a page that are for a shell.
func commandsOf(t *testing.T, page string) (all []found) {
	t.Helper()
	text, err := os.ReadFile("../../" + page)
	if err != nil {
		t.Fatal(err)
	}
	inside, shell, rest, rst := false, false, "", path.Ext(page) == ".rst"
	for line := range strings.Lines(string(text)) {
		if rst { // code is what is indented
			inside, shell = true, strings.HasPrefix(line, "   ") || rest != ""
		}
		line = strings.TrimSpace(line)
		if kind, is := strings.CutPrefix(line, "```"); is {
			inside, shell, rest = !inside, kind == "sh", ""
			continue
		}
		if inside && !shell && !rst && untagged.MatchString(line) {
			t.Errorf("%s: %s\n\tit is a command in a block that is not one of ```sh", page, line)
		}
		if !inside || !shell {
			continue
		}
		if before, goes := strings.CutSuffix(line, "\\"); goes {
			rest += before
			continue
		}
		line, rest = rest+line, ""
		commands, err := words(line)
		if err != nil && rst { // files that are shown, which the test of the page writes
			continue
		}
		if err != nil {
			t.Errorf("%s: %s: %v", page, line, err)
		}
		for _, c := range commands {
			for len(c) > 0 && lead.MatchString(c[0]) {
				c = c[1:]
			}
			for i := range c {
				c[i] = variable.ReplaceAllString(c[i], "1")
			}
			// At the end, and not as a value, it is what the reader knows.
			if n := len(c) - 1; n > 0 && c[n] == "…" && (n == 1 || !strings.HasPrefix(c[n-1], "--")) {
				c = c[:n]
			}
			if len(c) > 0 {
				all = append(all, found{page, line, c})
			}
		}
	}
	return all
}

// TestCommands: each command for a shell that a document has is typed by a test that reads the
// page, or is of a program of ours, which takes it; those of others have a test that is named.
func TestCommands(t *testing.T) {
	methods := names(regexp.MustCompile(`(?m)^## ([a-z0-9_]+)$`), []byte(pages.JSONRPC))
	targets, err := os.ReadFile("../../Makefile")
	if err != nil {
		t.Fatal(err)
	}
	sources := []string{"README.md", "CONTRIBUTING.md", "docs/multiple_servers_deployment.rst"}
	for _, dir := range []string{"docs", "docs/daemons"} {
		more, err := filepath.Glob("../../" + dir + "/*.md")
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range more {
			sources = append(sources, dir+"/"+path.Base(m))
		}
	}
	used, ours := map[string]bool{}, map[string]int{}
	for _, page := range sources {
		for _, c := range commandsOf(t, page) {
			whole := strings.Join(c.words, " ") + " "
			at := slices.IndexFunc(programs, func(p struct {
				name, page string
				make       func() program.Program
			}) bool {
				return p.name == path.Base(c.words[0])
			})
			switch {
			case at >= 0:
				name := programs[at].name
				ours[name]++
				read(t, append([]string{name}, c.words[1:]...))
				if name == "vda_rpc" && !slices.ContainsFunc(c.words, func(w string) bool { return slices.Contains(methods, w) }) {
					t.Errorf("%s: %s\n\tvda_tgt has no such method", page, c.line)
				}
			case typed[page] != "":
				used[page] = true
			case c.words[0] == "make":
				if !regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(c.words[1]) + `:`).Match(targets) {
					t.Errorf("%s: %s\n\tthe Makefile has no such target", page, c.line)
				}
			case c.words[0] == "go":
				for _, w := range c.words[1:] {
					if dir, is := strings.CutPrefix(w, "./"); is {
						if st, err := os.Stat("../../" + strings.TrimSuffix(dir, "/...")); err != nil || !st.IsDir() {
							t.Errorf("%s: %s\n\tthere is no folder %s", page, c.line, dir)
						}
					}
				}
			default:
				known := false
				for begin := range foreign {
					if strings.HasPrefix(whole, begin) {
						used[begin], known = true, true
					}
				}
				if !known {
					t.Errorf("%s: %s\n\tno test runs it, and it is of no program of ours", page, c.line)
				}
			}
		}
	}
	for name, least := range map[string]int{
		"vda_cli": 60, "vda_portal": 2, "vda_monitor": 2, "vda_db": 4, "vda_dn_agent": 2, "vda_cn_agent": 2, "vda_tgt": 3, "vda_rpc": 8,
	} {
		if ours[name] < least {
			t.Errorf("%d commands of %s found in the documents, want %d at least", ours[name], name, least)
		}
	}
	for begin := range foreign {
		if !used[begin] {
			t.Errorf("no document has %q", begin)
		}
	}
	for of, test := range allOf(typed, foreign) {
		folder, name, _ := strings.Cut(test, " ")
		files, err := filepath.Glob("../../" + folder + "/*_test.go")
		if err != nil {
			t.Fatal(err)
		}
		there, reads := false, false
		for _, f := range files {
			text, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			if bytes.Contains(text, []byte("\nfunc "+name+"(")) {
				there = true
			}
			reads = reads || bytes.Contains(text, []byte(path.Base(of)))
		}
		if !there || typed[of] != "" && !reads {
			t.Errorf("%s is to be typed by %s: that is there %v, and reads the page %v", of, test, there, reads)
		}
	}
}

func allOf(maps ...map[string]string) map[string]string {
	all := map[string]string{}
	for _, m := range maps {
		for k, v := range m {
			all[k] = v
		}
	}
	return all
}

// inProse finds a command of ours in the text of a page.
var inProse = regexp.MustCompile("`((?:vda_cli|vda_db) [^`]+)`")

// TestCommandsInProse: what the text of documents mentions are commands and flags that there are.
// Values may be left out there.
func TestCommandsInProse(t *testing.T) {
	flagName := regexp.MustCompile(`^--?([a-z][a-z-]*)(?:=.*)?$`)
	n := 0
	for _, pattern := range []string{"README.md", "docs/*.md", "docs/daemons/*.md", "docs/multiple_servers_deployment.rst"} {
		files, err := filepath.Glob("../../" + pattern)
		if err != nil || len(files) == 0 {
			t.Fatal(pattern, err)
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range inProse.FindAllStringSubmatch(string(text), -1) {
				commands, err := words(strings.Join(strings.Fields(m[1]), " "))
				if err != nil || len(commands) == 0 {
					t.Errorf("%s: %s: %v", file, m[1], err)
					continue
				}
				c := commands[0]
				at := slices.IndexFunc(programs, func(p struct {
					name, page string
					make       func() program.Program
				}) bool {
					return p.name == c[0]
				})
				if slices.ContainsFunc(c[1:], func(w string) bool {
					return w == "NOUN" || w == "completion" || w == "--version" || w == "--help"
				}) {
					continue
				}
				n++
				// Words behind the verb, and before it those of flags with values, are not looked at.
				root := programs[at].make().Root
				cmd := root
				for _, w := range c[1:] {
					for _, sub := range cmd.Commands() {
						if sub.Name() == w || sub.HasAlias(w) {
							cmd = sub
							break
						}
					}
				}
				if c[0] == "vda_cli" && cmd == root && !strings.HasPrefix(c[1], "-") {
					t.Errorf("%s: `%s`: there is no such command", file, m[1])
				}
				for _, w := range c[1:] {
					f := flagName.FindStringSubmatch(w)
					if f != nil && cmd.Flag(f[1]) == nil && (len(f[1]) > 1 || cmd.Flags().ShorthandLookup(f[1]) == nil &&
						cmd.InheritedFlags().ShorthandLookup(f[1]) == nil) {
						t.Errorf("%s: `%s`: %s has no flag %s", file, m[1], cmd.CommandPath(), w)
					}
				}
			}
		}
	}
	if n < 40 {
		t.Errorf("found %d only: the test looks for what they no longer look like", n)
	}
}
