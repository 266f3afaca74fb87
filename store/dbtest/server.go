package dbtest

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/virtual-disk-array/vda/program/child"
)

// startTimeout bounds how long a server may take until it answers. A machine
// with all its cores busy needs a while.
const startTimeout = 60 * time.Second

// Server is a private database server.
type Server struct {
	// URI names its empty database, with user and password.
	URI string

	t      testing.TB
	dir    string
	port   int
	cred   *syscall.Credential
	path   string
	args   []string
	signal syscall.Signal // asks it to stop at once
	cmd    *exec.Cmd
	exited chan struct{}
	log    *os.File
}

// missing ends a test that cannot have its server.
func missing(t testing.TB, format string, args ...any) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf(format, args...)
	}
	t.Skipf(format, args...)
}

// newServer makes a data directory that the server's user owns.
func newServer(t testing.TB) *Server {
	t.Helper()
	// Not t.TempDir: its parents may be closed to another user, and a Unix
	// socket's path is short.
	dir, err := os.MkdirTemp("", "vda-db-")
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{t: t, dir: dir, port: freePort(t)}
	t.Cleanup(func() {
		s.Stop()
		if err := os.RemoveAll(dir); err != nil {
			t.Errorf("remove the data directory: %v", err)
		}
	})
	if os.Getuid() == 0 {
		u, err := user.Lookup("nobody")
		if err != nil {
			missing(t, "no user nobody to run the server as: %v", err)
		}
		uid, _ := strconv.Atoi(u.Uid)
		gid, _ := strconv.Atoi(u.Gid)
		s.cred = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
		if err := os.Chown(dir, uid, gid); err != nil {
			t.Fatal(err)
		}
	}
	if s.log, err = os.Create(filepath.Join(dir, "log")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.log.Close() })
	return s
}

func freePort(t testing.TB) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// run runs a program of the server's to its end.
func (s *Server) run(path string, args ...string) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Dir, cmd.SysProcAttr = s.dir, s.attr()
	cmd.Env = []string{"HOME=" + s.dir, "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8", "TMPDIR=" + s.dir}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := child.Run(cmd); err != nil {
		s.t.Fatalf("%s: %v\n%s", filepath.Base(path), err, tail(out.Bytes()))
	}
}

func (s *Server) attr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Credential: s.cred, Setpgid: true}
}

// Start starts the server, also again after Stop: on the same port, with the
// data it had.
func (s *Server) Start() {
	s.t.Helper()
	cmd := exec.Command(s.path, s.args...)
	cmd.Dir, cmd.SysProcAttr = s.dir, s.attr()
	cmd.Env = []string{"HOME=" + s.dir, "LC_ALL=C.UTF-8", "TMPDIR=" + s.dir}
	cmd.Stdout, cmd.Stderr = s.log, s.log
	if err := child.Start(cmd); err != nil {
		s.t.Fatalf("start %s: %v", s.path, err)
	}
	exited := make(chan struct{})
	go func() {
		cmd.Wait()
		close(exited)
	}()
	s.cmd, s.exited = cmd, exited
}

// await waits until probe succeeds.
func (s *Server) await(probe func(context.Context) error) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	for {
		err := probe(ctx)
		if err == nil {
			return
		}
		select {
		case <-s.exited:
			s.t.Fatalf("%s ended at start:\n%s", filepath.Base(s.path), s.tail())
		case <-ctx.Done():
			s.t.Fatalf("%s does not answer: %v\n%s", filepath.Base(s.path), err, s.tail())
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// Stop ends the server and cuts its connections.
func (s *Server) Stop() {
	if s.cmd == nil {
		return
	}
	s.cmd.Process.Signal(s.signal)
	select {
	case <-s.exited:
	case <-time.After(20 * time.Second):
		s.t.Errorf("%s did not stop within 20 s; killed", filepath.Base(s.path))
		syscall.Kill(-s.cmd.Process.Pid, syscall.SIGKILL)
		<-s.exited
	}
	s.cmd = nil
}

func (s *Server) tail() string {
	out, err := os.ReadFile(s.log.Name())
	if err != nil {
		return err.Error()
	}
	return tail(out)
}

func tail(out []byte) string {
	lines := bytes.Split(bytes.TrimSpace(out), []byte("\n"))
	if n := len(lines); n > 20 {
		lines = lines[n-20:]
	}
	return string(bytes.Join(lines, []byte("\n")))
}

func (s *Server) uri(scheme, user, password, db string) string {
	return fmt.Sprintf("%s://%s:%s@127.0.0.1:%d/%s", scheme, user, password, s.port, db)
}
