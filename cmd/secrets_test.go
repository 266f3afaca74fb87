package cmd_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/virtual-disk-array/vda/nvmf/dhchap"
	"github.com/virtual-disk-array/vda/program/child"
	"github.com/virtual-disk-array/vda/store/dbtest"
)

// town is a secured cluster of the programs that users run, into which secrets are planted.
type town struct {
	*testing.T
	bin, dir string
	secrets  map[string]string // by what each is
	said     map[string]string // what others may read, by where
	daemons  map[string]*started
	ports    map[string]int
}

type started struct {
	*exec.Cmd
	ended chan error
}

func (c *town) path(name string) string { return filepath.Join(c.dir, name) }

func (c *town) plant(what, secret string) string {
	c.Helper()
	if len(secret) < 12 {
		c.Fatalf("%s has %d characters, too few to look for", what, len(secret))
	}
	c.secrets[what] = secret
	return secret
}

// file plants a secret in a file of mode 0600.
func (c *town) file(what, secret string) (path string) {
	c.Helper()
	path = c.path(strings.ReplaceAll(what, " ", "-"))
	if err := os.WriteFile(path, []byte(c.plant(what, secret)+"\n"), 0o600); err != nil {
		c.Fatal(err)
	}
	return path
}

// command is one with what it prints at the end in c.said.
func (c *town) command(env []string, name string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(c.bin, name), args...)
	cmd.Dir, cmd.Env = c.dir, append(os.Environ(), env...)
	return cmd
}

// run runs a program to its end; what it prints is kept unless it is a secret.
func (c *town) run(name string, args ...string) (string, error) {
	var out bytes.Buffer
	cmd := c.command(nil, name, args...)
	cmd.Stdout, cmd.Stderr = &out, &out
	err := child.Run(cmd)
	c.said[name+" "+strings.Join(args, " ")] = out.String()
	return out.String(), err
}

func (c *town) must(name string, args ...string) string {
	c.Helper()
	out, err := c.run(name, args...)
	if err != nil {
		c.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return out
}

// secret runs a program whose output is one.
func (c *town) secret(what, name string, args ...string) string {
	c.Helper()
	out := strings.TrimSpace(c.must(name, args...))
	delete(c.said, name+" "+strings.Join(args, " "))
	if i := strings.LastIndexAny(out, "\n "); i >= 0 {
		c.Fatalf("%s %s prints more than a token:\n%s", name, strings.Join(args, " "), out)
	}
	return c.plant(what, out)
}

// start starts a program whose log goes to a file.
func (c *town) start(env []string, name string, args ...string) *started {
	c.Helper()
	return c.startAs(name, env, name, args...)
}

func (c *town) startAs(as string, env []string, name string, args ...string) *started {
	c.Helper()
	s := &started{c.command(env, name, args...), make(chan error, 1)}
	log, err := os.Create(c.path(as + ".log"))
	if err != nil {
		c.Fatal(err)
	}
	defer log.Close()
	s.Stdout, s.Stderr = log, log
	if err := child.Start(s.Cmd); err != nil {
		c.Fatal(err)
	}
	go func() { s.ended <- s.Wait() }()
	c.daemons[as] = s
	c.Cleanup(s.kill)
	return s
}

func (s *started) kill() {
	_ = s.Process.Kill()
	err := <-s.ended
	s.ended <- err
}

// until waits for fn, as long as no daemon ends.
func (c *town) until(what string, fn func() error) {
	c.Helper()
	var err error
	for end := time.Now().Add(2 * time.Minute); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		if err = fn(); err == nil {
			return
		}
		for as, s := range c.daemons {
			select {
			case e := <-s.ended:
				s.ended <- e
				text, _ := os.ReadFile(c.path(as + ".log"))
				c.Fatalf("%s: %v; and %s has ended: %v\n%s", what, err, as, e, text)
			default:
			}
		}
	}
	c.Fatalf("%s: %v", what, err)
}

// serve starts a daemon and waits until its port takes calls.
func (c *town) serve(env []string, name string, args ...string) {
	c.Helper()
	port := c.ports[name]
	s := c.start(env, name, append([]string{"--listener", "127.0.0.1", "--port", fmt.Sprint(port), "--log-level", "debug"}, args...)...)
	ended := make(chan string, 1)
	go func() {
		err := <-s.ended
		s.ended <- err
		text, _ := os.ReadFile(c.path(name + ".log"))
		ended <- fmt.Sprintf("%s: %v\n%s", name, err, text)
	}()
	waitServed(c.T, port, ended)
}

