package portal_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/pki"
	"github.com/virtual-disk-array/vda/portal"
)

// hostCertificate writes a certificate for 127.0.0.1 and its key, and returns what trusts it.
func hostCertificate(t *testing.T, cert, key string, changed time.Time) *x509.CertPool {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(changed.Unix()), NotBefore: time.Now().Add(-time.Hour),
		NotAfter:    time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, err := x509.CreateCertificate(rand.Reader, c, c, k.Public(), k)
	if err != nil {
		t.Fatal(err)
	}
	text, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	for path, b := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: text}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(b), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, changed, changed); err != nil {
			t.Fatal(err)
		}
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	return pool
}

// TestWebCertificate: a client of HTTP gets the certificate that names the host, also after its
// files were replaced, or are broken; clients of gRPC get the portal's own.
func TestWebCertificate(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "web.crt"), filepath.Join(dir, "web.key")
	pool := hostCertificate(t, cert, key, time.Unix(1e9, 0))
	web, err := pki.LoadWebCertificate(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	f := secured(t, func(cfg *portal.Config) { cfg.WebCertificate = web })
	browse := func(pool *x509.CertPool) error {
		c, err := tls.Dial("tcp", f.addr, &tls.Config{RootCAs: pool, ServerName: "127.0.0.1", NextProtos: []string{"h2", "http/1.1"}})
		if err != nil {
			return err
		}
		return c.Close()
	}
	if err := browse(pool); err != nil {
		t.Error(err)
	}
	next := hostCertificate(t, cert, key, time.Unix(1e9+1, 0))
	if err := browse(next); err != nil {
		t.Errorf("after it was replaced: %v", err)
	}
	if err := browse(pool); err == nil {
		t.Error("the one of before is still shown")
	}
	if err := os.WriteFile(key, []byte("half a ke"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := browse(next); err != nil {
		t.Errorf("after its key was spoilt: %v", err)
	}
	if _, err := f.user("ann", "viewer").ListDa(t.Context(), &apiv1.ListDaRequest{}); err != nil {
		t.Errorf("over gRPC: %v", err)
	}
	if err := os.Chmod(key, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := pki.LoadWebCertificate(cert, key); err == nil {
		t.Error("a key that all can read is taken")
	}
}
