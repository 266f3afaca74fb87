//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/virtual-disk-array/vda/sandbox/dataplane"
	"github.com/virtual-disk-array/vda/test/e2e/guest"
	"github.com/virtual-disk-array/vda/test/e2e/lab"
	"github.com/virtual-disk-array/vda/test/verdict"
)

// addresses are the tutorial's, and those of servers that it has none of.
var addresses = []struct{ name, address string }{
	{"postgresql", "192.168.0.10"},
	{"portal", "192.168.0.11"},
	{"monitor", "192.168.0.12"},
	{"cli", "192.168.0.13"},
	{"dn0", "192.168.0.14"},
	{"dn1", "192.168.0.15"},
	{"cn0", "192.168.0.16"},
	{"cn1", "192.168.0.17"},
	{"host0", "192.168.0.18"},
	{"host1", "192.168.0.19"},
	{"cn2", "192.168.0.20"},
	{"dn2", "192.168.0.21"},
}

// addressOf is a server's address.
func addressOf(server string) string {
	for _, a := range addresses {
		if a.name == server {
			return a.address
		}
	}
	return ""
}

// ofTutorial is how many of the addresses are the tutorial's.
const ofTutorial = 10

// rack is the tutorial's ten servers.
type rack struct {
	t     *verdict.T
	hosts map[string]lab.Runner
	plan  dataplane.Plan
	// secrets are those of a secured cluster; nil: it is plain.
	secrets *secrets
}

// nodes are the servers that have a data plane.
var nodes = []string{"dn0", "dn1", "cn0", "cn1"}

const vdaPlane = "vda_tgt --rpc-socket "

// onPlane is a command of the tutorial for the data plane that its server is
// to run on: where vda_tgt is started, SPDK may be instead. All else is the
// same.
func (r *rack) onPlane(server, command string) string {
	if r.plan.Of(server) != dataplane.SPDK {
		return command
	}
	before, rest, ok := strings.Cut(command, vdaPlane)
	if !ok {
		return command
	}
	socket, rest, _ := strings.Cut(rest, " ")
	return before + strings.Join(r.plan.Argv(server, "vda_tgt", socket), " ") + strings.TrimPrefix(rest, "--wait-for-rpc")
}

// newRack boots the ten servers, ready for the tutorial's first command.
func newRack(t *verdict.T) *rack {
	t.Helper()
	var names []string
	for _, a := range addresses[:ofTutorial] {
		names = append(names, a.name)
	}
	r := newHosts(t, names...)
	fmt.Println(r.plan.Describe(nodes))
	return r
}

