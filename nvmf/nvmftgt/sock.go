package nvmftgt

import (
	"syscall"
	"unsafe"
)

// Options of listening sockets; accepted ones inherit them. The receive
// buffer is set because auto-tuning settles a deep write queue at one of two
// speeds by chance, cubic because BBR paces even on loopback.
const socketBuffer = 2 << 20

func listenOptions(_, _ string, rc syscall.RawConn) error {
	return rc.Control(func(fd uintptr) {
		_ = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, socketBuffer)
		_ = syscall.SetsockoptString(int(fd), syscall.IPPROTO_TCP, syscall.TCP_CONGESTION, "cubic")
	})
}

const tcpUserTimeout = 18 // TCP_USER_TIMEOUT

// The socket calls below never block, so they go past the scheduler: a
// RawSyscall costs half of a Syscall.

// recvInto receives into p.
func recvInto(fd int, p []byte) (int, syscall.Errno) {
	for {
		n, _, e := syscall.RawSyscall6(syscall.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)), syscall.MSG_DONTWAIT, 0, 0)
		if e != syscall.EINTR {
			return int(n), e
		}
	}
}

// recvVec receives into the pieces of m.
func recvVec(fd int, m *syscall.Msghdr) (int, syscall.Errno) {
	for {
		n, _, e := syscall.RawSyscall(syscall.SYS_RECVMSG, uintptr(fd), uintptr(unsafe.Pointer(m)), syscall.MSG_DONTWAIT)
		if e != syscall.EINTR {
			return int(n), e
		}
	}
}

// sendVec sends the pieces of m.
func sendVec(fd int, m *syscall.Msghdr) (int, syscall.Errno) {
	for {
		n, _, e := syscall.RawSyscall(syscall.SYS_SENDMSG, uintptr(fd), uintptr(unsafe.Pointer(m)), syscall.MSG_DONTWAIT|syscall.MSG_NOSIGNAL)
		if e != syscall.EINTR {
			return int(n), e
		}
	}
}

// iovMax is the kernel's limit of pieces in one call.
const iovMax = 1024

func iovec(p []byte) (v syscall.Iovec) {
	v.Base = unsafe.SliceData(p)
	v.SetLen(len(p))
	return v
}
