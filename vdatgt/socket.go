package vdatgt

import (
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
)

// maxSocketPath is the room in sockaddr_un less the terminating NUL.
const maxSocketPath = 107

// socket is a listening Unix socket that this process owns.
type socket struct {
	net.Listener
	lock *os.File
}

// listen opens the socket at path. A lock file beside it (path.lock, as SPDK
// has) tells a socket in use from one that a killed process left behind: the
// lock goes with its process.
func listen(path string) (*socket, error) {
	lock, err := os.OpenFile(path+".lock", os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("JSON-RPC socket %s: %w", path, err)
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = lock.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("JSON-RPC socket %s is in use by another data plane; stop it or give another path", path)
		}
		return nil, fmt.Errorf("JSON-RPC socket %s: lock: %w", path, err)
	}
	s := &socket{lock: lock}
	if err := vacate(path); err != nil {
		s.unlock(path)
		return nil, err
	}
	if s.Listener, err = net.Listen("unix", path); err != nil {
		s.unlock(path)
		return nil, fmt.Errorf("JSON-RPC socket %s: %w", path, err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		s.remove()
		return nil, fmt.Errorf("JSON-RPC socket %s: %w", path, err)
	}
	return s, nil
}

// vacate removes the socket that a dead process left at path. Anything else
// that lies there, or somebody who answers, is an error.
func vacate(path string) error {
	st, err := os.Lstat(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("JSON-RPC socket %s: %w", path, err)
	}
	if st.Mode()&os.ModeSocket == 0 {
		return fmt.Errorf("JSON-RPC socket %s: a file that is not a socket lies there; remove it or give another path", path)
	}
	if c, err := net.Dial("unix", path); err == nil {
		_ = c.Close()
		return fmt.Errorf("JSON-RPC socket %s is in use by another process; stop it or give another path", path)
	}
	return os.Remove(path)
}

// remove closes the socket and takes its files away.
func (s *socket) remove() {
	path := s.Addr().String()
	_ = s.Close() // the server may have closed it, and with it the file has gone
	s.unlock(path)
}

func (s *socket) unlock(path string) {
	_ = os.Remove(path + ".lock")
	_ = s.lock.Close()
}
