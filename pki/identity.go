package pki

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"
)

// Files of an identity in its folder.
const (
	certName  = "identity.pem"  // key, certificate and the CA's certificate
	stateName = "security.json" // what must not be forgotten
)

// Revoked has certificates refused that were issued to a name before a moment.
type Revoked struct {
	Kind   string    `json:"kind"`
	Name   string    `json:"name"`
	Before time.Time `json:"before"`
}

// Refuses reports that a certificate of that name, issued at a moment, is revoked. A certificate
// has whole seconds: one of the second of Before is refused.
func (r Revoked) Refuses(issued time.Time) bool { return !issued.Truncate(time.Second).After(r.Before) }

// security is what a daemon remembers beside its certificate.
type security struct {
	Cluster string    `json:"cluster"`
	Secured bool      `json:"secured"`           // no call in the clear any more
	Issuer  string    `json:"issuer"`            // host:port of a portal that renews
	Portals []string  `json:"portals,omitempty"` // others, for when that one is gone
	Token   string    `json:"token,omitempty"`   // HashSecret of the one that was enrolled with last
	Revoked []Revoked `json:"revoked,omitempty"`
}

// Identity is who a daemon is, and what it knows of whom to refuse. Changes are
// on disk when the method that makes them returns. What reads it takes nil for a plain
// daemon. Safe for concurrent use.
type Identity struct {
	dir string
	now func() time.Time

	mu    sync.Mutex
	own   *tls.Certificate // nil: none yet
	name  Name
	ca    *x509.Certificate
	caPEM []byte
	asked *ecdsa.PrivateKey // of the last Request
	kept  security
}

// LostError says that a daemon of a secured cluster has no certificate any more.
type LostError struct {
	Identity *Identity // which can enrol again
	path     string
}

func (e *LostError) Error() string {
	return fmt.Sprintf("the cluster is secured and %s is gone: enrol again with a new token (--enrol)", e.path)
}

// Open reads the identity in dir, which need not be there: a daemon without one is
// plain. A daemon that was secured and has lost its certificate is an error.
func Open(dir string) (*Identity, error) { return OpenAt(dir, time.Now) }

// OpenAt is Open with a clock.
func OpenAt(dir string, now func() time.Time) (*Identity, error) {
	i := &Identity{dir: dir, now: now}
	raw, err := os.ReadFile(filepath.Join(dir, stateName))
	if err == nil {
		if err := json.Unmarshal(raw, &i.kept); err != nil {
			return nil, fmt.Errorf("%s does not decode: %w; put it back from a copy", filepath.Join(dir, stateName), err)
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("identity: %w", err)
	}
	path := filepath.Join(dir, certName)
	text, err := readSecret(path)
	switch {
	case errors.Is(err, fs.ErrNotExist) && i.kept.Secured:
		return nil, &LostError{i, path}
	case errors.Is(err, fs.ErrNotExist):
		return i, nil
	case err != nil:
		return nil, fmt.Errorf("identity: %w", err)
	}
	if err := i.use(text); err != nil {
		return nil, fmt.Errorf("%s: %w; enrol again with a new token (--enrol)", path, err)
	}
	return i, nil
}

// use takes key, certificate and CA from the text of an identity's file.
func (i *Identity) use(text []byte) error {
	key, rest := pem.Decode(text)
	leaf, rest := pem.Decode(rest)
	if key == nil || leaf == nil {
		return errors.New("it does not hold a key and a certificate in PEM")
	}
	signer, err := parseKey(pem.EncodeToMemory(key))
	if err != nil {
		return err
	}
	cert, err := x509.ParseCertificate(leaf.Bytes)
	if err != nil {
		return err
	}
	ca, err := ParseCA(rest)
	if err != nil {
		return err
	}
	name, err := NameOf(cert)
	if err != nil {
		return err
	}
	if !samePublic(cert.PublicKey, signer.Public()) {
		return errors.New("the certificate is another key's")
	}
	if err := cert.CheckSignatureFrom(ca); err != nil {
		return errors.New("the certificate was not issued by the CA beside it")
	}
	i.own = &tls.Certificate{Certificate: [][]byte{cert.Raw, ca.Raw}, PrivateKey: signer, Leaf: cert}
	i.name, i.ca, i.caPEM = name, ca, encodeCert(ca)
	return nil
}

// Request makes a new key and a request (PKCS #10, DER) for a certificate for it.
func (i *Identity) Request() ([]byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		return nil, err
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.asked = key
	return csr, nil
}

// Accept takes the certificate that was issued for the last Request, with its CA's, both in
// PEM, and what the issuer said. want is the name that it must be for; issuer is who will renew it.
func (i *Identity) Accept(cert, ca []byte, want Name, issuer string) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.asked == nil {
		return errors.New("no certificate was asked for")
	}
	if i.own != nil && i.name != want {
		return fmt.Errorf("this daemon is %s of cluster %s; the certificate is for %s of cluster %s", i.name, i.name.Cluster, want, want.Cluster)
	}
	if i.ca != nil && i.kept.Secured {
		if c, err := ParseCA(ca); err != nil || !c.Equal(i.ca) {
			return errors.New("the certificate is another CA's than this daemon's")
		}
	}
	der, err := x509.MarshalPKCS8PrivateKey(i.asked)
	if err != nil {
		return err
	}
	text := append(append(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), cert...), ca...)
	next := &Identity{}
	if err := next.use(text); err != nil {
		return err
	}
	if next.name != want {
		return fmt.Errorf("the certificate is for %s of cluster %s; it must be for %s of cluster %s", next.name, next.name.Cluster,
			want, want.Cluster)
	}
	if now := i.now(); now.After(next.own.Leaf.NotAfter) {
		return fmt.Errorf("the certificate expired at %v; is the clock right?", next.own.Leaf.NotAfter)
	}
	if err := os.MkdirAll(i.dir, 0o700); err != nil {
		return err
	}
	if err := writeFile(filepath.Join(i.dir, certName), text); err != nil {
		return err
	}
	i.own, i.name, i.ca, i.caPEM, i.asked = next.own, next.name, next.ca, next.caPEM, nil
	kept := i.kept
	kept.Cluster, kept.Issuer = want.Cluster, issuer
	return i.keep(kept)
}

