package httpd

import (
	"log/slog"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/virtual-disk-array/vda/reason"
)

// Config says what is served.
type Config struct {
	// Registry has the metrics.
	Registry *prometheus.Registry
	// Healthy says why the program cannot do its work now, in words that anyone
	// may read; nil: it always can. It must not wait.
	Healthy func() error
	// Authorize refuses a request with an error, whose text the client gets
	// with status 403; nil: all are served. Identity is in the request's TLS.
	Authorize func(*http.Request) error
	// Rest serves all other paths, and does its own authorization; nil: they get
	// status 404.
	Rest http.Handler
	// Log gets what net/http has to say; default slog.Default().
	Log *slog.Logger
}

// scrapes bounds the requests for metrics that are answered at once, each of
// which takes some hundred KiB; more get status 503.
const scrapes = 4

// Handler answers GET /metrics, and GET /healthz with 200 and "ok", or 503 and
// the reason.
func Handler(c Config) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(c.Registry, promhttp.HandlerOpts{MaxRequestsInFlight: scrapes}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		if c.Healthy != nil {
			if err := c.Healthy(); err != nil {
				http.Error(w, reason.Of(err), http.StatusServiceUnavailable)
				return
			}
		}
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = w.Write([]byte("ok\n")) // the client's loss
	})
	checked := http.Handler(mux)
	if c.Authorize != nil {
		checked = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if err := c.Authorize(r); err != nil {
				http.Error(w, reason.Of(err), http.StatusForbidden)
				return
			}
			mux.ServeHTTP(w, r)
		})
	}
	if c.Rest == nil {
		return checked
	}
	all := http.NewServeMux()
	all.Handle("/metrics", checked)
	all.Handle("/healthz", checked)
	all.Handle("/", c.Rest)
	return all
}

// Server is a server of HTTP/1 around h that lets no client hold a connection
// without asking for something.
func Server(h http.Handler, log *slog.Logger) *http.Server {
	if log == nil {
		log = slog.Default()
	}
	s := &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      time.Minute,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		Protocols:         new(http.Protocols),
	}
	s.Protocols.SetHTTP1(true)
	return s
}
