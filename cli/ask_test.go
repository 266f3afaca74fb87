package cli

import (
	"context"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/virtual-disk-array/vda/portal/portaltest"
	"github.com/virtual-disk-array/vda/program"
	"github.com/virtual-disk-array/vda/program/programtest"
)

// TestPoint9DeleteAsks: somebody at a terminal is asked before something is deleted, and
// only yes deletes. Nobody is asked with --yes, in a script, or without a terminal.
func TestPoint9DeleteAsks(t *testing.T) {
	c := portaltest.New(t)
	u := &user{t, c.Portal()}
	c.Populate(c.Dial(u.addr), 1, 1)
	there := func() bool {
		_, _, exit := u.run("da get --da-name da0")
		return exit == 0
	}
	for name, tt := range map[string]struct {
		types   string
		more    string // flags
		typed   bool   // not by a script
		piped   bool   // standard input is not a terminal
		logged  bool   // standard error is not a terminal
		deletes bool
		asks    bool
	}{
		"no":              {types: "n\n", typed: true, asks: true},
		"nothing":         {types: "\n", typed: true, asks: true},
		"something else":  {types: "da0\n", typed: true, asks: true},
		"end of input":    {types: "\x04", typed: true, asks: true},
		"yes":             {types: "yes\n", typed: true, asks: true, deletes: true},
		"y":               {types: "Y\n", typed: true, asks: true, deletes: true},
		"--yes":           {more: " --yes", typed: true, deletes: true},
		"a script":        {deletes: true},
		"a pipe":          {typed: true, piped: true, deletes: true},
		"errors to a log": {typed: true, logged: true, deletes: true},
	} {
		t.Run(name, func(t *testing.T) {
			if !there() {
				u.ok("da create --da-name da0 --da-size 8M")
			}
			keyboard, tty := programtest.Terminal(t)
			if _, err := io.WriteString(keyboard, tt.types); err != nil {
				t.Fatal(err)
			}
			p := program.Process{Args: strings.Fields("da delete --da-name da0" + tt.more), Stdin: tty, Stdout: io.Discard, Stderr: tty,
				Getenv: func(name string) (string, bool) { return u.addr, name == portalEnv }}
			if tt.piped {
				p.Stdin = strings.NewReader("n\n")
			}
			if tt.logged {
				p.Stderr = io.Discard
			}
			s := &session{typed: func() bool { return tt.typed }}
			exit := program.Program{Root: s.root(), Fail: s.fail}.Run(context.Background(), p)
			if (exit == exitOK) != tt.deletes || !tt.deletes && exit != exitUsage || there() == tt.deletes {
				t.Errorf("exit %d, the array is there: %v", exit, there())
			}
			fmt.Fprintln(tty, "end")
			said, shown := "", make([]byte, 4096)
			for !strings.Contains(said, "end\r\n") { // a read may return less than there is
				n, err := keyboard.Read(shown)
				if err != nil {
					t.Fatal(err)
				}
				said += string(shown[:n])
			}
			if strings.Contains(said, "all data on it: da0? [y/N]") != tt.asks {
				t.Errorf("the terminal shows %q", said)
			}
		})
	}
}
