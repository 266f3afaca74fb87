package dbflag

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/virtual-disk-array/vda/program"
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
		{name: "for all, without a password", args: []string{"--db-uri-file", open("none", "sqlite:////from-file", 0o644)},
			want: "sqlite:////from-file"},
		{name: "file of flags", args: []string{"--config", write("flags", "db-uri: "+secret+"\n")}, want: secret},
		{name: "environment before file of flags", env: "sqlite:////from-env",
			args: []string{"--config", write("flags", "db-uri: "+secret+"\n")}, want: "sqlite:////from-env"},
		{name: "environment before the other flag in the file", env: "sqlite:////from-env",
			args: []string{"--config", write("other", "db-uri-file: "+good+"\n")},
			want: "sqlite:////from-env"},
		{name: "file of flags for all to read", args: []string{"--config", open("flags-all", "\ndb-uri: "+secret+"\n", 0o644)},
			err: "flags-all, line 2: db-uri: it holds a password"},
		{name: "empty file", args: []string{"--db-uri-file", empty}, err: "one line"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := "", error(nil)
			root := &cobra.Command{Use: "test"}
			u := Add(root.Flags())
			root.RunE = func(*cobra.Command, []string) error {
				got, err = u.Get()
				return nil
			}
			var out bytes.Buffer
			if exit := (program.Program{Root: root}).Run(t.Context(), program.Process{Args: c.args, Stdout: &out, Stderr: &out,
				Getenv: func(name string) (string, bool) { return c.env, name == Env }}); exit != 0 {
				t.Fatal(out.String())
			}
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
