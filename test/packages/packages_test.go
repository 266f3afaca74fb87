//go:build e2e

package packages

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/virtual-disk-array/vda/program/child"
)

// out is where make packages leaves them.
const out = "../../out/packages"

// names of the packages, in an order in which they can be installed.
var names = []string{"common", "tgt", "cli", "portal", "monitor", "dn", "cn"}

// command runs a program and returns what it prints.
func command(t *testing.T, name string, args ...string) string {
	t.Helper()
	b, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, b)
	}
	return string(b)
}

func deb(t *testing.T, name string) string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(out, "vda-"+name+"_*.deb"))
	if err != nil || len(found) != 1 {
		t.Fatalf("debs of %s: %v, %v; make packages makes them", name, found, err)
	}
	return found[0]
}

// unpack puts all packages into a folder, as dpkg does into /.
func unpack(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	for _, n := range names {
		command(t, "dpkg-deb", "-x", deb(t, n), root)
	}
	return root
}

// TestDebsAndRPMs: every program and unit is in one package, what an administrator
// changes is a conffile, the database's password is not open to all, and an rpm has
// what the deb has.
func TestDebsAndRPMs(t *testing.T) {
	where := map[string]string{}
	for _, n := range names {
		line := regexp.MustCompile(`(?m)^(\S{10}) (\S+) .* \.(/\S+)$`)
		var files []string
		for _, m := range line.FindAllStringSubmatch(command(t, "dpkg-deb", "-c", deb(t, n)), -1) {
			mode, owner, path := m[1], m[2], m[3]
			if mode[0] == 'd' {
				continue
			}
			files = append(files, path)
			if other, twice := where[path]; twice {
				t.Errorf("%s is in %s and %s", path, other, n)
			}
			where[path] = n
			if path == "/etc/vda/db-uri" && (mode != "-rw-r-----" || owner != "root/vda") {
				t.Errorf("%s is %s of %s", path, mode, owner)
			}
		}
		var conffiles string
		if control := command(t, "dpkg-deb", "-I", deb(t, n)); strings.Contains(control, " conffiles") {
			conffiles = command(t, "dpkg-deb", "-I", deb(t, n), "conffiles")
		}
		for _, f := range files {
			if strings.HasPrefix(f, "/etc/") != strings.Contains(conffiles, f+"\n") {
				t.Errorf("%s of %s: the conffiles are %q", f, n, conffiles)
			}
		}
		rpms, err := filepath.Glob(filepath.Join(out, "vda-"+n+"-*.rpm"))
		if err != nil || len(rpms) != 1 {
			t.Fatalf("rpms of %s: %v, %v", n, rpms, err)
		}
		inRPM := strings.Fields(command(t, "rpm", "-qp", "--list", rpms[0]))
		for _, f := range files {
			if !slices.Contains(inRPM, f) {
				t.Errorf("the rpm of %s lacks %s", n, f)
			}
		}
	}
	programs, err := filepath.Glob("../../cmd/vda_*")
	if err != nil {
		t.Fatal(err)
	}
	unpackaged := []string{"vda_sandbox", "vda_csi"} // orchestrators run the latter from its image
	for _, p := range programs {
		if name := filepath.Base(p); !slices.Contains(unpackaged, name) && where["/usr/bin/"+name] == "" {
			t.Errorf("no package has %s", name)
		}
	}
}

