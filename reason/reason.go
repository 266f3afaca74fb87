// Package reason puts what libraries say into the words of a person. It is the
// one place where that is done: for a portal's replies, for what is kept as an
// object's health, for log lines and for the last words of a program.
//
// Of is for users of the cluster. Full is for its operators: it also names the
// database and what its server said. Both are one line. Words does the same
// for a text that another program made of an error.
package reason

import (
	"context"
	"errors"
	"net"
	"slices"
	"strings"

	"github.com/virtual-disk-array/vda"
)

// OpDatabase is the Op of a vda.Error about the database itself, or the way to
// it.
const OpDatabase = "database"

// failed is how the error of a gRPC call begins, before its code. It is known by
// its text: programs that speak no gRPC shall not link it for its words.
const failed = "rpc error: code = "

// NoAnswer is what is said of a time that is up.
const NoAnswer = "no answer in time"

// Of is err for users: of an error of the database no more than what it is.
func Of(err error) string {
	if e := Database(err); e != nil {
		return "the database " + Words(e.Msg)
	}
	return Full(err)
}

// Database is the part of err that is about the database; nil when no part is.
func Database(err error) *vda.Error {
	for err != nil {
		var e *vda.Error
		if !errors.As(err, &e) {
			return nil
		}
		if e.Op == OpDatabase {
			return e
		}
		err = e.Err
	}
	return nil
}

// Full is err for operators.
func Full(err error) string {
	if err == nil {
		return ""
	}
	if many, ok := err.(interface{ Unwrap() []error }); ok {
		var said []string
		for _, e := range many.Unwrap() {
			if s := Full(e); s != "" && !slices.Contains(said, s) {
				said = append(said, s)
			}
		}
		return strings.Join(said, "; ")
	}
	text := err.Error()
	var dns *net.DNSError
	switch {
	case err == context.DeadlineExceeded, strings.HasPrefix(text, failed+"DeadlineExceeded "):
		return NoAnswer
	case strings.HasPrefix(text, failed+"Canceled "):
		return "cancelled"
	case errors.As(err, &dns) && dns.IsNotFound:
		return strings.ReplaceAll(Words(text), Words(dns.Error()), "the name "+dns.Name+" is not known")
	}
	return Words(text)
}
