package sandbox

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestProcess(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	dir := t.TempDir()

	good, err := start(dir, "good one", nil, "/bin/sh", "-c", "trap 'exit 0' TERM; touch ready; while :; do sleep 0.05; done")
	if err != nil {
		t.Fatal(err)
	}
	if err := good.waitUntil(ctx, exists(dir+"/ready")); err != nil {
		t.Fatal(err)
	}
	if err := good.stop(3 * time.Second); err != nil {
		t.Errorf("a process that stops on SIGTERM: %v", err)
	}

	dead, err := start(dir, "dead one", nil, "/bin/sh", "-c", "echo cannot open the disk; exit 1")
	if err != nil {
		t.Fatal(err)
	}
	err = dead.waitUntil(ctx, exists(dir+"/never"))
	if err == nil || !strings.Contains(err.Error(), "dead one") || !strings.Contains(err.Error(), "cannot open the disk") {
		t.Errorf("a process that ended: %v, want its name and its last line", err)
	}

	deaf, err := start(dir, "deaf one", nil, "/bin/sh", "-c", "trap '' TERM; touch deaf; while :; do sleep 0.05; done")
	if err != nil {
		t.Fatal(err)
	}
	if err := deaf.waitUntil(ctx, exists(dir+"/deaf")); err != nil {
		t.Fatal(err)
	}
	if err := deaf.stop(100 * time.Millisecond); err == nil || !strings.Contains(err.Error(), "did not stop") {
		t.Errorf("a process that ignores SIGTERM: %v", err)
	}
}

func TestShellLine(t *testing.T) {
	got, want := shellLine("vda_cli", []string{"--pd-conf", `{"type":"malloc"}`, "pd0"}), `vda_cli --pd-conf '{"type":"malloc"}' pd0`
	if got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// TestTheClusterIsItsOwn: what the user's shell exports for another cluster sets
// no flag of this one.
func TestTheClusterIsItsOwn(t *testing.T) {
	t.Setenv("VDA_PORT", "1")
	t.Setenv("SPDK_ARGS", "-s 1024")
	env := environ()
	if slices.Contains(env, "VDA_PORT=1") || !slices.Contains(env, "SPDK_ARGS=-s 1024") {
		t.Errorf("%q", env)
	}
}
