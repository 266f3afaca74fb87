package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"github.com/virtual-disk-array/vda/test/e2e/guest"
)

// Runner runs shell scripts on a host.
type Runner interface {
	Name() string
	// Run returns how the script ended; err is for a host that could not
	// run it at all.
	Run(ctx context.Context, script string) (guest.Result, error)
}

// Lab is the rack. Its methods are not safe for concurrent use; its hosts'
// Run methods are.
type Lab struct {
	lan     *Host // holds the bridge; QEMU runs in its network
	dir     string
	hosts   []*Host
	servers []*Server
	guests  []*guest.Guest
}

// Missing says what keeps this machine from running a lab; empty when
// nothing does.
func Missing() []string {
	var missing []string
	if os.Geteuid() != 0 {
		missing = append(missing, "root")
	}
	for _, p := range []string{"ip", "nsenter", "mount", "chroot"} {
		if _, err := exec.LookPath(p); err != nil {
			missing = append(missing, p)
		}
	}
	return missing
}

// New makes an empty rack; dir takes sockets and logs.
func New(ctx context.Context, dir string) (*Lab, error) {
	l := &Lab{dir: dir}
	lan, err := startHost("lan")
	if err != nil {
		return nil, err
	}
	l.lan = lan
	err = lan.runNet(ctx, "ip link add br0 type bridge forward_delay 0 && ip link set br0 up")
	if err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// AddHost makes a namespace host with the IPv4 address (prefix length 24).
func (l *Lab) AddHost(ctx context.Context, name, address string) (*Host, error) {
	h, err := startHost(name)
	if err != nil {
		return nil, err
	}
	l.hosts = append(l.hosts, h)
	port := fmt.Sprintf("p%d", len(l.hosts))
	if err := l.lan.runNet(ctx, fmt.Sprintf("ip link add %s type veth peer name eth0 netns %d && ip link set %s master br0 up", port,
		h.pid, port)); err != nil {
		return nil, err
	}
	return h, h.must(ctx, fmt.Sprintf("ip addr add %s/24 dev eth0 && ip link set eth0 up", address))
}

// AddGuest boots an emulated machine with the IPv4 address.
func (l *Lab) AddGuest(ctx context.Context, name, address string, image guest.Image) (*guest.Guest, error) {
	return l.AddMachine(ctx, guest.Config{Name: name, Image: image, Address: address + "/24"})
}

// AddMachine is AddGuest with all that cfg says; where the lab is concerned, it fills it in.
func (l *Lab) AddMachine(ctx context.Context, cfg guest.Config) (*guest.Guest, error) {
	tap := fmt.Sprintf("tap%d", len(l.guests))
	if err := l.lan.runNet(ctx, fmt.Sprintf("ip tuntap add dev %s mode tap && ip link set %s master br0 up", tap, tap)); err != nil {
		return nil, err
	}
	cfg.Dir, cfg.Tap, cfg.Enter = l.dir, tap, l.lan.enterNet()
	g, err := guest.Boot(ctx, cfg)
	if err != nil {
		return nil, err
	}
	l.guests = append(l.guests, g)
	return g, nil
}

// Close ends all hosts.
func (l *Lab) Close() error {
	var errs []error
	for _, g := range l.guests {
		errs = append(errs, g.Close())
	}
	for _, s := range l.servers {
		errs = append(errs, s.remove())
	}
	for _, h := range append(l.hosts, l.lan) {
		errs = append(errs, h.close())
	}
	return errors.Join(errs...)
}

func (h *Host) must(ctx context.Context, script string) error {
	r, err := h.Run(ctx, script)
	return failed(h.name, script, r, err)
}

// failed makes an error of a script that did not exit with 0.
func failed(host, script string, r guest.Result, err error) error {
	if err == nil && r.Code != 0 {
		err = fmt.Errorf("%s: %s: exit %d: %s", host, script, r.Code, strings.TrimSpace(string(r.Stderr)))
	}
	return err
}
