package conformance

import (
	"bytes"
	"context"
	"iter"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestRPCPy has SPDK's own client, the rpc.py that SPDK_RPC names, call every
// method of vda_tgt, and SPDK where it is there: with each call rpc.py sends all
// switches at their defaults.
func TestRPCPy(t *testing.T) {
	path := os.Getenv("SPDK_RPC")
	if path == "" {
		t.Skip("SPDK_RPC names no rpc.py: not tried with SPDK's client")
	}
	text, err := os.ReadFile("testdata/rpcpy")
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			p := start(t, k, true)
			fill := filler(t)
			run := func(in []byte, args ...string) []byte {
				t.Helper()
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				for tries := 0; ; {
					cmd := exec.CommandContext(ctx, path, append([]string{"-s", p.Socket()}, args...)...)
					var out, errs bytes.Buffer
					cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(in), &out, &errs
					err := cmd.Run()
					// SPDK answers a change of QoS with EAGAIN while it carries out the one before, and
					// always where nothing has the bdev open for I/O.
					busy := k.name != "vda" && strings.Contains(out.String()+errs.String(), "Resource temporarily unavailable")
					tries++
					if err == nil || !busy || tries == 5 || ctx.Err() != nil {
						if err != nil && !busy {
							t.Errorf("rpc.py %s: %v\n%s%s", strings.Join(args, " "), err, out.Bytes(), errs.Bytes())
						}
						return out.Bytes()
					}
				}
			}
			var config []byte
			for args := range commandLines(fill(string(text))) {
				if out := run(nil, args...); args[0] == "save_config" {
					config = out
				}
			}
			if k.name != "vda" {
				return
			}
			// What was saved is loaded into a fresh one.
			p = start(t, k, true)
			run(config, "load_config")
			if again := run(nil, "save_config"); !bytes.Equal(again, config) {
				t.Errorf("saved again after load_config:\n%s\nwas\n%s", again, config)
			}
		})
	}
}

// TestRPCPyCallsEveryMethod: each method that vda_tgt has of SPDK is in what TestRPCPy
// calls; this needs no rpc.py, so that a new method is missed at once.
func TestRPCPyCallsEveryMethod(t *testing.T) {
	text, err := os.ReadFile("testdata/rpcpy")
	if err != nil {
		t.Fatal(err)
	}
	called := map[string]bool{}
	for args := range commandLines(string(text)) {
		called[args[0]] = true
	}
	p := start(t, kinds[slices.IndexFunc(kinds, func(k kind) bool { return k.name == "vda" })], true)
	for _, m := range must[[]string](t)(p.GetMethods(t.Context(), false)) {
		if !called[m] && !strings.HasPrefix(m, "vda_") {
			t.Errorf("testdata/rpcpy does not call %s", m)
		}
	}
}

// commandLines yields the words of each line that is a command.
func commandLines(text string) iter.Seq[[]string] {
	return func(yield func([]string) bool) {
		for line := range strings.Lines(text) {
			if args := strings.Fields(line); len(args) > 0 && args[0] != "#" && !yield(args) {
				return
			}
		}
	}
}
