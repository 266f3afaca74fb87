package guest

import (
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

//go:embed build.sh
var buildScript []byte

//go:embed init.sh
var initScript []byte

// Image is a kernel and an initramfs.
type Image struct{ Dir string }

// Kernel is the path of the uncompressed kernel.
func (i Image) Kernel() string { return filepath.Join(i.Dir, "vmlinux") }

// Initramfs is the path of the root file system.
func (i Image) Initramfs() string { return filepath.Join(i.Dir, "initramfs.cpio") }

// Build assembles the image below cache, or finds it there if it was built
// from the same scripts before. It needs root, Debian's package tools and
// the programs that Missing names; about 20 s.
func Build(ctx context.Context, cache string) (Image, error) {
	sum := sha256.Sum256(append(append([]byte{}, buildScript...), initScript...))
	dir, err := filepath.Abs(filepath.Join(cache, "guest-"+hex.EncodeToString(sum[:6])))
	if err != nil {
		return Image{}, err
	}
	img := Image{Dir: dir}
	if _, err := os.Stat(filepath.Join(dir, "done")); err == nil {
		return img, nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return img, err
	}
	for name, text := range map[string][]byte{"build.sh": buildScript, "init.sh": initScript} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o755); err != nil {
			return img, err
		}
	}
	cmd := exec.CommandContext(ctx, "bash", filepath.Join(dir, "build.sh"), dir)
	if out, err := cmd.CombinedOutput(); err != nil {
		return img, fmt.Errorf("build guest image: %w\n%s", err, out)
	}
	return img, os.WriteFile(filepath.Join(dir, "done"), nil, 0o644)
}

// Missing names the programs that Build and Boot need and that this machine
// lacks.
func Missing() []string {
	var missing []string
	for _, p := range []string{"qemu-system-x86_64", "zstd", "lz4", "xz", "cpio", "depmod", "strip", "python3", "apt-get", "dpkg-deb"} {
		if _, err := exec.LookPath(p); err != nil {
			missing = append(missing, p)
		}
	}
	return missing
}
