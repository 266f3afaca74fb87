package program

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
)

// values are the flags of a program that is like a daemon, with a command.
type values struct {
	port          int
	wait          time.Duration
	conf, uri, at string
	dirs          []string
	force, ran    bool
	sub           string
}

func example(v *values, run func() error) Program {
	root := &cobra.Command{Use: "vda_example [flags]", Short: "Be an example", RunE: func(*cobra.Command, []string) error {
		v.ran = true
		return run()
	}}
	fs := root.Flags()
	fs.IntVar(&v.port, "port", 9520, "TCP `PORT` of it")
	fs.DurationVar(&v.wait, "sync-timeout", 20*time.Second, "how long it waits")
	fs.StringVar(&v.conf, "listener-conf", "{}", "`JSON` of an address")
	fs.StringVar(&v.uri, "db-uri", "", "`URI` of the database")
	fs.StringVar(&v.at, "db-uri-file", "", "`FILE` with it")
	fs.StringArrayVar(&v.dirs, "aio-dir", nil, "`DIR` of files")
	fs.BoolVar(&v.force, "force", false, "whatever it is")
	OneOf(fs, "db-uri", "db-uri-file")
	Typed(fs, "force")
	check := &cobra.Command{Use: "check", Short: "Check it", Args: NoArgs, RunE: func(*cobra.Command, []string) error { return run() }}
	check.Flags().StringVar(&v.sub, "depth", "", "`WORD` for how deep")
	check.Flags().String("device", "", "`PATH` of it")
	check.Flags().String("size", "", "`BYTES` of it")
	_, _ = check.MarkFlagRequired("device"), check.MarkFlagRequired("size")
	AlsoEnv(check.Flags(), "depth", "VDA_OLD")
	root.AddCommand(check)
	return Program{Root: root}
}

// run runs the example; env are NAME=VALUE, file is what --config names when it
// is not empty.
func run(t *testing.T, file string, env []string, args ...string) (v values, out, errs string, exit int) {
	t.Helper()
	return runWith(t, file, env, func() error { return nil }, args...)
}

func runWith(t *testing.T, file string, env []string, do func() error, args ...string) (v values, out, errs string, exit int) {
	t.Helper()
	if file != "" {
		path := filepath.Join(t.TempDir(), "vda.yaml")
		if err := os.WriteFile(path, []byte(file), 0o600); err != nil {
			t.Fatal(err)
		}
		args = append(args, "--config", path)
	}
	var stdout, stderr bytes.Buffer
	exit = example(&v, do).Run(t.Context(), Process{Args: args, Stdout: &stdout, Stderr: &stderr, Getenv: func(name string) (string, bool) {
		i := slices.IndexFunc(env, func(e string) bool { return strings.HasPrefix(e, name+"=") })
		if i < 0 {
			return "", false
		}
		return env[i][len(name)+1:], true
	}})
	return v, stdout.String(), stderr.String(), exit
}

// TestPrecedence: the command line, then the environment, then the file, then
// the default.
func TestPrecedence(t *testing.T) {
	const file = "port: 3\nsync-timeout: 3s\n"
	for _, c := range []struct {
		file string
		env  []string
		args []string
		port int
	}{
		{port: 9520},
		{file: file, port: 3},
		{file: file, env: []string{"VDA_PORT=2"}, port: 2},
		{file: file, env: []string{"VDA_PORT="}, port: 3}, // empty is not set
		{file: file, env: []string{"VDA_PORT=2"}, args: []string{"--port", "1"}, port: 1},
		{file: file, env: []string{"VDA_PORT=2"}, args: []string{"--port=9520"}, port: 9520},
	} {
		v, _, errs, exit := run(t, c.file, c.env, c.args...)
		if exit != 0 || v.port != c.port || (v.wait == 3*time.Second) != (c.file != "") {
			t.Errorf("file %q, environment %v, %v: port %d, wait %v, exit %d, %s; want port %d", c.file, c.env, c.args, v.port, v.wait,
				exit, errs, c.port)
		}
	}
}

