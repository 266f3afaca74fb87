//go:build e2e

package packages

import (
	"context"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/virtual-disk-array/vda/test/e2e/guest"
	"github.com/virtual-disk-array/vda/test/e2e/lab"
	"github.com/virtual-disk-array/vda/test/verdict"
)

// page is docs/install.md: its commands by the heading they stand below.
type page map[string][]string

func installPage(t *verdict.T) page {
	raw, err := os.ReadFile("../../docs/install.md")
	if err != nil {
		t.Fatal(err)
	}
	p := page{}
	for _, section := range strings.Split(string(raw), "\n## ")[1:] {
		heading, text, _ := strings.Cut(section, "\n")
		for _, m := range regexp.MustCompile("(?s)```sh\n(.*?)```").FindAllStringSubmatch(text, -1) {
			p[heading] = append(p[heading], m[1])
		}
	}
	return p
}

// machine is a Debian on which an administrator works as root.
type machine struct {
	*guest.Guest
	t *verdict.T
}

// newMachine boots a Debian with systemd, the packages in /root/packages, and a blank
// disk: /dev/disk/by-id/virtio-disk2.
func newMachine(t *verdict.T, l *lab.Lab, image guest.Image, packages, name, address string) *machine {
	dir := t.TempDir()
	disk, debs, blank := filepath.Join(dir, "disk"), filepath.Join(dir, "debs"), filepath.Join(dir, "blank")
	command(t.T, "cp", "--sparse=always", image.Disk(), disk)
	command(t.T, "cp", "--sparse=always", packages, debs)
	command(t.T, "truncate", "-s", "1G", blank)
	g, err := l.AddMachine(t.Context(), guest.Config{Name: name, Image: image, Address: address + "/24", MemMB: 768,
		Disks: []string{disk, debs, blank}})
	if err != nil {
		t.Fatal(err)
	}
	m := &machine{g, t}
	m.run(`
echo ` + name + ` > /etc/hostname && hostname ` + name + `
printf '[Match]\nName=eth0\n[Network]\nAddress=` + address + `/24\n' > /etc/systemd/network/eth0.network
systemctl enable systemd-networkd-wait-online && systemctl restart systemd-networkd
mkdir -p /root/packages /var/log/journal
echo '/dev/disk/by-id/virtio-disk1 /root/packages ext4 ro,nofail 0 0' >> /etc/fstab
systemctl daemon-reload && mount /root/packages
/usr/lib/systemd/systemd-networkd-wait-online --timeout 60`)
	return m
}

// run types blocks of commands into one shell each; they must succeed.
func (m *machine) run(blocks ...string) string {
	m.t.Helper()
	var all string
	for _, b := range blocks {
		ctx, cancel := context.WithTimeout(m.t.Context(), 5*time.Minute)
		r, err := m.Run(ctx, "set -e; cd /root/packages 2>/dev/null || true; export DEBIAN_FRONTEND=noninteractive\n"+b)
		cancel()
		if err != nil || r.Code != 0 {
			m.t.Fatalf("%s: %s\nexit status %d, %v: %s%s\n%s", m.Name(), b, r.Code, err, r.Stdout, r.Stderr, m.journal())
		}
		all += string(r.Stdout)
	}
	return all
}

// journal is the end of what the machine's units have said.
func (m *machine) journal() string {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	r, err := m.Run(ctx, "systemctl --failed --no-legend; journalctl -b -o cat -n 60 -u 'vda-*' -u mnt-data.mount; nvme list-subsys; "+
		"grep -v '^#' /etc/nvme/discovery.conf; dmesg | grep nvme | tail -n 20")
	if err != nil {
		return err.Error()
	}
	return string(r.Stdout)
}

// again boots the machine that goes down.
func (m *machine) again() {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(m.t.Context(), 5*time.Minute)
	defer cancel()
	if err := m.Restart(ctx); err != nil {
		m.t.Fatalf("%v\n%s", err, m.Log())
	}
}

// TestInstall types the commands of docs/install.md, and no other, on a server and a
// host with Debian and systemd, up to a mounted file system. What was written is there
// after the host has rebooted, which unmounted it in order, and after the power of both
// failed.
func TestInstall(plain *testing.T) {
	t := verdict.New(plain)
	if missing := append(lab.Missing(), guest.Missing()...); len(missing) > 0 {
		t.Fatalf("this machine lacks %s", strings.Join(missing, ", "))
	}
	p := installPage(t)
	cache := filepath.Join("..", "..", "out")
	image, err := guest.BuildInstalled(t.Context(), cache)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	packages := filepath.Join(dir, "packages.img")
	command(plain, "truncate", "-s", "256M", packages)
	command(plain, "mke2fs", "-q", "-t", "ext4", "-d", out, packages)
	l, err := lab.New(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	server := newMachine(t, l, image, packages, "server", "192.168.0.21")
	host := newMachine(t, l, image, packages, "host", "192.168.0.31")
	nqn := regexp.MustCompile(`nqn\.2014-08\.org\.nvmexpress:uuid:[-0-9a-f]{36}`).FindString(strings.Join(p["An array for a host"], ""))
	host.run("echo " + nqn + " > /etc/nvme/hostnqn")

	for _, section := range []string{"Portal and monitor", "Disk node", "Controller node", "An array for a host"} {
		if len(p[section]) == 0 {
			t.Fatalf("docs/install.md has no commands below %q", section)
		}
		server.run(p[section]...)
	}
	const well = "for i in $(seq 60); do vda_cli status > /dev/null && break; sleep 1; done; vda_cli status"
	server.run(well)
	host.run(p["Host"]...)
	const sum = "mountpoint -q /mnt/data && sha256sum < /mnt/data/file"
	want := host.run("dd if=/dev/urandom of=/mnt/data/file bs=1M count=64 conv=fsync status=none; " + sum)

	// back waits until the host has its file system again.
	back := func(after string) {
		t.Helper()
		got := host.run("for i in $(seq 120); do mountpoint -q /mnt/data && break; sleep 1; done; " + sum)
		if got != want {
			t.Errorf("after %s /mnt/data/file has %q, not %q", after, got, want)
		}
	}
	_, _ = host.Run(t.Context(), "systemctl --no-block reboot") // the guest may go before it has answered
	host.again()
	back("a reboot of the host")
	if text := host.run("journalctl -b -k -o cat | grep -i 'nvme.*recovery' || true"); text != "" {
		t.Errorf("the host disconnected before it had unmounted: %s", text)
	}
	_, _ = server.Close(), host.Close()
	server.again()
	host.again()
	back("a power cut")
	server.run(well)
}
