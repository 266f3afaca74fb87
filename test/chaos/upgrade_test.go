//go:build e2e

package chaos

import (
	_ "embed"
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	vda "github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/test/verdict"
)

// previousCommit names the commit of release N-1.
//
//go:embed previous
var previousCommit string

// next is where the programs of this tree are on each machine; those of N-1 are in /root.
const next = "/root/next/"

// upgradePrograms are what is built of N-1.
var upgradePrograms = []string{"vda_portal", "vda_monitor", "vda_dn_agent", "vda_cn_agent", "vda_tgt", "vda_rpc", "vda_db", "vda_cli"}

// previous builds the programs of release N-1 and returns their folder. A clone without
// the history, as some build machines make, has those of HEAD in their place, and the
// test says so: it still restarts every program under load.
func previous(t *verdict.T) string {
	t.Helper()
	commit := regexp.MustCompile(`(?m)^[0-9a-f]{40}$`).FindString(previousCommit)
	if commit == "" {
		t.Fatal("test/chaos/previous names no commit of 40 hex digits")
	}
	git := func(args ...string) (string, error) {
		out, err := exec.CommandContext(t.Context(), "git", append([]string{"-C", "../.."}, args...)...).CombinedOutput()
		return strings.TrimSpace(string(out)), err
	}
	if _, err := git("cat-file", "-e", commit+"^{commit}"); err != nil {
		said, err := git("fetch", "--quiet", "--depth=1", "origin", commit) // of a shallow clone
		if err != nil {
			t.Logf("NOT OF RELEASE N-1: this clone has no commit %s, which test/chaos/previous names, and origin does not give it: %v %s; "+
				"the programs of HEAD stand in for those of N-1; clone with the whole history for the real test", commit, err, said)
			commit = "HEAD"
		}
	}
	dir := t.TempDir()
	script := fmt.Sprintf(`set -eo pipefail; git -C ../.. archive %s | tar -x -C %s; cd %s
CGO_ENABLED=0 go build -trimpath -ldflags '-s -w -X github.com/virtual-disk-array/vda/program.version=previous' -o bin/ ./cmd/%s`,
		commit, dir, dir, strings.Join(upgradePrograms, " ./cmd/"))
	if out, err := exec.CommandContext(t.Context(), "bash", "-c", script).CombinedOutput(); err != nil {
		t.Fatalf("build the programs of %s: %v\n%s", commit, err, out)
	}
	return filepath.Join(dir, "bin")
}

// upgrade takes a cluster from N-1 to N.
type upgrade struct {
	*verdict.T
	*cluster
}

// bring copies the new programs beside the old ones.
func (u *upgrade) bring() {
	u.Helper()
	portal := u.machines["portal"] // tries out a monitor of N-1, too
	if err := u.copy(u.Context(), portal, filepath.Join(u.cfg.BinDir, "vda_monitor"), "/root/vda_monitor"); err != nil {
		u.Fatal(err)
	}
	for _, m := range u.order {
		if _, err := u.output(u.Context(), m, "mkdir "+next); err != nil {
			u.Fatal(err)
		}
		for _, p := range upgradePrograms {
			if err := u.copy(u.Context(), m, filepath.Join("..", "..", "bin", p), next+p); err != nil {
				u.Fatal(err)
			}
		}
	}
}

// renew ends a process and has the new program go on in its place, with the same
// arguments.
func (u *upgrade) renew(p *process) {
	p.mu.Lock()
	argv := append([]string{next + filepath.Base(p.argv[0])}, p.argv[1:]...)
	p.mu.Unlock()
	u.Logf("%s: %s", p.name, argv[0])
	p.become(argv, syscall.SIGTERM)
}

// well waits until the host has all paths and the array all legs.
func (u *upgrade) well(after string) {
	u.Helper()
	if !u.whole(recovery) {
		u.Fatalf("%s: not all is well after %v: %+v", after, recovery, u.host.now())
	}
	if state, ok := u.full(recovery); !ok {
		u.Fatalf("%s: the array's redundancy_state is %q after %v", after, state, recovery)
	}
}

// restart is an upgrade of a node as docs/install.md has it: a cn's primaries leave
// first, a dn's arrays live on their other legs.
func (u *upgrade) restart(m *machine) {
	u.Helper()
	ask := func(args string) string {
		u.Helper()
		out, err := u.output(u.Context(), u.machines["portal"], next+"vda_cli --addr-port "+portalURL+" --timeout 60s "+args)
		if err != nil {
			u.Fatal(err)
		}
		return string(out)
	}
	if m.kind == "cn" {
		ask("cn drain " + m.agent() + " --wait=60s")
		if m == u.primaryNow(u.T) {
			u.Fatalf("the primary is on %s still, which is drained", m.name)
		}
	}
	u.renew(m.plane)
	u.renew(m.daemon)
	if m.kind == "cn" {
		ask("cn undrain " + m.agent())
	} else {
		time.Sleep(2 * time.Second) // until it is known which legs are away, "full" says nothing
	}
	u.well("upgrade of " + m.name)
}

