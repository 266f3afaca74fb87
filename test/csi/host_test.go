package csi

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/agent/planetest"
	"github.com/virtual-disk-array/vda/csi/node"
	"github.com/virtual-disk-array/vda/nvmf/dhchap"
	"github.com/virtual-disk-array/vda/nvmf/host"
)

// machine is a node's kernel: an NVMe host in user space and a model of its mount table.
// A plugin that is killed leaves it as it is. It implements node.Host and
// node.FileSystems.
type machine struct {
	t   testing.TB
	nqn string

	mu     sync.Mutex
	subs   map[string]*subsystem
	mounts map[string]node.Mount
	made   int      // devices, for their names
	faults []string // what would have lost data

	// step, when not nil, is called at each step of each call, and may end it as the death
	// of the plugin does.
	step func(what string)
}

// subsystem is what the host has of one.
type subsystem struct {
	device string // name of the multipath device
	keys   vda.KeyPair
	held   int // programs that have it open, whose name no other gets meanwhile
	ctrls  map[string]*host.Controller
}

func newMachine(t testing.TB, name string) *machine {
	m := &machine{t: t, nqn: "nqn.2014-08.org.nvmexpress:uuid:" + uuid.NewSHA1(uuid.Nil, []byte(name)).String(),
		subs: map[string]*subsystem{}, mounts: map[string]node.Mount{}}
	t.Cleanup(func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		for _, s := range m.subs {
			for _, c := range s.ctrls {
				c.Close()
			}
		}
		for _, f := range m.faults {
			t.Error(f)
		}
	})
	return m
}

// at is a step of a call.
func (m *machine) at(what string) {
	if m.step != nil {
		m.step(what)
	}
}

// fault notes what would have lost data. m.mu is held.
func (m *machine) fault(format string, args ...any) error {
	m.faults = append(m.faults, fmt.Sprintf(format, args...))
	return fmt.Errorf(format, args...)
}

func (m *machine) NQN() string     { return m.nqn }
func (m *machine) Problem() string { return "" }

func (m *machine) Connect(ctx context.Context, t node.Target) (missing []error, err error) {
	for _, addr := range t.Addresses {
		m.at("connect " + addr)
		m.mu.Lock()
		s := m.subs[t.NQN]
		there := s != nil && s.ctrls[addr] != nil
		if t.Keys.Host == "" && s != nil {
			t.Keys = s.keys
		}
		m.mu.Unlock()
		if there {
			continue
		}
		traddr, trsvcid, err := net.SplitHostPort(addr)
		if err != nil {
			return nil, err
		}
		keys, err := keysOf(t.Keys)
		if err != nil {
			return nil, err
		}
		c, err := host.Connect(ctx, host.Config{Traddr: traddr, Trsvcid: trsvcid, SubNQN: t.NQN, HostNQN: m.nqn, Queues: 1, KeepAlive: unhurried,
			Resilience: asLinux, Keys: keys, Log: planetest.Log()})
		if err != nil {
			missing = append(missing, err)
			continue
		}
		m.mu.Lock()
		if s = m.subs[t.NQN]; s == nil {
			m.made++
			s = &subsystem{device: fmt.Sprintf("/dev/nvme%dn1", m.made), keys: t.Keys, ctrls: map[string]*host.Controller{}}
			m.subs[t.NQN] = s
		}
		s.ctrls[addr] = c
		m.mu.Unlock()
	}
	m.at("connected")
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.subs[t.NQN] == nil {
		return nil, errors.Join(missing...)
	}
	return missing, nil
}

// keysOf are the keys of a node as its host takes them.
func keysOf(pair vda.KeyPair) (keys dhchap.Keys, err error) {
	for text, to := range map[vda.Secret]**dhchap.Secret{pair.Host: &keys.Host, pair.Ctrlr: &keys.Controller} {
		if text != "" {
			if *to, err = dhchap.ParseSecret(string(text)); err != nil {
				return keys, err
			}
		}
	}
	return keys, nil
}

