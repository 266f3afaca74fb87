package dbcli

import (
	"bytes"
	"io"
	"path/filepath"
	"strings"
	"testing"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/program"
	"github.com/virtual-disk-array/vda/program/programtest"
	"github.com/virtual-disk-array/vda/store"
	"github.com/virtual-disk-array/vda/store/dbtest"
)

func TestMain(t *testing.T) {
	uri := dbtest.SQLite(t)
	const secret = "s3cret"
	file := filepath.Join(t.TempDir(), "backup")
	for _, c := range []struct {
		args []string
		code int
		want string // in stdout with code 0, else in stderr
	}{
		{[]string{"--help"}, 0, "--db-uri-file"},
		{nil, 1, "the action is missing; it must be create"},
		{[]string{"--action", "destroy"}, 1, `--action "destroy" must be create`},
		{[]string{"--action", "create"}, 1, "no database: give --db-uri"},
		{[]string{"--action", "create", "x"}, 1, `there is no action "x"; it must be create`},
		{[]string{"--action", "create", "drop"}, 1, `"drop" and --action "create": give the action once`},
		{[]string{"status", "x"}, 1, `unexpected argument "x"`},
		{[]string{"--unknown"}, 1, "unknown flag"},
		{[]string{"--action", "create", "--timeout", "-1s"}, 1, "--timeout"},
		{[]string{"--action", "create", "--db-uri", "vda.db"}, 1, "no scheme"},
		{[]string{"--action", "create", "--db-uri", "oracle://u:" + secret + "@h/d"}, 1, `scheme "oracle"`},
		{[]string{"--action", "create", "--db-uri", "postgresql://u:" + secret + "/x@127.0.0.1:1/d"}, 1, "not a PostgreSQL URI"},
		{[]string{"--action", "create", "--db-uri", "mysql://u:" + secret + "/x@127.0.0.1:1/d"}, 1, "not a MySQL URI"},
		{[]string{"--action", "create", "--db-uri", "postgresql://u:" + secret + "@127.0.0.1:1/d"}, 1, "127.0.0.1:1"},
		{[]string{"--action", "create", "--db-uri", "mysql://u:" + secret + "@127.0.0.1:1/d"}, 1, "127.0.0.1:1"},
		{[]string{"--action", "create", "--db-uri", "sqlite:////nowhere/at/all/vda.db"}, 1, "/nowhere/at/all/vda.db"},
		{[]string{"--action", "status", "--db-uri", uri}, 1, "no VDA schema"},
		{[]string{"--action", "migrate", "--db-uri", uri}, 1, "no VDA schema"},
		{[]string{"--action", "restored", "--db-uri", uri}, 1, "no VDA schema"},
		{[]string{"--action", "drop", "--db-uri", uri}, 1, "nothing was dropped"},
		{[]string{"--action", "create", "--db-uri", uri}, 0, "created; "},
		{[]string{"--action", "create", "--db-uri", uri}, 0, "already there, nothing changed"},
		{[]string{"--action", "status", "--db-uri", uri}, 0, "up to date; cluster "},
		{[]string{"--action", "migrate", "--db-uri", uri}, 0, "nothing to migrate"},
		{[]string{"--action", "backup", "--db-uri", uri}, 1, "--file is missing"},
		{[]string{"--action", "status", "--file", file, "--db-uri", uri}, 1, "--action status takes none"},
		{[]string{"--action", "backup", "--file", file, "--db-uri", uri}, 0, "and verified: cluster "},
		{[]string{"--action", "backup", "--file", file, "--db-uri", uri}, 1, "exists already; a backup overwrites nothing"},
		{[]string{"--action", "restore", "--file", file, "--db-uri", uri}, 1, "a backup is restored into a database without a VDA schema"},
		{[]string{"--action", "restore", "--file", "/nowhere", "--db-uri", dbtest.SQLite(t)}, 1, "file /nowhere: "},
		{[]string{"--action", "restore", "--file", file, "--db-uri", dbtest.SQLite(t)}, 0, "vda_db --action restored before"},
		{[]string{"--action", "restored", "--db-uri", uri}, 0, "take this database as the truth"},
		{[]string{"--action", "drop", "--db-uri", uri}, 0, "dropped the schema of cluster"},
		{[]string{"--action", "drop", "--db-uri", uri}, 1, "nothing was dropped"},
	} {
		t.Run(strings.Join(c.args, " "), func(t *testing.T) {
			var out, errs bytes.Buffer
			if code := Program().Run(t.Context(), program.Process{Args: c.args, Stdout: &out, Stderr: &errs}); code != c.code {
				t.Errorf("exit code %d, want %d", code, c.code)
			}
			got := &out
			if c.code != 0 {
				got = &errs
				if n := strings.Count(errs.String(), "\n"); n != 1 {
					t.Errorf("the error has %d lines", n)
				}
			}
			if !strings.Contains(got.String(), c.want) {
				t.Errorf("stdout %q\nstderr %q\nwant %q", out.String(), errs.String(), c.want)
			}
			if strings.Contains(out.String()+errs.String(), secret) {
				t.Errorf("the password is in %q %q", out.String(), errs.String())
			}
		})
	}
}

