package docs

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/virtual-disk-array/vda/program"
)

var (
	// fenced is Markdown's code, indented is reStructuredText's.
	fenced   = regexp.MustCompile("(?ms)^```[a-z]*\n(.*?)^```")
	indented = regexp.MustCompile(`(?m)^   +\S.*$`)
	// codeLine is a line that runs one of our programs.
	codeLine = regexp.MustCompile(`(?m)^\s*(?:nohup |sudo |bin/)*(vda_[a-z_]+ [^\n]*)$`)
	// shellWord is a word as the shell sees it.
	shellWord = regexp.MustCompile(`(?:'[^']*'|"[^"]*"|[^\s'"])+`)
	// shellEnd is where a command ends for the shell.
	shellEnd = regexp.MustCompile(`\s(?:>|2>&|\||&&|&|;|#|\|\|).*$`)
)

// TestCommandsAsTyped gives each command line of the documents to its program,
// which does nothing but read it: what users have typed stays valid.
func TestCommandsAsTyped(t *testing.T) {
	checked := map[string]int{}
	for _, line := range commandLines(t) {
		words := shellWord.FindAllString(shellEnd.ReplaceAllString(line, ""), -1)
		for j := range words {
			if words[j][0] == '\'' {
				words[j] = strings.Trim(words[j], "'")
			}
		}
		if read(t, words) {
			checked[words[0]]++
		}
	}
	for name, least := range map[string]int{
		"vda_cli": 20, "vda_portal": 2, "vda_monitor": 2, "vda_db": 2, "vda_dn_agent": 2, "vda_cn_agent": 2, "vda_tgt": 3, "vda_rpc": 8,
	} {
		if checked[name] < least {
			t.Errorf("%d commands of %s found in the documents, want %d at least", checked[name], name, least)
		}
	}
}

// TestSpellings: what pflag takes and users have come to type.
func TestSpellings(t *testing.T) {
	for _, line := range []string{
		"vda_portal --port=9520 --db-uri=sqlite:////tmp/x --log-level debug",
		"vda_tgt -r /tmp/s --wait-for-rpc=false", "vda_tgt -r=/tmp/s", "vda_tgt -r/tmp/s",
		"vda_tgt --wait-for-rpc --rpc-socket=/tmp/s", "vda_tgt check --json /tmp/disk", "vda_tgt check /tmp/disk --json",
		"vda_rpc -s /tmp/s -t 5 --wait 10 bdev_null_create --name 123 --block_size 512 --num-blocks=8", "vda_rpc -s/tmp/s rpc_get_methods",
		"vda_rpc -t 0.5 bdev_set_options -d",
		"vda_rpc bdev_nvme_attach_controller --ctrlr-loss-timeout-sec -1 --hdgst", "vda_rpc --socket=/tmp/s bdev_get_bdevs -h",
		"vda_cli -o yaml dn list --online 1 --error=false", "vda_cli dn list -otable --limit 5 --addr-port h:1 --timeout 5s",
		"vda_cli dn delete --dn-name h:1 --force", "vda_cli dn delete --dn-name h:1 --force=true",
		"vda_dn_agent --sock-path /s --listener-conf {} --aio-dir /a --aio-dir=/b --forget-versions",
		"vda_db --action status --timeout 5s", "vda_sandbox --keep",
	} {
		if !read(t, strings.Fields(line)) {
			t.Errorf("%s: there is no such program", line)
		}
	}
}

// read has a program read a command line and do nothing; false: there is no
// such program.
func read(t *testing.T, words []string) bool {
	t.Helper()
	for _, p := range programs {
		if p.name != words[0] {
			continue
		}
		var out bytes.Buffer
		if exit := idle(p.make()).Run(t.Context(), program.Process{Args: words[1:], Stdout: &out, Stderr: &out}); exit != 0 {
			t.Errorf("%s: exit %d, %s", strings.Join(words, " "), exit, out.String())
		}
		return true
	}
	return false
}

// TestOrders: what cannot be taken back is typed, not left over in a shell's
// environment or a file.
func TestOrders(t *testing.T) {
	for line, flag := range map[string]string{
		"vda_cli dn delete --dn-name h:1":                "force",
		"vda_cli cn delete --cn-name h:1":                "force",
		"vda_cli pd delete --dn-name h:1 --pd-name p":    "force",
		"vda_cli syncup dn --dn-name h:1":                "allow-empty",
		"vda_cli syncup cn --cn-name h:1":                "allow-empty",
		"vda_dn_agent --sock-path /s --listener-conf {}": "forget-versions",
		"vda_cn_agent --sock-path /s --listener-conf {}": "forget-versions",
		"vda_tgt check /disk":                            "repair",
		"vda_db --db-uri sqlite:////nowhere/vda.db":      "action",
	} {
		words := strings.Fields(line)
		file := filepath.Join(t.TempDir(), "c.yaml")
		if err := os.WriteFile(file, []byte(flag+": \"1\"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		for source, args := range map[string][]string{"the environment": words[1:], "a file": append(words[1:], "--config", file)} {
			for _, p := range programs {
				if p.name != words[0] {
					continue
				}
				var out bytes.Buffer
				exit := idle(p.make()).Run(t.Context(), program.Process{Args: args, Stdout: &out, Stderr: &out,
					Getenv: func(name string) (string, bool) {
						return "1", source == "the environment" && name == program.EnvName(flag)
					}})
				if exit == 0 || !strings.Contains(out.String(), "sets --"+flag+", which is an order") {
					t.Errorf("%s with --%s in %s: exit %d, %s", line, flag, source, exit, out.String())
				}
			}
		}
	}
}

// idle is a program whose commands read their command line and do nothing.
func idle(p program.Program) program.Program {
	var walk func(*cobra.Command)
	walk = func(c *cobra.Command) {
		if c.RunE != nil {
			c.RunE = func(*cobra.Command, []string) error { return nil }
		}
		for _, sub := range c.Commands() {
			walk(sub)
		}
	}
	walk(p.Root)
	return p
}

// commandLines are the commands in the documents' code.
func commandLines(t *testing.T) []string {
	t.Helper()
	var lines []string
	err := filepath.WalkDir("../../docs", func(path string, d fs.DirEntry, err error) error {
		if ext := filepath.Ext(path); err != nil || ext != ".md" && ext != ".rst" {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		code := indented
		if filepath.Ext(path) == ".md" {
			code = fenced
		}
		// A \ joins lines, and $i is the variable of the documents' loops.
		plain := strings.NewReplacer("\\\n", " ", "$i", "0").Replace(string(text))
		for _, part := range code.FindAllString(plain, -1) {
			for _, m := range codeLine.FindAllStringSubmatch(part, -1) {
				if !strings.Contains(m[1], "…") {
					lines = append(lines, m[1])
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return lines
}
