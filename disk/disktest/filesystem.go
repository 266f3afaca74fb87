package disktest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// FileSystem mounts a new file system of so many MiB on a folder: "tmpfs", or
// "ext4" on a loop device. It takes root, and is gone when the test ends and
// nothing has a file of it open any more.
// Without that the test is skipped, except with CI=true as root.
func FileSystem(t testing.TB, kind, dir string, mib int) {
	t.Helper()
	img := filepath.Join(t.TempDir(), "img")
	steps := [][]string{{"mount", "-t", "tmpfs", "-o", fmt.Sprintf("size=%dm", mib), "none", dir}}
	if kind == "ext4" {
		steps = [][]string{
			{"truncate", "-s", fmt.Sprintf("%dM", mib), img},
			{"mkfs.ext4", "-q", "-m", "0", img},
			{"mount", "-o", "loop", img, dir},
		}
	}
	for _, s := range steps {
		if out, err := exec.Command(s[0], s[1:]...).CombinedOutput(); err != nil {
			if os.Getenv("CI") == "true" && os.Geteuid() == 0 {
				t.Fatalf("%v: %v, %s", s, err, out)
			}
			t.Skipf("no file system, which takes root: %v: %v, %s", s, err, out)
		}
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", "--lazy", dir).CombinedOutput(); err != nil {
			t.Errorf("umount %s: %v, %s", dir, err, out)
		}
	})
}