// TestPoint16Verbs: an action may stand alone, as other programs have it; drop asks somebody at a
// terminal, and a script never.
func TestPoint16Verbs(t *testing.T) {
	uri := dbtest.SQLite(t)
	drop := func(typed bool, answer string, more ...string) int {
		keyboard, tty := programtest.Terminal(t)
		if _, err := keyboard.WriteString(answer); err != nil {
			t.Fatal(err)
		}
		return build(func() bool { return typed }).Run(t.Context(), program.Process{
			Args: append([]string{"drop", "--db-uri", uri}, more...), Stdin: tty, Stdout: io.Discard, Stderr: tty})
	}
	create := func() {
		var out, errs bytes.Buffer
		p := program.Process{Args: []string{"create", "--db-uri", uri}, Stdout: &out, Stderr: &errs}
		if code := Program().Run(t.Context(), p); code != 0 || !strings.HasPrefix(out.String(), "created; ") {
			t.Fatalf("exit code %d, %s%s", code, out.String(), errs.String())
		}
	}
	create()
	if code := drop(true, "no\n"); code != 1 {
		t.Errorf("no: exit code %d", code)
	}
	for name, drops := range map[string]func() int{
		"yes":      func() int { return drop(true, "yes\n") },
		"--yes":    func() int { return drop(true, "", "--yes") },
		"a script": func() int { return drop(false, "") },
	} {
		if code := drops(); code != 0 { // it is there, so no has not dropped it
			t.Errorf("%s: exit code %d", name, code)
		}
		create()
	}
	var out, errs bytes.Buffer
	Program().Run(t.Context(), program.Process{Args: []string{"__complete", ""}, Stdout: &out, Stderr: &errs})
	if !strings.HasPrefix(out.String(), "backup\ncreate\ndrop\n") && !strings.Contains(out.String(), "\nbackup\n") {
		t.Errorf("a shell completes %q", out.String())
	}
}

// TestTimeout has a server that takes connections and never says a word.
func TestTimeout(t *testing.T) {
	for _, scheme := range []string{"postgresql", "mysql"} {
		t.Run(scheme, func(t *testing.T) {
			addr := dbtest.Mute(t)
			var out, errs bytes.Buffer
			args := []string{"--action", "status", "--timeout", "200ms", "--db-uri", scheme + "://u:p@" + addr + "/d"}
			code := Program().Run(t.Context(), program.Process{Args: args, Stdout: &out, Stderr: &errs})
			if code != 1 || errs.Len() == 0 {
				t.Errorf("exit code %d, stderr %q", code, errs.String())
			}
			t.Log(errs.String())
		})
	}
}

// TestAMissingFileIsNotMade: only create makes a database.
func TestAMissingFileIsNotMade(t *testing.T) {
	path := filepath.Join(t.TempDir(), "vda.db")
	for _, action := range []string{"status", "migrate", "restored", "drop"} {
		var out, errs bytes.Buffer
		p := program.Process{Args: []string{"--action", action, "--db-uri", "sqlite:///" + path}, Stdout: &out, Stderr: &errs}
		code := Program().Run(t.Context(), p)
		for _, want := range []string{path + ": there is no such file", "--action create"} {
			if code != 1 || !strings.Contains(errs.String(), want) {
				t.Errorf("%s: exit code %d, %q, want %q", action, code, errs.String(), want)
			}
		}
		if left, err := filepath.Glob(path + "*"); err != nil || len(left) > 0 {
			t.Fatalf("%s left %v (%v)", action, left, err)
		}
	}
	if _, err := store.Open(t.Context(), "sqlite:///"+path); vda.KindOf(err) != vda.FailedPrecondition {
		t.Errorf("a portal: %v", err)
	}
	if left, err := filepath.Glob(path + "*"); err != nil || len(left) > 0 {
		t.Errorf("a portal left %v (%v)", left, err)
	}
}
