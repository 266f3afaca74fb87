// Package oidc logs users in at an issuer of OpenID Connect, by the authorization code flow with
// PKCE, or by a browser on another machine (device.go). It keeps nothing of a login between URL
// and Login: a browser's session or vda_cli keeps the state, the nonce and the verifier, or the
// device code, so that any portal can finish what another one has begun. What a user may do
// follows from a claim of the ID token; a user whose claim names no role is refused.
package oidc

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/reason"
)

// Config says which issuer users come from, and what they may do.
type Config struct {
	Issuer   string   // URL, as the issuer's own tokens have it
	ClientID string   // what the issuer knows the cluster by
	Secret   string   // of that client; "": it is a public one
	Scopes   []string // that are asked for beside "openid"

	UserClaim string            // says who a user is; it should never be another's: "sub" is not
	RoleClaim string            // a text or a list of texts; a name with dots leads into objects
	Roles     map[string]string // which role each text stands for
	Order     []string          // of roles: of several that a user has, the first one holds

	CA *x509.CertPool // of the issuer; nil: the machine's
}

// Prefix is what the names of users from an issuer begin with, so that none is that of a user with
// a password or a token of the cluster.
const Prefix = "oidc:"

const (
	callTime = 10 * time.Second // for each request to the issuer
	maxBody  = 1 << 20          // of what it answers, bytes
	keepTime = time.Hour        // after which the issuer is asked again what it offers
	maxAt    = 8                // logins at once that wait for the issuer
)

// algorithms that ID tokens may be signed with: those by which the portal can verify, but not sign.
var algorithms = []string{oidc.RS256, oidc.RS384, oidc.RS512, oidc.PS256, oidc.PS384, oidc.PS512, oidc.ES256, oidc.ES384, oidc.ES512,
	oidc.EdDSA}

// Issuer is one issuer. Safe for concurrent use.
type Issuer struct {
	cfg    Config
	client *http.Client
	busy   chan struct{}

	mu    sync.Mutex
	known *provider
	asked time.Time
}

// provider is what an issuer offers.
type provider struct {
	endpoint oauth2.Endpoint
	keys     oidc.KeySet
}

// RefusedError is a login that the issuer, or the portal, does not take.
type RefusedError struct{ msg string }

func (e *RefusedError) Error() string { return e.msg } // reason: words of ours

func refused(format string, args ...any) error { return &RefusedError{fmt.Sprintf(format, args...)} }

// New checks a config. Nothing is asked of the issuer before the first login.
func New(cfg Config) (*Issuer, error) {
	switch u, err := url.Parse(cfg.Issuer); {
	case err != nil || !safe(u) || u.RawQuery != "" || u.Fragment != "" || u.User != nil:
		return nil, fmt.Errorf("issuer %q: it must be a URL like https://login.example.com/realm", cfg.Issuer)
	case cfg.ClientID == "":
		return nil, errors.New("the id of the client is missing: what the issuer knows this cluster by")
	case cfg.UserClaim == "" || cfg.RoleClaim == "":
		return nil, errors.New("the claims that say who a user is, and what he may do, are missing")
	case len(cfg.Roles) == 0:
		return nil, errors.New("no role is given to anybody")
	}
	for value, role := range cfg.Roles {
		if value == "" || !slices.Contains(cfg.Order, role) {
			return nil, fmt.Errorf("%q stands for the role %q; a role is one of %s", value, role, strings.Join(cfg.Order, ", "))
		}
	}
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.TLSClientConfig = &tls.Config{RootCAs: cfg.CA, MinVersion: tls.VersionTLS12}
	return &Issuer{cfg: cfg, client: &http.Client{Transport: bounded{t}, Timeout: callTime}, busy: make(chan struct{}, maxAt)}, nil
}

// Name is the host of the issuer, for people.
func (i *Issuer) Name() string {
	u, err := url.Parse(i.cfg.Issuer)
	if err != nil { // New has parsed it
		return i.cfg.Issuer
	}
	return u.Host
}

// safe reports that what goes to a URL is not read on the way: TLS, or this machine.
func safe(u *url.URL) bool {
	if u.Host == "" {
		return false
	}
	return u.Scheme == "https" || u.Scheme == "http" && loopback(u.Hostname())
}

func loopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback() || host == "localhost"
}

// bounded keeps an answer from filling the portal's memory.
type bounded struct{ next http.RoundTripper }

