package host

import (
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"
	"unsafe"
)

// receiveBuffer is SO_RCVBUF in bytes of every connection: with the system's
// auto-tuning a connection's write speed depends on chance.
const receiveBuffer = 2 << 20

// maxIovecs is what the kernel takes in one sendmsg or recvmsg.
const maxIovecs = 1024

// dial opens the TCP connection of one queue.
func dial(ctx context.Context, cfg *Config, at Address) (*net.TCPConn, error) {
	d := net.Dialer{KeepAlive: -1, Control: func(_, _ string, rc syscall.RawConn) error {
		return rc.Control(func(fd uintptr) {
			// Before connect, so that the window scale fits. Failing
			// costs speed only.
			_ = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, receiveBuffer)
			// BBR paces on loopback and inside a rack; cubic does not.
			_ = syscall.SetsockoptString(int(fd), syscall.IPPROTO_TCP, syscall.TCP_CONGESTION, "cubic")
		})
	}}
	if cfg.HostTraddr != "" {
		d.LocalAddr = &net.TCPAddr{IP: net.ParseIP(cfg.HostTraddr)}
	}
	c, err := d.DialContext(ctx, "tcp", net.JoinHostPort(at.Traddr, at.Trsvcid))
	if err != nil {
		return nil, err
	}
	tc, ok := c.(*net.TCPConn)
	if !ok {
		_ = c.Close()
		return nil, fmt.Errorf("%T is not a TCP connection", c)
	}
	if err := tc.SetNoDelay(true); err != nil {
		_ = tc.Close()
		return nil, err
	}
	if a, b := tc.LocalAddr().(*net.TCPAddr), tc.RemoteAddr().(*net.TCPAddr); a.Port == b.Port && a.IP.Equal(b.IP) {
		// A connect to a free port of this machine's ephemeral range may
		// meet itself.
		_ = tc.Close()
		return nil, errors.New("connection refused: connected to itself")
	}
	return tc, nil
}

// recvInto reads what is there into p without waiting.
func recvInto(fd uintptr, p []byte) (int, syscall.Errno) {
	n, _, e := syscall.RawSyscall6(syscall.SYS_RECVFROM, fd, uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)),
		syscall.MSG_DONTWAIT, 0, 0)
	return int(n), e
}

// recvVec reads what is there into the pieces of v without waiting. m is
// scratch that lives with the queue.
func recvVec(fd uintptr, m *syscall.Msghdr, v []syscall.Iovec) (int, syscall.Errno) {
	m.Iov, m.Iovlen = unsafe.SliceData(v), uint64(len(v))
	n, _, e := syscall.RawSyscall(syscall.SYS_RECVMSG, fd, uintptr(unsafe.Pointer(m)), syscall.MSG_DONTWAIT)
	return int(n), e
}

// sendVec sends as much of v as fits without waiting.
func sendVec(fd uintptr, m *syscall.Msghdr, v []syscall.Iovec) (int, syscall.Errno) {
	m.Iov, m.Iovlen = unsafe.SliceData(v), uint64(len(v))
	n, _, e := syscall.RawSyscall(syscall.SYS_SENDMSG, fd, uintptr(unsafe.Pointer(m)), syscall.MSG_DONTWAIT|syscall.MSG_NOSIGNAL)
	return int(n), e
}

func iovec(p []byte) syscall.Iovec {
	return syscall.Iovec{Base: unsafe.SliceData(p), Len: uint64(len(p))}
}

// advance drops the first n bytes of v, in place.
func advance(v []syscall.Iovec, n int) []syscall.Iovec {
	for n > 0 {
		if l := int(v[0].Len); n >= l {
			n -= l
			v = v[1:]
			continue
		}
		v[0].Base = (*byte)(unsafe.Add(unsafe.Pointer(v[0].Base), n))
		v[0].Len -= uint64(n)
		n = 0
	}
	return v
}
