package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"syscall"

	"vda"
)

// wrap turns an error of the database into a vda.Error. A context's end and
// errors that are ours already pass as they are.
func (s *sqlStore) wrap(err error) error {
	if err == nil || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	var own *vda.Error
	if errors.As(err, &own) {
		return err
	}
	e := &vda.Error{Kind: vda.Internal, Op: "database", Object: s.target.where, Err: oneLine{err}}
	switch s.classOf(err) {
	case classConflict:
		e.Kind, e.Msg = vda.Conflict, "a concurrent transaction was first"
	case classDuplicate:
		e.Kind, e.Msg = vda.AlreadyExists, "exists already"
	case classForeignKey:
		e.Kind, e.Msg = vda.FailedPrecondition, "the row is in use, or what it refers to is gone"
	case classCheck:
		e.Kind, e.Msg = vda.FailedPrecondition, "the change breaks a rule of the schema"
	case classUnreachable:
		e.Kind, e.Msg = vda.Unavailable, "not reachable"
	case classNoSchema:
		e.Kind, e.Msg, e.Err = vda.FailedPrecondition, noSchemaMsg, nil
	case classRefused:
		e.Kind, e.Msg = vda.FailedPrecondition, "refused the login"
	}
	return e
}

// oneLine says in one line what a driver says in several, and once what it
// says of each way to reach the same host.
type oneLine struct{ error }

func (e oneLine) Unwrap() error { return e.error }

func (e oneLine) Error() string {
	var lines []string
	for l := range strings.Lines(e.error.Error()) {
		if l = strings.TrimSpace(l); l != "" && !slices.Contains(lines, l) {
			lines = append(lines, l)
		}
	}
	if len(lines) == 0 {
		return ""
	}
	if len(lines) == 1 {
		return lines[0]
	}
	return lines[0] + " " + strings.Join(lines[1:], "; ")
}

const noSchemaMsg = "has no VDA schema; make it with vda_db --action create"

func (s *sqlStore) classOf(err error) class {
	if c := s.target.dialect.classify(err); c != classOther {
		return c
	}
	var netErr net.Error
	var errno syscall.Errno
	switch {
	case errors.Is(err, driver.ErrBadConn), errors.Is(err, sql.ErrConnDone),
		errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF),
		errors.Is(err, net.ErrClosed), errors.As(err, &netErr), errors.As(err, &errno):
		return classUnreachable
	}
	return classOther
}
