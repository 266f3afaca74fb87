// Package oidctest is an issuer of OpenID Connect for tests: it logs in anyone who asks, by the
// authorization code flow with PKCE, and checks what a client has to say as a real one does.
package oidctest

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// What the issuer knows its client by.
const (
	ClientID = "vda-test"
	Secret   = "the client's own secret"
)

// Issuer is one that serves until the test ends. Its fields are for before a login.
type Issuer struct {
	*httptest.Server
	// Claims changes those of the next ID tokens; nil: they are right, of the user "ann" with the
	// group "storage-operators".
	Claims func(claims map[string]any)
	// Sign makes an ID token; nil: RS256 with the issuer's key.
	Sign func(claims map[string]any) string
	// Deny has nobody logged in.
	Deny bool
	// NoDevices has no logins by a browser elsewhere; InForm takes the client's secret in forms alone.
	NoDevices, InForm bool
	// Polls are the errors that polls of such logins get, one each, before Confirm counts.
	Polls []string

	key *rsa.PrivateKey

	mu    sync.Mutex
	codes map[string]url.Values // what a code was asked for with
	// devices are logins by a browser elsewhere: by device code, the user code, or "" once confirmed.
	devices map[string]string
}

// New starts an issuer.
func New(t *testing.T) *Issuer {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	i := &Issuer{key: key, codes: map[string]url.Values{}, devices: map[string]string{}}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /.well-known/openid-configuration", i.configuration)
	mux.HandleFunc("GET /keys", i.keys)
	mux.HandleFunc("GET /auth", i.auth)
	mux.HandleFunc("POST /token", i.token)
	mux.HandleFunc("POST /device", i.device)
	i.Server = httptest.NewTLSServer(mux)
	t.Cleanup(i.Close)
	return i
}

// CAFile is a file with the CA of the issuer's certificate.
func (i *Issuer) CAFile(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "issuer.crt")
	err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: i.Certificate().Raw}), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// Browse does what a person's browser does with the URL that a login begins with, up to the
// redirect, which it returns.
func (i *Issuer) Browse(t *testing.T, at string) *url.URL {
	t.Helper()
	c := *i.Client()
	c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	resp, err := c.Get(at)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	back, err := resp.Location()
	if err != nil {
		t.Fatalf("the issuer's answer to %s is %s: %v", at, resp.Status, err)
	}
	return back
}

func answer(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}

func (i *Issuer) configuration(w http.ResponseWriter, _ *http.Request) {
	conf := map[string]any{"issuer": i.URL, "authorization_endpoint": i.URL + "/auth", "token_endpoint": i.URL + "/token",
		"jwks_uri": i.URL + "/keys", "id_token_signing_alg_values_supported": []string{"RS256", "HS256", "none"}}
	if !i.NoDevices {
		conf["device_authorization_endpoint"] = i.URL + "/device"
	}
	answer(w, 200, conf)
}

func (i *Issuer) keys(w http.ResponseWriter, _ *http.Request) {
	answer(w, 200, map[string]any{"keys": []any{map[string]string{"kty": "RSA", "alg": "RS256", "use": "sig", "kid": "k1",
		"n": b64(i.key.N.Bytes()), "e": b64(big.NewInt(int64(i.key.E)).Bytes())}}})
}

func (i *Issuer) auth(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	back, err := url.Parse(q.Get("redirect_uri"))
	if err != nil || q.Get("client_id") != ClientID || q.Get("response_type") != "code" || q.Get("code_challenge_method") != "S256" ||
		q.Get("code_challenge") == "" || q.Get("nonce") == "" || q.Get("state") == "" {
		http.Error(w, "this is no login by code with PKCE: "+r.URL.RawQuery, http.StatusBadRequest)
		return
	}
	to := url.Values{"state": {q.Get("state")}}
	if i.Deny {
		to.Set("error", "access_denied")
		to.Set("error_description", "not <today>")
	} else {
		code := rand.Text()
		i.mu.Lock()
		i.codes[code] = q
		i.mu.Unlock()
		to.Set("code", code)
	}
	back.RawQuery = to.Encode()
	http.Redirect(w, r, back.String(), http.StatusFound)
}

// device begins a login by a browser elsewhere.
func (i *Issuer) device(w http.ResponseWriter, r *http.Request) {
	if !i.isClient(w, r) {
		return
	}
	if !strings.Contains(" "+r.PostFormValue("scope")+" ", " openid ") {
		answer(w, 400, map[string]string{"error": "invalid_scope"})
		return
	}
	code, user := rand.Text(), rand.Text()[:4]+"-"+rand.Text()[:4]
	i.mu.Lock()
	i.devices[code] = user
	i.mu.Unlock()
	answer(w, 200, map[string]any{"device_code": code, "user_code": user, "verification_uri": i.URL + "/enter",
		"verification_uri_complete": i.URL + "/enter?user_code=" + user, "expires_in": 600, "interval": 1})
}

