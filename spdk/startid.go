package spdk

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strings"
	"syscall"
)

// StartID identifies this run of the data plane: it stays the same for as
// long as the process lives and is another one after every restart. It opens
// a connection when there is none, but asks nothing of the data plane.
func (c *Client) StartID(ctx context.Context) (string, error) {
	l, err := c.connect(ctx)
	if err != nil {
		return "", err
	}
	pid, err := l.peer()
	if err != nil {
		return "", l.lose(err)
	}
	start, err := processStart(pid)
	if err != nil {
		return "", l.lose(err)
	}
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("boot id: %w", err)
	}
	return fmt.Sprintf("%s-%d-%s", strings.ReplaceAll(strings.TrimSpace(string(boot)), "-", ""), pid, start), nil
}

// peer returns the process at the other end, see unix(7), SO_PEERCRED: the
// one that called listen.
func (l *link) peer() (int, error) {
	raw, err := l.conn.SyscallConn()
	if err != nil {
		return 0, err
	}
	var cred *syscall.Ucred
	var credErr error
	if err := raw.Control(func(fd uintptr) {
		cred, credErr = syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED)
	}); err != nil {
		return 0, err
	}
	if credErr != nil {
		return 0, fmt.Errorf("SO_PEERCRED: %w", credErr)
	}
	return int(cred.Pid), nil
}

// processStart returns field 22 (starttime) of /proc/<pid>/stat, see proc(5).
// The second field is the command in parentheses and may hold anything, so
// counting starts after the last ')'.
func processStart(pid int) (string, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return "", fmt.Errorf("start time of process %d: %w", pid, err)
	}
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	if len(fields) < 20 {
		return "", fmt.Errorf("start time of process %d: /proc/%d/stat has %d fields, want 22", pid, pid, len(fields)+2)
	}
	return string(fields[19]), nil
}
