package pki

import (
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"
)

// WebCertificate is a certificate that browsers know, which names a host where a member's names a
// member, in two files of PEM. Files that are replaced are read again. Safe for concurrent use.
type WebCertificate struct {
	cert, key string

	mu   sync.Mutex
	read [2]time.Time // when the files were changed that own is from
	own  *tls.Certificate
}

// LoadWebCertificate reads a certificate, with those between it and its CA behind it, and its
// key, which must not be open to all users.
func LoadWebCertificate(cert, key string) (*WebCertificate, error) {
	w := &WebCertificate{cert: cert, key: key}
	_, err := w.Get()
	return w, err
}

// Get is the certificate as the files have it now. When they cannot be read any more, it is
// the last one that was, with the error.
func (w *WebCertificate) Get() (*tls.Certificate, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	var changed [2]time.Time
	for i, path := range []string{w.cert, w.key} {
		fi, err := os.Stat(path)
		if err != nil {
			return w.own, fileError(path, err)
		}
		changed[i] = fi.ModTime()
	}
	if w.own != nil && changed == w.read {
		return w.own, nil
	}
	cert, err := os.ReadFile(w.cert)
	if err != nil {
		return w.own, fileError(w.cert, err)
	}
	key, err := readSecret(w.key)
	if err != nil {
		return w.own, fileError(w.key, err)
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return w.own, fmt.Errorf("%s and %s are not a certificate and its key in PEM", w.cert, w.key)
	}
	w.own, w.read = &pair, changed
	return w.own, nil
}

func fileError(path string, err error) error {
	if p := (*os.PathError)(nil); errors.As(err, &p) {
		return fmt.Errorf("%s: %w", path, p.Err)
	}
	return err
}
