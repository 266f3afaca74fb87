package rpccli

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
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