// shown is what the kernel shows of each process that this one has started, and of those
// that they have: by the process's name, number and file.
func (c *town) shown() map[string]string {
	c.Helper()
	parents, all := map[string]string{}, map[string]string{}
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range stats {
		text, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended
		}
		fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
		parents[filepath.Base(filepath.Dir(path))] = fields[1]
	}
	me := strconv.Itoa(os.Getpid())
	for pid := range parents {
		above := parents[pid]
		for above != me && above != "" {
			above = parents[above]
		}
		if above != me {
			continue
		}
		name, _ := os.ReadFile("/proc/" + pid + "/comm")
		for _, file := range []string{"cmdline", "environ"} {
			if text, err := os.ReadFile("/proc/" + pid + "/" + file); err == nil {
				all[fmt.Sprintf("%s (%s) %s", strings.TrimSpace(string(name)), pid, file)] = string(text)
			}
		}
	}
	return all
}

// leak is a planted secret that a text shows, nil when none does.
func (c *town) leak(texts map[string]string) error {
	for where, text := range texts {
		for what, secret := range c.secrets {
			if at := strings.Index(text, secret); at >= 0 {
				return fmt.Errorf("%s is in %s: %q", what, where, text[max(0, at-200):at])
			}
		}
	}
	return nil
}

