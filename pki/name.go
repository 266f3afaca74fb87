package pki

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
)

// The kinds of daemons.
const (
	Portal  = "portal"
	Monitor = "monitor"
	DN      = "dn"
	CN      = "cn"
)

var kinds = []string{Portal, Monitor, DN, CN}

// maxName bounds a name, in bytes: an address is shorter.
const maxName = 300

// Name is who a daemon is.
type Name struct {
	Cluster string // id
	Kind    string // Portal, Monitor, DN or CN
	Name    string // "192.168.0.14:9720"
}

// String is how logs and errors say it: "dn 192.168.0.14:9720".
func (n Name) String() string { return n.Kind + " " + n.Name }

// Check says what is wrong with a name.
func (n Name) Check() error {
	switch {
	case !word(n.Cluster):
		return fmt.Errorf("cluster id %q must consist of letters, digits and dashes", n.Cluster)
	case !slices.Contains(kinds, n.Kind):
		return fmt.Errorf("kind %q must be portal, monitor, dn or cn", n.Kind)
	case n.Name == "" || len(n.Name) > maxName || strings.ContainsFunc(n.Name, func(r rune) bool { return r <= ' ' || r > '~' }):
		return fmt.Errorf("name %q must be 1 to %d printable characters without spaces, like 192.168.0.14:9720", n.Name, maxName)
	}
	return nil
}

func word(s string) bool {
	return s != "" && len(s) <= 64 && !strings.ContainsFunc(s, func(r rune) bool {
		return r != '-' && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z')
	})
}

// uri is the name as a certificate has it.
func (n Name) uri() *url.URL {
	return &url.URL{Scheme: "spiffe", Host: n.Cluster, Path: "/" + n.Kind + "/" + n.Name,
		RawPath: "/" + n.Kind + "/" + url.PathEscape(n.Name)}
}

// NameOf is who a certificate names.
func NameOf(c *x509.Certificate) (Name, error) {
	if len(c.URIs) != 1 || c.URIs[0].Scheme != "spiffe" {
		return Name{}, errors.New("the certificate names no member of a VDA cluster: it must have one URI, spiffe://CLUSTER/KIND/NAME")
	}
	u := c.URIs[0]
	kind, rest, _ := strings.Cut(strings.TrimPrefix(u.EscapedPath(), "/"), "/")
	name, err := url.PathUnescape(rest)
	n := Name{Cluster: u.Host, Kind: kind, Name: name}
	if err == nil {
		err = n.Check()
	}
	if err == nil && n.uri().String() != u.String() {
		err = errors.New("it is not in its shortest form")
	}
	if err != nil {
		return Name{}, fmt.Errorf("the certificate's URI %q names no member of a VDA cluster: %w", u, err)
	}
	return n, nil
}
