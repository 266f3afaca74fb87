package vdatgt

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// A data plane that is killed while its disks have I/O under way does not go before
// that has ended, and keeps its files, among them the lock of its socket, until then.
// The next one waits for it: it has been started to take its place.
const (
	predecessorStep = 20 * time.Millisecond
	// unnamed is how long a lock is waited for whose owner cannot be named: it has not
	// begun to listen, or has closed its socket and is about to let go of the lock.
	unnamed = time.Second
)

// AwaitPredecessor returns when no process has the socket at path that was killed and
// has not gone yet; an error when ctx ends first. It does not wait for a process that
// lives, and takes nothing. The log hears once of a wait.
func AwaitPredecessor(ctx context.Context, path string, log *slog.Logger) error {
	told := false
	for begin := time.Now(); locked(path); {
		pid := listener(path)
		switch {
		case pid == 0 && time.Since(begin) < unnamed:
		case pid == 0 || !dying(pid):
			return nil // Run says that it is in use
		case !told:
			told = true
			log.Warn("waiting for the process that had the JSON-RPC socket: it was killed, and its I/O has not ended", "socket", path, "pid", pid)
		}
		select {
		case <-time.After(predecessorStep):
		case <-ctx.Done():
			return fmt.Errorf("JSON-RPC socket %s: process %d was killed and still has it: %w", path, pid, context.Cause(ctx))
		}
	}
	return nil
}

// locked reports that some process has the lock of a socket.
func locked(path string) bool {
	f, err := os.OpenFile(path+".lock", os.O_RDWR, 0)
	if err != nil {
		return false
	}
	defer f.Close() // and with it the lock
	return syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == syscall.EWOULDBLOCK
}

// listener returns the process that listens on a Unix socket; 0 for nobody, or for one
// that this process cannot see.
func listener(path string) (pid int) {
	c, err := net.Dial("unix", path)
	if err != nil {
		return 0
	}
	defer c.Close()
	raw, err := c.(*net.UnixConn).SyscallConn()
	if err != nil {
		return 0
	}
	_ = raw.Control(func(fd uintptr) {
		if cred, err := syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED); err == nil {
			pid = int(cred.Pid)
		}
	})
	return pid
}

// Of proc_pid_stat(5) and signal(7).
const (
	flagExiting = 0x4 // PF_EXITING
	killPending = 1 << (int(syscall.SIGKILL) - 1)
)

// dying reports that a process has been killed or is ending, and runs none of its own
// code any more: its first thread has ended, or will as soon as the kernel lets it.
func dying(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return os.IsNotExist(err)
	}
	// The name, in parentheses, may hold anything.
	fields := strings.Fields(string(stat)[strings.LastIndexByte(string(stat), ')')+1:])
	if len(fields) < 7 {
		return false
	}
	flags, _ := strconv.ParseUint(fields[6], 10, 64)
	if fields[0] == "Z" || fields[0] == "X" || flags&flagExiting != 0 {
		return true
	}
	status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	for line := range strings.Lines(string(status)) {
		name, set, _ := strings.Cut(line, ":")
		if name == "SigPnd" || name == "ShdPnd" {
			if pending, err := strconv.ParseUint(strings.TrimSpace(set), 16, 64); err == nil && pending&killPending != 0 {
				return true
			}
		}
	}
	return false
}
