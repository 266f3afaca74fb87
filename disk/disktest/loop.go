// Package disktest makes block devices for tests.
package disktest

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// Loop makes a loop device of a file, with what more options losetup is given,
// which takes root and the loop driver. It
// is gone when the test ends. Without them the test is skipped, except with
// CI=true as root.
func Loop(t testing.TB, file string, more ...string) string {
	t.Helper()
	out, err := exec.Command("losetup", append(more, "--find", "--show", file)...).CombinedOutput()
	dev := strings.TrimSpace(string(out))
	if err != nil {
		if os.Getenv("CI") == "true" && os.Geteuid() == 0 {
			t.Fatalf("losetup: %v, %s", err, dev)
		}
		t.Skipf("no loop device, which takes root and the loop driver: %v, %s", err, dev)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("losetup", "--detach", dev).CombinedOutput(); err != nil {
			t.Errorf("losetup --detach %s: %v, %s", dev, err, out)
		}
	})
	return dev
}
