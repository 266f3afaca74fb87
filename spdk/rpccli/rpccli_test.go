package rpccli

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/virtual-disk-array/vda/docs"
	"github.com/virtual-disk-array/vda/program"
)

func TestParameters(t *testing.T) {
	for _, tc := range []struct {
		method string
		args   []string
		want   string
	}{
		{"bdev_null_create", []string{"--name", "123", "--block-size", "512", "--num-blocks=8"},
			`{"name":"123","block_size":512,"num_blocks":8}`},
		{"bdev_null_create", []string{"--name=123"}, `{"name":"123"}`},
		{"bdev_null_create", []string{"--name", `"123"`}, `{"name":"123"}`},
		{"bdev_null_create", []string{"--name", "true"}, `{"name":"true"}`},
		{"bdev_null_create", []string{"--name", "{}"}, `{"name":"{}"}`},
		{"bdev_nvme_attach_controller", []string{"--trsvcid", "4420", "--ctrlr-loss-timeout-sec", "-1", "--hdgst"},
			`{"trsvcid":"4420","ctrlr_loss_timeout_sec":-1,"hdgst":true}`},
		{"bdev_raid_create", []string{"--raid-level", "0", "--base-bdevs", `["a","b"]`}, `{"raid_level":"0","base_bdevs":["a","b"]}`},
		{"any", []string{"--unknown", "text"}, `{"unknown":"text"}`},
		{"any", []string{`{"name":123}`}, `{"name":123}`},
		{"bdev_set_options", []string{"-d"}, `{"bdev_auto_examine":false}`},
	} {
		got, err := parameters(tc.method, tc.args)
		if err != nil {
			t.Errorf("%q: %v", tc.args, err)
			continue
		}
		var a, b any
		if json.Unmarshal(got, &a) != nil || json.Unmarshal([]byte(tc.want), &b) != nil {
			t.Fatalf("%q: %s or %s is not JSON", tc.args, got, tc.want)
		}
		if d := cmp.Diff(b, a); d != "" {
			t.Errorf("%q: %s", tc.args, d)
		}
	}
}

// TestSeconds: rpc.py's numbers of seconds, and durations.
func TestSeconds(t *testing.T) {
	for text, want := range map[string]time.Duration{"60": time.Minute, "0.2": 200 * time.Millisecond, "2m": 2 * time.Minute,
		"1e3": 1000 * time.Second} {
		var s seconds
		if err := s.Set(text); err != nil || time.Duration(s) != want {
			t.Errorf("%s is %v, %v", text, time.Duration(s), err)
		}
	}
	for _, text := range []string{"", "x", "NaN", "Inf", "1e12", "5 s"} {
		if err := new(seconds).Set(text); err == nil {
			t.Errorf("%q is taken", text)
		}
	}
}

// TestPoint16Methods: every method of the reference has help of its own, without a data plane, and
// completion prints a completion. A method that nobody knows has none.
func TestPoint16Methods(t *testing.T) {
	run := func(args ...string) (out, errs string, exit int) {
		var stdout, stderr strings.Builder
		exit = Program().Run(t.Context(), program.Process{Args: args, Stdout: &stdout, Stderr: &stderr,
			Getenv: func(name string) (string, bool) { return "/nowhere/x.sock", name == "VDA_SOCKET" }})
		return stdout.String(), stderr.String(), exit
	}
	methods := regexp.MustCompile(`(?m)^## (\w+)$`).FindAllStringSubmatch(docs.JSONRPC, -1)
	if len(methods) < 90 {
		t.Errorf("the reference has %d methods", len(methods))
	}
	for _, m := range methods {
		out, errs, exit := run(m[1], "--help")
		if exit != 0 || !strings.HasPrefix(out, m[1]+"\n\n") || len(out) < len(m[1])+20 || strings.ContainsAny(out, "`|") {
			t.Errorf("%s --help: exit %d, %s\n%s", m[1], exit, errs, out)
		}
	}
	out, _, _ := run("bdev_aio_create", "-h")
	for _, want := range []string{"Makes a bdev of a file", "Parameters:\n  name  ",
		"  filename                     string   required; path"} {
		if !strings.Contains(out, want) {
			t.Errorf("the help does not say %q:\n%s", want, out)
		}
	}
	for _, name := range []string{"save_config", "load_config"} {
		if out, _, exit := run(name, "--help"); exit != 0 || !strings.HasPrefix(out, name) {
			t.Errorf("%s: %s", name, out)
		}
	}
	if _, errs, exit := run("bdev_nix", "--help"); exit != 2 || !strings.Contains(errs, `no help on "bdev_nix"`) {
		t.Errorf("exit %d, %s", exit, errs)
	}
	if out, _, exit := run("completion", "bash"); exit != 0 || !strings.Contains(out, "__start_vda_rpc") {
		t.Errorf("completion: exit %d, %.100s", exit, out)
	}
}
