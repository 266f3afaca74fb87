package httpd

import (
	"net/http"
	"net/url"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Metrics is what /metrics shows of a registry now.
func Metrics(r *prometheus.Registry) []byte {
	p := page{header: http.Header{}}
	promhttp.HandlerFor(r, promhttp.HandlerOpts{}).ServeHTTP(&p, &http.Request{Method: http.MethodGet, URL: &url.URL{Path: "/metrics"},
		Header: http.Header{}})
	return p.text
}

// page is an http.ResponseWriter that keeps what it gets.
type page struct {
	header http.Header
	text   []byte
}

func (p *page) Header() http.Header { return p.header }
func (p *page) WriteHeader(int)     {}
func (p *page) Write(b []byte) (int, error) {
	p.text = append(p.text, b...)
	return len(b), nil
}