// TestUnitsAreValid has systemd read the units.
func TestUnitsAreValid(t *testing.T) {
	root := unpack(t)
	units, err := filepath.Glob(filepath.Join(root, "usr/lib/systemd/system/*.service"))
	if err != nil || len(units) != 7 {
		t.Fatalf("units: %v, %v", units, err)
	}
	said, _ := exec.CommandContext(t.Context(), "systemd-analyze", append([]string{"verify", "--man=no"}, units...)...).CombinedOutput()
	for line := range strings.Lines(string(said)) {
		// The programs are not installed on this machine, nor is nvme-cli.
		if !strings.Contains(line, "is not executable") {
			t.Errorf("systemd says: %s", line)
		}
	}
	for _, u := range units {
		b, err := os.ReadFile(u)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(filepath.Base(u), "host") {
			continue
		}
		for _, want := range []string{"Type=notify\n", "WatchdogSec=", "Restart=always\n", "User=vda\n", "ProtectSystem=strict\n",
			"NoNewPrivileges=yes\n"} {
			if !strings.Contains(string(b), want) {
				t.Errorf("%s lacks %q", filepath.Base(u), want)
			}
		}
	}
}

// unit is a service that the test runs as its unit says, as far as that is
// possible without systemd: the command lines with their environment files, and the
// socket on which it tells that it serves.
type unit struct {
	name string
	argv []string
	post [][]string // run when it serves
	said *bytes.Buffer
	cmd  *exec.Cmd
	hear *net.UnixConn
}

// readUnit reads a unit whose files are below root. subst replaces the folders that
// packages have to themselves on a machine.
func readUnit(t *testing.T, root, name string, subst *strings.Replacer) *unit {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(root, "usr/lib/systemd/system", name+".service"))
	if err != nil {
		t.Fatal(err)
	}
	env := map[string]string{}
	u := &unit{name: name, said: &bytes.Buffer{}}
	for line := range strings.Lines(string(b)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		switch key {
		case "EnvironmentFile":
			readEnv(t, filepath.Join(root, value), env)
		case "ExecStart":
			u.argv = words(value, env, subst)
		case "ExecStartPost":
			u.post = append(u.post, words(value, env, subst))
		}
	}
	if len(u.argv) == 0 {
		t.Fatalf("%s has no ExecStart", name)
	}
	return u
}

// words are those of a command line of a unit.
func words(line string, env map[string]string, subst *strings.Replacer) (argv []string) {
	for _, word := range strings.Fields(line) {
		switch {
		case strings.HasPrefix(word, "${"):
			argv = append(argv, env[strings.Trim(word, "${}")])
		case strings.HasPrefix(word, "$"):
			argv = append(argv, strings.Fields(env[word[1:]])...)
		default:
			argv = append(argv, subst.Replace(word))
		}
	}
	return argv
}

func readEnv(t *testing.T, path string, env map[string]string) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if key, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok && !strings.HasPrefix(key, "#") {
			env[key] = strings.Trim(value, "'")
		}
	}
}

// start starts a unit and waits until it says that it serves.
func (u *unit) start(t *testing.T) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "notify")
	var err error
	if u.hear, err = net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"}); err != nil {
		t.Fatal(err)
	}
	u.cmd = exec.Command(u.argv[0], u.argv[1:]...)
	u.cmd.Env = append(os.Environ(), "NOTIFY_SOCKET="+path, "WATCHDOG_USEC=30000000")
	u.cmd.Stdout, u.cmd.Stderr = u.said, u.said
	if err := child.Start(u.cmd); err != nil {
		t.Fatal(err)
	}
	stop := sync.OnceFunc(func() {
		_ = u.cmd.Process.Signal(syscall.SIGTERM) // it may have ended
		if err := u.cmd.Wait(); err != nil {
			t.Errorf("%s: %v\n%s", u.name, err, u.said)
		}
		u.hear.Close()
	})
	t.Cleanup(stop)
	b := make([]byte, 100)
	if err := u.hear.SetReadDeadline(time.Now().Add(2 * time.Minute)); err != nil {
		t.Fatal(err)
	}
	n, err := u.hear.Read(b)
	if err != nil || string(b[:n]) != "READY=1" {
		stop()
		t.Fatalf("%s does not say that it serves: %q, %v\n%s", u.name, b[:n], err, u.said)
	}
	for _, argv := range u.post {
		command(t, argv[0], argv[1:]...)
	}
}

