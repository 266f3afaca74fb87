package web

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/virtual-disk-array/vda"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
)

// A login at the issuer of OpenID Connect begins at oidcPath, from where the browser is sent to
// the issuer, which sends it back to oidcDone.
const (
	oidcPath = "/login/oidc"
	oidcDone = oidcPath + "/done"

	pendingName = "vda_login"
	pendingTime = 10 * time.Minute
)

// pending is a login that is under way, as a cookie of the browser that has begun it: no other
// one can end it, and the portal keeps nothing. The issuer's answer is a request that another site
// has caused, so that the cookie is no SameSite=Strict one.
type pending struct {
	State, Nonce, Verifier, Redirect, To string
	Until                                int64 // Unix, s
}

// pendingSeal keeps a sealed pending from being taken for a session, and the other way round.
var pendingSeal = []byte("vda login at the issuer")

func (s *server) pendingCookie(r *http.Request, value string, age int) *http.Cookie {
	return &http.Cookie{Name: pendingName, Value: value, Path: oidcPath, MaxAge: age, HttpOnly: true, Secure: r.TLS != nil,
		SameSite: http.SameSiteLaxMode}
}

func (s *server) oidcBegin(w http.ResponseWriter, r *http.Request) {
	d := s.loginData(r.URL.Query().Get("to"))
	p := pending{State: rand.Text(), Nonce: rand.Text(), Verifier: rand.Text() + rand.Text(),
		Redirect: "https://" + r.Host + oidcDone, To: d.To, Until: time.Now().Add(pendingTime).Unix()}
	if d.Issuer == "" || r.TLS == nil {
		s.oidcFails(w, r, http.StatusNotFound, "Nobody logs in at an issuer of OpenID Connect here: the portal knows none (--oidc-issuer), or "+
			"the request did not come by https.")
		return
	}
	sum := sha256.Sum256([]byte(p.Verifier))
	reply, err := s.cfg.Security.GetLoginUrl(r.Context(), &apiv1.GetLoginUrlRequest{RedirectUri: p.Redirect, State: p.State, Nonce: p.Nonce,
		CodeChallenge: base64.RawURLEncoding.EncodeToString(sum[:])})
	if err != nil {
		s.oidcFails(w, r, httpStatus(err), said(err))
		return
	}
	b, err := json.Marshal(p)
	if err != nil { // texts
		panic(err)
	}
	value := base64.RawURLEncoding.EncodeToString(s.doors.seal.Seal(nil, nil, b, pendingSeal))
	http.SetCookie(w, s.pendingCookie(r, value, int(pendingTime.Seconds())))
	http.Redirect(w, r, reply.Url, http.StatusSeeOther)
}

// begun is the login that a browser has begun.
func (s *server) begun(r *http.Request) (p pending, ok bool) {
	c, err := r.Cookie(pendingName)
	if err != nil {
		return p, false
	}
	b, err := base64.RawURLEncoding.DecodeString(c.Value)
	if err == nil {
		b, err = s.doors.seal.Open(nil, nil, b, pendingSeal)
	}
	if err != nil || json.Unmarshal(b, &p) != nil {
		return p, false
	}
	return p, time.Now().Unix() < p.Until
}

func (s *server) oidcEnd(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	p, ok := s.begun(r)
	http.SetCookie(w, s.pendingCookie(r, "", -1)) // it is good once
	switch {
	case !ok || q.Get("state") != p.State:
		s.oidcFails(w, r, http.StatusForbidden, "This answer of the issuer is of no login that this browser has begun here within the last "+
			strconv.Itoa(int(pendingTime.Minutes()))+" minutes; log in again.")
		return
	case q.Get("error") != "":
		s.oidcFails(w, r, http.StatusForbidden, "The issuer has logged nobody in: "+
			vda.Shorten(strings.TrimSpace(q.Get("error")+" "+q.Get("error_description")), 300))
		return
	}
	reply, err := s.cfg.Security.LoginOidc(r.Context(), &apiv1.LoginOidcRequest{Code: q.Get("code"), CodeVerifier: p.Verifier, Nonce: p.Nonce,
		RedirectUri: p.Redirect})
	if err != nil {
		s.oidcFails(w, r, httpStatus(err), said(err))
		return
	}
	http.SetCookie(w, s.doors.session(r, reply.Token))
	// A redirect would still be the issuer's request, with which a browser sends no cookie that is
	// SameSite=Strict.
	d := s.loginData(p.To)
	d.Done = true
	s.show(w, r, http.StatusOK, "login", page{Title: "Logged in", Data: d})
}

func (s *server) oidcFails(w http.ResponseWriter, r *http.Request, code int, problem string) {
	s.show(w, r, code, "login", page{Title: "Log in", Data: s.loginData("/"), Problem: problem})
}
