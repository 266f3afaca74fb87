package dbflag

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

func TestGet(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	good, two, empty := write("good", "sqlite:////from-file\n"), write("two", "a\nb\n"), write("empty", "\n")
	for _, c := range []struct {
		name, env, want, err string
		args                 []string
	}{
		{name: "nothing", err: "no database: give --db-uri"},
		{name: "environment", env: "sqlite:////from-env", want: "sqlite:////from-env"},
		{name: "flag before environment", env: "x", args: []string{"--db-uri", "sqlite:////flag"}, want: "sqlite:////flag"},
		{name: "file before environment", env: "x", args: []string{"--db-uri-file", good}, want: "sqlite:////from-file"},
		{name: "both", args: []string{"--db-uri", "x", "--db-uri-file", good}, err: "not both"},
		{name: "no file", args: []string{"--db-uri-file", dir + "/none"}, err: "none: no such file"},
		{name: "two lines", args: []string{"--db-uri-file", two}, err: "one line"},
		{name: "empty file", args: []string{"--db-uri-file", empty}, err: "one line"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Setenv(Env, c.env)
			fs := pflag.NewFlagSet("test", pflag.ContinueOnError)
			u := Add(fs)
			if err := fs.Parse(c.args); err != nil {
				t.Fatal(err)
			}
			got, err := u.Get()
			if c.err == "" && (err != nil || got != c.want) {
				t.Errorf("got %q, %v; want %q", got, err, c.want)
			}
			if c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)) {
				t.Errorf("error %v, want %q", err, c.err)
			}
		})
	}
}
