package pki

import (
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var t0 = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func newCA(t *testing.T) *CA {
	t.Helper()
	ca, err := NewCA("c1", t0)
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

// accepted is an identity in dir with a certificate issued at t0.
func accepted(t *testing.T, dir string, ca *CA, n Name, now func() time.Time) *Identity {
	t.Helper()
	i, err := OpenAt(dir, now)
	if err != nil {
		t.Fatal(err)
	}
	csr, err := i.Request()
	if err != nil {
		t.Fatal(err)
	}
	cert, err := ca.Issue(csr, n, t0, LeafLife)
	if err != nil {
		t.Fatal(err)
	}
	if err := i.Accept(cert, ca.PEM(), n, "10.0.0.1:9520"); err != nil {
		t.Fatal(err)
	}
	return i
}

func TestNamesInCertificates(t *testing.T) {
	ca := newCA(t)
	for _, name := range []string{"192.168.0.14:9720", "[fe80::1]:9720", "a/b", "a%2Fb", "x?y#z"} {
		n := Name{"c1", DN, name}
		i := accepted(t, filepath.Join(t.TempDir(), "tls"), ca, n, func() time.Time { return t0 })
		if got, err := NameOf(i.own.Leaf); err != nil || got != n {
			t.Errorf("%q comes back as %+v (%v)", name, got, err)
		}
	}
	for _, n := range []Name{{"c1", "host", "a"}, {"", DN, "a"}, {"c 1", DN, "a"}, {"c1", DN, ""}, {"c1", DN, "a b"},
		{"c1", DN, strings.Repeat("a", 301)}} {
		if n.Check() == nil {
			t.Errorf("%+v is taken", n)
		}
	}
}

// TestSecretsAreTheOwners: keys have mode 0600 and are not read from files that
// others may open.
func TestSecretsAreTheOwners(t *testing.T) {
	dir := t.TempDir()
	ca := newCA(t)
	if err := ca.Save(filepath.Join(dir, "ca")); err != nil {
		t.Fatal(err)
	}
	accepted(t, filepath.Join(dir, "tls"), ca, Name{"c1", DN, "a"}, func() time.Time { return t0 })
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		fi, err := d.Info()
		if err == nil && fi.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %o", path, fi.Mode().Perm())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := ca.Save(filepath.Join(dir, "ca")); err == nil {
		t.Error("a CA is replaced")
	}
	if _, err := LoadCA(filepath.Join(dir, "ca")); err != nil {
		t.Error(err)
	}
	for _, f := range []string{"ca/tls.key", "tls/identity.pem"} {
		if err := os.Chmod(filepath.Join(dir, f), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := LoadCA(filepath.Join(dir, "ca")); err == nil || !strings.Contains(err.Error(), "chmod 0600") {
		t.Errorf("a CA's key that all may read: %v", err)
	}
	if _, err := Open(filepath.Join(dir, "tls")); err == nil || !strings.Contains(err.Error(), "chmod 0600") {
		t.Errorf("a key that all may read: %v", err)
	}
	if _, err := LoadCA(filepath.Join(dir, "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no CA: %v", err)
	}
}

// TestSecuredIsRemembered: a daemon that was secured is so after a restart, does
// not start without its certificate, and takes none of another CA's.
func TestSecuredIsRemembered(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "tls")
	now := func() time.Time { return t0 }
	n := Name{"c1", DN, "a"}
	i, err := OpenAt(dir, now)
	if err != nil {
		t.Fatal(err)
	}
	if i.Secure() == nil {
		t.Error("a daemon without a certificate is secured")
	}
	i = accepted(t, dir, newCA(t), n, now)
	if err := i.Secure(); err != nil {
		t.Fatal(err)
	}
	if err := i.Revoke([]Revoked{{DN, "b", t0}}); err != nil {
		t.Fatal(err)
	}
	again, err := OpenAt(dir, now)
	if err != nil || !again.Secured() || again.Issuer() != "10.0.0.1:9520" || again.Name() != n || len(again.kept.Revoked) != 1 {
		t.Fatalf("after a restart: %+v, %v", again.kept, err)
	}
	other := newCA(t)
	csr, err := again.Request()
	if err != nil {
		t.Fatal(err)
	}
	cert, err := other.Issue(csr, n, t0, LeafLife)
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Accept(cert, other.PEM(), n, ""); err == nil {
		t.Error("another CA's certificate is taken")
	}
	if err := os.Remove(filepath.Join(dir, certName)); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenAt(dir, now); err == nil || !strings.Contains(err.Error(), "--enrol") {
		t.Errorf("secured without a certificate: %v", err)
	}
}

// TestRevokedUntilExpired: the list does not grow for ever, and forgets nobody too early.
func TestRevokedUntilExpired(t *testing.T) {
	clock := t0
	ca := newCA(t)
	i := accepted(t, filepath.Join(t.TempDir(), "tls"), ca, Name{"c1", Portal, "p"}, func() time.Time { return clock })
	bad := accepted(t, filepath.Join(t.TempDir(), "tls"), ca, Name{"c1", DN, "a"}, func() time.Time { return clock })
	chain := []*x509.Certificate{bad.own.Leaf}
	if _, err := i.Verify(chain); err != nil {
		t.Fatal(err)
	}
	if err := i.Revoke([]Revoked{{DN, "a", t0}, {DN, "a", t0.Add(-time.Hour)}}); err != nil {
		t.Fatal(err)
	}
	for clock = t0; clock.Before(t0.Add(2 * LeafLife)); clock = clock.Add(time.Hour) {
		if err := i.Revoke(nil); err != nil {
			t.Fatal(err)
		}
		if n, err := i.Verify(chain); err == nil {
			t.Fatalf("%s is taken %v after it was revoked", n, clock.Sub(t0))
		}
	}
	if len(i.kept.Revoked) != 0 {
		t.Errorf("the list still has %v", i.kept.Revoked)
	}
}

func TestCertificateIsTheRequests(t *testing.T) {
	ca, n := newCA(t), Name{"c1", DN, "a"}
	now := func() time.Time { return t0 }
	i, err := OpenAt(filepath.Join(t.TempDir(), "tls"), now)
	if err != nil {
		t.Fatal(err)
	}
	if err := i.Accept(nil, ca.PEM(), n, ""); err == nil {
		t.Error("a certificate is taken that was not asked for")
	}
	csr, err := i.Request()
	if err != nil {
		t.Fatal(err)
	}
	cert, err := ca.Issue(csr, n, t0, LeafLife)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := i.Request(); err != nil {
		t.Fatal(err)
	}
	if err := i.Accept(cert, ca.PEM(), n, ""); err == nil {
		t.Error("a certificate for another key is taken")
	}
	csr, _ = i.Request()
	cert, _ = ca.Issue(csr, Name{"c1", DN, "b"}, t0, LeafLife)
	if err := i.Accept(cert, ca.PEM(), n, ""); err == nil {
		t.Error("a certificate for another name is taken")
	}
	if got := ca.cert; got == nil || i.Enrolled() {
		t.Error("it is enrolled")
	}
	csr[len(csr)-1] ^= 1
	if _, err := ca.Issue(csr, n, t0, LeafLife); err == nil {
		t.Error("a request whose signature is wrong gets a certificate")
	}
}

func TestRenewHalfWay(t *testing.T) {
	clock := t0
	i := accepted(t, filepath.Join(t.TempDir(), "tls"), newCA(t), Name{"c1", DN, "a"}, func() time.Time { return clock })
	if got := i.RenewIn(); got != LeafLife/2 {
		t.Errorf("renew in %v, want %v", got, LeafLife/2)
	}
	clock = t0.Add(LeafLife * 3 / 4)
	if got := i.RenewIn(); got > 0 {
		t.Errorf("overdue, but renew in %v", got)
	}
}

// TestTokens: one comes back as it was handed out, its portal is known by the CA's
// fingerprint, and what is wrong with a text does not have the text in it.
func TestTokens(t *testing.T) {
	ca := newCA(t)
	tok, err := NewToken(Name{"c1", DN, "10.0.0.9:9720"}, "10.0.0.1:9520", ca.PEM())
	if err != nil {
		t.Fatal(err)
	}
	if got, err := ParseToken(" " + tok.String() + "\n"); err != nil || got != tok {
		t.Errorf("%+v (%v), want %+v", got, err, tok)
	}
	for _, text := range []string{"", "vda-enrol-!", "vda-enrol-e30", tok.String()[:60], tok.String()[3:]} {
		if _, err := ParseToken(text); err == nil || text != "" && strings.Contains(err.Error(), text) {
			t.Errorf("%q: %v", text, err)
		}
	}
	now := func() time.Time { return t0 }
	for _, c := range []struct {
		who string
		ca  *CA
		n   Name
		ok  bool
	}{
		{"a portal", ca, Name{"c1", Portal, "p"}, true},
		{"a dn", ca, Name{"c1", DN, "p"}, false},
		{"another cluster's portal", ca, Name{"c2", Portal, "p"}, false},
		{"a portal of another CA", newCA(t), Name{"c1", Portal, "p"}, false},
	} {
		server := accepted(t, filepath.Join(t.TempDir(), "tls"), c.ca, c.n, now)
		here, there := net.Pipe()
		go tls.Server(there, server.ServerTLS()).Handshake()
		if err := tls.Client(here, tok.EnrolTLS(now)).Handshake(); (err == nil) != c.ok {
			t.Errorf("%s: %v", c.who, err)
		}
		here.Close()
	}
}

// TestAForgedChain: an attacker who holds a member's certificate and key makes no
// other member with it, and shows no fingerprint without the key behind it.
func TestAForgedChain(t *testing.T) {
	ca := newCA(t)
	now := func() time.Time { return t0 }
	i := accepted(t, filepath.Join(t.TempDir(), "tls"), ca, Name{"c1", Portal, "p"}, now)
	stolen := accepted(t, filepath.Join(t.TempDir(), "tls"), ca, Name{"c1", DN, "a"}, now)
	fake := &CA{cert: stolen.own.Leaf, key: stolen.own.PrivateKey.(crypto.Signer)}
	csr, err := stolen.Request()
	if err != nil {
		t.Fatal(err)
	}
	text, err := fake.Issue(csr, Name{"c1", Portal, "evil"}, t0, LeafLife)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	leaf, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := i.Verify([]*x509.Certificate{leaf, stolen.own.Leaf, ca.cert}); err == nil {
		t.Errorf("%s was made by a dn", n)
	}
	if n, err := i.Verify([]*x509.Certificate{ca.cert}); err == nil {
		t.Errorf("the CA's certificate is taken for %s", n)
	}
	tok, err := NewToken(Name{"c1", DN, "b"}, "10.0.0.1:9520", ca.PEM())
	if err != nil {
		t.Fatal(err)
	}
	check := tok.EnrolTLS(now).VerifyConnection
	if check(tls.ConnectionState{PeerCertificates: []*x509.Certificate{leaf, stolen.own.Leaf, ca.cert}}) == nil {
		t.Error("a forged portal gets a token's secret")
	}
}