// newHosts boots those of the ten servers that are named.
func newHosts(t *verdict.T, names ...string) *rack {
	t.Helper()
	missing := append(lab.Missing(), guest.Missing()...)
	if _, err := exec.LookPath("pg_ctlcluster"); err != nil {
		missing = append(missing, "Debian's postgresql")
	}
	if len(missing) > 0 {
		t.Fatalf("this machine lacks %s", strings.Join(missing, ", "))
	}
	plan, err := dataplane.FromEnv()
	if err == nil {
		err = plan.Check(nodes)
	}
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute) // the image may have to be built
	defer cancel()
	cache := filepath.Join("..", "..", "out")
	archive, err := filepath.Abs(filepath.Join(cache, "vda.tar.gz"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(archive); err != nil {
		t.Fatalf("%v: run make dist first", err)
	}
	image, err := guest.Build(ctx, cache)
	if err != nil {
		t.Fatal(err)
	}
	l, err := lab.New(ctx, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	r := &rack{t: t, hosts: map[string]lab.Runner{}, plan: plan}
	for _, a := range addresses {
		if !slices.Contains(names, a.name) {
			continue
		}
		if strings.HasPrefix(a.name, "host") {
			g, err := l.AddGuest(ctx, a.name, a.address, image)
			if err != nil {
				t.Fatal(err)
			}
			r.hosts[a.name] = g
			continue
		}
		h, err := l.AddHost(ctx, a.name, a.address)
		if err != nil {
			t.Fatal(err)
		}
		r.hosts[a.name] = h
		furnish(ctx, t, h, archive)
	}
	return r
}

// furnish gives a host what the tutorial takes for granted: sudo, a service
// manager, and the archive of VDA in the home directory.
func furnish(ctx context.Context, t *verdict.T, h *lab.Host, archive string) {
	t.Helper()
	hand(ctx, t, h, archive, "/root/vda.tar.gz")
	script := `
rm -rf /usr/local/bin/vda_* /var/lib/apt/lists/* # without lists, what is installed is the newest
command -v sudo >/dev/null || cat > /usr/local/bin/sudo <<'EOF'
#!/bin/sh
if [ "$1" = -u ]; then user=$2; shift 2; exec runuser -u "$user" -- "$@"; fi
exec "$@"
EOF
cat > /usr/local/bin/systemctl <<'EOF'
#!/bin/sh
exec service "$2" "$1"
EOF
chmod 755 /usr/local/bin/*`
	if r, err := h.Run(ctx, script); err != nil || r.Code != 0 {
		t.Fatalf("%s: %v %s", h.Name(), err, r.Stderr)
	}
}

// hand gives a host a file of this machine's, which may be where the host has a folder of
// its own, like /tmp.
func hand(ctx context.Context, t *verdict.T, h *lab.Host, file, to string) {
	t.Helper()
	cmd := h.Command(ctx, "sh", "-c", "cat > "+to)
	in, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	cmd.Stdin = in
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v: %s", h.Name(), err, out)
	}
}

// try runs a script on a host.
func (r *rack) try(host, script string) guest.Result {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), 2*time.Minute)
	defer cancel()
	res, err := r.hosts[host].Run(ctx, r.asUser(host)+script)
	if err != nil {
		r.t.Fatalf("%s: %v: %s", host, err, script)
	}
	return res
}

// run runs a script that must succeed and returns what it printed.
func (r *rack) run(host, script string) string {
	r.t.Helper()
	res := r.try(host, script)
	if res.Code != 0 {
		r.t.Fatalf("%s: exit %d: %s%s\nof %s", host, res.Code, res.Stdout, res.Stderr, script)
	}
	return string(res.Stdout)
}

// waitFor runs a script on a host until it succeeds.
func (r *rack) waitFor(host, script string, limit time.Duration) string {
	r.t.Helper()
	// The longer it takes, the less often it is asked for: what is waited for needs the processor, too.
	begin := time.Now()
	for deadline := begin.Add(limit); ; time.Sleep(min(max(100*time.Millisecond, time.Since(begin)/10), time.Second)) {
		res := r.try(host, script)
		if res.Code == 0 {
			return string(res.Stdout)
		}
		if time.Now().After(deadline) {
			r.t.Fatalf("%s: still exit %d after %v: %s%s\nof %s", host, res.Code, limit, res.Stdout, res.Stderr, script)
		}
	}
}

// logs prints the end of every daemon's log, and what the kernels of the Linux
// hosts said of their disks, when the test has failed. The verdict comes after it.
func (r *rack) logs() {
	if !r.t.Failed() {
		return
	}
	const daemons, kernel = "tail -n 12 /tmp/*.log 2>/dev/null", "dmesg | grep -E 'nvme|EXT4|I/O error|hung|stall|Out of memory' | tail -n 20"
	for _, host := range []bool{false, true} {
		for _, a := range addresses {
			if r.hosts[a.name] == nil || strings.HasPrefix(a.name, "host") != host {
				continue
			}
			script := daemons
			if host {
				script = kernel
			}
			// Not through try, which would end the function and the other hosts' logs with it.
			ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
			res, err := r.hosts[a.name].Run(ctx, script)
			cancel()
			text := verdict.Brief(string(res.Stdout), 40)
			if err != nil {
				text += err.Error()
			}
			r.t.Logf("==== %s\n%s", a.name, text)
		}
	}
}
