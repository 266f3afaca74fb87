package sandbox

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/virtual-disk-array/vda/program/child"
)

// process is one program of the cluster.
type process struct {
	name string // "dn0 data plane"
	cmd  *exec.Cmd
	log  string        // path of what it prints
	done chan struct{} // closed when it has ended
	err  error         // how; valid once done is closed
	// mayHang: having to kill it is not an error.
	mayHang bool
}

// start runs argv with its output in dir, and with more variables in its environment.
func start(dir, name string, env []string, argv ...string) (*process, error) {
	p := &process{name: name, log: filepath.Join(dir, strings.ReplaceAll(name, " ", "-")+".log"), done: make(chan struct{})}
	out, err := os.Create(p.log)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	p.cmd = exec.Command(argv[0], argv[1:]...)
	p.cmd.Dir, p.cmd.Env, p.cmd.Stdout, p.cmd.Stderr = dir, append(environ(), env...), out, out
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := child.Start(p.cmd); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

// environ is the environment of the cluster's programs: that of this process
// without the variables that would set their flags.
func environ() []string {
	return slices.DeleteFunc(os.Environ(), func(e string) bool { return strings.HasPrefix(e, "VDA_") })
}

// waitUntil returns when ready does without an error, or with an error when
// the process ends or ctx does.
func (p *process) waitUntil(ctx context.Context, ready func() error) error {
	for {
		err := ready()
		if err == nil {
			return nil
		}
		select {
		case <-p.done:
			return p.fault(errors.New("it ended"))
		case <-ctx.Done():
			return p.fault(fmt.Errorf("it did not get ready: %w", err))
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// fault is err with the process's name and its last log lines.
func (p *process) fault(err error) error {
	return fmt.Errorf("%s: %w; its last log lines:\n%s", p.name, err, p.tail(8))
}

// tail returns the last n lines of the log.
func (p *process) tail(n int) string {
	text, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	lines := bytes.Split(bytes.TrimSpace(text), []byte("\n"))
	if len(lines) > n {
		lines = lines[len(lines)-n:]
	}
	return "    " + string(bytes.Join(lines, []byte("\n    ")))
}

// kill ends the process as a crash would.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	<-p.done
}

// stop ends the process with SIGTERM. One that does not end within limit is
// killed, which is an error, as is an exit status other than 0.
func (p *process) stop(limit time.Duration) error {
	select {
	case <-p.done:
		return p.fault(fmt.Errorf("it had ended before it was asked to: %w", p.err))
	default:
	}
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return fmt.Errorf("stop %s: %w", p.name, err)
	}
	select {
	case <-p.done:
		if p.err != nil {
			return p.fault(fmt.Errorf("on SIGTERM: %w", p.err))
		}
		return nil
	case <-time.After(limit):
		_ = p.cmd.Process.Kill()
		<-p.done
		if p.mayHang {
			return nil
		}
		return p.fault(fmt.Errorf("it did not stop within %v of SIGTERM", limit))
	}
}

// reachable is a waitUntil condition: somebody listens on address.
func reachable(address string) func() error {
	return func() error {
		c, err := net.DialTimeout("tcp", address, time.Second)
		if err != nil {
			return err
		}
		return c.Close()
	}
}

// exists is a waitUntil condition: the path is there.
func exists(path string) func() error {
	return func() error {
		_, err := os.Stat(path)
		return err
	}
}

// freePorts returns n TCP ports of 127.0.0.1 that nobody uses now.
func freePorts(n int) ([]int, error) {
	var ports []int
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer l.Close()
		ports = append(ports, l.Addr().(*net.TCPAddr).Port)
	}
	return ports, nil
}