// keep writes what must not be forgotten; the caller holds the lock.
func (i *Identity) keep(k security) error {
	if err := os.MkdirAll(i.dir, 0o700); err != nil {
		return err
	}
	b, err := json.MarshalIndent(k, "", " ")
	if err == nil {
		err = writeFile(filepath.Join(i.dir, stateName), b)
	}
	if err == nil {
		i.kept = k
	}
	return err
}

// Secure has no call in the clear taken or made any more. It cannot be taken back.
func (i *Identity) Secure() error {
	i.mu.Lock()
	defer i.mu.Unlock()
	switch {
	case i.own == nil:
		return errors.New("a daemon without a certificate cannot be secured: enrol it first")
	case i.kept.Secured:
		return nil
	}
	k := i.kept
	k.Secured = true
	return i.keep(k)
}

// Revoke adds to whom is refused. Who is on the list stays there until all that the
// list speaks of has expired.
func (i *Identity) Revoke(list []Revoked) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	next, changed := i.kept, false
	next.Revoked = nil
	for _, r := range i.kept.Revoked {
		if i.now().Before(r.Before.Add(LeafLife + Skew)) {
			next.Revoked = append(next.Revoked, r)
		} else {
			changed = true
		}
	}
add:
	for _, r := range list {
		if !i.now().Before(r.Before.Add(LeafLife + Skew)) {
			continue
		}
		for k, old := range next.Revoked {
			if old.Kind == r.Kind && old.Name == r.Name {
				if r.Before.After(old.Before) {
					next.Revoked[k].Before, changed = r.Before, true
				}
				continue add
			}
		}
		next.Revoked, changed = append(next.Revoked, r), true
	}
	if !changed {
		return nil
	}
	return i.keep(next)
}

// Revoked is whom the daemon refuses.
func (i *Identity) Revoked() []Revoked {
	if i == nil {
		return nil
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	return slices.Clone(i.kept.Revoked)
}

// IssueOwn gives the daemon a certificate of a CA that it has itself.
func (i *Identity) IssueOwn(ca *CA, n Name) error {
	csr, err := i.Request()
	if err != nil {
		return err
	}
	cert, err := ca.Issue(csr, n, i.now(), LeafLife)
	if err != nil {
		return err
	}
	return i.Accept(cert, ca.PEM(), n, "")
}

// NoteToken has the identity know the token that it has enrolled with.
func (i *Identity) NoteToken(t Token) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	k := i.kept
	k.Token = HashSecret(t.Secret)
	return i.keep(k)
}

// EnrolledBy reports that a token is the one that was enrolled with last. Of an identity that does not know it, as
// one of an earlier version, each is.
func (i *Identity) EnrolledBy(t Token) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.own != nil && (i.kept.Token == "" || i.kept.Token == HashSecret(t.Secret))
}

// Name is who the daemon is; the zero Name for a plain one.
func (i *Identity) Name() Name {
	if i == nil {
		return Name{}
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.name
}

// Enrolled reports that the daemon has a certificate.
func (i *Identity) Enrolled() bool {
	if i == nil {
		return false
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.own != nil
}

// Secured reports that nothing is said in the clear.
func (i *Identity) Secured() bool {
	if i == nil {
		return false
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.kept.Secured
}

// Issuer is the address of a portal that renews the certificate, "" for none.
func (i *Identity) Issuer() string {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.kept.Issuer
}

// Portals are the addresses of portals that may renew the certificate, the Issuer's first.
func (i *Identity) Portals() []string {
	if i == nil {
		return nil
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	var all []string
	for _, p := range append([]string{i.kept.Issuer}, i.kept.Portals...) {
		if p != "" && !slices.Contains(all, p) {
			all = append(all, p)
		}
	}
	return all
}

// LearnPortals replaces what is known of portals beside the issuer; an empty list says nothing.
func (i *Identity) LearnPortals(list []string) error {
	list = slices.Sorted(slices.Values(list))
	i.mu.Lock()
	defer i.mu.Unlock()
	if len(list) == 0 || slices.Equal(list, i.kept.Portals) {
		return nil
	}
	k := i.kept
	k.Portals = list
	return i.keep(k)
}

// CA is the CA's certificate in PEM, nil for a plain daemon.
func (i *Identity) CA() []byte {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.caPEM
}

// Expires is when the certificate does; the zero time for a plain daemon.
func (i *Identity) Expires() time.Time {
	if i == nil {
		return time.Time{}
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.own == nil {
		return time.Time{}
	}
	return i.own.Leaf.NotAfter
}

// RenewIn is how long the certificate need not be renewed: half of its life.
func (i *Identity) RenewIn() time.Duration {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.own == nil {
		return LeafLife
	}
	born := IssuedAt(i.own.Leaf)
	return born.Add(i.own.Leaf.NotAfter.Sub(born) / 2).Sub(i.now())
}
