package pki

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"time"
)

// ServerTLS is how a daemon with a certificate serves; nil without one. A client
// that shows a certificate must be a member of the cluster; one that shows none
// is let in, and is nobody.
func (i *Identity) ServerTLS() *tls.Config {
	if !i.Enrolled() {
		return nil
	}
	return &tls.Config{
		MinVersion:             tls.VersionTLS13,
		SessionTicketsDisabled: true, // each connection shows its certificate
		ClientAuth:             tls.RequestClientCert,
		GetCertificate:         func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return i.certificate() },
		VerifyConnection: func(s tls.ConnectionState) error {
			if len(s.PeerCertificates) == 0 {
				return nil
			}
			_, err := i.Verify(s.PeerCertificates)
			return err
		},
	}
}

// ClientTLS is how a daemon with a certificate calls another member of the
// cluster, which check decides about.
func (i *Identity) ClientTLS(check func(Name) error) *tls.Config {
	return &tls.Config{
		MinVersion:           tls.VersionTLS13,
		InsecureSkipVerify:   true, // names are no hosts': VerifyConnection does it all
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return i.certificate() },
		VerifyConnection: func(s tls.ConnectionState) error {
			n, err := i.Verify(s.PeerCertificates)
			if err != nil {
				return err
			}
			return check(n)
		},
	}
}

func (i *Identity) certificate() (*tls.Certificate, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.own == nil {
		return nil, errors.New("there is no certificate")
	}
	return i.own, nil
}

// Verify says who shows a certificate: a member of this cluster, by its CA, whose
// certificate is good now and not revoked. It is asked for each call also on a
// connection that is up.
func (i *Identity) Verify(chain []*x509.Certificate) (Name, error) {
	i.mu.Lock()
	ca, cluster, now := i.ca, i.name.Cluster, i.now()
	i.mu.Unlock()
	n, err := verify(chain, ca, cluster, now)
	if err != nil {
		return Name{}, err
	}
	return n, i.refused(n, IssuedAt(chain[0]))
}

func verify(chain []*x509.Certificate, ca *x509.Certificate, cluster string, now time.Time) (Name, error) {
	switch {
	case ca == nil:
		return Name{}, errors.New("this daemon has no certificate, and cannot tell who others are")
	case len(chain) == 0:
		return Name{}, errors.New("no certificate was shown")
	case chain[0].IsCA:
		return Name{}, errors.New("a CA's certificate was shown; it must be a member's")
	}
	roots, between := x509.NewCertPool(), x509.NewCertPool()
	roots.AddCert(ca)
	for _, c := range chain[1:] {
		between.AddCert(c)
	}
	_, err := chain[0].Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, CurrentTime: now,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
	var invalid x509.CertificateInvalidError
	switch {
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return Name{}, fmt.Errorf("the certificate is good from %v to %v, and it is %v now", chain[0].NotBefore.UTC(),
			chain[0].NotAfter.UTC(), now.UTC())
	case err != nil:
		return Name{}, errors.New("the certificate is not of this cluster's CA")
	}
	n, err := NameOf(chain[0])
	if err == nil && n.Cluster != cluster {
		err = fmt.Errorf("the certificate is of cluster %s; this is cluster %s", n.Cluster, cluster)
	}
	return n, err
}

// refused is the error of a certificate that was issued to n at a moment and
// revoked later.
func (i *Identity) refused(n Name, issued time.Time) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	for _, r := range i.kept.Revoked {
		if r.Kind == n.Kind && r.Name == n.Name && r.Refuses(issued) {
			return fmt.Errorf("the certificate of %s is revoked", n)
		}
	}
	return nil
}

// EnrolTLS is how a daemon without a certificate calls the portal of a token:
// any portal of the cluster whose CA has the fingerprint that the token holds.
// The server shows its CA behind its own certificate.
func (t Token) EnrolTLS(now func() time.Time) *tls.Config {
	return portalTLS(t.Name.Cluster, t.CA, now)
}

// PortalTLS is how somebody who has the CA's certificate and nothing else calls a portal of its
// cluster.
func PortalTLS(ca []byte) (*tls.Config, error) {
	print, err := Fingerprint(ca)
	if err != nil {
		return nil, err
	}
	return portalTLS("", print, time.Now), nil
}

// portalTLS demands a portal's certificate, by the CA with a fingerprint; cluster is "" when
// the CA, which serves one, says which.
func portalTLS(cluster, ca string, now func() time.Time) *tls.Config {
	return &tls.Config{
		MinVersion:         tls.VersionTLS13,
		InsecureSkipVerify: true, // VerifyConnection does it all
		VerifyConnection: func(s tls.ConnectionState) error {
			for _, c := range s.PeerCertificates {
				if fingerprint(c) != ca {
					continue
				}
				of := cluster
				if own, err := NameOf(s.PeerCertificates[0]); err == nil && of == "" {
					of = own.Cluster
				}
				n, err := verify(s.PeerCertificates, c, of, now())
				if err == nil && n.Kind != Portal {
					err = fmt.Errorf("%s answers where a portal must", n)
				}
				return err
			}
			return errors.New("the portal is not of the CA that the token is for")
		},
	}
}
