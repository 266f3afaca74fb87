package docs

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/virtual-disk-array/vda/program"
)

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
