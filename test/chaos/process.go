//go:build e2e

package chaos

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/virtual-disk-array/vda/test/e2e/lab"
)

// process is a program under a supervisor that starts it again when it ends.
type process struct {
	name  string // "cn0 data plane"
	host  *lab.Host
	after string // a script that the host runs after each start
	log   string // path of what it prints
	// spdk says that it is spdk_tgt, which hangs in its shutdown now and then when a
	// host has just left: that it has to be killed at the end is not an error.
	spdk bool

	mu       sync.Mutex
	argv     []string
	pid      int           // in this machine's process table; 0 while it is down
	killed   bool          // by us: its end is no crash
	pause    time.Duration // before the next start
	stopping bool
	crashes  []string
	wait     chan struct{} // closed when the supervisor has ended
}

// supervise starts a process and keeps it.
func supervise(dir, name string, h *lab.Host, after string, argv ...string) *process {
	p := &process{name: name, host: h, argv: argv, after: after, log: filepath.Join(dir, strings.ReplaceAll(name, " ", "-")+".log"),
		wait: make(chan struct{})}
	go func() {
		defer close(p.wait)
		for p.once() {
		}
	}()
	return p
}

// once runs the process to its end; it reports whether it is to run again.
func (p *process) once() bool {
	out, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		p.crash(err)
		return false
	}
	defer out.Close()
	p.mu.Lock()
	argv := p.argv
	p.mu.Unlock()
	cmd := p.host.Command(context.Background(), argv...)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		p.crash(err)
		return false
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	pid := child(cmd, ended)
	begin := time.Now()
	p.mu.Lock()
	p.pid, p.killed, p.pause = pid, false, time.Second
	stopping := p.stopping
	p.mu.Unlock()
	if stopping && pid != 0 {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	if p.after != "" && pid != 0 && !stopping {
		ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
		r, err := p.host.Run(ctx, p.after)
		cancel()
		if err != nil || r.Code != 0 {
			fmt.Fprintf(out, "after its start: %v exit %d %s\n", err, r.Code, r.Stderr)
		}
	}
	err = <-ended
	p.mu.Lock()
	p.pid = 0
	killed, pause, stopping := p.killed, p.pause, p.stopping
	p.mu.Unlock()
	if stopping {
		return false
	}
	// A daemon that does not find its database or data plane when it starts
	// says so and ends with 1; a panic ends with 2.
	var exit *exec.ExitError
	refused := errors.As(err, &exit) && exit.ExitCode() == 1 && time.Since(begin) < 35*time.Second
	if !killed && !refused {
		p.crash(fmt.Errorf("it ended by itself: %v", err))
	}
	time.Sleep(pause)
	p.mu.Lock()
	defer p.mu.Unlock()
	return !p.stopping
}

// child returns the process that nsenter has started; 0 when it ended first.
func child(nsenter *exec.Cmd, ended chan error) int {
	path := fmt.Sprintf("/proc/%d/task/%d/children", nsenter.Process.Pid, nsenter.Process.Pid)
	for range 500 {
		text, err := os.ReadFile(path)
		if pid, _ := strconv.Atoi(strings.TrimSpace(string(text))); pid != 0 {
			return pid
		}
		if err != nil {
			return 0
		}
		select {
		case e := <-ended:
			ended <- e
			return 0
		case <-time.After(2 * time.Millisecond):
		}
	}
	return 0
}

func (p *process) crash(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.crashes = append(p.crashes, fmt.Sprintf("%s: %v; its log ends:\n%s", p.name, err, tail(p.log, 30)))
}

// kill ends the process with SIGKILL; it is started again after the pause.
func (p *process) kill(pause time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.pid != 0 {
		p.killed, p.pause = true, pause
		_ = syscall.Kill(p.pid, syscall.SIGKILL)
	}
}

// become asks the process to end, and starts another program in its place.
func (p *process) become(argv []string, sig syscall.Signal) {
	p.mu.Lock()
	p.argv, p.killed, p.pause = argv, true, 0
	pid := p.pid
	p.mu.Unlock()
	if pid == 0 {
		return
	}
	_ = syscall.Kill(pid, sig)
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		p.mu.Lock()
		gone := p.pid != pid
		p.mu.Unlock()
		if gone {
			return
		}
	}
	_ = syscall.Kill(pid, syscall.SIGKILL) // SPDK hangs in its shutdown now and then
}

// freeze stops the process; the function returned lets it go on.
func (p *process) freeze() (thaw func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	pid := p.pid
	if pid == 0 {
		return func() {}
	}
	_ = syscall.Kill(pid, syscall.SIGSTOP)
	parent := parentOf(pid)
	return sync.OnceFunc(func() {
		_ = syscall.Kill(pid, syscall.SIGCONT)
		// nsenter stops itself when its child has stopped.
		if parent > 1 {
			_ = syscall.Kill(parent, syscall.SIGCONT)
		}
	})
}

func parentOf(pid int) int {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(text), ") ")
	var state string
	var parent int
	_, _ = fmt.Sscan(rest, &state, &parent)
	return parent
}

// end stops supervision and asks the process to end; when it does not, it is
// killed, which is returned as an error.
func (p *process) end() error {
	p.mu.Lock()
	p.stopping = true
	pid := p.pid
	p.mu.Unlock()
	if pid != 0 {
		_ = syscall.Kill(pid, syscall.SIGTERM)
	}
	select {
	case <-p.wait:
		return nil
	case <-time.After(20 * time.Second):
	}
	if pid != 0 {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	<-p.wait
	if p.spdk {
		return nil
	}
	return errors.New(p.name + " did not end on SIGTERM within 20 s")
}

// tail returns the last n lines of a file.
func tail(path string, n int) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return "    " + strings.Join(lines[max(len(lines)-n, 0):], "\n    ")
}

// between returns a time from lo to hi.
func between(r *rand.Rand, lo, hi time.Duration) time.Duration {
	return lo + time.Duration(r.Int64N(int64(hi-lo)+1))
}
