package web

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/portal/guess"
)

// doors let in those who have the portal's token, and users. A session is a cookie
// that says until when it holds and which user's it is, sealed with a key made of
// the portal's token: a portal keeps none, and another token ends them all. Calls of
// a user carry the user's token, or that of the session that a password began, so that
// one that is revoked, or ended by logging out, is of no use at once.
// Safe for concurrent use.
type doors struct {
	cfg   Config
	token [sha256.Size]byte // of Config.Token
	seal  cipher.AEAD
	wrong guess.Limiter // by where tokens come from
}

const (
	cookieName  = "vda_session"
	sessionTime = 12 * time.Hour
)

func newDoors(cfg Config) *doors {
	key := hmac.New(sha256.New, []byte(cfg.Token))
	key.Write([]byte("vda session"))
	block, err := aes.NewCipher(key.Sum(nil))
	if err != nil {
		panic(err) // the key has 32 bytes
	}
	seal, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		panic(err) // AES has 16-byte blocks
	}
	return &doors{cfg: cfg, token: sha256.Sum256([]byte(cfg.Token)), seal: seal, wrong: guess.Limiter{Most: 10, Forgiven: 3 * time.Second}}
}

// Why a token is not taken.
var (
	errWrong = errors.New("this is not a token that the portal knows")
	errBusy  = errors.New("too many wrong tokens; try again in some seconds")
)

// admit says whose token it is: user is it itself for a user's, "" for the portal's.
func (d *doors) admit(ctx context.Context, token, peer string) (user string, err error) {
	from := guess.Origin(peer)
	if !d.wrong.Try(from) {
		return "", errBusy
	}
	if known, err := d.cfg.User(ctx, token); err != nil || known {
		d.wrong.Right(from)
		return token, err
	}
	sum := sha256.Sum256([]byte(token))
	if !d.cfg.Secured() && subtle.ConstantTimeCompare(sum[:], d.token[:]) == 1 {
		d.wrong.Right(from)
		return "", nil
	}
	d.cfg.Log.Warn("a wrong token was refused", "peer", peer)
	return "", errWrong
}

// session makes the cookie of a session that begins now.
func (d *doors) session(r *http.Request, user string) *http.Cookie {
	until := binary.BigEndian.AppendUint64(nil, uint64(time.Now().Add(sessionTime).Unix()))
	return &http.Cookie{Name: cookieName, Value: base64.RawURLEncoding.EncodeToString(d.seal.Seal(nil, nil, append(until, user...), nil)),
		Path: "/", MaxAge: int(sessionTime.Seconds()), HttpOnly: true, Secure: r.TLS != nil, SameSite: http.SameSiteStrictMode}
}

// inside reports that a request belongs to a session, and to which user's.
func (d *doors) inside(r *http.Request) (user string, ok bool) {
	c, err := r.Cookie(cookieName)
	if err != nil {
		return "", false
	}
	b, err := base64.RawURLEncoding.DecodeString(c.Value)
	if err != nil {
		return "", false
	}
	b, err = d.seal.Open(nil, nil, b, nil)
	if err != nil || len(b) < 8 || time.Now().Unix() >= int64(binary.BigEndian.Uint64(b)) {
		return "", false
	}
	user = string(b[8:])
	return user, user != "" || !d.cfg.Secured()
}

// as has a request's calls carry a user's token.
func as(r *http.Request, user string) *http.Request {
	r = r.Clone(r.Context())
	r.Header.Del("Authorization") // what it said is settled
	if user == "" {
		return r
	}
	return r.WithContext(metadata.AppendToOutgoingContext(r.Context(), "authorization", bearer+user))
}

const bearer = "Bearer "

// people sends a browser without a session to the login.
func (d *doors) people(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, ok := d.inside(r)
		switch {
		case ok:
			h.ServeHTTP(w, as(r, user))
		case r.Method == http.MethodGet || r.Method == http.MethodHead:
			http.Redirect(w, r, "/login?to="+url.QueryEscape(r.URL.RequestURI()), http.StatusSeeOther)
		default:
			http.Redirect(w, r, "/login", http.StatusSeeOther)
		}
	})
}

