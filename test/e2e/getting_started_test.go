//go:build e2e

package e2e

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/virtual-disk-array/vda/test/verdict"
)

// TestGettingStarted types the single-machine guide into one shell.
func TestGettingStarted(plain *testing.T) {
	t := verdict.New(plain)
	doc, err := os.ReadFile("../../docs/getting_started.md")
	if err != nil {
		t.Fatal(err)
	}
	r := newHosts(t, "cli")
	defer r.logs()
	script := "tar -xzf vda.tar.gz -C /usr/local/bin; set -e\n"
	blocks := 0
	for _, m := range regexp.MustCompile("(?s)```sh\n(.*?)```").FindAllStringSubmatch(string(doc), -1) {
		if strings.Contains(m[1], "modprobe") {
			continue // typed on a host with Linux's own driver
		}
		blocks++
		// The time that a person takes between two blocks.
		script += strings.Replace(m[1], "make build\n", "", 1) + "sleep 1\n"
	}
	if blocks < 6 {
		t.Fatalf("the guide has %d blocks, want 6 at least", blocks)
	}
	out := r.run("cli", script)
	if n := strings.Count(out, `"reply_msg": "success"`); n != 8 || strings.Contains(out, "unreachable") {
		t.Errorf("%d of 8 commands succeeded:\n%s", n, out)
	}
	if left := r.run("cli", "sleep 2; pgrep -l vda_ || true"); left != "" {
		t.Errorf("still running after the guide's last command:\n%s", left)
	}
}
