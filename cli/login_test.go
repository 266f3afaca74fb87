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

// TestOwnPassword: a user changes his password without an admin, by files or in one go from
// standard input not, and sees and ends his sessions.
func TestOwnPassword(t *testing.T) {
	addr, token, ca := secured(t)
	h, dir := newHome(t), t.TempDir()
	file := func(name, text string) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	old, fresh := file("old", "correct horse battery"), file("new", "battery staple horse")
	h.ok("--addr-port " + addr + " --token-file " + token + " user create bob --role viewer --password-file " + old)
	login := func(password string) string {
		return "login --addr-port " + addr + " --user bob --ca-file " + ca + " --password-file " + password
	}
	h.ok(login(old))
	first := strings.TrimSpace(h.ok("session list -o jsonpath={.session_msg_list[0].session_id}"))
	h.ok(login(old))
	if out := h.ok("session list -o json"); strings.Count(out, `"session_id"`) != 2 || strings.Count(out, `"own": true`) != 1 {
		t.Error(out)
	}
	h.ok("session delete " + first)
	if out := h.ok("session list -o json"); strings.Count(out, `"session_id"`) != 1 || strings.Contains(out, first) {
		t.Error(out)
	}
	for line, says := range map[string]string{
		"user passwd": "--password-file and --new-password-file are both to be read from standard input",
		"user passwd --password-file " + fresh + " --new-password-file " + old: "the user's name or the password is not right",
		"user passwd --curl --password-file " + old:                            "takes a secret, which is not printed",
	} {
		if _, errs, exit := h.run(strings.Fields(line)...); exit == 0 || !strings.Contains(errs, says) {
			t.Errorf("%s: exit %d, %s; want %q", line, exit, errs, says)
		}
	}
	h.ok("user passwd --password-file " + old + " --new-password-file " + fresh)
	if _, errs, exit := h.run("session", "list"); exit == 0 || !strings.Contains(errs, "the token is not good") {
		t.Errorf("with the session of before: exit %d, %s", exit, errs)
	}
	if _, errs, exit := h.run(strings.Fields(login(old))...); exit == 0 || !strings.Contains(errs, "is not right") {
		t.Errorf("with the old password: exit %d, %s", exit, errs)
	}
	h.ok(login(fresh))
}