// programs answers a request without a token as the API does. A session is as
// good, for reading the API in a browser, where there is no token.
func (d *doors) programs(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		auth := r.Header.Get("Authorization")
		if user, ok := d.inside(r); ok && auth == "" {
			h.ServeHTTP(w, as(r, user))
			return
		}
		if n := len(bearer); len(auth) > n && strings.EqualFold(auth[:n], bearer) { // RFC 9110, section 11.1
			token := auth[n:]
			user, err := d.admit(r.Context(), token, r.RemoteAddr)
			switch {
			case err == nil:
				h.ServeHTTP(w, as(r, user))
				return
			case errors.Is(err, errBusy):
				w.Header().Set("Retry-After", "3")
				refuse(w, http.StatusTooManyRequests, "%s", errBusy.Error())
				return
			case !errors.Is(err, errWrong):
				refuse(w, httpStatus(err), "%s", said(err))
				return
			}
		}
		w.Header().Set("WWW-Authenticate", "Bearer")
		refuse(w, http.StatusUnauthorized, "the header Authorization must be \"Bearer \" and a token that the portal knows, see docs/rest.md")
	})
}

// own is a path of this site that a login may lead to; "/" when to is none.
func own(to string) string {
	u, err := url.Parse(to)
	if err != nil || u.IsAbs() || u.Host != "" || !strings.HasPrefix(to, "/") || strings.HasPrefix(to, "//") || strings.Contains(to, "\\") {
		return "/"
	}
	return to
}

// loginData is what the page of the login shows.
type loginData struct {
	To        string // where it leads
	Passwords bool   // users may have one
	Issuer    string // where they may log in else; "": nowhere
	Done      bool   // they have, there
}

func (s *server) loginData(to string) loginData {
	d := loginData{To: own(to), Passwords: s.passwords()}
	if d.Passwords {
		d.Issuer = s.cfg.Issuer
	}
	return d
}

func (s *server) passwords() bool { return s.cfg.Security != nil && s.cfg.Secured() }

// entering is whose the token of a login is, as of admit, or the token of the session that a
// user's name and password have begun.
func (s *server) entering(r *http.Request) (user string, err error) {
	name, secret := strings.TrimSpace(r.PostFormValue("user")), r.PostFormValue("token")
	if name == "" || s.cfg.Security == nil {
		return s.doors.admit(r.Context(), strings.TrimSpace(secret), r.RemoteAddr)
	}
	reply, err := s.cfg.Security.Login(r.Context(), &apiv1.LoginRequest{UserName: name, Password: secret})
	return reply.GetToken(), err
}

func (s *server) loginPage(w http.ResponseWriter, r *http.Request) {
	s.show(w, r, http.StatusOK, "login", page{Title: "Log in", Data: s.loginData(r.URL.Query().Get("to"))})
}

func (s *server) login(w http.ResponseWriter, r *http.Request) {
	d := s.loginData(r.PostFormValue("to"))
	p := page{Title: "Log in", Data: d}
	user, err := s.entering(r)
	switch {
	case err == nil:
		http.SetCookie(w, s.doors.session(r, user))
		http.Redirect(w, r, d.To, http.StatusSeeOther)
	case errors.Is(err, errBusy):
		p.Problem = "Too many wrong tokens; try again in some seconds."
		s.show(w, r, http.StatusTooManyRequests, "login", p)
	case errors.Is(err, errWrong):
		p.Problem = "This is not a token that the portal knows."
		s.show(w, r, http.StatusForbidden, "login", p)
	default:
		p.Problem = said(err)
		s.show(w, r, httpStatus(err), "login", p)
	}
}

func (s *server) logout(w http.ResponseWriter, r *http.Request) {
	if user, ok := s.doors.inside(r); ok && user != "" && s.cfg.Security != nil {
		_, err := s.cfg.Security.Logout(as(r, user).Context(), &apiv1.LogoutRequest{})
		if c := status.Code(err); c == codes.Unavailable || c == codes.DeadlineExceeded {
			s.show(w, r, httpStatus(err), "login", page{Title: "Log in", Data: s.loginData("/"),
				Problem: "The session has not ended: " + said(err)})
			return
		}
	}
	http.SetCookie(w, noSession(r))
	http.Redirect(w, r, "/login", http.StatusSeeOther)
}

// noSession has a browser forget its session.
func noSession(r *http.Request) *http.Cookie {
	return &http.Cookie{Name: cookieName, Path: "/", MaxAge: -1, HttpOnly: true, Secure: r.TLS != nil, SameSite: http.SameSiteStrictMode}
}
