package docs

import (
	"net"
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/spf13/pflag"
)

// TestNobodyListensEverywhereByDefault: no program has a flag whose default is all addresses of
// the machine, and each daemon's file in the packages says where it listens.
func TestNobodyListensEverywhereByDefault(t *testing.T) {
	listeners := 0
	for _, p := range programs {
		p.make().Root.Flags().VisitAll(func(f *pflag.Flag) {
			ip := net.ParseIP(f.DefValue)
			if ip == nil {
				return
			}
			listeners++
			if !ip.IsLoopback() {
				t.Errorf("%s --%s is %s by default, want the loopback", p.name, f.Name, f.DefValue)
			}
		})
	}
	if listeners < 6 {
		t.Errorf("%d flags with an address as their default, want those of portal, monitor, both agents, driver and data plane", listeners)
	}
	files, err := filepath.Glob("../../packaging/etc/*.conf")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	daemons, said := regexp.MustCompile(`(?m)^VDA_(PORTAL|MONITOR|AGENT)_ARGS=`), regexp.MustCompile(`(?m)^VDA_\w+_ARGS=.*--listener \S+`)
	found := 0
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if !daemons.Match(text) {
			continue
		}
		found++
		if !said.Match(text) {
			t.Errorf("%s does not say --listener", file)
		}
	}
	if found != 4 {
		t.Errorf("%d files with the arguments of a daemon, want those of portal, monitor, dn and cn", found)
	}
}
