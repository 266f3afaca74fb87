package tcp

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
	"time"
	"unsafe"

	"github.com/virtual-disk-array/vda/bdev"
)

const (
	// socketBuffer is SO_RCVBUF in bytes. It is set because the system's
	// auto-tuning settles a deep write queue at one of two speeds by chance.
	socketBuffer = 2 << 20

	// iovMax is the most pieces that the kernel takes in one call.
	iovMax = 1024

	tcpUserTimeout = 18 // TCP_USER_TIMEOUT
	tcpEstablished = 1  // a state in struct tcp_info
)

// Stream is a TCP connection, or in tests a pair of sockets without ports.
type Stream interface {
	net.Conn
	syscall.Conn
	CloseWrite() error
}

// Conn is a connection.
type Conn struct {
	stream Stream
	raw    syscall.RawConn
	fd     uintptr

	// Of the one that receives.
	recvVec []syscall.Iovec
	recvMsg syscall.Msghdr

	// Of the one that sends.
	sendMsg  syscall.Msghdr
	sendFn   func(uintptr) bool
	waiting  *Queue // in SendWait
	waitFrom int    // pieces of it that had been sent when the time began
	waitErr  syscall.Errno
}

// options are set before a socket connects or listens, so that the window
// scale fits; accepted sockets inherit them. Failing costs speed only.
func options(_, _ string, rc syscall.RawConn) error {
	return rc.Control(func(fd uintptr) {
		_ = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, socketBuffer)
		// BBR paces on loopback and inside a rack; cubic does not.
		_ = syscall.SetsockoptString(int(fd), syscall.IPPROTO_TCP, syscall.TCP_CONGESTION, "cubic")
	})
}

// Listen opens a listening socket; what it accepts goes to New. The errors are
// net.ListenConfig's.
func Listen(ctx context.Context, network, address string) (net.Listener, error) {
	cfg := net.ListenConfig{Control: options}
	return cfg.Listen(ctx, network, address)
}

// Dial connects to an address, from the IP address local when that is not "".
// The errors are net.Dialer's.
func Dial(ctx context.Context, local, address string) (*Conn, error) {
	d := net.Dialer{KeepAlive: -1, Control: options}
	if local != "" {
		d.LocalAddr = &net.TCPAddr{IP: net.ParseIP(local)}
	}
	nc, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	tc, ok := nc.(*net.TCPConn)
	if !ok {
		_ = nc.Close()
		return nil, fmt.Errorf("%T is not a TCP connection", nc)
	}
	if a, b := tc.LocalAddr().(*net.TCPAddr), tc.RemoteAddr().(*net.TCPAddr); a.Port == b.Port && a.IP.Equal(b.IP) {
		// A connect to a free port of this machine's ephemeral range may
		// meet itself.
		_ = tc.Close()
		return nil, errors.New("connection refused: connected to itself")
	}
	c, err := New(tc)
	if err != nil {
		_ = tc.Close()
		return nil, err
	}
	return c, nil
}

// New makes a Conn of an open connection, which the caller closes when New
// fails.
func New(s Stream) (*Conn, error) {
	raw, err := s.SyscallConn()
	if err != nil {
		return nil, err
	}
	c := &Conn{stream: s, raw: raw}
	c.sendFn = c.sendMore
	if err := raw.Control(func(fd uintptr) { c.fd = fd }); err != nil {
		return nil, err
	}
	if tc, ok := s.(*net.TCPConn); ok {
		if err := tc.SetNoDelay(true); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// SetAckTimeout bounds how long the peer may leave sent data unacknowledged,
// milliseconds (TCP_USER_TIMEOUT).
func (c *Conn) SetAckTimeout(ms uint32) {
	_ = syscall.SetsockoptInt(int(c.fd), syscall.IPPROTO_TCP, tcpUserTimeout, int(ms))
}

// Ended reports that the peer has closed or reset the connection, also when what
// it sent before has not been received yet. It is called while the descriptor
// is open.
func (c *Conn) Ended() bool {
	var info [4]byte // struct tcp_info begins with the state
	n := uint32(len(info))
	_, _, e := syscall.RawSyscall6(syscall.SYS_GETSOCKOPT, c.fd, syscall.IPPROTO_TCP, syscall.TCP_INFO,
		uintptr(unsafe.Pointer(&info)), uintptr(unsafe.Pointer(&n)), 0)
	return e == 0 && info[0] != tcpEstablished
}

// LocalAddr is this end's address.
func (c *Conn) LocalAddr() net.Addr { return c.stream.LocalAddr() }

// RemoteAddr is the other end's address.
func (c *Conn) RemoteAddr() net.Addr { return c.stream.RemoteAddr() }

// Read waits for bytes. It is for the time before the first Recv.
func (c *Conn) Read(p []byte) (int, error) { return c.stream.Read(p) }

// Write waits until p is sent. It is for the time before the first Send.
func (c *Conn) Write(p []byte) (int, error) { return c.stream.Write(p) }

// SetDeadline bounds Read and Write.
func (c *Conn) SetDeadline(t time.Time) error { return c.stream.SetDeadline(t) }

// Recv receives what is there into p: EAGAIN when nothing is, 0 bytes and no
// error at the end of the stream.
func (c *Conn) Recv(p []byte) (int, syscall.Errno) {
	for {
		n, _, e := syscall.RawSyscall6(syscall.SYS_RECVFROM, c.fd, uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)),
			syscall.MSG_DONTWAIT, 0, 0)
		if e != syscall.EINTR {
			return int(n), e
		}
	}
}

