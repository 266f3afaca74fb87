package store

import (
	"database/sql"
	"errors"
	"strconv"
	"strings"

	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/pressly/goose/v3"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// dialect is what differs between the databases. The SQL itself is the same
// everywhere: ? placeholders, BIGINT, BOOLEAN, no RETURNING, no upserts.
type dialect struct {
	name       string // of the folder with its migrations
	goose      goose.Dialect
	numbered   bool // placeholders are $1, $2, …
	lockSuffix string
	// update and view are the isolation levels. Rows read in an update are
	// locked by lockSuffix, so READ COMMITTED is enough and a waiter goes on
	// with the row's newest values instead of starting again. A view is one
	// snapshot.
	update, view sql.TxOptions
	classify     func(error) class
}

// class is what an error of the database means to us.
type class uint8

const (
	classOther    class = iota
	classConflict       // a concurrent transaction won; try again
	classDuplicate
	classForeignKey
	classCheck
	classUnreachable // connection refused or lost, server starting or read-only
	classNoSchema
	classRefused // login or database name wrong; trying again won't help
)

var sqliteDialect = dialect{
	name:     "sqlite",
	goose:    goose.DialectSQLite3,
	classify: classifySQLite,
}

var postgresDialect = dialect{
	name:       "postgres",
	goose:      goose.DialectPostgres,
	numbered:   true,
	lockSuffix: " FOR UPDATE",
	update:     sql.TxOptions{Isolation: sql.LevelReadCommitted},
	view:       sql.TxOptions{Isolation: sql.LevelRepeatableRead, ReadOnly: true},
	classify:   classifyPostgres,
}

var mysqlDialect = dialect{
	name:       "mysql",
	goose:      goose.DialectMySQL,
	lockSuffix: " FOR UPDATE",
	update:     sql.TxOptions{Isolation: sql.LevelReadCommitted},
	view:       sql.TxOptions{Isolation: sql.LevelRepeatableRead, ReadOnly: true},
	classify:   classifyMySQL,
}

// rebind writes the placeholders the dialect's way. None of our SQL has a
// question mark in a literal.
func (d *dialect) rebind(q string) string {
	if !d.numbered {
		return q
	}
	var b strings.Builder
	b.Grow(len(q) + 16)
	n := 0
	for i := 0; i < len(q); i++ {
		if q[i] != '?' {
			b.WriteByte(q[i])
			continue
		}
		n++
		b.WriteByte('$')
		b.WriteString(strconv.Itoa(n))
	}
	return b.String()
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
	}
	switch e.Code() & 0xff {
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED:
		return classConflict
	case sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT:
		return classUnreachable
	case sqlite3.SQLITE_ERROR:
		if strings.Contains(e.Error(), "no such table") {
			return classNoSchema
		}
	}
	return classOther
}

func classifyPostgres(err error) class {
	var e *pgconn.PgError
	if !errors.As(err, &e) {
		var c *pgconn.ConnectError
		if errors.As(err, &c) || pgconn.SafeToRetry(err) {
			return classUnreachable
		}
		return classOther
	}
	switch e.Code {
	case "40001", "40P01", "55P03":
		return classConflict
	case "23505":
		return classDuplicate
	case "23503":
		return classForeignKey
	case "23514":
		return classCheck
	case "42P01", "3F000":
		return classNoSchema
	case "28P01", "28000", "3D000":
		return classRefused
	case "25006": // read-only transaction: a standby, or not yet promoted
		return classUnreachable
	}
	switch {
	case strings.HasPrefix(e.Code, "08"), strings.HasPrefix(e.Code, "57P"), strings.HasPrefix(e.Code, "53"):
		return classUnreachable
	}
	return classOther
}

func classifyMySQL(err error) class {
	if errors.Is(err, mysql.ErrInvalidConn) {
		return classUnreachable
	}
	var e *mysql.MySQLError
	if !errors.As(err, &e) {
		return classOther
	}
	switch e.Number {
	case 1213, 1205, 1020: // deadlock, lock wait timeout, record changed since read
		return classConflict
	case 1062:
		return classDuplicate
	case 1451, 1452:
		return classForeignKey
	case 3819, 4025:
		return classCheck
	case 1146:
		return classNoSchema
	case 1045, 1044, 1049, 1698:
		return classRefused
	case 1040, 1053, 1077, 1079, 1152, 1290, 1792, 1836, 1927, 2006, 2013:
		return classUnreachable
	}
	return classOther
}
