package lab

import (
	"bytes"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"github.com/virtual-disk-array/vda/program/child"
	"github.com/virtual-disk-array/vda/test/e2e/guest"
)

//go:embed boot.sh
var bootScript string

// Host is a namespace host.
type Host struct {
	name string
	pid  int // of its first process, in this machine's process table
	init *exec.Cmd
	done chan struct{} // closed when init has ended
}

// startHost makes the namespaces and waits until the root is in place.
func startHost(name string) (*Host, error) {
	h := &Host{name: name, done: make(chan struct{})}
	ready, readyW, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer ready.Close()
	var stderr bytes.Buffer
	h.init = exec.Command("/bin/sh", "-c", bootScript, "boot", name)
	h.init.ExtraFiles = []*os.File{readyW}
	h.init.Stderr = &stderr
	h.init.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWNET | syscall.CLONE_NEWUTS | syscall.CLONE_NEWIPC,
	}
	err = child.Start(h.init)
	readyW.Close()
	if err != nil {
		return nil, fmt.Errorf("start host %s: %w", name, err)
	}
	go func() {
		_ = h.init.Wait()
		close(h.done)
	}()
	h.pid = h.init.Process.Pid
	if line, _ := io.ReadAll(ready); !strings.Contains(string(line), "ready") {
		<-h.done
		return nil, fmt.Errorf("start host %s: %s", name, strings.TrimSpace(stderr.String()))
	}
	return h, nil
}

// Name is the host's name.
func (h *Host) Name() string { return h.name }

// Command is a command that runs argv on the host as root.
func (h *Host) Command(ctx context.Context, argv ...string) *exec.Cmd {
	enter := []string{"-t", fmt.Sprint(h.pid), "-m", "-p", "-n", "-u", "-i", "-r", "-w",
		"env", "-i", "HOME=/root", "USER=root", "LC_ALL=C.UTF-8", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
	return exec.CommandContext(ctx, "nsenter", append(enter, argv...)...)
}

// enterNet is the words before a command of this machine that shall use the
// host's network only.
func (h *Host) enterNet() []string {
	return []string{"nsenter", "-t", fmt.Sprint(h.pid), "-n"}
}

// InNetwork is a command that runs a program of this machine in the host's network.
func (h *Host) InNetwork(ctx context.Context, argv ...string) *exec.Cmd {
	all := append(h.enterNet(), argv...)
	return exec.CommandContext(ctx, all[0], all[1:]...)
}

// Run runs a shell script; processes that it leaves behind go on.
func (h *Host) Run(ctx context.Context, script string) (guest.Result, error) {
	cmd := h.Command(ctx, "/bin/bash", "-c", "cd ~; "+script)
	return run(cmd, h.name)
}

// runNet runs a shell script of this machine in the host's network, so that
// it may name processes of this machine.
func (h *Host) runNet(ctx context.Context, script string) error {
	r, err := run(h.InNetwork(ctx, "/bin/sh", "-c", script), h.name)
	return failed(h.name, script, r, err)
}

func run(cmd *exec.Cmd, name string) (guest.Result, error) {
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	cmd.WaitDelay = 100 * time.Millisecond // a daemon that kept the pipe
	err := cmd.Run()
	r := guest.Result{Stdout: out.Bytes(), Stderr: errOut.Bytes()}
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		r.Code = exit.ExitCode()
	case err != nil && !errors.Is(err, exec.ErrWaitDelay):
		return r, fmt.Errorf("%s: %w", name, err)
	}
	return r, nil
}

// close ends every process of the host.
func (h *Host) close() error {
	err := h.init.Process.Kill()
	if errors.Is(err, os.ErrProcessDone) {
		err = nil
	}
	<-h.done
	return err
}
