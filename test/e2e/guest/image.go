package guest

import (
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

//go:embed *.sh
var scripts embed.FS

// Image is a kernel and an initramfs.
type Image struct{ Dir string }

// Kernel is the path of the kernel.
func (i Image) Kernel() string { return filepath.Join(i.Dir, "vmlinux") }

// Initramfs is the path of the root file system, or of what finds it on a disk.
func (i Image) Initramfs() string { return filepath.Join(i.Dir, "initramfs.cpio") }

// Disk is the path of the root file system's disk of an image that
// BuildInstalled or BuildServer made. A guest gets a copy: it writes to it.
func (i Image) Disk() string { return filepath.Join(i.Dir, "disk.img") }

// Build assembles the image below cache, or finds it there if it was built
// from the same scripts before. It needs root, Debian's package tools and
// the programs that Missing names; about 20 s.
func Build(ctx context.Context, cache string) (Image, error) {
	return build(ctx, cache, "guest", nil, "build.sh", "mirrors.sh", "init.sh")
}

// BuildInstalled is Build of a machine on which Debian is installed, with systemd
// and nvme-cli, on a disk. It needs mmdebstrap in addition; about 30 s.
func BuildInstalled(ctx context.Context, cache string) (Image, error) {
	return build(ctx, cache, "debian", []string{"KERNEL=yes"}, "debian.sh", "mirrors.sh")
}

// BuildServer is BuildInstalled without a kernel, for a container.
func BuildServer(ctx context.Context, cache string) (Image, error) {
	return build(ctx, cache, "server", []string{"KERNEL=no"}, "debian.sh", "mirrors.sh")
}

// build runs the first of the scripts, beside which the others lie.
func build(ctx context.Context, cache, name string, env []string, files ...string) (Image, error) {
	hash := sha256.New()
	texts := map[string][]byte{}
	for _, f := range files {
		text, err := scripts.ReadFile(f)
		if err != nil {
			return Image{}, err
		}
		texts[f] = text
		hash.Write(text)
	}
	dir, err := filepath.Abs(filepath.Join(cache, name+"-"+hex.EncodeToString(hash.Sum(nil)[:6])))
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
	for f, text := range texts {
		if err := os.WriteFile(filepath.Join(dir, f), text, 0o755); err != nil {
			return img, err
		}
	}
	cmd := exec.CommandContext(ctx, "bash", filepath.Join(dir, files[0]), dir)
	cmd.Env = append(os.Environ(), env...)
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
