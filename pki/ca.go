package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net/url"
	"os"
	"path/filepath"
	"time"
)

// Lifetimes of certificates. Skew is how much the clocks of two daemons may
// differ: a certificate is good from that much before it was issued.
const (
	LeafLife = 30 * 24 * time.Hour
	caLife   = 10 * 365 * 24 * time.Hour
	Skew     = 5 * time.Minute
)

// Files of a CA in its folder. Those of a user's own CA, as cert-manager has
// them in a secret, are called the same.
const (
	caCertName = "tls.crt"
	caKeyName  = "tls.key"
)

// CA issues the certificates of a cluster. Safe for concurrent use.
type CA struct {
	cert *x509.Certificate
	key  crypto.Signer
}

// NewCA makes the CA of a cluster.
func NewCA(cluster string, now time.Time) (*CA, error) {
	if !word(cluster) {
		return nil, fmt.Errorf("cluster id %q must consist of letters, digits and dashes", cluster)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	t := &x509.Certificate{SerialNumber: serial(), Subject: pkix.Name{CommonName: "VDA cluster " + cluster},
		NotBefore: now.Add(-Skew), NotAfter: now.Add(caLife), IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign}
	der, err := x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	return &CA{cert, key}, err
}

// Save writes the CA to files in dir, which it makes; it replaces none.
func (c *CA) Save(dir string) error {
	key, err := x509.MarshalPKCS8PrivateKey(c.key)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("folder of the CA: %w", err)
	}
	// The key first: a certificate alone would look like a CA that lost its key.
	for _, f := range []struct {
		name, kind string
		der        []byte
	}{{caKeyName, "PRIVATE KEY", key}, {caCertName, "CERTIFICATE", c.cert.Raw}} {
		path := filepath.Join(dir, f.name)
		if _, err := os.Lstat(path); err == nil {
			return fmt.Errorf("%s is there already: a CA is not replaced", path)
		}
		if err := writeFile(path, pem.EncodeToMemory(&pem.Block{Type: f.kind, Bytes: f.der})); err != nil {
			return fmt.Errorf("folder of the CA: %w", err)
		}
	}
	return nil
}

// LoadCA reads the CA in dir; fs.ErrNotExist when there is none.
func LoadCA(dir string) (*CA, error) {
	cert, err := os.ReadFile(filepath.Join(dir, caCertName))
	if err != nil {
		return nil, fmt.Errorf("certificate of the CA: %w", err)
	}
	path := filepath.Join(dir, caKeyName)
	key, err := readSecret(path)
	if err != nil {
		return nil, fmt.Errorf("key of the CA: %w", err)
	}
	c := &CA{}
	if c.cert, err = ParseCA(cert); err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Join(dir, caCertName), err)
	}
	if c.key, err = parseKey(key); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if !samePublic(c.cert.PublicKey, c.key.Public()) {
		return nil, fmt.Errorf("%s is not the key of the certificate beside it", path)
	}
	return c, nil
}

// PEM is the CA's certificate.
func (c *CA) PEM() []byte { return encodeCert(c.cert) }

// Issue makes a certificate for the key of a request (PKCS #10, DER), whatever
// name that asks for.
func (c *CA) Issue(csr []byte, n Name, now time.Time, life time.Duration) ([]byte, error) {
	if err := n.Check(); err != nil {
		return nil, err
	}
	req, err := x509.ParseCertificateRequest(csr)
	if err == nil {
		err = req.CheckSignature()
	}
	if err != nil {
		return nil, errors.New("the certificate request is not one, or its signature is not its key's")
	}
	if k, ok := req.PublicKey.(*ecdsa.PublicKey); !ok || k.Curve != elliptic.P256() {
		return nil, errors.New("the key of a certificate request must be ECDSA on P-256")
	}
	until := now.Add(life)
	if until.After(c.cert.NotAfter) {
		until = c.cert.NotAfter
	}
	t := &x509.Certificate{SerialNumber: serial(), Subject: pkix.Name{CommonName: "VDA " + n.Kind}, URIs: []*url.URL{n.uri()},
		NotBefore: now.Add(-Skew), NotAfter: until, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	der, err := x509.CreateCertificate(rand.Reader, t, c.cert, req.PublicKey, c.key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), nil
}

// IssuedAt is when Issue made a certificate.
func IssuedAt(c *x509.Certificate) time.Time { return c.NotBefore.Add(Skew) }

// ParseCA reads the certificate of a CA.
func ParseCA(text []byte) (*x509.Certificate, error) {
	c, err := parseCert(text)
	if err == nil && (!c.IsCA || !c.BasicConstraintsValid) {
		err = errors.New("the certificate is not a CA's")
	}
	return c, err
}

// Fingerprint is the SHA-256 of a CA's certificate in hex digits.
func Fingerprint(ca []byte) (string, error) {
	c, err := ParseCA(ca)
	if err != nil {
		return "", err
	}
	return fingerprint(c), nil
}

func fingerprint(c *x509.Certificate) string {
	sum := sha256.Sum256(c.Raw)
	return hex.EncodeToString(sum[:])
}

func serial() *big.Int {
	var b [16]byte
	rand.Read(b[:]) // never fails
	b[0] &= 0x7f
	return new(big.Int).SetBytes(b[:])
}

func encodeCert(c *x509.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
}

func parseCert(text []byte) (*x509.Certificate, error) {
	b, _ := pem.Decode(text)
	if b == nil || b.Type != "CERTIFICATE" {
		return nil, errors.New("there is no certificate in PEM")
	}
	return x509.ParseCertificate(b.Bytes)
}

func parseKey(text []byte) (crypto.Signer, error) {
	b, _ := pem.Decode(text)
	if b == nil {
		return nil, errors.New("there is no key in PEM")
	}
	var key any
	var err error
	switch b.Type {
	case "PRIVATE KEY":
		key, err = x509.ParsePKCS8PrivateKey(b.Bytes)
	case "EC PRIVATE KEY":
		key, err = x509.ParseECPrivateKey(b.Bytes)
	case "RSA PRIVATE KEY":
		key, err = x509.ParsePKCS1PrivateKey(b.Bytes)
	default:
		err = fmt.Errorf("a PEM block %q is not a private key", b.Type)
	}
	if err != nil {
		return nil, err
	}
	s, ok := key.(crypto.Signer)
	if !ok {
		return nil, errors.New("the key cannot sign")
	}
	return s, nil
}

func samePublic(a, b crypto.PublicKey) bool {
	e, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && e.Equal(b)
}

// readSecret reads a file that is its owner's alone, or its group's to read, as
// a secret of Kubernetes is.
func readSecret(path string) ([]byte, error) {
	fi, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if fi.Mode().Perm()&0o037 != 0 {
		return nil, fmt.Errorf("%s: its mode is %04o: it must not be open to all users; use chmod 0600", path, fi.Mode().Perm())
	}
	return os.ReadFile(path)
}

// writeFile replaces a file by one of mode 0600 in one step; it is on disk
// afterwards.
func writeFile(path string, data []byte) error {
	tmp := path + ".new"
	if err := os.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := os.OpenFile(tmp, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(tmp, path); err != nil {
		return err
	}
	d, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
