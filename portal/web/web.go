package web

import (
	"context"
	"embed"
	"log/slog"
	"net/http"

	apiv1 "github.com/virtual-disk-array/vda/api/v1"
)

// Config is what the pages need.
type Config struct {
	// Portal answers the calls of pages and of programs.
	Portal apiv1.PortalClient
	// Token lets in those who have it, as nobody in particular, while the cluster is
	// not secured; at least MinToken characters. Portals with the same one take each
	// other's sessions.
	Token string
	// User reports that a token is a user's; the user's calls carry it, and their role
	// says what they may do. nil: there are no users.
	User func(ctx context.Context, token string) (bool, error)
	// Security begins and ends sessions of users with a password; nil: nobody has one.
	Security apiv1.SecurityClient
	// Issuer is the host of the issuer of OpenID Connect at which users may log in; "": there is none.
	Issuer string
	// Secured reports that users alone are let in; nil: never.
	Secured func() bool
	// Log gets refused logins; default slog.Default().
	Log *slog.Logger
}

// MinToken is the length of the shortest token, characters.
const MinToken = 16

//go:embed static
var static embed.FS

// server serves pages. Safe for concurrent use.
type server struct {
	cfg   Config
	doors *doors
}

// New returns the handler of all of it.
func New(cfg Config) http.Handler {
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	if cfg.User == nil {
		cfg.User = func(context.Context, string) (bool, error) { return false, nil }
	}
	if cfg.Secured == nil {
		cfg.Secured = func() bool { return false }
	}
	s := &server{cfg: cfg, doors: newDoors(cfg)}
	mux := http.NewServeMux()
	mux.Handle("GET /static/{file}", http.FileServerFS(static))
	mux.Handle("/api/", s.doors.programs(newREST(cfg.Portal)))
	mux.HandleFunc("GET /login", s.loginPage)
	mux.HandleFunc("POST /login", s.login)
	mux.HandleFunc("GET "+oidcPath, s.oidcBegin)
	mux.HandleFunc("GET "+oidcDone, s.oidcEnd)
	mux.HandleFunc("POST /logout", s.logout)
	pages := http.NewServeMux()
	s.addPages(pages)
	mux.Handle("/", s.doors.people(pages))
	return hardened(mux)
}

// hardened has browsers load and run nothing but what the portal serves, show it in
// no other site's frame, and send no request that another site made.
func hardened(h http.Handler) http.Handler {
	same := http.NewCrossOriginProtection()
	same.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		refuse(w, http.StatusForbidden, "another site's page made this request, so that it is refused: "+
			"the header Origin must be that of the portal, or missing")
	}))
	h = same.Handler(h)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		header := w.Header()
		header.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; "+
			"form-action 'self'; base-uri 'none'; frame-ancestors 'none'")
		header.Set("X-Content-Type-Options", "nosniff")
		header.Set("Referrer-Policy", "same-origin")
		header.Set("Cache-Control", "no-store")
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		h.ServeHTTP(w, r)
	})
}

// maxBody bounds the body of a request, bytes, as the portal's gRPC does.
const maxBody = 256 << 10
