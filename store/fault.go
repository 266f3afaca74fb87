package store

import (
	"context"
	"errors"
	"net"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/reason"
)

// wrap turns an error of the database into a vda.Error. A context's end and
// errors that are ours already pass as they are.
func (s *sqlStore) wrap(err error) error {
	if err == nil || errors.Is(err, context.Canceled) {
		return err
	}
	if errors.Is(err, context.DeadlineExceeded) {
		if !connecting(err) {
			return err
		}
		return s.late(err)
	}
	var own *vda.Error
	if errors.As(err, &own) {
		return err
	}
	switch s.classOf(err) {
	case classDuplicate:
		return &vda.Error{Kind: vda.AlreadyExists, Object: "row", Msg: "exists already", Err: said(err)}
	case classForeignKey:
		return &vda.Error{Kind: vda.FailedPrecondition, Object: "row", Msg: "is in use, or what it refers to is gone", Err: said(err)}
	case classCheck:
		return &vda.Error{Kind: vda.FailedPrecondition, Object: "row", Msg: "breaks a rule of the schema", Err: said(err)}
	case classNoSchema:
		return s.noSchema()
	}
	return s.error(s.classOf(err), err)
}

// error is a vda.Error about the database.
func (s *sqlStore) error(c class, cause error) *vda.Error {
	e := &vda.Error{Kind: vda.Internal, Op: reason.OpDatabase, Object: s.target.where, Msg: "refuses a statement of this program",
		Err: said(cause)}
	if a, ok := about[c]; ok {
		e.Kind, e.Msg = a.kind, a.msg
	}
	if msg := aboutFile(cause); msg != "" {
		e.Msg = msg
	}
	return e
}

// hungAfter is how long a database may keep a transaction waiting that then
// runs out of time, before it is the database that did not answer.
const hungAfter = 250 * time.Millisecond

// timeUp is the error of a transaction that was ended by a context, whose error is end, after
// it had taken so long. last is the conflict for which it was tried again, or nil.
func (s *sqlStore) timeUp(end error, took time.Duration, err, last error) error {
	switch {
	case vda.KindOf(err) == vda.Conflict, last != nil && vda.KindOf(last) == vda.Conflict:
		return s.error(classConflict, end)
	case errors.Is(end, context.DeadlineExceeded) && took >= hungAfter:
		return s.late(end)
	}
	return end
}

// late is the error of a database that has had its time.
func (s *sqlStore) late(cause error) error {
	e := s.error(classUnreachable, cause)
	e.Msg = "does not answer in time"
	return e
}

// connecting reports that an error is of a driver that connects, which has a time limit of
// its own: that one looks like the end of a context, and is not the caller's.
func connecting(err error) bool {
	var connect *pgconn.ConnectError
	var op *net.OpError
	return errors.As(err, &connect) || errors.As(err, &op)
}

// saidError is a driver's error in words: what the server said, or why it was
// not reached.
type saidError struct {
	words string
	error
}

func (e saidError) Error() string { return e.words }
func (e saidError) Unwrap() error { return e.error }

// said never repeats the user, the password or the text of a driver.
func said(err error) error {
	if err == nil {
		return nil
	}
	var pg *pgconn.PgError
	var my *mysql.MySQLError
	var connect *pgconn.ConnectError
	var dns *net.DNSError
	var op *net.OpError
	var errno syscall.Errno
	words := ""
	switch {
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		// Said already.
	case errors.As(err, &pg):
		words = pg.Message + " (" + pg.Code + ")"
	case errors.As(err, &my):
		words = my.Message + " (" + itoa(uint64(my.Number)) + ")"
	case errors.As(err, &dns):
		words = "the name " + dns.Name + " is not known"
	case errors.As(err, &op) && op.Addr != nil:
		words = op.Addr.String() + ": " + why(op)
	case errors.As(err, &errno):
		words = errno.Error()
	case errors.Is(err, os.ErrDeadlineExceeded):
		words = reason.NoAnswer
	case errors.As(err, &connect):
		words = "no connection"
		if inner := errors.Unwrap(connect); inner != nil && !strings.Contains(inner.Error(), "user=") {
			words = reason.Full(inner)
		}
	default:
		words = reason.Full(err)
	}
	return saidError{words, err}
}

func why(op *net.OpError) string {
	var errno syscall.Errno
	switch {
	case errors.As(op, &errno):
		return errno.Error()
	case op.Timeout():
		return reason.NoAnswer
	}
	return reason.Full(op.Err)
}

const noSchemaMsg = "has no VDA schema; make it with vda_db --action create"
