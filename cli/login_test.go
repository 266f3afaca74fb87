package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestLogin: a password begins a session whose token nobody else can read, and which commands
// use; logout ends it, for copies of its token too. Another cluster's portal gets no password.
func TestLogin(t *testing.T) {
	addr, token, ca := secured(t)
	_, _, otherCA := secured(t)
	h := newHome(t)
	dir := t.TempDir()
	word, open := filepath.Join(dir, "word"), filepath.Join(dir, "open")
	for path, mode := range map[string]os.FileMode{word: 0o600, open: 0o644} {
		if err := os.WriteFile(path, []byte("correct horse battery\n"), mode); err != nil {
			t.Fatal(err)
		}
	}
	h.ok("--addr-port " + addr + " --token-file " + token + " user create bob --role viewer --password-file " + word)
	h.refused("--addr-port "+addr+" --token-file "+token+" user create eve --role viewer --password-file "+open, "others may open it")
	h.refused("login --addr-port "+addr+" --password-file "+word, "--user is missing")
	h.refused("login --addr-port "+addr+" --user bob --password-file "+word, "--ca-file is missing")
	h.refused("login --addr-port "+addr+" --user bob --ca-file "+ca+" --password-file /nowhere", "no such file")
	for line, says := range map[string]string{
		"login --user bob --password-file " + word + " --timeout 5s --ca-file " + otherCA: "the portal is not of the CA",
		"login --user nobody --password-file " + word + " --timeout 1h --ca-file " + ca:   "the user's name or the password is not right",
	} {
		if _, errs, exit := h.run(append(strings.Fields(line), "--addr-port", addr)...); exit == 0 || !strings.Contains(errs, says) {
			t.Errorf("%s: exit %d, %s", line, exit, errs)
		}
	}
	h.refused("logout", "there is no session")
	if out := h.ok("login --addr-port " + addr + " --user bob --ca-file " + ca + " --password-file " + word); !strings.Contains(out,
		"bob is logged in with the role viewer until ") {
		t.Error(out)
	}
	files, err := filepath.Glob(filepath.Join(h.env["HOME"], ".config", "vda", "sessions", "*"))
	if err != nil || len(files) != 1 {
		t.Fatalf("%v, %v", files, err)
	}
	if fi, err := os.Stat(files[0]); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("the token has mode %v, %v", fi.Mode(), err)
	}
	if out := h.ok("da list -o name"); out != "" { // with the portal, the CA and the token of the context
		t.Error(out)
	}
	if out := h.ok("--addr-port " + addr + " --token-file " + token + " user list -o json"); !strings.Contains(out, `"session_cnt": 1`) {
		t.Error(out)
	}
	text, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	copied := filepath.Join(dir, "copied")
	if err := os.WriteFile(copied, text, 0o600); err != nil {
		t.Fatal(err)
	}
	h.ok("logout")
	if _, err := os.Stat(files[0]); !os.IsNotExist(err) {
		t.Errorf("the token is still there: %v", err)
	}
	if _, errs, exit := h.run("--addr-port", addr, "--token-file", copied, "da", "list"); exit == 0 ||
		!strings.Contains(errs, "the token is not good") {
		t.Errorf("with a copy of the token: exit %d, %s", exit, errs)
	}
}
