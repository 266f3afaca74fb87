package store

import (
	"database/sql"
	"database/sql/driver"
	"errors"
	"io"
	"net"
	"strings"
	"syscall"

	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5/pgconn"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/virtual-disk-array/vda"
)

// class is what an error of the database means to us.
type class uint8

const (
	classOther    class = iota // a fault of ours
	classConflict              // a concurrent transaction won; try again
	classDuplicate
	classForeignKey
	classCheck
	classUnreachable // connection refused or lost
	classStarting    // the server starts, recovers or stops
	classReadOnly    // a standby, or made so
	classFull        // no space on its disk
	classConnections // all of them are taken
	classTimeLimit   // the server's own, of a statement or transaction
	classFault       // of the server or its machine
	classNoSchema
	classSchema  // not the one that this program was built for
	classRefused // login or database name wrong; trying again will not help
)

// about is what a class of error says of the database: a kind, and words that
// follow "the database". Errors about a row are not in it.
var about = map[class]struct {
	kind vda.Kind
	msg  string
}{
	classConflict:    {vda.Conflict, "is busy: others hold the same rows"},
	classUnreachable: {vda.Unavailable, "does not answer"},
	classStarting:    {vda.Unavailable, "is starting, recovering or shutting down"},
	classReadOnly:    {vda.Unavailable, "is read-only: it is a standby, or was made so"},
	classFull:        {vda.Unavailable, "has no space left on its disk"},
	classConnections: {vda.Unavailable, "has no connection free: its limit of connections is reached"},
	classTimeLimit:   {vda.Unavailable, "ended a statement at a time limit of its own, as statement_timeout is"},
	classFault:       {vda.Unavailable, "reports a fault of its own; its log has the details"},
	classNoSchema:    {vda.FailedPrecondition, noSchemaMsg},
	classSchema:      {vda.FailedPrecondition, "has another schema than this program was built for; see vda_db --action status"},
	classRefused:     {vda.FailedPrecondition, "refuses the login, or lacks a right that it needs"},
}

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

func classifySQLite(err error) class {
	var e *sqlite.Error
	if !errors.As(err, &e) {
		return classOther
	}
	switch e.Code() {
	case sqlite3.SQLITE_CONSTRAINT_UNIQUE, sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY:
		return classDuplicate
	case sqlite3.SQLITE_CONSTRAINT_FOREIGNKEY:
		return classForeignKey
	case sqlite3.SQLITE_CONSTRAINT_CHECK:
		return classCheck
	case sqlite3.SQLITE_CONSTRAINT_NOTNULL:
		return classSchema
	case sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_IOERR_SHMSIZE: // a write that did not fit, or no room for the index of the WAL
		return classFull
	}
	switch e.Code() & 0xff {
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL:
		return classConflict
	case sqlite3.SQLITE_FULL:
		return classFull
	case sqlite3.SQLITE_READONLY:
		return classReadOnly
	case sqlite3.SQLITE_CANTOPEN:
		return classUnreachable
	case sqlite3.SQLITE_IOERR, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH:
		return classFault
	case sqlite3.SQLITE_SCHEMA:
		return classConflict
	case sqlite3.SQLITE_ERROR:
		switch msg := e.Error(); {
		case strings.Contains(msg, "no such table"):
			return classNoSchema
		case strings.Contains(msg, "no such column"), strings.Contains(msg, "has no column named"):
			return classSchema
		}
	}
	return classOther
}

// aboutFile is what SQLite's error says of the database's file, "" when nothing:
// there is no server that is a standby, does not answer, or has a log.
func aboutFile(err error) string {
	var e *sqlite.Error
	if !errors.As(err, &e) {
		return ""
	}
	switch e.Code() & 0xff {
	case sqlite3.SQLITE_READONLY:
		return "is read-only: this program's user must have the right to write the file and its folder"
	case sqlite3.SQLITE_CANTOPEN:
		return "cannot be opened: it must be a file that this program's user may read and write, in a folder that it may write"
	case sqlite3.SQLITE_NOTADB:
		return "cannot be read: the file is not an SQLite database"
	case sqlite3.SQLITE_CORRUPT:
		return "cannot be read: the file is damaged; restore it from a backup"
	}
	return ""
}

