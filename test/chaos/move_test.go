//go:build e2e

package chaos

import (
	"fmt"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/virtual-disk-array/vda/sandbox/dataplane"
	"github.com/virtual-disk-array/vda/test/verdict"
)

// TestMoveBetweenDataPlanes moves a disk node and a controller node from
// vda_tgt to spdk_tgt and back, as docs/spdk.md says, under the host's load:
// the data stays where it is, and nothing is lost.
func TestMoveBetweenDataPlanes(plain *testing.T) {
	t := verdict.New(plain)
	if os.Getenv("SPDK_TGT") == "" {
		t.Skip("SPDK_TGT is not set: there is one data plane only")
	}
	c := start(t, clusterConfig{Cntlrs: 2, Exps: 1, SPDKLater: true})
	faults := newChooser(c, 1, time.Second, "")
	for _, name := range []string{"dn0", "primary", "dn1", "primary"} {
		m := c.machines[name]
		if m == nil {
			m = faults.primary()
		}
		here := c.cfg.Plan.Of(m.name)
		there := map[dataplane.Kind]dataplane.Kind{dataplane.VDA: dataplane.SPDK, dataplane.SPDK: dataplane.VDA}[here]
		m.plane.spdk = true
		for _, k := range []dataplane.Kind{there, here} {
			argv, sig := c.cfg.Plan.KindArgv(k, "/root/vda_tgt", "/tmp/sock"), syscall.SIGTERM
			if m.kind == "cn" && k == dataplane.VDA {
				sig = syscall.SIGKILL // as docs/spdk.md asks for: on SIGTERM it hangs, and then sends what hosts have given up
			}
			o, ok := strike(t, c, &fault{kind: "move to " + string(k), what: fmt.Sprintf("%s ends, %s starts in its place", m.plane.name,
				argv[0]), hold: 3 * time.Second,
				inject: func() error { m.plane.become(argv, sig); return nil }})
			if !ok || o.bad {
				t.Fatalf("%s did not move to %s", m.name, k)
			}
		}
	}
	finish(t, c)
}
