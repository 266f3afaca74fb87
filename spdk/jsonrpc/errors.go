package jsonrpc

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
)

// Codes of JSON-RPC 2.0 (section 5.1). SPDK uses InvalidParams and InternalError
// more widely than the specification does: the former also for objects that are
// missing or exist in nvmf_* calls, the latter for parameters that do not decode.
const (
	CodeParseError     = -32700
	CodeInvalidRequest = -32600
	CodeMethodNotFound = -32601
	CodeInvalidParams  = -32602
	CodeInternalError  = -32603

	// CodeInvalidState is for methods called in the wrong state: before
	// framework_start_init or, for start-up methods, after it.
	CodeInvalidState = -1
)

// Error is an error object.
type Error struct {
	Code    int    `json:"code"`
	Message string `json:"message"`
	Data    string `json:"data,omitempty"` // what exactly was wrong, for people
}

func (e *Error) Error() string {
	if e.Data != "" {
		return fmt.Sprintf("%s: %s (code %d)", e.Message, e.Data, e.Code)
	}
	return fmt.Sprintf("%s (code %d)", e.Message, e.Code)
}

// Errno makes the error object of an errno: its negative as the code, and
// strerror(3)'s text. The reason goes to Data.
func Errno(errno syscall.Errno, reason string) *Error {
	return &Error{Code: -int(errno), Message: strerror(errno), Data: reason}
}

// strerror is glibc's text, which is Go's but for the first letter.
func strerror(errno syscall.Errno) string {
	s := errno.Error()
	return strings.ToUpper(s[:1]) + s[1:]
}

// AsError turns what a method returned into an error object: an *Error as it
// is, an errno in the chain as Errno does, anything else as -32603.
func AsError(err error) *Error {
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	var errno syscall.Errno
	if errors.As(err, &errno) && errno != 0 {
		reason := err.Error()
		if reason == errno.Error() {
			reason = ""
		}
		return Errno(errno, reason)
	}
	return &Error{Code: CodeInternalError, Message: "Internal error", Data: err.Error()}
}

func invalidRequest() *Error {
	return &Error{Code: CodeInvalidRequest, Message: "Invalid request"}
}
