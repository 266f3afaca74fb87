package web

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
)

// doors let in those who have the token. A session is a cookie that says until when
// it holds, signed with a key made of the token: a portal keeps none, and another
// token ends them all. Safe for concurrent use.
type doors struct {
	token []byte // its SHA-256
	key   []byte
	log   *slog.Logger

	mu     sync.Mutex
	failed int       // attempts with a wrong token that count against the next ones
	since  time.Time // when failed was last reckoned
}

const (
	cookieName  = "vda_session"
	sessionTime = 12 * time.Hour
	// maxFailed wrong tokens are looked at at once, and one more every forgiven.
	maxFailed = 10
	forgiven  = 3 * time.Second
)

func newDoors(token string, log *slog.Logger) *doors {
	sum := sha256.Sum256([]byte(token))
	key := hmac.New(sha256.New, []byte(token))
	key.Write([]byte("vda session"))
	return &doors{token: sum[:], key: key.Sum(nil), log: log}
}

// right reports that token is the portal's. After many wrong ones it says no to
// all for a time: busy.
func (d *doors) right(token, peer string) (ok, busy bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := time.Now()
	if n := int(now.Sub(d.since) / forgiven); n > 0 {
		d.failed, d.since = max(d.failed-n, 0), now
	}
	if d.failed >= maxFailed {
		return false, true
	}
	sum := sha256.Sum256([]byte(token))
	if subtle.ConstantTimeCompare(sum[:], d.token) == 1 {
		return true, false
	}
	d.failed++
	d.log.Warn("a wrong token was refused", "peer", peer)
	return false, false
}

// session makes the cookie of a session that begins now.
func (d *doors) session(r *http.Request) *http.Cookie {
	until := binary.BigEndian.AppendUint64(nil, uint64(time.Now().Add(sessionTime).Unix()))
	return &http.Cookie{Name: cookieName, Value: base64.RawURLEncoding.EncodeToString(append(until, d.sign(until)...)), Path: "/",
		MaxAge: int(sessionTime.Seconds()), HttpOnly: true, Secure: r.TLS != nil, SameSite: http.SameSiteStrictMode}
}

func (d *doors) sign(until []byte) []byte {
	mac := hmac.New(sha256.New, d.key)
	mac.Write(until)
	return mac.Sum(nil)
}

// inside reports that a request belongs to a session.
func (d *doors) inside(r *http.Request) bool {
	c, err := r.Cookie(cookieName)
	if err != nil {
		return false
	}
	b, err := base64.RawURLEncoding.DecodeString(c.Value)
	if err != nil || len(b) != 8+sha256.Size || !hmac.Equal(b[8:], d.sign(b[:8])) {
		return false
	}
	return time.Now().Unix() < int64(binary.BigEndian.Uint64(b))
}

// people sends a browser without a session to the login.
func (d *doors) people(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case d.inside(r):
			h.ServeHTTP(w, r)
		case r.Method == http.MethodGet || r.Method == http.MethodHead:
			http.Redirect(w, r, "/login?to="+url.QueryEscape(r.URL.RequestURI()), http.StatusSeeOther)
		default:
			http.Redirect(w, r, "/login", http.StatusSeeOther)
		}
	})
}

// programs answers a request without the token as the API does. A session is as
// good, for reading the API in a browser.
func (d *doors) programs(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if d.inside(r) {
			h.ServeHTTP(w, r)
			return
		}
		token, found := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		if found {
			ok, busy := d.right(token, r.RemoteAddr)
			if ok {
				h.ServeHTTP(w, r)
				return
			}
			if busy {
				w.Header().Set("Retry-After", "3")
				refuse(w, http.StatusTooManyRequests, "too many wrong tokens; try again in some seconds")
				return
			}
		}
		w.Header().Set("WWW-Authenticate", "Bearer")
		refuse(w, http.StatusUnauthorized, "the header Authorization must be \"Bearer \" and the portal's token, see docs/rest.md")
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

func (s *server) loginPage(w http.ResponseWriter, r *http.Request) {
	s.show(w, r, http.StatusOK, "login", page{Title: "Log in", Data: own(r.URL.Query().Get("to"))})
}

func (s *server) login(w http.ResponseWriter, r *http.Request) {
	to := own(r.PostFormValue("to"))
	ok, busy := s.doors.right(strings.TrimSpace(r.PostFormValue("token")), r.RemoteAddr)
	switch {
	case ok:
		http.SetCookie(w, s.doors.session(r))
		http.Redirect(w, r, to, http.StatusSeeOther)
	case busy:
		s.show(w, r, http.StatusTooManyRequests, "login",
			page{Title: "Log in", Problem: "Too many wrong tokens; try again in some seconds.", Data: to})
	default:
		s.show(w, r, http.StatusForbidden, "login", page{Title: "Log in", Problem: "This is not the portal's token.", Data: to})
	}
}

func (s *server) logout(w http.ResponseWriter, r *http.Request) {
	http.SetCookie(w, &http.Cookie{Name: cookieName, Path: "/", MaxAge: -1, HttpOnly: true, Secure: r.TLS != nil,
		SameSite: http.SameSiteStrictMode})
	http.Redirect(w, r, "/login", http.StatusSeeOther)
}
