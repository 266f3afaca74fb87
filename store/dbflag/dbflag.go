// Package dbflag is how every program that needs the cluster's database is
// told its URI: --db-uri or --db-uri-file, or either by the environment or the
// program's file of flags, so that no password stands on a command line.
package dbflag

import (
	"fmt"
	"net/url"
	"os"
	"strings"

	"github.com/spf13/pflag"

	"github.com/virtual-disk-array/vda/program"
)

// Env is the environment variable of --db-uri.
const Env = "VDA_DB_URI"

// URI holds the values of the flags.
type URI struct {
	uri, file string
	flag      *pflag.Flag // --db-uri
}

// Add defines the flags.
func Add(fs *pflag.FlagSet) *URI {
	u := &URI{}
	fs.StringVar(&u.uri, "db-uri", "", "`URI` of the database: postgresql://USER:PASSWORD@HOST:PORT/DATABASE, mysql://… or "+
		"sqlite:////ABSOLUTE/PATH (default $"+Env+")")
	fs.StringVar(&u.file, "db-uri-file", "", "`FILE` with the database's URI, so that the password is not on the command line; with one "+
		"in it, not open to all users (mode 0600 or 0640)")
	program.OneOf(fs, "db-uri", "db-uri-file")
	program.Private(fs, "db-uri", maskPassword)
	u.flag = fs.Lookup("db-uri")
	return u
}

// hasPassword reports that a URI has a password in it; one that cannot be read
// may have one.
func hasPassword(uri string) bool {
	u, err := url.Parse(uri)
	if err != nil {
		return true
	}
	_, has := u.User.Password()
	return has || u.Query().Has("password")
}

// maskPassword is a URI with its passwords covered: what stands between a user's name and the
// last @ of the host, and the value of the parameter.
func maskPassword(uri string) string {
	cover := func(from, to int) { uri = uri[:from] + program.Covered(uri[from:to]) + uri[to:] }
	begin := strings.Index(uri, "://")
	if begin < 0 {
		return program.Covered(uri)
	}
	begin += len("://")
	if host := strings.LastIndexByte(uri, '@'); host >= begin {
		if user := strings.IndexByte(uri[begin:host], ':'); user >= 0 {
			cover(begin+user+1, host)
		}
	}
	for at := begin; ; {
		next := strings.Index(uri[at:], "password=")
		if next < 0 {
			return uri
		}
		at += next + len("password=")
		end := strings.IndexByte(uri[at:], '&')
		if end < 0 {
			end = len(uri) - at
		}
		cover(at, at+end)
	}
}

// Get returns the URI that the user gave. The error has no secret in it.
func (u *URI) Get() (string, error) {
	switch {
	case u.uri != "" && u.file != "":
		return "", fmt.Errorf("--db-uri and --db-uri-file: give one of them, not both")
	case u.uri != "":
		if from := program.OriginOf(u.flag); from.Source == program.FromFile {
			if err := private(from.File, u.uri); err != nil {
				return "", fmt.Errorf("%s: db-uri: %w", from.Place, err)
			}
		}
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
		if err := private(u.file, uri); err != nil {
			return "", fmt.Errorf("--db-uri-file %s: %w", u.file, err)
		}
		return uri, nil
	}
	return "", fmt.Errorf("no database: give --db-uri, --db-uri-file or the environment variable %s", Env)
}

// private refuses a file that every user may open and that holds a URI with a
// password.
func private(file, uri string) error {
	st, err := os.Stat(file)
	if err != nil || st.Mode()&0o007 == 0 || !hasPassword(uri) {
		return nil
	}
	return fmt.Errorf("it holds a password, and every user of this machine may open it (mode %04o); make it 0600 or 0640 (chmod o= %s)",
		st.Mode().Perm(), file)
}
