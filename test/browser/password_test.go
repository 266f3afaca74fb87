//go:build e2e

package browser

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// fortress is the portal of a secured cluster without nodes, and its first user's token.
type fortress struct {
	t         *testing.T
	dir       string
	addr      string
	tokenFile string
}

func newFortress(t *testing.T) *fortress {
	t.Helper()
	f := &fortress{t: t, dir: t.TempDir()}
	db, ca := "sqlite:///"+filepath.Join(f.dir, "vda.db"), filepath.Join(f.dir, "ca")
	f.run(nil, "vda_db", "--action", "create", "--db-uri", db)
	f.run(nil, "vda_db", "--action", "make-ca", "--ca-dir", ca, "--db-uri", db)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f.addr = l.Addr().String()
	l.Close()
	_, port, _ := net.SplitHostPort(f.addr)
	var story bytes.Buffer
	cmd := exec.CommandContext(t.Context(), program(t, "vda_portal"), "--db-uri", db, "--ca-dir", ca, "--tls-dir", filepath.Join(f.dir, "tls"),
		"--port", port)
	cmd.Stdout, cmd.Stderr = &story, &story
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Wait() // its context has ended
		if t.Failed() {
			t.Logf("the portal:\n%s", &story)
		}
	})
	await(t, "the portal listens", func() error {
		c, err := net.Dial("tcp", f.addr)
		if err == nil {
			c.Close()
		}
		return err
	})
	f.run(nil, "vda_db", "--action", "secure", "--db-uri", db)
	f.tokenFile = filepath.Join(f.dir, "token")
	if err := os.WriteFile(f.tokenFile, f.run(nil, "vda_db", "--action", "user", "--for", "user/root", "--role", "admin", "--db-uri", db),
		0o600); err != nil {
		t.Fatal(err)
	}
	return f
}

// await tries something until it is so.
func await(t *testing.T, what string, try func() error) {
	t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(100 * time.Millisecond) {
		err := try()
		if err == nil {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%s: not yet: %v", what, err)
		}
	}
}

func program(t *testing.T, name string) string {
	t.Helper()
	path, err := filepath.Abs(filepath.Join("../../bin", name))
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// run runs a program to its end and returns what it prints.
func (f *fortress) run(stdin []byte, name string, args ...string) []byte {
	f.t.Helper()
	out, err := f.try(stdin, name, args...)
	if err != nil {
		f.t.Fatal(err)
	}
	return out
}

func (f *fortress) try(stdin []byte, name string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(f.t.Context(), program(f.t, name), args...)
	var errs bytes.Buffer
	cmd.Stdin, cmd.Stderr = bytes.NewReader(stdin), &errs
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w\n%s%s", name, strings.Join(args, " "), err, &errs, out)
	}
	return out, nil
}

// TestPagesOwnPassword: a user changes his own password on a page, with keys alone: not with a wrong
// present one, nor when the new one is typed in two ways; then the session ends, and the new one
// alone lets him in.
func TestPagesOwnPassword(t *testing.T) {
	needed(t, "chromium")
	script := axeScript(t)
	f := newFortress(t)
	const old, fresh = "the password of before", "a password of the days to come"
	await(t, "the portal knows that the cluster is secured", func() error {
		_, err := f.try([]byte(old), "vda_cli", "--addr-port", f.addr, "--token-file", f.tokenFile, "user", "create", "ann", "--role", "viewer",
			"--password-file", "-")
		return err
	})
	w := open(t, "https://"+f.addr, chromedp.IgnoreCertErrors)
	await(t, "the page knows that users have passwords", func() error {
		w.visit("/login")
		if !eval[bool](w, `document.getElementById("user") !== null`) {
			return errors.New("there is no field for a user")
		}
		return nil
	})
	enter := func(password, shown string) {
		t.Helper()
		w.visit("/login")
		w.tabTo("User")
		w.fill("ann")
		w.tabTo("Password or token")
		w.fill(password)
		w.keys(kb.Enter)
		w.shows(shown)
	}
	change := func(present, first, second, shown string) {
		t.Helper()
		for i, label := range []string{"Present password", "New password", "New password again"} {
			w.tabTo(label)
			w.fill([]string{present, first, second}[i])
		}
		w.keys(kb.Enter)
		w.shows(shown)
	}
	enter(old, "Overview")
	w.tabTo("Password")
	w.keys(kb.Enter)
	w.shows("Change your password")
	w.accessible("the form", script)
	change("not the password", fresh, fresh, "the password is not right")
	w.accessible("a refusal", script)
	if left := eval[string](w, `[...document.querySelectorAll("input[type=password]")].map(e => e.value).join("")`); left != "" {
		t.Errorf("the page has passwords that were typed: %q", left)
	}
	w.picture("web-password")
	change(old, fresh, fresh+".", "typed in two ways")
	change(old, "short", "short", "12")
	change(old, fresh, fresh, "Log in")
	w.visit("/")
	w.shows("Log in")
	enter(old, "the password is not right")
	enter(fresh, "Overview")
	w.scheme("dark")
	w.do(chromedp.EmulateViewport(360, 740))
	w.visit("/do/password")
	w.accessible("the form, dark", script)
	if wide := eval[int](w, "document.documentElement.scrollWidth"); wide > 360 {
		t.Errorf("the form is %d pixels wide on a phone of 360", wide)
	}
	for _, s := range w.complaints {
		t.Errorf("the browser complains: %s", s)
	}
	audit := string(f.run(nil, "vda_cli", "--addr-port", f.addr, "--token-file", f.tokenFile, "audit", "list", "-o", "json"))
	if strings.Contains(audit, fresh) || strings.Contains(audit, old) || !strings.Contains(audit, "SetPassword") {
		t.Errorf("the audit: %s", audit)
	}
}