// TestNoSecretIsShown: of a secured cluster of real programs, which are given their secrets in all
// the ways that there are, on the command line and in the environment too, no
// process shows one to those who list processes, to its children, in a log, a reply, a support
// bundle, or in what it prints or leaves behind when it crashes.
func TestNoSecretIsShown(t *testing.T) {
	c := &town{T: t, bin: programs(t), dir: t.TempDir(), secrets: map[string]string{}, said: map[string]string{},
		daemons: map[string]*started{}, ports: map[string]int{}}
	for _, p := range []string{"vda_portal", "vda_monitor", "vda_dn_agent", "vda_cn_agent", "vda_csi"} {
		c.ports[p] = freePort(t)
	}
	_, uri := dbtest.Postgres(t) // which takes any password of this machine's
	secretURI := func(what string) string {
		before, after, ok := strings.Cut(uri, ":vda_password@")
		if !ok {
			t.Fatalf("the database's URI has no password: %s", uri)
		}
		return before + ":" + c.plant(what, "planted-of-"+strings.ReplaceAll(what, " ", "-")) + "@" + after
	}
	uriFile := c.path("db-uri")
	if err := os.WriteFile(uriFile, []byte(secretURI("a password in a file")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	db := func(action string, args ...string) []string {
		return append([]string{"--action", action, "--db-uri-file", uriFile}, args...)
	}
	c.must("vda_db", db("create")...)
	c.must("vda_db", db("make-ca", "--ca-dir", c.path("ca"))...)
	scrape := c.file("a scrape token", "scrape-me-if-you-can-4711")
	c.serve(nil, "vda_portal", "--db-uri", secretURI("the portal's password"), "--ca-dir", c.path("ca"), "--tls-dir", c.path("portal"),
		"--oidc-issuer", "https://127.0.0.1:1", "--oidc-client-id", "vda", "--oidc-role", "storage=admin",
		"--oidc-client-secret-file", c.file("the client secret", "oidc-client-secret-0815"))
	portal := fmt.Sprintf("127.0.0.1:%d", c.ports["vda_portal"])
	enrol := func(kind, program string) string {
		whom := fmt.Sprintf("%s/127.0.0.1:%d", kind, c.ports[program])
		text := c.secret("the token of "+whom, "vda_db", db("token", "--for", whom, "--portal", portal)...)
		return text
	}
	c.serve([]string{"VDA_DB_URI=" + secretURI("the monitor's password"), "VDA_ENROL=" + enrol("monitor", "vda_monitor")}, "vda_monitor",
		"--tls-dir", c.path("monitor"), "--scrape-token-file", scrape)
	userFile := c.file("an admin's token", c.secret("an admin", "vda_db", db("user", "--for", "user/root", "--role", "admin")...))
	csiFile := c.file("a driver's token", c.secret("a driver", "vda_db", db("user", "--for", "user/csi", "--role", "csi")...))
	c.must("vda_db", db("secure")...)
	conf := map[string]string{}
	for program, kind := range map[string]string{"vda_dn_agent": "dn", "vda_cn_agent": "cn"} {
		socket := c.path(kind + ".sock")
		c.startAs("vda_tgt-"+kind, nil, "vda_tgt", "--rpc-socket", socket)
		conf[kind] = fmt.Sprintf(`{"trtype":"tcp","traddr":"127.0.0.1","adrfam":"ipv4","trsvcid":"%d"}`, freePort(t))
		args, env := []string{"--sock-path", socket, "--sock-wait", "1m", "--state-dir", c.path(kind), "--listener-conf", conf[kind],
			"--scrape-token-file", scrape}, []string(nil)
		if token := enrol(kind, program); kind == "dn" {
			args = append(args, "--enrol="+token)
		} else {
			env = []string{"VDA_ENROL=" + token}
		}
		c.serve(env, program, args...)
	}
	cli := func(line string, more ...string) []string {
		return append(append(strings.Fields(line), "--addr-port", portal, "--token-file", userFile), more...)
	}
	dn, cn := fmt.Sprintf("127.0.0.1:%d", c.ports["vda_dn_agent"]), fmt.Sprintf("127.0.0.1:%d", c.ports["vda_cn_agent"])
	c.must("vda_cli", cli("dn create", "--dn-name", dn, "--dn-listener-conf", conf["dn"])...)
	c.must("vda_cli", cli("pd create", "--dn-name", dn, "--pd-name", "pd0", "--pd-conf", `{"type":"malloc","size":1073741824}`)...)
	c.must("vda_cli", cli("cn create", "--cn-name", cn, "--cn-listener-conf", conf["cn"])...)
	c.must("vda_cli", cli("user create ann", "--role", "operator", "--password-file", c.file("a password", "xyzzy-plugh-4711"))...)
	c.must("vda_cli", cli("da create da0", "--da-size", "8M")...)
	key := func() string { return dhchap.NewSecret(dhchap.SHA256).Reveal() }
	const host = "nqn.2014-08.org.nvmexpress:uuid:0f01fb42-9f7f-4856-b0b3-51e60b8de349"
	c.until("an exporter with keys", func() error {
		_, err := c.run("vda_cli", cli("exp create da0/keyed", "--initiator-nqn", host, "--dhchap-key-file", c.file("a host's key", key()),
			"--dhchap-ctrlr-key-file", c.file("a controller's key", key()))...)
		return err
	})

	// The driver of Kubernetes, whose secrets come with each call.
	socket := c.path("csi.sock")
	c.serve(nil, "vda_csi", "--services", "controller", "--portals", portal, "--token-file", csiFile, "--endpoint", "unix://"+socket)
	conn, err := grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	secrets := map[string]string{"dhchapKey": c.plant("a pod's key", key()), "dhchapCtrlrKey": c.plant("its controller's key", key())}
	capability := &csi.VolumeCapability{AccessType: &csi.VolumeCapability_Block{Block: &csi.VolumeCapability_BlockVolume{}},
		AccessMode: &csi.VolumeCapability_AccessMode{Mode: csi.VolumeCapability_AccessMode_SINGLE_NODE_WRITER}}
	var volume *csi.Volume
	c.until("a volume", func() error {
		made, err := csi.NewControllerClient(conn).CreateVolume(t.Context(), &csi.CreateVolumeRequest{Name: "v",
			VolumeCapabilities: []*csi.VolumeCapability{capability}, CapacityRange: &csi.CapacityRange{RequiredBytes: 8 << 20},
			Parameters: map[string]string{"dhchap": "mutual", "cntlrCnt": "1"}, Secrets: secrets})
		volume = made.GetVolume()
		return err
	})
	c.until("a published volume", func() error {
		_, err := csi.NewControllerClient(conn).ControllerPublishVolume(t.Context(), &csi.ControllerPublishVolumeRequest{
			VolumeId: volume.GetVolumeId(), NodeId: "nqn.2014-08.org.nvmexpress:uuid:aaaafb42-9f7f-4856-b0b3-51e60b8de349",
			VolumeCapability: capability, VolumeContext: volume.GetVolumeContext(), Secrets: secrets})
		return err
	})

	// Commands that wait: one for a password, and one for a database that says nothing.
	silent := dbURIOfSilence(t, c.plant("a password for a silent database", "hush-hush-little-baby"))
	for as, line := range map[string][]string{
		"vda_cli-login":  {"login", "--user", "ann", "--addr-port", portal, "--ca-file", c.path("ca/tls.crt"), "--password-file", "-"},
		"vda_db-status":  {"--action", "status", "--db-uri", silent, "--timeout", "10m"},
		"vda_db-environ": {"--action", "status", "--timeout", "10m"},
	} {
		program, _, _ := strings.Cut(as, "-")
		in, out, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { in.Close(); out.Close() })
		s := &started{c.command([]string{"VDA_DB_URI=" + silent, "XDG_CONFIG_HOME=" + c.dir}, program, line...), make(chan error, 1)}
		if program == "vda_cli" {
			s.Env = append(os.Environ(), "XDG_CONFIG_HOME="+c.dir)
		}
		s.Stdin = in
		if err := child.Start(s.Cmd); err != nil {
			t.Fatal(err)
		}
		go func() { s.ended <- s.Wait() }()
		t.Cleanup(s.kill)
		c.daemons[as] = s
	}

	// A program covers what it was given when it begins, and these have begun a moment ago.
	var seen map[string]string
	c.until("processes show secrets", func() error {
		seen = c.shown()
		return c.leak(seen)
	})
	for _, p := range []string{"vda_portal", "vda_monitor", "vda_dn_agent", "vda_cn_agent", "vda_csi", "vda_tgt", "vda_cli", "vda_db"} {
		n := 0
		for where, text := range seen {
			if strings.HasPrefix(where, p+" ") && text != "" {
				n++
			}
		}
		if n < 2 {
			t.Errorf("nothing is seen of %s: %d", p, n)
		}
	}
	if !strings.Contains(fmt.Sprint(seen), "://vda_user:xxx") {
		t.Error("no command line has the database's URI with its password covered: nothing is looked for")
	}
	for as, s := range c.daemons {
		limits, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", s.Process.Pid))
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(limits)) {
			if f := strings.Fields(line); strings.HasPrefix(line, "Max core file size") && f[4] != "0" && f[4] != "1" {
				t.Errorf("%s would leave a core: %s", as, line)
			}
		}
	}

	for _, line := range []string{"status", "dn list", "cn list", "da get da0", "exp list", "exp get da0/keyed", "user list", "session list",
		"audit list --all", "event list --all", "support dump --file " + c.path("bundle.tar.gz")} {
		if out, err := c.run("vda_cli", cli(line)...); err != nil && line != "status" { // which says what is not well
			t.Errorf("vda_cli %s: %v\n%s", line, err, out)
		}
	}
	bundle := c.path("bundle")
	if err := os.Mkdir(bundle, 0o700); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("tar", "-xzf", c.path("bundle.tar.gz"), "-C", bundle).CombinedOutput(); err != nil {
		t.Fatalf("tar: %v\n%s", err, out)
	}
	// The private keys, and keys that agents keep for their data planes.
	kept := 0
	err = filepath.WalkDir(c.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if strings.HasPrefix(path, bundle+"/") {
			c.said["the bundle's "+filepath.Base(path)] = string(text)
			return nil
		}
		if line := strings.TrimSpace(string(text)); strings.HasPrefix(line, "DHHC-1:") {
			kept++
			c.secrets["the key in "+path] = line
		}
		if _, rest, ok := strings.Cut(string(text), "PRIVATE KEY-----\n"); ok {
			kept++
			c.secrets["the private key in "+path], _, _ = strings.Cut(rest, "\n")
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if kept < 8 { // a CA, four daemons, two files of this test's and one connection between the nodes
		t.Errorf("%d keys are kept: the test does not find them", kept)
	}

	for as, s := range c.daemons { // a crash: Go prints what all threads do
		if err := s.Process.Signal(syscall.SIGQUIT); err != nil {
			t.Errorf("%s: %v", as, err)
		}
		err := <-s.ended
		s.ended <- err
		if !strings.HasPrefix(as, "vda_cli") && !strings.HasPrefix(as, "vda_db") {
			text, err := os.ReadFile(c.path(as + ".log"))
			if err != nil || !bytes.Contains(text, []byte("goroutine 1 ")) {
				t.Errorf("%s has printed no stacks when it crashed (%v)", as, err)
			}
			c.said["the log of "+as] = string(text)
		}
	}
	if cores, _ := filepath.Glob(c.path("core*")); len(cores) > 0 {
		t.Errorf("a crash leaves %s", cores)
	}
	for where, want := range map[string]string{"the log of vda_portal": "CreateExp", "vda_cli audit list --all": "CreateUser"} {
		found := false
		for at, text := range c.said {
			found = found || strings.HasPrefix(at, where) && strings.Contains(text, want)
		}
		if !found {
			t.Errorf("%s does not say %s: nothing is looked for", where, want)
		}
	}
	if err := c.leak(c.said); err != nil {
		t.Error(err)
	}
}

// dbURIOfSilence is that of a database that takes connections and says nothing.
func dbURIOfSilence(t *testing.T, password string) string {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { lis.Close() })
	return fmt.Sprintf("postgresql://vda_user:%s@%s/vda?sslmode=disable", password, lis.Addr())
}
