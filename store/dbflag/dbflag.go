// Package dbflag is how every program that needs the cluster's database is
// told its URI: --db-uri, --db-uri-file or the environment, the last two so
// that no password stands on a command line.
package dbflag

import (
	"fmt"
	"net/url"
	"os"
	"strings"

	"github.com/spf13/pflag"
)

// Env is the environment variable that is read when no flag is given.
const Env = "VDA_DB_URI"

// URI holds the values of the flags.
type URI struct{ uri, file string }

// Add defines the flags.
func Add(fs *pflag.FlagSet) *URI {
	u := &URI{}
	fs.StringVar(&u.uri, "db-uri", "", "database: postgresql://USER:PASSWORD@HOST:PORT/DATABASE, mysql://… or sqlite:////ABSOLUTE/PATH (default $"+Env+")")
	fs.StringVar(&u.file, "db-uri-file", "", "file with the database's URI, so that the password is not on the command line")
	return u
}

// hasPassword reports that a URI has a password in it; one that can't be read
// may have one.
func hasPassword(uri string) bool {
	u, err := url.Parse(uri)
	if err != nil {
		return true
	}
	_, has := u.User.Password()
	return has || u.Query().Has("password")
}

// Get returns the URI that the user gave. The error has no secret in it.
func (u *URI) Get() (string, error) {
	switch {
	case u.uri != "" && u.file != "":
		return "", fmt.Errorf("--db-uri and --db-uri-file: give one of them, not both")
	case u.uri != "":
		return u.uri, nil
	case u.file != "":
		raw, err := os.ReadFile(u.file)
		if err != nil {
			return "", fmt.Errorf("--db-uri-file: %w", err)
		}
		uri := strings.TrimSpace(string(raw))
		if uri == "" || strings.ContainsAny(uri, "\r\n") {
			return "", fmt.Errorf("--db-uri-file %s: it must hold one line, the URI", u.file)
		}
		if st, err := os.Stat(u.file); err == nil && st.Mode()&0o007 != 0 && hasPassword(uri) {
			return "", fmt.Errorf("--db-uri-file %s: it holds a password, and every user of this machine may open it (mode %04o); make it 0600 or 0640 (chmod o= %s)", u.file, st.Mode().Perm(), u.file)
		}
		return uri, nil
	}
	if uri := os.Getenv(Env); uri != "" {
		return uri, nil
	}
	return "", fmt.Errorf("no database: give --db-uri, --db-uri-file or the environment variable %s", Env)
}