// TestUnitsServe runs a cluster from the packages' programs, conffiles and units,
// and makes the tutorial's kind of array on it.
func TestUnitsServe(t *testing.T) {
	root := unpack(t)
	disk := filepath.Join(root, "var/lib/vda/dn", "disk")
	for _, dir := range []string{"run/vda-dn", "run/vda-cn", "var/lib/vda/dn", "var/lib/vda/cn"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o750); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(disk, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(disk, 256<<20); err != nil {
		t.Fatal(err)
	}
	subst := strings.NewReplacer("/usr/bin/", root+"/usr/bin/", "/etc/vda/", root+"/etc/vda/", "/run/vda-", root+"/run/vda-",
		"/var/lib/vda", root+"/var/lib/vda")
	// What docs/install.md has the administrator do: the database, and where nodes listen.
	uri := "sqlite:///" + root + "/var/lib/vda/vda.db"
	if err := os.WriteFile(filepath.Join(root, "etc/vda/db-uri"), []byte(uri+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	ports := freePorts(t, 6)
	for file, change := range map[string]*strings.Replacer{
		"portal.conf":  strings.NewReplacer("0.0.0.0", "127.0.0.1", "9520", ports[0]),
		"monitor.conf": strings.NewReplacer("0.0.0.0", "127.0.0.1", "9620", ports[1]),
		"dn.conf":      strings.NewReplacer("0.0.0.0", "127.0.0.1", "9720", ports[2], "4420", ports[3], "--port", "--aio-dir "+root+" --port"),
		"cn.conf":      strings.NewReplacer("0.0.0.0", "127.0.0.1", "9820", ports[4], "4430", ports[5]),
	} {
		path := filepath.Join(root, "etc/vda", file)
		b, err := os.ReadFile(path)
		if err == nil {
			err = os.WriteFile(path, []byte(change.Replace(string(b))), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	bin := filepath.Join(root, "usr/bin")
	command(t, filepath.Join(bin, "vda_db"), "--action", "create", "--db-uri-file", filepath.Join(root, "etc/vda/db-uri"))
	for _, name := range []string{"vda-dn-tgt", "vda-dn-agent", "vda-cn-tgt", "vda-cn-agent", "vda-portal", "vda-monitor"} {
		readUnit(t, root, name, subst).start(t)
	}
	cli := func(args ...string) string {
		return command(t, filepath.Join(bin, "vda_cli"), append([]string{"--addr-port", "127.0.0.1:" + ports[0]}, args...)...)
	}
	listener := func(port string) string {
		return fmt.Sprintf(`{"trtype":"tcp","traddr":"127.0.0.1","adrfam":"ipv4","trsvcid":"%s"}`, port)
	}
	cli("dn", "create", "--dn-name", "127.0.0.1:"+ports[2], "--dn-listener-conf", listener(ports[3]))
	cli("cn", "create", "--cn-name", "127.0.0.1:"+ports[4], "--cn-listener-conf", listener(ports[5]))
	cli("pd", "create", "--dn-name", "127.0.0.1:"+ports[2], "--pd-name", "pd0", "--pd-conf", fmt.Sprintf(`{"type":"aio","filename":%q}`, disk))
	cli("da", "create", "--da-name", "da0", "--cntlr-cnt", "1", "--da-size", "67108864")
	cli("exp", "create", "--da-name", "da0", "--exp-name", "exp0", "--initiator-nqn", "nqn.2016-06.io.spdk:host0")
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	for {
		got := cli("exp", "get", "--da-name", "da0", "--exp-name", "exp0")
		if strings.Contains(got, `"error": false`) && !strings.Contains(got, `"error": true`) {
			break
		}
		select {
		case <-ctx.Done():
			t.Fatalf("the exporter is not up: %s", got)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func freePorts(t *testing.T, n int) (ports []string) {
	t.Helper()
	for range n {
		lis, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer lis.Close()
		_, port, err := net.SplitHostPort(lis.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		ports = append(ports, port)
	}
	return ports
}