// postgresClasses are SQLSTATEs, or their first two characters (PostgreSQL,
// appendix A). What is not here is the server's own fault, unless it
// is about a statement: then it is ours.
var postgresClasses = map[string]class{
	"40001": classConflict, "40P01": classConflict, "55P03": classConflict, "55006": classConflict,
	"23505": classDuplicate, "23503": classForeignKey, "23514": classCheck, "23502": classSchema,
	"42P01": classNoSchema, "3F000": classNoSchema, "42703": classSchema,
	"28": classRefused, "3D000": classRefused, "42501": classRefused,
	"25006": classReadOnly,
	"25P03": classTimeLimit, "25P04": classTimeLimit, "57014": classTimeLimit,
	"08": classUnreachable, "57P": classStarting,
	"53100": classFull, "53300": classConnections, "55000": classStarting,
	"22": classOther, "23": classOther, "42": classOther, "0A": classOther, "21": classOther, "34": classOther, "26": classOther,
	"25": classOther,
}

func classifyPostgres(err error) class {
	var e *pgconn.PgError
	if !errors.As(err, &e) {
		var c *pgconn.ConnectError
		if errors.As(err, &c) && strings.Contains(err.Error(), "read only connection") {
			return classReadOnly // none of several servers takes writes
		}
		if c != nil || pgconn.SafeToRetry(err) {
			return classUnreachable
		}
		return classOther
	}
	for n := len(e.Code); n >= 2; n-- {
		if c, ok := postgresClasses[e.Code[:n]]; ok {
			return c
		}
	}
	return classFault
}

// mysqlClasses are error numbers of MySQL and MariaDB.
var mysqlClasses = map[uint16]class{
	// Deadlock, lock wait timeout, record changed since read, NOWAIT; Galera's certification is a deadlock.
	1213: classConflict, 1205: classConflict, 1020: classConflict, 3572: classConflict, 1412: classConflict,
	1062: classDuplicate, 1586: classDuplicate,
	1451: classForeignKey, 1452: classForeignKey,
	3819: classCheck, 4025: classCheck,
	1146: classNoSchema, 1054: classSchema, 1364: classSchema, 1048: classSchema,
	1045: classRefused, 1044: classRefused, 1049: classRefused, 1698: classRefused, 1142: classRefused, 1143: classRefused, 1130: classRefused,
	1227: classRefused, 1370: classRefused, 1820: classRefused, 1862: classRefused,
	1040: classConnections, 1203: classConnections, 1226: classConnections, 1129: classConnections,
	1053: classStarting, 1077: classStarting, 1079: classStarting, 1047: classStarting, 3169: classStarting,
	1152: classUnreachable, 1927: classUnreachable, 2006: classUnreachable, 2013: classUnreachable, 4031: classUnreachable,
	1158: classUnreachable,
	1159: classUnreachable, 1160: classUnreachable, 1161: classUnreachable,
	1290: classReadOnly, 1792: classReadOnly, 1836: classReadOnly, 1874: classReadOnly,
	1021: classFull, 1114: classFull, 1041: classFault, 1037: classFault, 1038: classFault, 3: classFault, 11: classFault,
	1317: classTimeLimit, 1969: classTimeLimit, 3024: classTimeLimit, 1907: classTimeLimit,
	1004: classFault, 1005: classFault, 1006: classFault, 1016: classFault, 1023: classFault, 1024: classFault, 1026: classFault,
	1030: classFault,
	1034: classFault, 1035: classFault, 1180: classFault, 1181: classFault, 1194: classFault, 1195: classFault, 1296: classFault,
	1297: classFault,
	1878: classFull, 3185: classFault, 1932: classFault, 1812: classFault, 1877: classFault, 1712: classFault,
}

func classifyMySQL(err error) class {
	if errors.Is(err, mysql.ErrInvalidConn) {
		return classUnreachable
	}
	var e *mysql.MySQLError
	if !errors.As(err, &e) {
		return classOther
	}
	c := mysqlClasses[e.Number]
	if c == classFault && (strings.Contains(e.Message, "No space left") || strings.Contains(e.Message, "rror 28") ||
		strings.Contains(e.Message, "ode: 28")) {
		return classFull
	}
	return c
}
