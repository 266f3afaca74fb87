package local

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// kernel is where the kernel tells of disks and of what is mounted.
type kernel struct{ sys, proc string }

// system says what the machine itself needs on the disk that a block device, by its number, is a
// partition of: what is mounted where the machine is booted and run from, or swapped on. A whole disk
// needs no such question: it cannot be opened while a part of it is in use. "" when nothing is known.
func (k kernel) system(number string) string {
	sys, err := filepath.EvalSymlinks(filepath.Join(k.sys, "dev/block", number))
	if err != nil || attr(sys, "partition") == "" {
		return ""
	}
	whole := filepath.Dir(sys)
	on := map[string]string{} // by number: the names of the disk, its partitions, and what is built on them
	k.above(whole, on)
	parts, _ := filepath.Glob(filepath.Join(whole, "*", "partition"))
	for _, p := range parts {
		k.above(filepath.Dir(p), on)
	}
	names := map[string]bool{}
	for _, name := range on {
		names[name] = true
	}
	mounts, _ := os.ReadFile(filepath.Join(k.proc, "self/mountinfo"))
	for line := range strings.Lines(string(mounts)) {
		f := strings.Fields(line)
		if len(f) < 5 || !running(f[4]) {
			continue
		}
		name := on[f[2]]
		if _, source, ok := strings.Cut(line, " - "); ok && name == "" { // btrfs has numbers of its own
			if s := strings.Fields(source); len(s) > 1 && names[filepath.Base(s[1])] && strings.HasPrefix(s[1], "/dev/") {
				name = filepath.Base(s[1])
			}
		}
		if name != "" {
			return fmt.Sprintf("%s of %s is mounted at %s", name, filepath.Base(whole), f[4])
		}
	}
	swaps, _ := os.ReadFile(filepath.Join(k.proc, "swaps"))
	for line := range strings.Lines(string(swaps)) {
		if f := strings.Fields(line); len(f) > 1 && f[1] == "partition" && names[filepath.Base(f[0])] {
			return fmt.Sprintf("%s of %s is swapped on", filepath.Base(f[0]), filepath.Base(whole))
		}
	}
	return ""
}

// running reports that the machine needs what is mounted there. In a container that is what its
// own files in /etc are mounted from.
func running(at string) bool {
	switch at {
	case "/", "/boot", "/efi", "/usr", "/var":
		return true
	}
	return strings.HasPrefix(at, "/boot/") || strings.HasPrefix(at, "/efi/") || strings.HasPrefix(at, "/etc/")
}

// above adds a block device and what is built on it, such as logical volumes, by number.
func (k kernel) above(sys string, on map[string]string) {
	number := attr(sys, "dev")
	if _, known := on[number]; known || number == "" {
		return
	}
	on[number] = filepath.Base(sys)
	holders, err := os.ReadDir(filepath.Join(sys, "holders"))
	if err != nil {
		return
	}
	for _, h := range holders {
		k.above(filepath.Join(k.sys, "block", h.Name()), on)
	}
}
