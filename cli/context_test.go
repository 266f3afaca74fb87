package cli

import (
	"bytes"
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/virtual-disk-array/vda/pki"
	"github.com/virtual-disk-array/vda/portal"
	"github.com/virtual-disk-array/vda/portal/portaltest"
	"github.com/virtual-disk-array/vda/program"
	"github.com/virtual-disk-array/vda/store"
)

// home is a user with a home of their own, and no portal in the environment.
type home struct {
	t   *testing.T
	env map[string]string
}

func newHome(t *testing.T) *home {
	t.Helper()
	return &home{t, map[string]string{"HOME": t.TempDir()}}
}

func (h *home) run(words ...string) (stdout, stderr string, exit int) {
	h.t.Helper()
	var out, errs bytes.Buffer
	exit = Program().Run(context.Background(), program.Process{Args: words, Stdout: &out, Stderr: &errs,
		Getenv: func(name string) (string, bool) { v, is := h.env[name]; return v, is }})
	return out.String(), errs.String(), exit
}

func (h *home) ok(line string) string {
	h.t.Helper()
	out, errs, exit := h.run(strings.Fields(line)...)
	if exit != 0 {
		h.t.Fatalf("%s: exit %d, %s", line, exit, errs)
	}
	return out
}

func (h *home) refused(line, says string) {
	h.t.Helper()
	_, errs, exit := h.run(strings.Fields(line)...)
	if exit != exitUsage || !strings.Contains(errs, says) || strings.Count(errs, "\n") != 1 {
		h.t.Errorf("%s: exit %d, %s; want %q", line, exit, errs, says)
	}
}

// TestPoint13Contexts: clusters have names, with portals, token and CA; what is typed and the
// environment are stronger than a context.
func TestPoint13Contexts(t *testing.T) {
	one, two := portaltest.New(t), portaltest.New(t)
	a, b := one.Portal(), two.Portal()
	one.Populate(one.Dial(a), 1, 0)
	two.Populate(two.Dial(b), 2, 0)
	h := newHome(t)
	file := filepath.Join(h.env["HOME"], ".config", "vda", "config.yaml")
	if out := h.ok("context list"); !strings.HasPrefix(out, "No context.") {
		t.Errorf("none: %s", out)
	}
	h.refused("context set one", "--portals is missing")
	h.refused("context set one --portals nowhere", `--portals "nowhere"`)
	h.refused("context set a/b --portals h:1", "letters, digits")
	h.refused("context use one", `there is no context "one"`)
	h.refused("dn list --context one", `--context: there is no context "one"`)
	h.ok("context set one --portals " + a)
	h.ok("config set two --portals " + b)
	if st, err := os.Stat(file); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("the file: %v, %v", st, err)
	}
	if out := h.ok("dn list -o name"); out != "dn0:9720\n" {
		t.Errorf("the first context is not in use: %q", out)
	}
	if out := h.ok("--context two dn list -o name"); out != "dn0:9720\ndn1:9720\n" {
		t.Errorf("--context: %q", out)
	}
	h.ok("context use two")
	if out := h.ok("dn list -o name"); strings.Count(out, "\n") != 2 {
		t.Errorf("context use: %q", out)
	}
	if out := h.ok("dn list -o name --addr-port " + a); strings.Count(out, "\n") != 1 {
		t.Errorf("a flag is weaker than a context: %q", out)
	}
	if out := h.ok("__complete dn get --dn-name dn"); !strings.HasPrefix(out, "dn0:9720\ndn1:9720\n") {
		t.Errorf("completed with a context: %q", out)
	}
	if out := h.ok("__complete context use t"); !strings.HasPrefix(out, "two\n") {
		t.Errorf("names of contexts: %q", out)
	}
	h.env["VDA_ADDR_PORT"] = a
	if out := h.ok("dn list -o name"); strings.Count(out, "\n") != 1 {
		t.Errorf("the environment is weaker than a context: %q", out)
	}
	delete(h.env, "VDA_ADDR_PORT")
	h.env["VDA_CONTEXT"] = "one"
	if out := h.ok("dn list -o name"); strings.Count(out, "\n") != 1 {
		t.Errorf("VDA_CONTEXT: %q", out)
	}
	delete(h.env, "VDA_CONTEXT")
	want := "USE  NAME  PORTALS          TOKEN-FILE    CA-FILE\n     one   " + a + "  -             -\n*    two   " + b + "  /tmp/a.token  -\n"
	h.ok("context set two --user-token /tmp/a.token")
	if out := h.ok("context list"); strings.Join(strings.Fields(out), " ") != strings.Join(strings.Fields(want), " ") {
		t.Errorf("context list:\n%swant\n%s", out, want)
	}
	if out := h.ok("context list -o json"); !strings.Contains(out, `"token_file": "/tmp/a.token"`) || !strings.Contains(out, `"current": "two"`) {
		t.Errorf("as JSON:\n%s", out)
	}
	// What is wrong names the context that it is from.
	h.refused("dn list", "--token-file is set by context two of "+file)
	h.ok("context delete two")
	if out := h.ok("context list -o name"); out != "one\n" {
		t.Errorf("context delete: %q", out)
	}
	for text, says := range map[string]string{
		"contexts: {one: {portal: [x]}}": "field portal not found",
		"contexts: {one: }":              `context "one" is empty`,
		"contexts: [":                    "it is not valid YAML",
		"current: x\ncontexts: {one: {portals: [\"h:1\"]}}":                                               `there is no context "x"; ` + file + " has one",
		"current: one\ncontexts: {one: {portals: [\"h:1\"], output: xml}}":                                "context one of " + file + `: output "xml"`,
		"current: one\ncontexts: {one: {portals: [\"h:1\"], timeout: soon}}":                              `timeout "soon"`,
		"# " + strings.Repeat("x", maxContexts) + "\ncontexts: {one: {portals: [\"h:1\"]}}\ncurrent: one": "at most",
	} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		h.refused("dn list", says)
	}
	// A file that --context-file names must be there, but for context set, which makes it.
	h.refused("dn list --context-file /nowhere/x", "the file of contexts /nowhere/x: no such file")
	other := filepath.Join(t.TempDir(), "other.yaml")
	h.refused("context use one --context-file "+other, "no such file")
	h.ok("context set one --portals " + a + " --context-file " + other)
	if out := h.ok("dn list -o name --context-file " + other); out != "dn0:9720\n" {
		t.Errorf("a file that context set has made: %q", out)
	}
}