// RecvData is Recv into n bytes of iov from byte off on, and when they lie in
// no more pieces than one call takes, into ahead behind them.
func (c *Conn) RecvData(iov [][]byte, off, n int, ahead []byte) (int, syscall.Errno) {
	vec, left := c.recvVec[:0], n
	for v := bdev.IovAt(iov, off); left > 0 && len(vec) < iovMax-1; {
		p := v.Next(left)
		if p == nil {
			break
		}
		vec = append(vec, iovec(p))
		left -= len(p)
	}
	if left == 0 {
		vec = append(vec, iovec(ahead))
	}
	c.recvVec = vec
	c.recvMsg.Iov, c.recvMsg.Iovlen = unsafe.SliceData(vec), uint64(len(vec))
	for {
		n, _, e := syscall.RawSyscall(syscall.SYS_RECVMSG, c.fd, uintptr(unsafe.Pointer(&c.recvMsg)), syscall.MSG_DONTWAIT)
		if e != syscall.EINTR {
			return int(n), e
		}
	}
}

// Send sends q as far as the socket takes it: 0 when all of it is sent, EAGAIN
// when the socket is full.
func (c *Conn) Send(q *Queue) syscall.Errno {
	for !q.Empty() {
		v := q.vec[q.sent:]
		if len(v) > iovMax {
			v = v[:iovMax]
		}
		c.sendMsg.Iov, c.sendMsg.Iovlen = unsafe.SliceData(v), uint64(len(v))
		n, _, e := syscall.RawSyscall(syscall.SYS_SENDMSG, c.fd, uintptr(unsafe.Pointer(&c.sendMsg)), syscall.MSG_DONTWAIT|syscall.MSG_NOSIGNAL)
		switch e {
		case 0:
			q.took(int(n))
		case syscall.EINTR:
		default:
			return e
		}
	}
	return 0
}

// SendWait sends q and sleeps while the socket is full, for at most limit
// without progress (0: as long as it takes). The error is the socket's, or
// os.ErrDeadlineExceeded when the limit has passed or Abort was called.
func (c *Conn) SendWait(q *Queue, limit time.Duration) error {
	c.waiting = q
	defer func() { c.waiting = nil }()
	for {
		if limit > 0 {
			_ = c.stream.SetWriteDeadline(time.Now().Add(limit))
		}
		c.waitFrom = q.sent
		if err := c.raw.Write(c.sendFn); err != nil {
			return err
		}
		switch c.waitErr {
		case 0:
			return nil
		case syscall.EAGAIN: // some progress: the time starts again
		default:
			return c.waitErr
		}
	}
}

// sendMore sends for RawConn.Write, which sleeps while it returns false.
func (c *Conn) sendMore(uintptr) bool {
	c.waitErr = c.Send(c.waiting)
	return c.waitErr != syscall.EAGAIN || c.waiting.sent > c.waitFrom+iovMax/4
}

// Wake has Input.Sleep return.
func (c *Conn) Wake() { _ = c.stream.SetReadDeadline(time.Unix(1, 0)) }

// Abort ends the connection so that what the system has not sent yet never is,
// and wakes those that sleep in Input.Sleep and in SendWait. The
// connection is to be closed as soon as nobody uses it.
func (c *Conn) Abort() {
	if tc, ok := c.stream.(*net.TCPConn); ok {
		_ = tc.SetLinger(0)
	}
	_ = c.stream.SetDeadline(time.Unix(1, 0))
}

// Shutdown ends both directions; what the system has taken is still sent.
// Those that sleep wake.
func (c *Conn) Shutdown() { _ = syscall.Shutdown(int(c.fd), syscall.SHUT_RDWR) }

// HangUp sends last, ends the sending side, and gives the peer a short while to
// read what was sent before a reset could take it away. Nobody else may send or
// receive.
func (c *Conn) HangUp(last []byte) {
	_ = c.stream.SetDeadline(time.Now().Add(100 * time.Millisecond))
	if len(last) > 0 {
		_, _ = c.stream.Write(last)
	}
	_ = c.stream.CloseWrite()
	sink := make([]byte, 4096)
	for range 64 {
		if _, err := c.stream.Read(sink); err != nil {
			return
		}
	}
}

// Close closes the connection.
func (c *Conn) Close() error { return c.stream.Close() }

func isTimeout(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }
