package controlplane

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/cli"
	"github.com/virtual-disk-array/vda/client"
	"github.com/virtual-disk-array/vda/nvmf/dhchap"
	"github.com/virtual-disk-array/vda/pki"
	"github.com/virtual-disk-array/vda/program"
	"github.com/virtual-disk-array/vda/store"
	"github.com/virtual-disk-array/vda/store/dbcli"
)

// lines is what daemons log, at all levels.
type lines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// TestNoSecretLeaves: passwords, tokens of users, sessions and members, keys of hosts and of
// connections between nodes, and private keys are in no log, reply, audit or bundle, nor in what a
// crash would print, after a secured cluster has made, used, refused and listed them.
func TestNoSecretLeaves(t *testing.T) {
	log := &lines{}
	f := buildWith(t, log)
	secrets := map[string]string{}
	plant := func(what, secret string) string {
		if len(secret) < 12 {
			t.Fatalf("%s has %d characters, too few to look for", what, len(secret))
		}
		secrets[what] = secret
		return secret
	}
	enrol := func(whom string) string {
		text := f.token(whom)
		tok, err := pki.ParseToken(text)
		f.must(nil, err)
		plant("the token of "+whom, tok.Secret)
		return text
	}
	nodes := []*box{f.box("dn", 4420), f.box("dn", 4421), f.box("cn", 4430), f.box("cn", 4431)}
	for _, b := range nodes {
		f.start(b, enrol(b.kind+"/"+b.name))
	}
	userFile := f.path("root.token")
	user := f.userToken("root", "admin")
	f.must(nil, os.WriteFile(userFile, []byte(user+"\n"), 0o600))
	tok, err := pki.ParseUserToken(user)
	f.must(nil, err)
	plant("a user's token", tok.Secret)
	cfg := client.Config{Portals: []string{f.at}}
	cfg.Secure(tok)
	f.portal = f.client(cfg)
	f.db(dbcli.Main{Action: "secure"})
	nobody, none := client.Config{Portals: []string{f.at}}, tok
	none.Secret = strings.Repeat("A", len(tok.Secret))
	nobody.Secure(none)
	stranger := f.client(nobody)
	f.until("the portal knows that the cluster is secured", func() bool {
		_, err := stranger.ListDa(t.Context(), &apiv1.ListDaRequest{})
		return err != nil
	})
	for i, b := range nodes[:2] {
		f.must(f.portal.CreateDn(t.Context(), &apiv1.CreateDnRequest{DnName: b.name, DnListenerConf: listener(4420 + i)}))
		f.must(f.portal.CreatePd(t.Context(), &apiv1.CreatePdRequest{DnName: b.name, PdName: "pd0",
			PdConf: `{"type":"malloc","size":549755813888}`}))
	}
	for i, b := range nodes[2:] {
		f.must(f.portal.CreateCn(t.Context(), &apiv1.CreateCnRequest{CnName: b.name, CnListenerConf: listener(4430 + i)}))
	}
	f.must(nil, f.array(0))

	key := func(what string) string { return plant(what, dhchap.NewSecret(dhchap.SHA256).Reveal()) }
	host := "nqn.2016-06.io.spdk:keyed"
	keyed := &apiv1.CreateExpRequest{DaName: "da0", ExpName: "keyed", InitiatorNqn: host, DhchapKey: key("a host's key"),
		DhchapCtrlrKey: key("a controller's key")}
	f.until("a monitor knows that cns have hosts authenticate", func() bool {
		_, err := f.portal.CreateExp(t.Context(), keyed)
		return err == nil
	})
	next := key("a host's next key")
	f.must(f.portal.ModifyExp(t.Context(), &apiv1.ModifyExpRequest{DaName: "da0", ExpName: "keyed", DhchapKey: next}))
	refused := func(what string, err error) {
		t.Helper()
		if err == nil {
			t.Fatalf("%s is taken", what)
		}
		fmt.Fprintln(log, err) // what the user is told
	}
	_, err = f.portal.CreateExp(t.Context(), &apiv1.CreateExpRequest{DaName: "da0", ExpName: "keyed", InitiatorNqn: host,
		DhchapKey: key("the key of an exporter that is there"), DhchapCtrlrKey: key("the other key of that")})
	refused("an exporter twice", err)
	_, err = f.portal.ModifyExp(t.Context(), &apiv1.ModifyExpRequest{DaName: "da0", ExpName: "keyed",
		DhchapKey: plant("half a key", next[:40])})
	refused("half a key", err)
	f.must(f.portal.CreateUser(t.Context(), &apiv1.CreateUserRequest{UserName: "ann", Role: "operator",
		Password: plant("a password", "xyzzy-plugh-4711")}))
	_, err = f.portal.CreateUser(t.Context(), &apiv1.CreateUserRequest{UserName: "ann", Role: "king",
		Password: plant("the password of a user who cannot be", "plover-hollow-0815")})
	refused("a king", err)
	security := apiv1.NewSecurityClient(f.portal)
	_, err = security.Login(t.Context(), &apiv1.LoginRequest{UserName: "ann", Password: plant("a wrong password", "wrong-plugh-4712")})
	refused("a wrong password", err)
	in, err := security.Login(t.Context(), &apiv1.LoginRequest{UserName: "ann", Password: secrets["a password"]})
	f.must(nil, err)
	session, err := pki.ParseUserToken(in.Token)
	f.must(nil, err)
	plant("a session's token", session.Secret)
	cfg.Secure(session)
	ann := f.client(cfg)
	f.must(ann.SetPassword(t.Context(), &apiv1.SetPasswordRequest{Password: secrets["a password"],
		NewPassword: plant("a new password", "fee-fie-foe-foo-1")}))
	_, err = ann.ListDa(t.Context(), &apiv1.ListDaRequest{})
	refused("a session that has ended", err)
	f.until("connections between nodes have keys", func() bool {
		n := 0
		for _, b := range nodes {
			n += len(b.plane.Keys())
		}
		return n > 8
	})
	f.must(f.portal.FailoverDa(t.Context(), &apiv1.FailoverDaRequest{DaName: "da0"}))

	var known store.Security
	f.must(nil, f.open().View(t.Context(), func(tx store.Reader) (err error) {
		known, err = tx.Security()
		return err
	}))
	plant("the secret of connections between nodes", known.HopSecret)
	// What daemons keep for themselves: keys of connections, and private keys.
	kept := 0
	f.must(nil, filepath.WalkDir(f.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || strings.HasSuffix(path, ".lock") || strings.Contains(filepath.Base(path), "vda.db") {
			return err
		}
		text, err := os.ReadFile(path)
		for line := range strings.Lines(string(text)) {
			line = strings.TrimSpace(line)
			if strings.HasPrefix(line, "DHHC-1:") {
				kept++
				secrets["a key in "+path] = line
			}
		}
		if block, rest, ok := strings.Cut(string(text), "PRIVATE KEY-----\n"); ok && len(block) > 0 {
			kept++
			secrets["the private key in "+path], _, _ = strings.Cut(rest, "\n")
		}
		return err
	}))
	if kept < 14 { // 6 daemons and the CA have private keys, and nodes those of connections
		t.Errorf("%d secrets in the daemons' folders: the test does not find them", kept)
	}

	bundle := f.path("bundle.tar.gz")
	said := map[string]string{}
	for _, line := range []string{"status", "version", "dn list", "cn list", "da list", "da get da0", "exp list --da-name da0",
		"exp get da0/keyed", "exp connect da0/keyed", "user list", "session list", "audit list --all", "event list --all", "alert list",
		"orphan list", "support dump --file " + bundle} {
		var out bytes.Buffer
		args := append(strings.Fields(line), "--addr-port", f.at, "--token-file", userFile)
		exit := cli.Program().Run(t.Context(), program.Process{Args: args, Stdout: &out, Stderr: &out})
		if exit != 0 && line != "status" { // which says that a disk is full of holes
			t.Errorf("%s: exit %d, %s", line, exit, out.String())
		}
		said["vda_cli "+line] = out.String()
	}
	for name, text := range unpack(t, bundle) {
		said["the bundle's "+name] = text
	}
	said["the logs"] = log.String()
	stacks := make([]byte, 16<<20)
	said["a crash"] = string(stacks[:runtime.Stack(stacks, true)])
	if !strings.Contains(said["the logs"], "CreateExp") || !strings.Contains(said["vda_cli audit list --all"], "SetPassword") {
		t.Error("the logs, or the audit, do not have the calls: nothing can be looked for")
	}
	for what, secret := range secrets {
		for where, text := range said {
			if at := strings.Index(text, secret); at >= 0 {
				t.Errorf("%s is in %s: %s", what, where, text[max(0, at-200):at])
			}
		}
	}
}
