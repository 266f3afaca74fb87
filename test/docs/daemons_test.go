package docs

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"testing"
)

var (
	helpFlag = regexp.MustCompile(`(?m)^\s+(?:-\w, )?--([a-z][a-z-]*)`)
	pageFlag = regexp.MustCompile("`--([a-z][a-z-]*)`")
)

// TestPagesNameEveryFlag compares each program's --help with its page.
func TestPagesNameEveryFlag(t *testing.T) {
	bin := t.TempDir()
	programs := []string{"vda_portal", "vda_monitor", "vda_dn_agent", "vda_cn_agent", "vda_tgt", "vda_db"}
	build := []string{"build", "-o", bin}
	for _, p := range programs {
		build = append(build, "../../cmd/"+p)
	}
	if out, err := exec.Command("go", build...).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, p := range programs {
		help, err := exec.Command(filepath.Join(bin, p), "--help").CombinedOutput()
		if err != nil {
			t.Errorf("%s --help: %v\n%s", p, err, help)
		}
		page, err := os.ReadFile("../../docs/daemons/" + p + ".md")
		if err != nil {
			t.Error(err)
			continue
		}
		want, have := names(helpFlag, help), names(pageFlag, page)
		for _, f := range want {
			if f != "help" && !slices.Contains(have, f) {
				t.Errorf("docs/daemons/%s.md does not name --%s", p, f)
			}
		}
		if p == "vda_tgt" {
			continue // its page tells of vda_rpc as well
		}
		for _, f := range have {
			if !slices.Contains(want, f) {
				t.Errorf("docs/daemons/%s.md names --%s, which %s does not have", p, f, p)
			}
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
