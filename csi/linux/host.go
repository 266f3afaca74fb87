package linux

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/google/uuid"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/csi/node"
	"github.com/virtual-disk-array/vda/reason"
)

// Host is the kernel's NVMe host.
type Host struct {
	nqn, id string
	sys     string // "/sys", or what stands for it
	fabrics string // "/dev/nvme-fabrics"
}

var _ node.Host = (*Host)(nil)

// NewHost returns the machine's host, whose names are in /etc/nvme below root; they are
// made when they are not there.
func NewHost(root string) (*Host, error) {
	h := &Host{sys: "/sys", fabrics: "/dev/nvme-fabrics"}
	var err error
	id := uuid.New().String()
	if h.id, err = lineOf(filepath.Join(root, "etc/nvme/hostid"), id); err != nil {
		return nil, err
	}
	if h.nqn, err = lineOf(filepath.Join(root, "etc/nvme/hostnqn"), "nqn.2014-08.org.nvmexpress:uuid:"+h.id); err != nil {
		return nil, err
	}
	if err := vda.CheckInitiator("/etc/nvme/hostnqn", h.nqn); err != nil {
		return nil, err
	}
	if _, err := uuid.Parse(h.id); err != nil {
		return nil, fmt.Errorf("/etc/nvme/hostid has %q, which is not a UUID", vda.Shorten(h.id, 60))
	}
	return h, nil
}

// lineOf is the first line of a file, which is made with fresh in it when it is not there.
func lineOf(name, fresh string) (string, error) {
	b, err := os.ReadFile(name)
	if errors.Is(err, os.ErrNotExist) {
		if err = os.MkdirAll(filepath.Dir(name), 0o755); err == nil {
			var f *os.File
			if f, err = os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644); err == nil {
				_, err = f.WriteString(fresh + "\n")
				err = errors.Join(err, f.Sync(), f.Close())
				b = []byte(fresh)
			}
		}
	}
	if err != nil {
		return "", fmt.Errorf("the host's name in %s: %s", name, reason.Of(err))
	}
	line, _, _ := strings.Cut(string(b), "\n")
	return strings.TrimSpace(line), nil
}

// NQN names the host.
func (h *Host) NQN() string { return h.nqn }

// Problem says what keeps the kernel from using several paths.
func (h *Host) Problem() string {
	if _, err := os.Stat(h.fabrics); err != nil {
		return "the kernel has no NVMe/TCP host: load the module nvme-tcp at boot (/etc/modules-load.d)"
	}
	if b, err := os.ReadFile(filepath.Join(h.sys, "module/nvme_core/parameters/multipath")); err == nil &&
		strings.TrimSpace(string(b)) != "Y" {
		return "native NVMe multipath is off, so that a volume would end with its first controller: boot with nvme_core.multipath=Y"
	}
	return ""
}

// controller is one of the kernel's.
type controller struct {
	dir     string
	address string // host:port
	state   string
}

// controllers are those of a subsystem that are this host's.
func (h *Host) controllers(nqn string) (all []controller, err error) {
	dirs, err := filepath.Glob(filepath.Join(h.sys, "class/nvme/nvme*"))
	for _, dir := range dirs {
		if read(dir, "subsysnqn") != nqn {
			continue
		}
		if of := read(dir, "hostnqn"); of != "" && of != h.nqn {
			continue
		}
		c := controller{dir: dir, state: read(dir, "state")}
		var traddr, trsvcid string
		for part := range strings.SplitSeq(read(dir, "address"), ",") {
			switch k, v, _ := strings.Cut(part, "="); k {
			case "traddr":
				traddr = v
			case "trsvcid":
				trsvcid = v
			}
		}
		c.address = net.JoinHostPort(traddr, trsvcid)
		all = append(all, c)
	}
	return all, err
}

