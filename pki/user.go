package pki

import (
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"
	"time"
)

// userPrefix is what users' tokens begin with, so that a scanner of secrets finds one.
const userPrefix = "vda-user-"

// User is the kind of a UserToken's holder. No certificate is for one.
const User = "user"

// UserToken is what a person or a script shows portals, and knows them by.
type UserToken struct {
	Cluster string `json:"c"`
	CA      string `json:"f"` // Fingerprint of the CA that the portals' certificates are of
	Secret  string `json:"s"` // 256 bits in base64
}

// NewUserToken makes a token with a new secret.
func NewUserToken(cluster string, ca []byte) (UserToken, error) {
	f, err := Fingerprint(ca)
	return UserToken{Cluster: cluster, CA: f, Secret: NewSecret()}, err
}

// String is the token as it is handed out.
func (t UserToken) String() string {
	b, err := json.Marshal(t)
	if err != nil { // texts
		panic(err)
	}
	return userPrefix + base64.RawURLEncoding.EncodeToString(b)
}

// ParseUserToken reads what String wrote. The error does not repeat it.
func ParseUserToken(text string) (UserToken, error) {
	bad := errors.New("it is not a user's token, which begins with " + userPrefix + "; copy all of it")
	body, ok := strings.CutPrefix(strings.TrimSpace(text), userPrefix)
	if !ok {
		return UserToken{}, bad
	}
	var t UserToken
	b, err := base64.RawURLEncoding.DecodeString(body)
	if err != nil || json.Unmarshal(b, &t) != nil || !word(t.Cluster) || t.CA == "" || t.Secret == "" {
		return UserToken{}, bad
	}
	return t, nil
}

// TLS is how the token's holder calls a portal of the cluster: the server must be one, by
// a certificate of the CA that the token names.
func (t UserToken) TLS() *tls.Config { return portalTLS(t.Cluster, t.CA, time.Now) }
