// Package dbflag is how every program that needs the cluster's database is
// told its URI: --db-uri, --db-uri-file or the environment, the last two so
// that no password stands on a command line.
package dbflag

import (
	"fmt"
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
		return uri, nil
	}
	if uri := os.Getenv(Env); uri != "" {
		return uri, nil
	}
	return "", fmt.Errorf("no database: give --db-uri, --db-uri-file or the environment variable %s", Env)
}