// read is an attribute of sysfs, "" when it is not there any more.
func read(dir, name string) string {
	b, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

// Controllers are the connections to a subsystem.
func (h *Host) Controllers(nqn string) ([]node.Connection, error) {
	all, err := h.controllers(nqn)
	var list []node.Connection
	for _, c := range all {
		list = append(list, node.Connection{Address: c.address, Live: c.state == "live"})
	}
	return list, err
}

// Subsystems are those that have connections.
func (h *Host) Subsystems() ([]string, error) {
	dirs, err := filepath.Glob(filepath.Join(h.sys, "class/nvme/nvme*"))
	var all []string
	for _, dir := range dirs {
		if nqn := read(dir, "subsysnqn"); nqn != "" && !slices.Contains(all, nqn) {
			all = append(all, nqn)
		}
	}
	return all, err
}

// Connect connects to all addresses at once.
func (h *Host) Connect(ctx context.Context, t node.Target) (missing []error, err error) {
	have, err := h.controllers(t.NQN)
	if err != nil {
		return nil, err
	}
	there := len(have) > 0
	if t.Keys.Host == "" && there {
		t.Keys = keysOf(have[0])
	}
	results := make(chan error, len(t.Addresses))
	asked := 0
	for _, addr := range t.Addresses {
		if slices.ContainsFunc(have, func(c controller) bool { return c.address == addr }) {
			continue
		}
		options, err := h.options(t, addr)
		if err != nil {
			return nil, err
		}
		asked++
		go func() { // the kernel ends it, at the latest when the connection times out
			if err := h.ask(options); err != nil && !errors.Is(err, syscall.EALREADY) {
				results <- fmt.Errorf("%s: %s", addr, words(err))
				return
			}
			results <- nil
		}()
	}
	for range asked {
		select {
		case <-ctx.Done():
			return nil, errors.New("the kernel is still connecting")
		case err := <-results:
			if err != nil {
				missing = append(missing, err)
			} else {
				there = true
			}
		}
	}
	if !there {
		return nil, errors.Join(missing...)
	}
	return missing, nil
}

// options are what the kernel is to be told of a controller.
func (h *Host) options(t node.Target, addr string) (string, error) {
	traddr, trsvcid, err := net.SplitHostPort(addr)
	if err != nil || strings.Contains(addr+t.NQN, ",") {
		return "", fmt.Errorf("%q is not the host:port of a controller", addr)
	}
	s := fmt.Sprintf("transport=tcp,traddr=%s,trsvcid=%s,nqn=%s,hostnqn=%s,hostid=%s,ctrl_loss_tmo=%d,reconnect_delay=%d,keep_alive_tmo=%d",
		traddr, trsvcid, t.NQN, h.nqn, h.id, t.Options.CtrlLossTmo, t.Options.ReconnectDelay, t.Options.KeepAliveTmo)
	if n := t.Options.NrIOQueues; n > 0 {
		s += fmt.Sprintf(",nr_io_queues=%d", n)
	}
	if t.Keys.Host != "" {
		s += ",dhchap_secret=" + string(t.Keys.Host)
	}
	if t.Keys.Ctrlr != "" {
		s += ",dhchap_ctrl_secret=" + string(t.Keys.Ctrlr)
	}
	return s, nil
}

// keysOf are the keys of a connection, which the kernel shows to root.
func keysOf(c controller) vda.KeyPair {
	key := func(name string) vda.Secret {
		if text := read(c.dir, name); text != "none" {
			return vda.Secret(text)
		}
		return ""
	}
	return vda.KeyPair{Host: key("dhchap_secret"), Ctrlr: key("dhchap_ctrl_secret")}
}

// ask writes options to the kernel, which answers once the controller is live.
func (h *Host) ask(options string) error {
	f, err := os.OpenFile(h.fabrics, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(options)
	return errors.Join(err, f.Close())
}

// words says what errors of the kernel mean here.
func words(err error) string {
	var no syscall.Errno
	if errors.As(err, &no) {
		switch no {
		case syscall.EINVAL:
			return "the kernel does not take the connection's options; see its log"
		case syscall.EKEYREJECTED, syscall.ENOKEY, syscall.EACCES:
			return "the host or the controller does not prove to know the other's key: dhchapKey and dhchapCtrlrKey of the secret must be " +
				"those by which the volume was published; see the kernel's log"
		case syscall.EIO:
			return "the controller refuses the host, or gives no answer; see the kernel's log"
		}
	}
	return reason.Of(err)
}

var headName = regexp.MustCompile(`^nvme[0-9]+n[0-9]+$`)

// Find is the multipath device of a namespace.
func (h *Host) Find(nqn, id string) (node.Device, bool, error) {
	dirs, err := filepath.Glob(filepath.Join(h.sys, "class/nvme-subsystem/nvme-subsys*"))
	if err != nil {
		return node.Device{}, false, err
	}
	for _, dir := range dirs {
		if read(dir, "subsysnqn") != nqn {
			continue
		}
		entries, err := os.ReadDir(dir)
		if err != nil {
			continue // it went meanwhile
		}
		for _, e := range entries {
			head := filepath.Join(dir, e.Name())
			sectors, err := strconv.ParseUint(read(head, "size"), 10, 54)
			if !headName.MatchString(e.Name()) || err != nil || sectors == 0 || id != "" && !sameUUID(head, id) {
				continue
			}
			path := "/dev/" + e.Name()
			if _, err := os.Stat(path); err != nil {
				continue // devtmpfs follows
			}
			return node.Device{Path: path, Bytes: sectors << 9}, true, nil
		}
	}
	return node.Device{}, false, nil
}

// sameUUID reports whether a namespace has a UUID.
func sameUUID(head, id string) bool {
	want, err := uuid.Parse(id)
	if err != nil {
		return false
	}
	has, err := uuid.Parse(read(head, "uuid"))
	return err == nil && has == want
}

// Device waits for Find.
func (h *Host) Device(ctx context.Context, nqn, id string) (node.Device, error) {
	for {
		if d, there, err := h.Find(nqn, id); err != nil || there {
			return d, err
		}
		select {
		case <-ctx.Done():
			return node.Device{}, fmt.Errorf("it does not show in %s/class/nvme-subsystem; see the kernel's log", h.sys)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Hold opens a device: as long as it is open, the kernel gives its name to no other. When
// Find still says the name after that, what is open is what was found.
func (h *Host) Hold(d node.Device, nqn, id string) (release func(), err error) {
	f, err := os.Open(d.Path)
	if err != nil {
		return nil, err
	}
	now, there, err := h.Find(nqn, id)
	if err == nil && (!there || now.Path != d.Path) {
		err = fmt.Errorf("%s was its device, and is not any more: its connections have ended meanwhile", d.Path)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return func() { _ = f.Close() }, nil // nothing was written
}

// Drop ends one connection.
func (h *Host) Drop(_ context.Context, nqn, address string) error {
	all, err := h.controllers(nqn)
	for _, c := range all {
		if c.address == address {
			err = errors.Join(err, remove(c))
		}
	}
	return err
}

func remove(c controller) error {
	err := os.WriteFile(filepath.Join(c.dir, "delete_controller"), []byte("1"), 0)
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ENODEV) {
		return nil // it has gone by itself
	}
	return err
}

// Disconnect ends all connections to a subsystem, and waits until the kernel has none.
func (h *Host) Disconnect(ctx context.Context, nqn string) error {
	for {
		all, err := h.controllers(nqn)
		if err != nil {
			return err
		}
		if len(all) == 0 {
			if _, there, err := h.Find(nqn, ""); err != nil || !there {
				return err
			}
		}
		var errs []error
		for _, c := range all {
			if c.state != "deleting" && c.state != "deleting (no IO)" {
				errs = append(errs, remove(c))
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%d controllers of it are still there: %s", len(all), reason.Of(errors.Join(append(errs, ctx.Err())...)))
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Rescan has the kernel read the sizes of a subsystem's namespaces again.
func (h *Host) Rescan(nqn string) error {
	all, err := h.controllers(nqn)
	for _, c := range all {
		if c.state == "live" {
			err = errors.Join(err, os.WriteFile(filepath.Join(c.dir, "rescan_controller"), []byte("1"), 0))
		}
	}
	return err
}
