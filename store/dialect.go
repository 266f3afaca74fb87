package store

import (
	"database/sql"
	"strconv"
	"strings"

	"github.com/pressly/goose/v3"
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