func (b bounded) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := b.next.RoundTrip(r)
	if err == nil {
		resp.Body = http.MaxBytesReader(nil, resp.Body, maxBody)
	}
	return resp, err
}

var _ io.Closer = (*Issuer)(nil)

// Close ends idle connections to the issuer.
func (i *Issuer) Close() error {
	i.client.CloseIdleConnections()
	return nil
}

// provider is what the issuer offers, as it said within the last hour; when it cannot be asked again,
// as it said before.
func (i *Issuer) provider(ctx context.Context) (*provider, error) {
	i.mu.Lock()
	known, asked := i.known, i.asked
	i.mu.Unlock()
	if known != nil && time.Since(asked) < keepTime {
		return known, nil
	}
	fresh, err := i.discover(ctx)
	if err != nil && known == nil {
		return nil, err
	}
	if err != nil {
		fresh = known // tried again after the same time
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.known, i.asked = fresh, time.Now()
	return fresh, nil
}

func (i *Issuer) discover(ctx context.Context) (*provider, error) {
	ctx = oidc.ClientContext(ctx, i.client)
	p, err := oidc.NewProvider(ctx, i.cfg.Issuer)
	if err != nil {
		return nil, i.away(err)
	}
	var more struct {
		Keys string `json:"jwks_uri"`
	}
	if err := p.Claims(&more); err != nil {
		return nil, i.away(err)
	}
	for what, text := range map[string]string{"authorization_endpoint": p.Endpoint().AuthURL, "token_endpoint": p.Endpoint().TokenURL,
		"jwks_uri": more.Keys} {
		if u, err := url.Parse(text); err != nil || !safe(u) {
			return nil, vda.Errorf(vda.FailedPrecondition, "the issuer %s says its %s is %q, which must be an https URL", i.cfg.Issuer, what,
				vda.Shorten(text, 200))
		}
	}
	return &provider{p.Endpoint(), oidc.NewRemoteKeySet(ctx, more.Keys)}, nil
}

// away is why the issuer is of no help now.
func (i *Issuer) away(err error) error {
	var mismatch *oidc.IssuerMismatchError
	var call *url.Error
	var unknown *tls.CertificateVerificationError
	switch {
	case errors.As(err, &mismatch):
		return vda.Errorf(vda.FailedPrecondition, "the issuer calls itself %q; --oidc-issuer is %q and must be the same", mismatch.Discovered,
			i.cfg.Issuer)
	case errors.As(err, &unknown):
		return vda.Errorf(vda.Unavailable, "the issuer %s has a certificate that the portal does not trust: --oidc-ca-file names its CA",
			i.cfg.Issuer)
	case errors.As(err, &call) && call.Timeout():
		return vda.Errorf(vda.Unavailable, "the issuer %s does not answer: %s", i.cfg.Issuer, reason.NoAnswer)
	case errors.As(err, &call):
		return vda.Errorf(vda.Unavailable, "the issuer %s does not answer: %s", i.cfg.Issuer, reason.Full(call.Err))
	}
	return vda.Errorf(vda.Unavailable, "the issuer %s has no answer that makes sense: %s", i.cfg.Issuer, vda.Shorten(reason.Full(err), 200))
}

// Asked is what one who logs in has made up for that, and where he waits for the answer.
type Asked struct {
	RedirectURI string // gets the answer; the issuer must know it
	State       string // comes back with the answer
	Nonce       string // comes back in the ID token
	Challenge   string // of PKCE, S256
}

// word is what states, nonces and challenges are: 128 bits at least, and no more than a cookie holds.
var word = regexp.MustCompile(`^[A-Za-z0-9._~-]{22,128}$`)

func wordError(what, text string) error {
	return vda.Errorf(vda.InvalidArgument, "%s has %d characters; it must have 22 to 128 letters, digits and . _ ~ -", what, len(text))
}

// URL is where a browser is sent to log in. The error is of the kind vda.InvalidArgument,
// vda.Unavailable or vda.FailedPrecondition.
func (i *Issuer) URL(ctx context.Context, a Asked) (string, error) {
	for what, text := range map[string]string{"state": a.State, "nonce": a.Nonce, "challenge": a.Challenge} {
		if !word.MatchString(text) {
			return "", wordError(what, text)
		}
	}
	if err := checkRedirect(a.RedirectURI); err != nil {
		return "", err
	}
	release, err := i.enter()
	if err != nil {
		return "", err
	}
	defer release()
	p, err := i.provider(ctx)
	if err != nil {
		return "", err
	}
	return i.config(p, a.RedirectURI).AuthCodeURL(a.State, oidc.Nonce(a.Nonce), oauth2.SetAuthURLParam("code_challenge", a.Challenge),
		oauth2.SetAuthURLParam("code_challenge_method", "S256")), nil
}

func checkRedirect(text string) error {
	if u, err := url.Parse(text); err != nil || !safe(u) || u.Fragment != "" || len(text) > 500 {
		return vda.Errorf(vda.InvalidArgument, "redirect_uri is %q; it must be https://…, or http:// of this machine", vda.Shorten(text, 100))
	}
	return nil
}

// enter bounds how much the issuer is asked at once: anybody may begin a login.
func (i *Issuer) enter() (release func(), err error) {
	select {
	case i.busy <- struct{}{}:
		return func() { <-i.busy }, nil
	default:
		return nil, vda.Errorf(vda.ResourceExhausted, "many logins wait for the issuer; try again in some seconds")
	}
}

func (i *Issuer) config(p *provider, redirect string) *oauth2.Config {
	return &oauth2.Config{ClientID: i.cfg.ClientID, ClientSecret: i.cfg.Secret, Endpoint: p.endpoint, RedirectURL: redirect,
		Scopes: append([]string{oidc.ScopeOpenID}, i.cfg.Scopes...)}
}

// Answer is what came back from the issuer, and what was made up before.
type Answer struct {
	Code, Verifier, Nonce, RedirectURI string
}

// User is who has logged in.
type User struct {
	Name string // Prefix, and what the claim says
	Role string
}

// Login trades a code for an ID token, and says whose it is. The error is a *RefusedError, or one
// of the kind vda.PermissionDenied when the user has no role, vda.InvalidArgument,
// vda.Unavailable or vda.FailedPrecondition.
func (i *Issuer) Login(ctx context.Context, a Answer) (User, error) {
	for what, text := range map[string]string{"nonce": a.Nonce, "verifier": a.Verifier} {
		if !word.MatchString(text) {
			return User{}, wordError(what, text)
		}
	}
	if err := checkRedirect(a.RedirectURI); err != nil {
		return User{}, err
	}
	if a.Code == "" || len(a.Code) > maxCode {
		return User{}, vda.Errorf(vda.InvalidArgument, "code has %d characters; it is what the issuer has answered", len(a.Code))
	}
	release, err := i.enter()
	if err != nil {
		return User{}, err
	}
	defer release()
	p, err := i.provider(ctx)
	if err != nil {
		return User{}, err
	}
	tokens, err := i.config(p, a.RedirectURI).Exchange(oidc.ClientContext(ctx, i.client), a.Code, oauth2.VerifierOption(a.Verifier))
	if err != nil {
		return User{}, i.notExchanged(err)
	}
	raw, ok := tokens.Extra("id_token").(string)
	if !ok {
		return User{}, i.noToken()
	}
	return i.user(ctx, p, raw, a.Nonce)
}

func (i *Issuer) notExchanged(err error) error {
	var answer *oauth2.RetrieveError
	switch {
	case !errors.As(err, &answer) || answer.Response != nil && answer.Response.StatusCode >= 500:
		return i.away(err)
	case answer.ErrorCode == "invalid_grant":
		return refused("the issuer does not take the code: it was used, has expired, or is of another login; log in again")
	case answer.ErrorCode == "invalid_client" || answer.ErrorCode == "unauthorized_client":
		return i.notClient(answer.ErrorCode)
	}
	return refused("the issuer does not take the code (%s); log in again", vda.Shorten(answer.ErrorCode, 60))
}

func (i *Issuer) notClient(code string) error {
	return vda.Errorf(vda.FailedPrecondition, "the issuer %s refuses the portal itself (%s): --oidc-client-id %s and the secret of "+
		"--oidc-client-secret-file must be those of a client there", i.cfg.Issuer, code, i.cfg.ClientID)
}

func (i *Issuer) noToken() error {
	return vda.Errorf(vda.FailedPrecondition, "the issuer %s gave no ID token: the client %s must be one of OpenID Connect",
		i.cfg.Issuer, i.cfg.ClientID)
}

// heard notes why signatures cannot be verified, which the library hands on as a text.
type heard struct {
	oidc.KeySet
	err error
}

func (h *heard) VerifySignature(ctx context.Context, jwt string) ([]byte, error) {
	b, err := h.KeySet.VerifySignature(ctx, jwt)
	h.err = err
	return b, err
}

// user is whose an ID token is, once all of it has been checked.
func (i *Issuer) user(ctx context.Context, p *provider, raw, nonce string) (User, error) {
	keys := &heard{KeySet: p.keys}
	t, err := oidc.NewVerifier(i.cfg.Issuer, keys, &oidc.Config{ClientID: i.cfg.ClientID, SupportedSigningAlgs: algorithms}).Verify(ctx, raw)
	var call *url.Error
	var late *oidc.TokenExpiredError
	switch {
	case errors.As(keys.err, &call):
		return User{}, i.away(keys.err)
	case errors.As(err, &late):
		return User{}, refused("the ID token of the issuer has expired: the clocks of the portal and the issuer must agree")
	case err != nil:
		return User{}, refused("the ID token of the issuer is not good: %s", i.fault(err))
	case t.Nonce != nonce:
		return User{}, refused("the ID token of the issuer is not good: it is of another login (nonce)")
	}
	claims := map[string]any{}
	if err := t.Claims(&claims); err != nil {
		return User{}, refused("the ID token of the issuer is not good: its claims are not an object")
	}
	if party, there := claims["azp"]; there && party != i.cfg.ClientID || !there && len(t.Audience) > 1 {
		return User{}, refused("the ID token of the issuer is not good: it was made for another client (azp)")
	}
	name, err := i.name(claims)
	if err != nil {
		return User{}, err
	}
	held := texts(claims, i.cfg.RoleClaim)
	for _, role := range i.cfg.Order {
		if slices.ContainsFunc(held, func(v string) bool { return i.cfg.Roles[v] == role }) {
			return User{name, role}, nil
		}
	}
	return User{}, vda.Errorf(vda.PermissionDenied, "%s has no role in this cluster: none of --oidc-role is in the claim %s, which has %s",
		name, i.cfg.RoleClaim, listed(held))
}

// fault is what is the matter with an ID token, in our words.
func (i *Issuer) fault(err error) string {
	text := err.Error() // reason: it is looked at, not shown
	for _, f := range []struct{ part, words string }{
		{"different provider", "it is of another issuer"},
		{"expected audience", "it is for another client"},
		{"not before", "it is not valid yet: the clocks of the portal and the issuer must agree"},
		{"unexpected signature algorithm", "it is not signed, or in a way that is not taken"},
		{"signature", "no key of the issuer has signed it"},
	} {
		if strings.Contains(text, f.part) {
			return f.words
		}
	}
	return "it cannot be read"
}

// userName is what a claim may be that names a user.
var userName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._@+|/:-]{0,254}$`)

func (i *Issuer) name(claims map[string]any) (string, error) {
	held := texts(claims, i.cfg.UserClaim)
	if len(held) != 1 || !userName.MatchString(held[0]) {
		return "", vda.Errorf(vda.PermissionDenied, "the claim %s, which names the user, has %s; it must be one text of 1 to 255 "+
			"letters, digits and . _ @ + | / : -", i.cfg.UserClaim, listed(held))
	}
	if i.cfg.UserClaim == "email" {
		if verified, there := claims["email_verified"]; there && verified != true {
			return "", vda.Errorf(vda.PermissionDenied, "the issuer has not verified that %s is the user's address (email_verified)", held[0])
		}
	}
	return Prefix + held[0], nil
}

// texts are those of a claim; when none has the name, those where its parts between dots lead.
func texts(claims map[string]any, name string) []string {
	v, there := claims[name]
	for rest := name; !there; {
		key, more, dotted := strings.Cut(rest, ".")
		if !dotted {
			v = claims[key]
			break
		}
		if claims, there = claims[key].(map[string]any); !there {
			return nil
		}
		there, rest = false, more
	}
	switch v := v.(type) {
	case string:
		return []string{v}
	case []any:
		var all []string
		for _, e := range v {
			if text, ok := e.(string); ok {
				all = append(all, text)
			}
		}
		return all
	}
	return nil
}

func listed(held []string) string {
	if len(held) == 0 {
		return "nothing"
	}
	return vda.Shorten(fmt.Sprintf("%q", held), 200)
}