// Confirm is a person who enters a code and logs in.
func (i *Issuer) Confirm(t *testing.T, userCode string) {
	t.Helper()
	i.mu.Lock()
	defer i.mu.Unlock()
	for code, user := range i.devices {
		if user == userCode {
			i.devices[code] = ""
			return
		}
	}
	t.Fatalf("the issuer knows no code %q", userCode)
}

// deviceToken answers a poll: the codes of RFC 8628, section 3.5.
func (i *Issuer) deviceToken(w http.ResponseWriter, code string) (done bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	user, known := i.devices[code]
	problem := ""
	switch {
	case !known:
		problem = "invalid_grant"
	case len(i.Polls) > 0:
		problem, i.Polls = i.Polls[0], i.Polls[1:]
	case i.Deny:
		problem = "access_denied"
	case user != "":
		problem = "authorization_pending"
	}
	if problem != "" {
		answer(w, 400, map[string]string{"error": problem, "error_description": "<in its words>"})
		return false
	}
	delete(i.devices, code)
	return true
}

// isClient answers who is not the client.
func (i *Issuer) isClient(w http.ResponseWriter, r *http.Request) bool {
	id, secret, basic := r.BasicAuth()
	if basic {
		id, _ = url.QueryUnescape(id)
		secret, _ = url.QueryUnescape(secret)
	} else {
		id, secret = r.PostFormValue("client_id"), r.PostFormValue("client_secret")
	}
	if id != ClientID || secret != Secret || basic && i.InForm {
		answer(w, 401, map[string]string{"error": "invalid_client"})
		return false
	}
	return true
}

func (i *Issuer) token(w http.ResponseWriter, r *http.Request) {
	if !i.isClient(w, r) {
		return
	}
	if r.PostFormValue("grant_type") == "urn:ietf:params:oauth:grant-type:device_code" {
		if i.deviceToken(w, r.PostFormValue("device_code")) {
			i.grant(w, "")
		}
		return
	}
	i.mu.Lock()
	asked, known := i.codes[r.PostFormValue("code")]
	delete(i.codes, r.PostFormValue("code"))
	i.mu.Unlock()
	sum := sha256.Sum256([]byte(r.PostFormValue("code_verifier")))
	if !known || asked.Get("redirect_uri") != r.PostFormValue("redirect_uri") || asked.Get("code_challenge") != b64(sum[:]) {
		answer(w, 400, map[string]string{"error": "invalid_grant"})
		return
	}
	i.grant(w, asked.Get("nonce"))
}

// grant answers with tokens.
func (i *Issuer) grant(w http.ResponseWriter, nonce string) {
	now := time.Now().Unix()
	claims := map[string]any{"iss": i.URL, "aud": ClientID, "sub": "ann", "iat": now, "exp": now + 300,
		"groups": []string{"everybody", "storage-operators"}}
	if nonce != "" {
		claims["nonce"] = nonce
	}
	if i.Claims != nil {
		i.Claims(claims)
	}
	sign := i.Sign
	if sign == nil {
		sign = i.RS256
	}
	answer(w, 200, map[string]any{"access_token": rand.Text(), "token_type": "Bearer", "expires_in": 300, "id_token": sign(claims)})
}

// RS256 is an ID token as the issuer signs it.
func (i *Issuer) RS256(claims map[string]any) string {
	return Signed(map[string]any{"alg": "RS256", "kid": "k1"}, claims, func(b []byte) []byte { return Sign(i.key, b) })
}

// Sign signs as RS256 does.
func Sign(key *rsa.PrivateKey, b []byte) []byte {
	sum := sha256.Sum256(b)
	sig, err := rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA256, sum[:])
	if err != nil { // the key is long enough
		panic(err)
	}
	return sig
}

// Signed is a JWT.
func Signed(header, claims map[string]any, sign func([]byte) []byte) string {
	h, err := json.Marshal(header)
	if err != nil {
		panic(err)
	}
	c, err := json.Marshal(claims)
	if err != nil {
		panic(err)
	}
	text := b64(h) + "." + b64(c)
	return text + "." + b64(sign([]byte(text)))
}

// Key is the public key, in the form of an attacker who takes it for a secret.
func (i *Issuer) Key() *rsa.PublicKey { return &i.key.PublicKey }

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }
