package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/virtual-disk-array/vda/test/e2e/guest"
)

// Server is a machine on which Debian is installed and systemd runs, as a container: it
// has this machine's kernel and speed, and a root file system, processes, network and
// units of its own. Its methods are not safe for concurrent use, but for Run.
type Server struct {
	cfg    ServerConfig
	net    *Host
	root   string
	output *safeBuffer
	nspawn *exec.Cmd
	ended  chan struct{} // closed when nspawn has
	leader string        // the container's first process, in this machine's process table
	undo   []func() error
}

// ServerConfig says which server to boot.
type ServerConfig struct {
	Name    string
	Address string // IPv4, prefix length 24
	Dir     string // takes its root file system
	Disk    string // image of an ext4 root file system with systemd, which the server writes to
	Files   string // a folder of this machine, /root/packages there, read-only
	// Blank is a file that the server finds as the disk /dev/disk/by-id/virtio-disk2.
	Blank string
}

// diskGroup is the id of group disk in each Debian.
const diskGroup = 6

// AddServer boots a server, and returns when its units have started.
func (l *Lab) AddServer(ctx context.Context, cfg ServerConfig) (*Server, error) {
	if _, err := exec.LookPath("systemd-nspawn"); err != nil {
		return nil, fmt.Errorf("boot server %s: %w", cfg.Name, err)
	}
	h, err := l.AddHost(ctx, cfg.Name, cfg.Address)
	if err != nil {
		return nil, err
	}
	s := &Server{cfg: cfg, net: h, root: filepath.Join(cfg.Dir, cfg.Name+"-root"), output: &safeBuffer{}}
	l.servers = append(l.servers, s)
	if err := os.MkdirAll(s.root, 0o755); err != nil {
		return nil, err
	}
	if err := local(ctx, "mount", "-o", "loop", cfg.Disk, s.root); err != nil {
		return nil, err
	}
	s.undo = append(s.undo, func() error { return local(context.Background(), "umount", s.root) })
	loop, err := exec.CommandContext(ctx, "losetup", "--find", "--show", cfg.Blank).Output()
	if err != nil {
		return nil, fmt.Errorf("make a disk of %s: %w", cfg.Blank, err)
	}
	device := strings.TrimSpace(string(loop))
	s.undo = append(s.undo, func() error { return local(context.Background(), "losetup", "--detach", device) })
	s.cfg.Blank = device
	// As udev would make it.
	if err := errors.Join(os.Chown(device, 0, diskGroup), os.Chmod(device, 0o660)); err != nil {
		return nil, err
	}
	return s, s.boot(ctx)
}

func (s *Server) boot(ctx context.Context) error {
	s.nspawn = exec.Command("systemd-nspawn", "--quiet", "--boot", "--register=no", "--keep-unit", "--console=pipe",
		"--machine="+s.cfg.Name, "--directory="+s.root, fmt.Sprintf("--network-namespace-path=/proc/%d/ns/net", s.net.pid),
		"--bind-ro="+s.cfg.Files+":/root/packages", "--bind="+s.cfg.Blank+":/dev/disk/by-id/virtio-disk2")
	s.nspawn.Stdout, s.nspawn.Stderr = s.output, s.output
	s.nspawn.WaitDelay = time.Second
	if err := s.nspawn.Start(); err != nil {
		return fmt.Errorf("boot server %s: %w", s.cfg.Name, err)
	}
	s.ended = make(chan struct{})
	go func(ended chan struct{}) {
		_ = s.nspawn.Wait()
		close(ended)
	}(s.ended)
	for {
		if pid := firstChild(s.nspawn.Process.Pid); pid != "" {
			s.leader = pid
			// The unit's socket comes first, then the state: running, or degraded.
			r, err := s.Run(ctx, "systemctl is-system-running --wait")
			switch state := strings.TrimSpace(string(r.Stdout)); {
			case err == nil && (state == "running" || state == "degraded"):
				return nil
			case ctx.Err() != nil:
				return fmt.Errorf("boot server %s: it is %q: %w", s.cfg.Name, state, context.Cause(ctx))
			}
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-s.ended:
			return fmt.Errorf("boot server %s: %s", s.cfg.Name, s.Log())
		case <-ctx.Done():
			return fmt.Errorf("boot server %s: %w", s.cfg.Name, context.Cause(ctx))
		}
	}
}

// firstChild is the process that a process has started, "" before it has.
func firstChild(pid int) string {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", pid))
	if err != nil {
		return ""
	}
	child, _, _ := strings.Cut(string(text), " ")
	return strings.TrimSpace(child)
}

// Run runs a shell script on the server.
func (s *Server) Run(ctx context.Context, script string) (guest.Result, error) {
	cmd := exec.CommandContext(ctx, "nsenter", "-t", s.leader, "-m", "-p", "-n", "-u", "-i", "-C", "-r", "-w",
		"env", "-i", "HOME=/root", "USER=root", "LC_ALL=C.UTF-8", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"/bin/bash", "-c", script)
	return run(cmd, s.cfg.Name)
}

// Name is the server's host name.
func (s *Server) Name() string { return s.cfg.Name }

// Log returns what the server printed on its console.
func (s *Server) Log() string { return s.output.String() }

// Close ends all its processes at once, as if its power failed; what they have written
// to files is there.
func (s *Server) Close() error {
	if s.nspawn == nil || s.leader == "" {
		return nil
	}
	var pid int
	if _, err := fmt.Sscan(s.leader, &pid); err != nil {
		return err
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		return err
	}
	<-s.ended
	return nil
}

// Restart boots a server again that has switched itself off: it waits for that.
func (s *Server) Restart(ctx context.Context) error {
	select {
	case <-s.ended:
	case <-ctx.Done():
		return fmt.Errorf("server %s did not go down: %w", s.cfg.Name, context.Cause(ctx))
	}
	s.leader = ""
	return s.boot(ctx)
}

// remove ends the server and gives back what it had of this machine.
func (s *Server) remove() error {
	err := s.Close()
	for i := len(s.undo) - 1; i >= 0; i-- {
		err = errors.Join(err, s.undo[i]())
	}
	return err
}

func local(ctx context.Context, argv ...string) error {
	out, err := exec.CommandContext(ctx, argv[0], argv[1:]...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(argv, " "), err, bytes.TrimSpace(out))
	}
	return nil
}

// safeBuffer is a buffer that is read while it is written.
type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *safeBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *safeBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}