// works makes an array on every node with a command line client, and deletes it.
func (u *upgrade) works(client string) {
	u.Helper()
	run := func(args string) string {
		u.Helper()
		out, err := u.output(u.Context(), u.machines["portal"], client+" --addr-port "+portalURL+" --timeout 60s "+args)
		if err != nil {
			u.Fatal(err)
		}
		return string(out)
	}
	// Nothing is placed on a node that has just been restarted, until a monitor has heard it.
	create := client + " --addr-port " + portalURL + " --timeout 60s da create --da-name da1 --cntlr-cnt 4 --da-size 8388608 " +
		"--redundancy mirror:3"
	if err := u.until(u.Context(), u.machines["portal"], create, recovery); err != nil {
		u.Fatal(err)
	}
	run("exp create --da-name da1 --exp-name exp0 --initiator-nqn " + hostNQN)
	var da, exp string
	for end := time.Now().Add(recovery); ; time.Sleep(100 * time.Millisecond) {
		da, exp = run("da get --da-name da1"), run("exp get --da-name da1 --exp-name exp0")
		if strings.Contains(da, `"redundancy_state": "full"`) && strings.Count(exp, `"error": false`) >= 4 &&
			!strings.Contains(da+exp, `"error": true`) {
			break
		}
		if time.Now().After(end) {
			u.Fatalf("da1 is not up: %s%s", da, exp)
		}
	}
	run("exp delete --da-name da1 --exp-name exp0")
	run("da delete --da-name da1")
}

// refuses has programs say what to do with a schema that is newer than they are: a portal
// that serves, and one that is started.
func (u *upgrade) refuses(dir string) {
	u.Helper()
	const newer, todo = "newer than this program's", "use the programs of the release that migrated it, or later ones"
	portal := u.machines["portal"]
	for _, command := range []string{next + "vda_cli --addr-port " + portalURL + " da list",
		"timeout 20 " + dir + "vda_portal --listener 127.0.0.1 --port 9999 --db-uri " + dbURI,
		"timeout 20 " + dir + "vda_monitor --listener 127.0.0.1 --port 9999 --db-uri " + dbURI} {
		var said string
		for end := time.Now().Add(20 * time.Second); ; time.Sleep(100 * time.Millisecond) { // a portal looks once per second
			r, err := portal.h.Run(u.Context(), command)
			if err != nil {
				u.Fatal(err)
			}
			said = string(r.Stderr)
			if r.Code == 1 && strings.Contains(said, newer) && strings.Contains(said, todo) {
				break
			}
			if time.Now().After(end) {
				u.Fatalf("%s on a newer schema: exit %d, %s", command, r.Code, said)
			}
		}
	}
}

// migrates reports whether the programs of a folder need a later schema than there is.
func (u *upgrade) migrates(dir string) bool {
	u.Helper()
	r, err := u.machines["portal"].h.Run(u.Context(), dir+"vda_db --action status --db-uri "+dbURI)
	said := string(r.Stdout) + string(r.Stderr)
	u.Logf("%s", said)
	switch {
	case err == nil && r.Code == 1 && strings.Contains(said, "run vda_db --action migrate"):
		return true
	case err != nil || r.Code != 0:
		u.Fatalf("vda_db --action status: exit %d: %s %v", r.Code, said, err)
	}
	return false
}

func (u *upgrade) query(sql string) (string, error) {
	out, err := u.sql(u.Context(), sql)
	return strings.TrimSpace(string(out)), err
}

// TestUpgrade takes a cluster from the programs of release N-1 to those of this tree under
// a host's verifying load. Programs of both run together in any order: agents and data
// planes of N below portal and monitors of N-1, each kind of agent on each kind of data
// plane, then portal and monitors of N on a migrated schema above agents of N-1. In the end
// every node is drained, restarted and taken back in turn. The host sees no error.
func TestUpgrade(plain *testing.T) {
	t := verdict.New(plain)
	c := start(t, clusterConfig{Cntlrs: 2, Exps: 1, Redundancy: vda.Mirror2, BinDir: previous(t)})
	u := &upgrade{t, c}
	u.bring()
	used, err := c.cntlrs(t.Context())
	if err != nil || len(used) != 2 {
		t.Fatalf("controllers: %v %v", used, err)
	}
	var spare []*machine
	for _, m := range c.order {
		if m.kind == "cn" && m != used[0] && m != used[1] {
			spare = append(spare, m)
		}
	}

	// Nodes first.
	u.renew(c.primaryNow(t).daemon)
	u.renew(c.machines["dn0"].daemon)
	u.renew(c.machines["dn1"].plane)
	u.renew(spare[0].plane)
	u.renew(spare[1].plane)
	u.renew(spare[1].daemon)
	u.well("nodes of N below a control plane of N-1")
	u.works(next + "vda_cli")

	// The control plane.
	migrates := u.migrates(next)
	if _, err := c.output(t.Context(), c.machines["portal"], next+"vda_db --action migrate --db-uri "+dbURI); err != nil {
		t.Fatal(err)
	}
	if migrates {
		u.refuses("/root/")
	}
	for _, name := range []string{"portal", "monitor0", "monitor1"} {
		u.renew(c.machines[name].daemon)
	}
	if err := c.insist("da list", 30*time.Second); err != nil {
		t.Fatal(err)
	}
	u.well("a control plane of N above nodes of N-1")
	u.works("/root/vda_cli")

	// Every node in turn.
	for _, m := range c.order {
		if m.kind == "dn" || m.kind == "cn" {
			u.restart(m)
		}
	}
	for _, m := range c.order {
		for _, p := range m.processes() {
			if p != nil && m.kind != "db" && !strings.HasPrefix(p.argv[0], next) {
				t.Errorf("%s is not upgraded: %s", p.name, p.argv[0])
			}
		}
	}
	u.works(next + "vda_cli")

	// Somebody has migrated to N+1.
	if _, err := u.query("insert into vda.vda_schema_version (version_id, is_applied) values (999999, true)"); err != nil {
		t.Fatal(err)
	}
	u.refuses(next)
	if _, err := u.query("delete from vda.vda_schema_version where version_id = 999999"); err != nil {
		t.Fatal(err)
	}
	if err := c.insist("da list", 30*time.Second); err != nil {
		t.Fatal(err)
	}
	finish(t, c)
}
