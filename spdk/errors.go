package spdk

import (
	"errors"
	"fmt"
	"strings"
	"syscall"

	"github.com/virtual-disk-array/vda/spdk/jsonrpc"
)

// Errors of the connection.
var (
	ErrUnreachable = errors.New("data plane is unreachable")
	ErrLost        = errors.New("connection to the data plane was lost")
	ErrClosed      = errors.New("client is closed")
)

// unreachable is ErrUnreachable with whose socket it is, and what can be done.
type unreachable struct {
	socket string
	err    error // of the connect
}

func (e *unreachable) Error() string {
	var why syscall.Errno
	errors.As(e.err, &why)
	start := fmt.Sprintf("start vda_tgt or spdk_tgt with -r %s, or give the socket of the one that runs", e.socket)
	words := fmt.Sprintf("its socket %s cannot be used (%v)", e.socket, why)
	switch why {
	case 0:
		words = fmt.Sprintf("its socket %s cannot be used", e.socket)
	case syscall.ENOENT:
		words = fmt.Sprintf("there is no socket %s; %s", e.socket, start)
	case syscall.ECONNREFUSED:
		words = fmt.Sprintf("nobody serves the socket %s; %s", e.socket, start)
	case syscall.EACCES, syscall.EPERM:
		words = fmt.Sprintf("this user may not open the socket %s; run as the user of the data plane, or as root", e.socket)
	case syscall.EINVAL:
		words = fmt.Sprintf("the path of its socket %s is too long; a Unix socket's has at most 107 bytes", e.socket)
	}
	return ErrUnreachable.Error() + ": " + words
}

// Unwrap returns ErrUnreachable and what the operating system said.
func (e *unreachable) Unwrap() []error { return []error{ErrUnreachable, e.err} }

// RPCError is the error object of a reply.
type RPCError struct {
	Code    int    // a code of package jsonrpc, or a negative errno
	Message string // as sent
	Method  string // the call it answers
	Data    string // what exactly was wrong; vda_tgt only
}

func (e *RPCError) Error() string {
	if e.Data != "" {
		return fmt.Sprintf("%s: %s: %s (code %d)", e.Method, e.Message, e.Data, e.Code)
	}
	return fmt.Sprintf("%s: %s (code %d)", e.Method, e.Message, e.Code)
}

// Is makes errors.Is(err, syscall.ENODEV) work for codes that are errnos.
func (e *RPCError) Is(target error) bool {
	errno, ok := target.(syscall.Errno)
	return ok && e.Code == -int(errno)
}

// Code returns the code of the RPCError in err's chain, or 0.
func Code(err error) int {
	var e *RPCError
	if errors.As(err, &e) {
		return e.Code
	}
	return 0
}

// IsNoSuchDevice reports -19: the named bdev, controller or lvstore does not
// exist.
func IsNoSuchDevice(err error) bool { return Code(err) == -int(syscall.ENODEV) }

// IsExists reports that the name is taken: -17, and -114 with which
// bdev_nvme_attach_controller says the same.
func IsExists(err error) bool {
	c := Code(err)
	return c == -int(syscall.EEXIST) || c == -int(syscall.EALREADY)
}

// IsNameTaken reports -17, or what bdev_lvol_create says for it: another code with
// its text.
func IsNameTaken(err error) bool {
	var e *RPCError
	return errors.As(err, &e) && (e.Code == -int(syscall.EEXIST) || strings.HasPrefix(e.Message, "File exists"))
}

// IsNoSpace reports -28, or what bdev_lvol_create says for it: -32602 with its
// text.
func IsNoSpace(err error) bool {
	var e *RPCError
	return errors.As(err, &e) && (e.Code == -int(syscall.ENOSPC) ||
		e.Code == jsonrpc.CodeInvalidParams && strings.HasPrefix(e.Message, "No space left on device"))
}

// IsBusy reports that what a call is about is being changed by another call.
func IsBusy(err error) bool { return Code(err) == -int(syscall.EBUSY) }

// IsTryAgain reports -11, or what bdev_set_qos_limit says for it: another code with its text.
func IsTryAgain(err error) bool {
	var e *RPCError
	return errors.As(err, &e) && (e.Code == -int(syscall.EAGAIN) || strings.HasSuffix(e.Message, "Resource temporarily unavailable"))
}

// IsInvalidParams reports -32602, nvmf_* calls' answer to an unknown
// subsystem or namespace, to a duplicate listener and the like.
func IsInvalidParams(err error) bool { return Code(err) == jsonrpc.CodeInvalidParams }

// LacksParameter reports that vda_tgt does not know a parameter of a method, as one of an earlier
// version. Its code is that of any parameter that does not decode, most often -32603.
func LacksParameter(err error, parameter string) bool {
	var e *RPCError
	return errors.As(err, &e) && e.Data == parameter+" is not a parameter"
}

// IsMethodNotFound reports that the data plane lacks the method.
func IsMethodNotFound(err error) bool { return Code(err) == jsonrpc.CodeMethodNotFound }

// IsNotInitialized reports that the data plane waits for
// framework_start_init.
func IsNotInitialized(err error) bool {
	var e *RPCError
	return errors.As(err, &e) && e.Code == jsonrpc.CodeInvalidState && strings.Contains(e.Message, "after framework is initialized")
}

// IsConnection reports that the data plane could not be asked or did not get
// round to answering, as opposed to refusing.
func IsConnection(err error) bool {
	return errors.Is(err, ErrUnreachable) || errors.Is(err, ErrLost)
}
