package pki

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strings"
)

// tokenPrefix is what tokens begin with, so that a scanner of secrets finds one.
const tokenPrefix = "vda-enrol-"

// Token lets the daemon that it names get its first certificate, once.
type Token struct {
	Name   Name
	Portal string // "host:port" where a certificate is asked for
	CA     string // Fingerprint of the CA that the portal's certificate is of
	Secret string // 256 bits in base64
}

type tokenText struct {
	Cluster string `json:"c"`
	Kind    string `json:"k"`
	Name    string `json:"n"`
	Portal  string `json:"p"`
	CA      string `json:"f"`
	Secret  string `json:"s"`
}

// NewToken makes a token with a new secret.
func NewToken(n Name, portal string, ca []byte) (Token, error) {
	if err := n.Check(); err != nil {
		return Token{}, err
	}
	if host, _, err := net.SplitHostPort(portal); err != nil || host == "" {
		return Token{}, fmt.Errorf("portal %q must be host:port, like 192.168.0.11:9520", portal)
	}
	f, err := Fingerprint(ca)
	return Token{Name: n, Portal: portal, CA: f, Secret: NewSecret()}, err
}

// String is the token as it is handed out.
func (t Token) String() string {
	b, err := json.Marshal(tokenText{t.Name.Cluster, t.Name.Kind, t.Name.Name, t.Portal, t.CA, t.Secret})
	if err != nil { // texts
		panic(err)
	}
	return tokenPrefix + base64.RawURLEncoding.EncodeToString(b)
}

// ParseToken reads what String wrote. The error does not repeat it.
func ParseToken(text string) (Token, error) {
	bad := errors.New("it is not an enrolment token, which begins with " + tokenPrefix + "; copy all of it")
	body, ok := strings.CutPrefix(strings.TrimSpace(text), tokenPrefix)
	if !ok {
		return Token{}, bad
	}
	var t tokenText
	if b, err := base64.RawURLEncoding.DecodeString(body); err != nil || json.Unmarshal(b, &t) != nil {
		return Token{}, bad
	}
	n := Name{t.Cluster, t.Kind, t.Name}
	if n.Check() != nil || t.Secret == "" || t.CA == "" || t.Portal == "" {
		return Token{}, bad
	}
	return Token{Name: n, Portal: t.Portal, CA: t.CA, Secret: t.Secret}, nil
}

// NewSecret is 256 random bits in base64.
func NewSecret() string {
	var b [32]byte
	rand.Read(b[:]) // never fails
	return base64.RawURLEncoding.EncodeToString(b[:])
}

// HashSecret is what is kept of a secret: it has 256 bits, so one SHA-256 is
// enough.
func HashSecret(secret string) string {
	sum := sha256.Sum256([]byte("vda secret " + secret))
	return hex.EncodeToString(sum[:])
}
