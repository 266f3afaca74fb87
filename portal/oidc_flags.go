package portal

import (
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/pflag"

	"github.com/virtual-disk-array/vda/portal/oidc"
	"github.com/virtual-disk-array/vda/program"
	"github.com/virtual-disk-array/vda/reason"
)

// OIDCFlags say at which issuer of OpenID Connect users may log in, and what they may do then.
type OIDCFlags struct {
	Issuer     string // its URL; "": there is none
	ClientID   string
	SecretFile string // has the client's secret in its first line; "": the client is a public one
	CAFile     string // has the issuer's CA; "": it is one that the machine knows
	UserClaim  string
	RoleClaim  string
	Roles      []string // VALUE=ROLE
	Scopes     []string
}

func (o *OIDCFlags) add(fs *pflag.FlagSet) {
	fs.StringVar(&o.Issuer, "oidc-issuer", "", "`URL` of an issuer of OpenID Connect at which users may log in, as its tokens have it; needs "+
		"--oidc-client-id, --oidc-role and --tls-dir")
	fs.StringVar(&o.ClientID, "oidc-client-id", "", "`ID` by which the issuer knows this cluster")
	fs.StringVar(&o.SecretFile, "oidc-client-secret-file", "", "`FILE` with that client's secret in its first line, mode 0600; not given: the "+
		"client is a public one")
	fs.StringVar(&o.CAFile, "oidc-ca-file", "", "`FILE` with the CA of the issuer's certificate, in PEM (default those that the machine knows)")
	fs.StringVar(&o.UserClaim, "oidc-user-claim", "sub", "`CLAIM` of the ID token that names a user; of one whom the issuer lets choose it "+
		"another may take the name")
	fs.StringVar(&o.RoleClaim, "oidc-role-claim", "groups", "`CLAIM` of the ID token that says what a user may do, a text or several; "+
		"realm_access.roles is roles in realm_access")
	fs.StringArrayVar(&o.Roles, "oidc-role", nil, "`VALUE=ROLE`: who has VALUE in --oidc-role-claim has the ROLE "+strings.Join(Roles, ", ")+
		"; once for each, and of several the first of these holds; who has none is refused")
	fs.StringSliceVar(&o.Scopes, "oidc-scopes", []string{"profile", "email"}, "`SCOPES` that are asked for beside openid, with commas between them")
}

// order of the roles, the one that may most first.
var order = []string{roleAdmin, roleOperator, roleCSI, roleViewer}

// open is the issuer, nil for none.
func (o *OIDCFlags) open(tlsDir string) (*oidc.Issuer, error) {
	switch {
	case o.Issuer == "" && (o.ClientID != "" || o.SecretFile != "" || o.CAFile != "" || len(o.Roles) > 0):
		return nil, errors.New("--oidc-issuer is missing: the other flags of --oidc say how it is used")
	case o.Issuer == "":
		return nil, nil
	case tlsDir == "":
		return nil, errors.New("--oidc-issuer needs --tls-dir: a portal without a certificate of the cluster takes no logins")
	case o.ClientID == "":
		return nil, errors.New("--oidc-client-id is missing: what the issuer knows this cluster by")
	case len(o.Roles) == 0:
		return nil, errors.New("--oidc-role is missing: VALUE=ROLE, as storage-admins=admin; without one, nobody may do anything")
	}
	cfg := oidc.Config{Issuer: o.Issuer, ClientID: o.ClientID, Scopes: o.Scopes, UserClaim: o.UserClaim, RoleClaim: o.RoleClaim,
		Roles: map[string]string{}, Order: order}
	for _, text := range o.Roles {
		at := strings.LastIndex(text, "=") // values of some issuers have one, as cn=admins,dc=example
		if at < 0 || cfg.Roles[text[:at]] != "" {
			return nil, fmt.Errorf("--oidc-role %q: it must be VALUE=ROLE, as storage-admins=admin, once for each VALUE", text)
		}
		cfg.Roles[text[:at]] = text[at+1:]
	}
	var err error
	if o.SecretFile != "" {
		if cfg.Secret, err = program.SecretFile(o.SecretFile); err != nil {
			return nil, fmt.Errorf("--oidc-client-secret-file %s: %w", o.SecretFile, err)
		}
	}
	if o.CAFile != "" {
		text, err := os.ReadFile(o.CAFile)
		if err != nil {
			return nil, fmt.Errorf("--oidc-ca-file: %s", reason.Of(err))
		}
		cfg.CA = x509.NewCertPool()
		if !cfg.CA.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("--oidc-ca-file %s: it has no certificate in PEM", o.CAFile)
		}
	}
	i, err := oidc.New(cfg)
	if err != nil {
		return nil, fmt.Errorf("--oidc: %w", err)
	}
	return i, nil
}
