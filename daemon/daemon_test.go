package daemon

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

func parse(t *testing.T, args ...string) *Flags {
	t.Helper()
	var f Flags
	fs := pflag.NewFlagSet("test", pflag.ContinueOnError)
	f.Add(fs, 9520, "gRPC")
	if err := fs.Parse(args); err != nil {
		t.Fatal(err)
	}
	return &f
}

func TestCheckNamesFlagAndValue(t *testing.T) {
	if err := parse(t).Check(); err != nil {
		t.Error(err)
	}
	for want, args := range map[string][]string{
		"--port 70000":       {"--port", "70000"},
		"--port -1":          {"--port=-1"},
		`--log-level "loud"`: {"--log-level", "loud"},
	} {
		if err := parse(t, args...).Check(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v, want %s in it", args, err, want)
		}
	}
}

// TestScrapeTokenFile: the first line is the token; one that is not there or too short is refused
// by name.
func TestScrapeTokenFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "token")
	for _, row := range []struct{ text, token, err string }{
		{"0123456789abcdef\nmore", "0123456789abcdef", ""},
		{"short\n", "", file + ": its first line has 5 characters, it must have from 16 to 256"},
		{"", "", "has 0 characters"},
	} {
		if err := os.WriteFile(file, []byte(row.text), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := (&Flags{ScrapeTokenFile: file}).ScrapeToken()
		if got != row.token || (err == nil) != (row.err == "") || err != nil && !strings.Contains(err.Error(), row.err) {
			t.Errorf("%q: %q, %v", row.text, got, err)
		}
	}
	if _, err := (&Flags{ScrapeTokenFile: file + "x"}).ScrapeToken(); err == nil || !strings.Contains(err.Error(), "--scrape-token-file") {
		t.Errorf("no file: %v", err)
	}
	if token, err := (&Flags{}).ScrapeToken(); token != "" || err != nil {
		t.Errorf("without the flag: %q, %v", token, err)
	}
}

func TestListenRefusesAPortInUse(t *testing.T) {
	f := parse(t, "--listener", "127.0.0.1", "--port", "0")
	lis, err := f.Listen(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer lis.Close()
	f.Port = lis.Addr().(*net.TCPAddr).Port
	if _, err := f.Listen(t.Context()); err == nil || !strings.Contains(err.Error(), "is in use on 127.0.0.1") {
		t.Errorf("the second on a port: %v", err)
	}
	f.Listener = "203.0.113.1"
	if _, err := f.Listen(t.Context()); err == nil || !strings.Contains(err.Error(), "--listener 203.0.113.1") {
		t.Errorf("an address that is not ours: %v", err)
	}
}

// TestLogPutsErrorsIntoWords: no log line shows what a library calls an error.
func TestLogPutsErrorsIntoWords(t *testing.T) {
	var out bytes.Buffer
	asked, lost := fmt.Errorf("ask: %w", context.DeadlineExceeded), errors.Join(io.EOF, io.ErrUnexpectedEOF)
	parse(t).Log(&out).Warn("x", "err", asked, "n", 1, "why", lost)
	if line := out.String(); !strings.Contains(line, `err="ask: no answer in time" n=1 why="the connection was closed"`) {
		t.Errorf("the log says %q", line)
	}
}

// TestServesThisMachineUnlessTold: an address is served that somebody has given, and without one
// the loopback alone, which the log says.
func TestServesThisMachineUnlessTold(t *testing.T) {
	for _, row := range []struct {
		args  []string
		want  string
		alone bool
	}{
		{nil, "127.0.0.1", true},
		{[]string{"--listener", "127.0.0.1"}, "127.0.0.1", false},
		{[]string{"--listener", "0.0.0.0"}, "0.0.0.0", false},
	} {
		f := parse(t, append(row.args, "--port", "0")...)
		lis, err := f.Listen(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		host, _, err := net.SplitHostPort(lis.Addr().String())
		if err != nil || net.ParseIP(host).IsUnspecified() != (row.want == "0.0.0.0") || row.want == "127.0.0.1" && host != row.want {
			t.Errorf("%v serves on %s, %v", row.args, host, err)
		}
		if err := lis.Close(); err != nil {
			t.Error(err)
		}
		var log strings.Builder
		f.SayAlone(f.Log(&log))
		if said := strings.Contains(log.String(), "this machine alone is served"); said != row.alone || f.Alone() != row.alone {
			t.Errorf("%v: alone %v, log %q", row.args, f.Alone(), log.String())
		}
	}
}
