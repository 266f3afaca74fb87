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
	open := func(name, text string, mode os.FileMode) string {
		path := write(name, text)
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	const secret = "postgresql://u:s3cret@h/d"
	for _, c := range []struct {
		name, env, want, err string
		args                 []string
	}{
		{name: "nothing", err: "no database: give --db-uri"},
		{name: "environment", env: "sqlite:////from-env", want: "sqlite:////from-env"},
		{name: "flag before environment", env: "x", args: []string{"--db-uri", "sqlite:////flag"}, want: "sqlite:////flag"},
		{name: "file before environment", env: "x", args: []string{"--db-uri-file", good}, want: "sqlite:////from-file"},
		{name: "both", args: []string{"--db-uri", "x", "--db-uri-file", good}, err: "not both"},
		{name: "no file", args: []string{"--db-uri-file", dir + "/nothing"}, err: "nothing: no such file"},
		{name: "two lines", args: []string{"--db-uri-file", two}, err: "one line"},
		{name: "for all to read", args: []string{"--db-uri-file", open("all", secret, 0o644)}, err: "mode 0644"},
		{name: "for all to write", args: []string{"--db-uri-file", open("write", "mysql://h/d?password=s3cret", 0o602)}, err: "chmod o="},
		{name: "for a group to read", args: []string{"--db-uri-file", open("group", secret, 0o640)}, want: secret},
		{name: "for all, without a password", args: []string{"--db-uri-file", open("none", "sqlite:////from-file", 0o644)}, want: "sqlite:////from-file"},
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
			if err != nil && strings.Contains(err.Error(), "s3cret") {
				t.Errorf("the password is in %v", err)
			}
			if c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)) {
				t.Errorf("error %v, want %q", err, c.err)
			}
		})
	}
}
