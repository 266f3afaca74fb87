package vda

import (
	"errors"
	"fmt"
)

// Kind sorts errors by what the caller can do about them.
type Kind uint8

// The kinds. portal translates them to gRPC codes and reply codes.
const (
	Internal           Kind = iota // a fault of ours
	InvalidArgument                // the request can never work
	NotFound                       //
	AlreadyExists                  // the name is taken
	FailedPrecondition             // the state forbids it now
	ResourceExhausted              // no room
	Unavailable                    // try again later
	Conflict                       // a concurrent transaction won; retried by store
	PermissionDenied               // the caller may not
)

var kindNames = [...]string{"internal error", "invalid argument", "not found", "already exists",
	"failed precondition", "resource exhausted", "unavailable", "conflict", "permission denied"}

func (k Kind) String() string { return kindNames[k] }

// Error is the one error type of the control plane.
type Error struct {
	Kind   Kind
	Op     string // what was being done: "create da"
	Object string // on what: "da0"
	Msg    string // what is wrong; names the field, the value and what would be right
	Err    error  // cause whose text Error appends to Msg; may be nil

	wrapped error // what Msg was made of, when that wraps a cause
}

func (e *Error) Error() string {
	s := e.Msg
	if s == "" {
		s = e.Kind.String()
	}
	if e.Object != "" {
		s = e.Object + ": " + s
	}
	if e.Op != "" {
		s = e.Op + " " + s
	}
	if e.Err != nil {
		if cause := e.Err.Error(); cause != "" {
			s += ": " + cause
		}
	}
	return s
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error {
	if e.Err == nil {
		return e.wrapped
	}
	return e.Err
}

// Errorf makes an error of a kind whose Msg is the text; %w wraps causes, as in
// fmt.Errorf.
func Errorf(k Kind, format string, args ...any) *Error {
	err := fmt.Errorf(format, args...)
	e := &Error{Kind: k, Msg: err.Error()}
	_, many := err.(interface{ Unwrap() []error })
	if many || errors.Unwrap(err) != nil {
		e.wrapped = err
	}
	return e
}

// KindOf returns the kind of the first Error in err's chain, or Internal.
func KindOf(err error) Kind {
	var e *Error
	if errors.As(err, &e) {
		return e.Kind
	}
	return Internal
}

// IgnoreNotFound returns nil for an error of kind NotFound, and others as they
// are: for what is done to an object only if it is still there.
func IgnoreNotFound(err error) error {
	if err != nil && KindOf(err) == NotFound {
		return nil
	}
	return err
}
