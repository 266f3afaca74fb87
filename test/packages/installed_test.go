//go:build e2e

package packages

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/virtual-disk-array/vda/nvmf/host"
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

// machine is a Debian on which an administrator works as root, with the packages in
// /root/packages.
type machine struct {
	booted
	t *verdict.T
}

// booted is a container with systemd, or an emulated machine.
type booted interface {
	lab.Runner
	Restart(context.Context) error
	Close() error
	Log() string
}

// newServer boots a server that has this machine's speed, with a blank disk:
// /dev/disk/by-id/virtio-disk2.
func newServer(t *verdict.T, l *lab.Lab, image guest.Image, address string) *machine {
	dir := t.TempDir()
	disk, blank := filepath.Join(dir, "disk"), filepath.Join(dir, "blank")
	command(t.T, "cp", "--sparse=always", image.Disk(), disk)
	command(t.T, "truncate", "-s", "1G", blank)
	packages, err := filepath.Abs(out)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	s, err := l.AddServer(ctx, lab.ServerConfig{Name: "server", Address: address, Dir: dir, Disk: disk, Files: packages, Blank: blank})
	if err != nil {
		t.Fatal(err)
	}
	return &machine{s, t}
}

// newHost boots an emulated machine, whose kernel has NVMe/TCP.
func newHost(t *verdict.T, l *lab.Lab, image guest.Image, packages, address string) *machine {
	dir := t.TempDir()
	disk, debs := filepath.Join(dir, "disk"), filepath.Join(dir, "debs")
	command(t.T, "cp", "--sparse=always", image.Disk(), disk)
	command(t.T, "cp", "--sparse=always", packages, debs)
	g, err := l.AddMachine(t.Context(), guest.Config{Name: "host", Image: image, Address: address + "/24", MemMB: 768,
		Disks: []string{disk, debs}})
	if err != nil {
		t.Fatal(err)
	}
	m := &machine{g, t}
	m.run(`
echo host > /etc/hostname && hostname host
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

const well = "for i in $(seq 60); do vda_cli status > /dev/null && break; sleep 1; done; vda_cli status"

// install types what docs/install.md has for a server.
func (p page) install(server *machine) {
	server.t.Helper()
	for _, section := range []string{"Portal and monitor", "Disk node", "Controller node", "An array for a host"} {
		if len(p[section]) == 0 {
			server.t.Fatalf("docs/install.md has no commands below %q", section)
		}
		server.run(p[section]...)
	}
	server.run(well)
}

// newLab makes a rack; dir takes its sockets and logs.
func newLab(t *verdict.T, dir string) *lab.Lab {
	l, err := lab.New(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

// TestInstallServer types the commands of docs/install.md that are for a server on one
// with Debian and systemd. What a host has written to its array is there after the server
// has been switched off and on, and after all its processes died at once.
func TestInstallServer(plain *testing.T) {
	t := verdict.New(plain)
	if missing := lab.Missing(); len(missing) > 0 {
		t.Fatalf("this machine lacks %s", strings.Join(missing, ", "))
	}
	p := installPage(t)
	image, err := guest.BuildServer(t.Context(), filepath.Join("..", "..", "out"))
	if err != nil {
		t.Fatal(err)
	}
	l := newLab(t, t.TempDir())
	server := newServer(t, l, image, "192.168.0.21")
	p.install(server)
	there, err := l.AddHost(t.Context(), "host", "192.168.0.31")
	if err != nil {
		t.Fatal(err)
	}
	// asHost has this program be the host, in whose network it runs.
	asHost := func(do string) {
		t.Helper()
		subsystem := server.run("vda_cli exp get --da-name data --exp-name host0 --output jsonpath='{.exp_msg.exp_nqn}'")
		self, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		cmd := there.InNetwork(t.Context(), self)
		cmd.Env = append(os.Environ(), asHostDo+"="+do, asHostSubsystem+"="+strings.TrimSpace(subsystem), asHostNQN+"="+p.hostNQN())
		if text, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("as a host, %s: %v: %s\n%s", do, err, text, server.journal())
		}
	}
	asHost("write")
	server.run("systemctl --no-block poweroff")
	server.again()
	server.run(well)
	asHost("verify")
	if err := server.Close(); err != nil {
		t.Fatal(err)
	}
	server.again()
	server.run(well)
	asHost("verify")
}

const (
	asHostDo        = "VDA_TEST_AS_HOST" // write, or verify
	asHostSubsystem = "VDA_TEST_SUBSYSTEM"
	asHostNQN       = "VDA_TEST_HOST_NQN"
)

// TestMain is a host of the array, where TestInstallServer starts this program as one.
func TestMain(m *testing.M) {
	do := os.Getenv(asHostDo)
	if do == "" {
		os.Exit(m.Run())
	}
	if err := runAsHost(do); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// runAsHost connects to the server's array and writes to it, or reads what was written.
func runAsHost(do string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	cfg := host.Config{Traddr: "192.168.0.21", Trsvcid: "4430", SubNQN: os.Getenv(asHostSubsystem), HostNQN: os.Getenv(asHostNQN), Queues: 1}
	c, err := host.Connect(ctx, cfg)
	for ; err != nil && ctx.Err() == nil; c, err = host.Connect(ctx, cfg) { // not there yet
		time.Sleep(100 * time.Millisecond)
	}
	if err != nil {
		return err
	}
	defer c.Close()
	ns := c.Namespace(1)
	for ; (ns == nil || !ns.Usable()) && ctx.Err() == nil; ns = c.Namespace(1) {
		time.Sleep(100 * time.Millisecond)
	}
	if ns == nil {
		return errors.New("the array shows no namespace")
	}
	want := make([]byte, 16<<20)
	_, _ = rand.NewChaCha8([32]byte{14}).Read(want)
	if do == "write" {
		return errors.Join(ns.WriteAt(ctx, want, 0), ns.Flush(ctx))
	}
	got := make([]byte, len(want))
	if err := ns.ReadAt(ctx, got, 0); err != nil {
		return err
	}
	if !bytes.Equal(got, want) {
		return errors.New("the array does not hold what was written to it")
	}
	return nil
}

// hostNQN is the name that the page gives the host.
func (p page) hostNQN() string {
	return regexp.MustCompile(`nqn\.2014-08\.org\.nvmexpress:uuid:[-0-9a-f]{36}`).FindString(strings.Join(p["An array for a host"], ""))
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
	l := newLab(t, dir)
	server := newServer(t, l, image, "192.168.0.21")
	host := newHost(t, l, image, packages, "192.168.0.31")
	host.run("echo " + p.hostNQN() + " > /etc/nvme/hostnqn")
	p.install(server)
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