func (m *machine) Device(ctx context.Context, nqn, id string) (node.Device, error) {
	for {
		if d, there, err := m.Find(nqn, id); err != nil || there {
			return d, err
		}
		select {
		case <-ctx.Done():
			return node.Device{}, context.Cause(ctx)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func (m *machine) Find(nqn, id string) (node.Device, bool, error) {
	m.at("find")
	m.mu.Lock()
	defer m.mu.Unlock()
	ns := m.namespace(nqn)
	if ns == nil || id != "" && uuid.UUID(ns.Identity().UUID).String() != id {
		return node.Device{}, false, nil
	}
	return node.Device{Path: m.subs[nqn].device, Bytes: uint64(ns.Size())}, true, nil
}

func (m *machine) Hold(d node.Device, nqn, id string) (release func(), err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.subs[nqn]
	if s == nil || s.device != d.Path {
		return nil, fmt.Errorf("%s is not its device any more", d.Path)
	}
	s.held++
	return func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		s.held--
	}, nil
}

// lose has an administrator disconnect one subsystem, and another one come back with its
// device's name, unless a program has it open.
func (m *machine) lose(nqn, next string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.subs[nqn]
	for _, c := range s.ctrls {
		c.Close()
	}
	delete(m.subs, nqn)
	if s.held == 0 {
		m.subs[next].device = s.device
	}
}

// namespace is that of a subsystem, by a path that can be used if there is one. m.mu is
// held.
func (m *machine) namespace(nqn string) (found *host.Namespace) {
	m.prune()
	s := m.subs[nqn]
	if s == nil {
		return nil
	}
	for _, addr := range slices.Sorted(maps.Keys(s.ctrls)) {
		if ns := s.ctrls[addr].Namespace(1); ns != nil && (found == nil || ns.Usable() && !found.Usable()) {
			found = ns
		}
	}
	return found
}

// disk is the namespace behind a device. m.mu is held.
func (m *machine) disk(device string) (*host.Namespace, error) {
	for nqn, s := range m.subs {
		if s.device == device {
			if ns := m.namespace(nqn); ns != nil {
				return ns, nil
			}
		}
	}
	return nil, fmt.Errorf("%s is not there", device)
}

func (m *machine) Controllers(nqn string) (all []node.Connection, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.prune()
	if s := m.subs[nqn]; s != nil {
		for addr, c := range s.ctrls {
			all = append(all, node.Connection{Address: addr, Live: c.State() == host.Enabled})
		}
	}
	return all, nil
}

func (m *machine) Subsystems() ([]string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.prune()
	return slices.Collect(maps.Keys(m.subs)), nil
}

// prune forgets controllers that have been told not to come back, as Linux does, and
// subsystems without any. m.mu is held.
func (m *machine) prune() {
	for nqn, s := range m.subs {
		maps.DeleteFunc(s.ctrls, func(_ string, c *host.Controller) bool { return c.State() == host.Deleting })
		if len(s.ctrls) == 0 {
			delete(m.subs, nqn)
		}
	}
}

func (m *machine) Drop(_ context.Context, nqn, address string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.subs[nqn]
	if s == nil || s.ctrls[address] == nil {
		return nil
	}
	s.ctrls[address].Close()
	delete(s.ctrls, address)
	return nil
}

func (m *machine) Disconnect(_ context.Context, nqn string) error {
	m.mu.Lock()
	s := m.subs[nqn]
	if s == nil {
		m.mu.Unlock()
		return nil
	}
	for _, mt := range m.mounts {
		if mt.Device == s.device {
			defer m.mu.Unlock()
			return m.fault("disconnect of %s, which is mounted at %s", nqn, mt.Path)
		}
	}
	m.mu.Unlock()
	for _, addr := range slices.Sorted(maps.Keys(s.ctrls)) {
		m.at("disconnect " + addr)
		m.mu.Lock()
		c := s.ctrls[addr]
		delete(s.ctrls, addr)
		m.mu.Unlock()
		if c != nil {
			c.Close()
		}
	}
	m.mu.Lock()
	delete(m.subs, nqn)
	m.mu.Unlock()
	m.at("disconnected")
	return nil
}

func (m *machine) Rescan(nqn string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if s := m.subs[nqn]; s != nil {
		for _, c := range s.ctrls {
			c.PollNamespaces()
		}
	}
	return nil
}

func (m *machine) At(path string) (node.Mount, bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	mt, ok := m.mounts[path]
	return mt, ok, nil
}

func (m *machine) Of(device string) (all []node.Mount, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, mt := range m.mounts {
		if mt.Device == device {
			all = append(all, mt)
		}
	}
	return all, nil
}

func (m *machine) Mount(device, path, fs string, options []string) error {
	m.at("mount")
	if content, err := m.Probe(context.Background(), device, ""); err != nil || content.FS != fs {
		return fmt.Errorf("%s has no %s: %v, %v", device, fs, content, err)
	}
	m.mu.Lock()
	m.mounts[path] = node.Mount{Path: path, Device: device, FS: fs, Readonly: slices.Contains(options, "ro")}
	m.mu.Unlock()
	m.at("mounted")
	return nil
}

func (m *machine) Bind(from, path string, readonly bool) error {
	m.at("bind")
	m.mu.Lock()
	mt, ok := m.mounts[from]
	if !ok {
		if _, err := m.disk(from); err != nil {
			m.mu.Unlock()
			return err
		}
		mt = node.Mount{Device: from}
	}
	mt.Path, mt.Readonly = path, readonly
	m.mounts[path] = mt
	m.mu.Unlock()
	m.at("bound")
	return nil
}

func (m *machine) Unmount(path string) error {
	m.at("unmount")
	m.mu.Lock()
	if _, ok := m.mounts[path]; !ok {
		m.mu.Unlock()
		return fmt.Errorf("%s is not mounted", path)
	}
	delete(m.mounts, path)
	m.mu.Unlock()
	m.at("unmounted")
	return nil
}

// What the model writes to the first block of a volume.
const (
	superblock = "file system "
	underWay   = "being formatted "
)

// io does an I/O, on another path or later when one fails: the kernel's multipath fails
// nothing that can still be done.
func (m *machine) io(device string, do func(context.Context, *host.Namespace) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for {
		m.mu.Lock()
		ns, err := m.disk(device)
		m.mu.Unlock()
		if err != nil { // no path is left, and none comes back
			return err
		}
		if err = do(ctx, ns); err == nil || ctx.Err() != nil {
			return err
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func (m *machine) first(device string) ([]byte, error) {
	b := make([]byte, 4096)
	return b, m.io(device, func(ctx context.Context, ns *host.Namespace) error { return ns.ReadAt(ctx, b, 0) })
}

func (m *machine) Probe(_ context.Context, device, volumeID string) (node.Content, error) {
	b, err := m.first(device)
	if err != nil {
		return node.Content{}, err
	}
	text := string(bytes.TrimRight(b, "\x00"))
	switch {
	case text == "" || text == underWay+volumeID:
		return node.Content{Blank: true}, nil
	case len(text) > len(superblock) && text[:len(superblock)] == superblock:
		return node.Content{FS: text[len(superblock):]}, nil
	}
	return node.Content{}, fmt.Errorf("%s holds %.40q", device, text)
}

func (m *machine) Format(ctx context.Context, device, volumeID, fs string, _ []string) error {
	write := func(text string) error {
		m.at("write " + text)
		b := make([]byte, 4096)
		copy(b, text)
		return m.io(device, func(ctx context.Context, ns *host.Namespace) error { return ns.WriteAt(ctx, b, 0) })
	}
	if c, err := m.Probe(ctx, device, volumeID); err != nil || !c.Blank {
		m.mu.Lock()
		defer m.mu.Unlock()
		return m.fault("%s is formatted, which holds %v, %v", device, c, err)
	}
	if err := write(underWay + volumeID); err != nil {
		return err
	}
	return write(superblock + fs)
}

func (m *machine) Check(context.Context, string, string) error { m.at("check"); return nil }

func (m *machine) Grow(_ context.Context, _, path, _ string) error {
	m.at("grow")
	if _, ok, _ := m.At(path); !ok {
		return fmt.Errorf("%s is not mounted", path)
	}
	return nil
}

func (m *machine) Flush(device string) error {
	m.at("flush")
	return m.io(device, func(ctx context.Context, ns *host.Namespace) error { return ns.Flush(ctx) })
}

func (m *machine) Usage(path string) (node.Usage, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	ns, err := m.disk(m.mounts[path].Device)
	if err != nil {
		return node.Usage{}, err
	}
	return node.Usage{Bytes: ns.Size(), FreeBytes: ns.Size() / 2, Inodes: 1024, FreeInodes: 1000}, nil
}