// TestPoint13Portals: of several portals the next one is asked when one is down, takes connections
// and says nothing, or hangs up; also for a change.
func TestPoint13Portals(t *testing.T) {
	c := portaltest.New(t)
	good := c.Portal()
	mute, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer mute.Close()
	resets := &fickle{}
	resets.resets.Store(1 << 40)
	h := newHome(t)
	ports := map[string]string{"down": "4420", "hangs-up": "4421", "mute": "4422"}
	for name, bad := range map[string]string{"down": "127.0.0.1:1", "hangs-up": resets.serve(t, good), "mute": mute.Addr().String()} {
		h.ok("context set " + name + " --portals " + bad + "," + good)
		c.Agent("dn-" + name + ":9720")
		h.ok("--context " + name + " dn create dn-" + name + ":9720 --traddr 192.168.0.14 --trsvcid " + ports[name])
	}
}

// secured starts a portal of a secured cluster and returns its address, a file with a user's token
// and one with the CA.
func secured(t *testing.T, options ...func(*portal.Config)) (addr, token, ca string) {
	t.Helper()
	c := portaltest.New(t)
	authority, err := pki.NewCA("c1", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	id, err := pki.Open(t.TempDir())
	if err == nil {
		err = id.IssueOwn(authority, pki.Name{Cluster: "c1", Kind: pki.Portal, Name: "127.0.0.1:9520"})
	}
	if err == nil {
		err = id.Secure()
	}
	if err != nil {
		t.Fatal(err)
	}
	user, err := pki.NewUserToken("c1", authority.PEM())
	if err != nil {
		t.Fatal(err)
	}
	c.Change(func(tx store.Tx) error {
		return tx.InsertToken(&store.Token{Hash: pki.HashSecret(user.Secret), Kind: pki.User, Name: "ann", Role: "admin",
			Expires: time.Now().Add(time.Hour)})
	})
	dir := t.TempDir()
	token, ca = filepath.Join(dir, "token"), filepath.Join(dir, "ca.crt")
	for path, text := range map[string]string{token: user.String(), ca: string(authority.PEM())} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return c.Portal(append(options, func(cfg *portal.Config) {
		cfg.Identity, cfg.PasswordCost = id, pki.PasswordCost{Passes: 1, KiB: 64, Threads: 1}
	})...), token, ca
}

// TestTLSOrNot: a call in the clear to a portal with TLS, and one with TLS to a portal in the clear,
// end with their first connection, in words that say what to do; so does one to a portal of
// another cluster.
func TestTLSOrNot(t *testing.T) {
	plain := portaltest.New(t).Portal()
	tls, token, ca := secured(t)
	other, otherToken, otherCA := secured(t)
	h := newHome(t)
	if out := h.ok("--addr-port " + tls + " --token-file " + token + " --ca-file " + ca + " dn list -o name"); out != "" {
		t.Errorf("with TLS to TLS: %q", out)
	}
	for _, tt := range []struct{ to, line, says string }{
		{tls, "dn list", "it takes no calls in the clear: its cluster is secured; give --token-file"},
		{plain, "dn list --token-file " + token, "it answers in the clear, and has no TLS; leave --token-file out"},
		{other, "dn list --token-file " + token, "the portal is not of the CA that the token is for"},
		{tls, "dn delete dn0:9720", "it takes no calls in the clear"},
		{plain, "event watch --token-file " + token, "it answers in the clear"},
		{tls, "event watch", "it takes no calls in the clear"},
	} {
		f := &fickle{}
		front := f.serve(t, tt.to)
		_, errs, exit := h.run(append(strings.Fields(tt.line), "--addr-port", front, "--timeout", "1h")...)
		if exit != exitUnreachable || !strings.Contains(errs, tt.says) || !strings.Contains(errs, "cannot reach the portal at "+front) ||
			strings.Count(errs, "\n") != 1 {
			t.Errorf("%s: exit %d, %s", tt.line, exit, errs)
		}
		if n := f.conns.Load(); n > 2 { // one may be made while the first call ends
			t.Errorf("%s: %d connections", tt.line, n)
		}
	}
	h.refused("dn list --ca-file "+ca, "want a token too")
	h.refused("dn list --token-file "+token+" --ca-file "+otherCA, "the token is for another CA")
	h.refused("dn list --token-file "+otherToken+" --ca-file /nowhere", "--ca-file /nowhere: no such file")
}