// TestConfigByEnvironment: VDA_CONFIG is --config.
func TestConfigByEnvironment(t *testing.T) {
	path := filepath.Join(t.TempDir(), "c.yaml")
	if err := os.WriteFile(path, []byte("# nothing but the port\nport: 7\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if v, _, errs, _ := run(t, "", []string{"VDA_CONFIG=" + path}); v.port != 7 {
		t.Errorf("port %d, %s", v.port, errs)
	}
}

// TestListsAndObjects: a flag that may be given again takes a list, one whose
// value is JSON a mapping.
func TestListsAndObjects(t *testing.T) {
	v, _, errs, exit := run(t, "aio-dir: [/a, \"/b,c\"]\nlistener-conf:\n  trtype: tcp\n  trsvcid: \"4420\"\n", nil)
	if exit != 0 || !slices.Equal(v.dirs, []string{"/a", "/b,c"}) || v.conf != `{"trsvcid":"4420","trtype":"tcp"}` {
		t.Errorf("dirs %q, conf %s, exit %d, %s", v.dirs, v.conf, exit, errs)
	}
	v, _, _, _ = run(t, "aio-dir: /x\n", []string{"VDA_AIO_DIR=/a,/b", `VDA_LISTENER_CONF={"a":1}`})
	if !slices.Equal(v.dirs, []string{"/a", "/b"}) || v.conf != `{"a":1}` {
		t.Errorf("dirs %q, conf %s from the environment", v.dirs, v.conf)
	}
}

// TestOneOf: of two flags that exclude each other the stronger source counts;
// one source that gives both is left to the program.
func TestOneOf(t *testing.T) {
	for _, c := range []struct {
		file    string
		env     []string
		args    []string
		uri, at string
	}{
		{file: "db-uri: f", env: []string{"VDA_DB_URI_FILE=e"}, at: "e"},
		{file: "db-uri-file: f", env: []string{"VDA_DB_URI=e"}, args: []string{"--db-uri-file", "a"}, at: "a"},
		{file: "db-uri: f\ndb-uri-file: g", uri: "f", at: "g"},
		{env: []string{"VDA_DB_URI=e", "VDA_DB_URI_FILE=h"}, uri: "e", at: "h"},
	} {
		if v, _, errs, _ := run(t, c.file, c.env, c.args...); v.uri != c.uri || v.at != c.at {
			t.Errorf("%+v: db-uri %q, db-uri-file %q; %s", c, v.uri, v.at, errs)
		}
	}
}

// TestErrorsSayWhereFrom: one line, exit status 1, and the program did not run.
func TestErrorsSayWhereFrom(t *testing.T) {
	for _, c := range []struct {
		name, file string
		env, args  []string
		says       string
	}{
		{name: "command line", args: []string{"--port", "x"}, says: `vda_example: --port "x": it must be a whole number`},
		{name: "no value", args: []string{"--port"}, says: "vda_example: --port needs a value"},
		{name: "duration", args: []string{"--sync-timeout=5"}, says: `--sync-timeout "5": it must be a duration with a unit`},
		{name: "environment", env: []string{"VDA_PORT=x"}, says: `the environment variable VDA_PORT: port "x": it must be a whole number`},
		{name: "file", file: "# one\nport: x\n", says: `vda.yaml, line 2: port "x": it must be a whole number`},
		{name: "unknown flag", args: []string{"--db-urii=x"}, says: "unknown flag: --db-urii; did you mean --db-uri?"},
		{name: "underscore", args: []string{"--db_uri=x"}, says: "did you mean --db-uri?"},
		{name: "one dash", args: []string{"-port=1"}, says: "unknown flag: -port; did you mean --port?"},
		{name: "nothing like it", args: []string{"--zzzzzz"}, says: "unknown flag: --zzzzzz\n"},
		{name: "unknown key", file: "port: 1\ndb-url: x\n",
			says: `vda.yaml, line 2: "db-url" is not a flag of vda_example; did you mean db-uri?`},
		{name: "swapped key", file: "prot: 1\n", says: "did you mean port?"},
		{name: "help is not a key", file: "help: true\n", says: `"help" is not a flag`},
		{name: "twice", file: "port: 1\nport: 2\n", says: "line 2: port is given in line 1 already"},
		{name: "no value in the file", file: "port:\n", says: "line 1: port: there is no value"},
		{name: "a list for one value", file: "port: [1, 2]\n", says: "line 1: port: it must be one value"},
		{name: "a mapping for a text", file: "db-uri: {a: b}\n", says: "line 1: db-uri: it must be one value"},
		{name: "not a mapping", file: "- port\n", says: "it must be a YAML mapping from names of flags to values"},
		{name: "not YAML", file: "port: [1\n", says: "it is not valid YAML: "},
		{name: "two documents", file: "port: 1\n---\nport: 2\n", says: "one YAML document"},
		{name: "no file", args: []string{"--config", "/none/vda.yaml"}, says: "--config /none/vda.yaml: no such file or directory"},
		{name: "an order in the environment", env: []string{"VDA_FORCE=true"}, says: "VDA_FORCE sets --force, which is an order"},
		{name: "an order in the file", file: "force: true\n", says: "line 1 sets --force, which is an order"},
		{name: "a command", args: []string{"chekc"},
			says: `unexpected argument "chekc": every value belongs to a flag; did you mean the command "check"?`},
		{name: "required", args: []string{"check", "--size", "1"}, says: "vda_example: --device is required\n"},
		{name: "two required", args: []string{"check"}, says: "vda_example: --device, --size are required\n"},
		{name: "a shell", args: []string{"completion", "ksh"}, says: `no completion for "ksh"; the shell must be one of bash, zsh, fish`},
	} {
		t.Run(c.name, func(t *testing.T) {
			v, _, errs, exit := run(t, c.file, c.env, c.args...)
			if exit != 1 || v.ran || strings.Count(errs, "\n") != 1 || !strings.Contains(errs, c.says) {
				t.Errorf("exit %d, ran %v, %q; want %q", exit, v.ran, errs, c.says)
			}
		})
	}
}

// TestARefusedValueSaysWhereFrom: what the program itself finds wrong with a
// value, however it names the flag.
func TestARefusedValueSaysWhereFrom(t *testing.T) {
	for _, text := range []string{"--port 3 is in use", "sync-timeout 1s must be above port", "port 3: it is odd"} {
		_, _, errs, _ := runWith(t, "port: 3\n", []string{"VDA_SYNC_TIMEOUT=1s"}, func() error { return errors.New(text) })
		const env = "(--sync-timeout is set by the environment variable VDA_SYNC_TIMEOUT)"
		if strings.Contains(text, "sync") != strings.Contains(errs, env) ||
			strings.Contains(text, "3") != strings.Contains(errs, "vda.yaml, line 1)") {
			t.Errorf("%s: %s", text, errs)
		}
	}
	inUse := func() error { return errors.New("--port 3 is in use") }
	if _, _, errs, _ := runWith(t, "", nil, inUse, "--port", "3"); errs != "vda_example: --port 3 is in use\n" {
		t.Errorf("of the command line: %q", errs)
	}
}

// TestAFileServesAllCommands: a key of another command is left alone, and an
// order of a command is refused whichever one runs.
func TestAFileServesAllCommands(t *testing.T) {
	v, _, errs, exit := run(t, "depth: all\nport: 3\n", []string{"VDA_DEVICE=/d"}, "check", "--size", "1")
	if exit != 0 || v.sub != "all" || v.port != 9520 {
		t.Errorf("%+v, %s", v, errs)
	}
	if _, _, errs, exit := run(t, "force: true\n", nil, "check"); exit != 1 || !strings.Contains(errs, "order") {
		t.Errorf("exit %d, %s", exit, errs)
	}
}

// TestEveryProgramHas what none defines itself: help, a version, completion.
// None of them looks at the environment.
func TestEveryProgramHas(t *testing.T) {
	bad := []string{"VDA_PORT=x", "VDA_CONFIG=/none"}
	for _, c := range []struct {
		args []string
		says []string
	}{
		{[]string{"--help"}, []string{"Usage:\n  vda_example [flags]\n", "--port PORT ", "(default 9520)", "--config FILE", "--version",
			"(default 20s)", "(VDA_ and its name in", "  check "}},
		{[]string{"help", "check"}, []string{"Usage:\n  vda_example check [flags]\n", "--depth WORD"}},
		{[]string{"--version"}, []string{"vda_example devel (commit ", "go1."}},
		{[]string{"__complete", "--po"}, []string{"--port"}},
		{[]string{"completion", "bash"}, []string{"__start_vda_example"}},
		{[]string{"completion", "zsh", "--no-descriptions"}, []string{"#compdef vda_example"}},
		{[]string{"completion", "fish"}, []string{"complete -c vda_example"}},
		{[]string{"flags-reference"}, []string{"<!-- flags of vda_example, generated", "| `--port` PORT | 9520 | TCP PORT of it |",
			"<!-- flags of vda_example check,"}},
	} {
		v, out, errs, exit := run(t, "", bad, c.args...)
		if exit != 0 || errs != "" && c.args[0] != "__complete" || v.ran {
			t.Errorf("%v: exit %d, %s", c.args, exit, errs)
		}
		for _, s := range c.says {
			if !strings.Contains(out, s) {
				t.Errorf("%v does not say %q:\n%s", c.args, s, out)
			}
		}
	}
}

// TestAlsoEnv: the older of two variables counts when the other is not set.
func TestAlsoEnv(t *testing.T) {
	for want, env := range map[string][]string{"old": {"VDA_OLD=old"}, "new": {"VDA_OLD=old", "VDA_DEPTH=new"}} {
		if v, _, errs, _ := run(t, "", env, "check", "--size", "1", "--device", "d"); v.sub != want {
			t.Errorf("%v: %q, %s", env, v.sub, errs)
		}
	}
}

func TestNearest(t *testing.T) {
	names := []string{"list", "get", "create", "delete", "modify", "failover"}
	for word, want := range map[string]string{"lst": "list", "lisst": "list", "gett": "get", "crate": "create", "faliover": "failover",
		"del": "delete", "fetch": "", "x": ""} {
		if got := nearest(word, names); got != want {
			t.Errorf("nearest to %s is %q, want %q", word, got, want)
		}
	}
}

// TestSwallowedWords: a flag neither takes another flag for its value nor leaves its value for a
// name, whatever the command.
func TestSwallowedWords(t *testing.T) {
	for line, says := range map[string]string{
		"--listener-conf --force":                     "--listener-conf needs a value, and the word behind it is the flag --force",
		"--aio-dir --db-uri x":                        "write --aio-dir=--db-uri",
		"--port --nothing":                            "--port needs a value, and the word behind it is the flag --nothing",
		"check --depth --device /dev/sdb --size 1":    "--depth needs a value, and the word behind it is the flag --device",
		"check --device /dev/sdb --size --depth=x":    "--size needs a value, and the word behind it is the flag --depth=x",
		"--force false":                               "as in --force=false",
		"--force true":                                "as in --force=true",
		"check --config --help":                       "--config needs a value",
		"check --device d --size 1 --depth --size=2":  "--depth needs a value",
		"check --device d --size 1 --size=2 --depth ": "--depth needs a value",
	} {
		_, _, errs, exit := run(t, "", nil, strings.Fields(line)...)
		if exit == 0 || !strings.Contains(errs, says) || strings.Count(errs, "\n") != 1 {
			t.Errorf("%s: exit %d, %s", line, exit, errs)
		}
	}
	v, _, errs, exit := run(t, "", nil, "--listener-conf=--force", "--port", "-5", "--aio-dir", "-", "--force=false")
	if exit != 0 || v.conf != "--force" || v.port != -5 || v.dirs[0] != "-" || v.force {
		t.Errorf("exit %d, %+v, %s", exit, v, errs)
	}
}
