package store

import (
	"context"
	"database/sql"
	"errors"
	"io/fs"
	"os"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5/stdlib"
	"modernc.org/sqlite"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/reason"
)

// Connections a process holds to a database server, as many as it may have: a new one has a server
// process made, passwords proven, and every statement planned again, which costs many times
// what a transaction does. Those that are not used go after connMaxIdle. SQLite has one writer
// whatever we do; its readers do not wait for it.
const (
	serverConns   = 16
	sqliteReaders = 8
	urgentConns   = 2 // of serverConns, kept for Urgent transactions
	connMaxIdle   = 5 * time.Minute
)

// sqlStore is the Store over database/sql.
type sqlStore struct {
	target *target
	write  *sql.DB
	read   *sql.DB       // the same as write but for SQLite
	limit  time.Duration // of one transaction

	// line has a token for each transaction that uses write and is not Urgent.
	line chan struct{}

	onEvent func(vda.Event) // is told of every event that was committed; nil: nobody is

	onStatement func() // is called after each statement of a transaction; nil: nobody counts

	version int64        // of the schema that this program needs; 0: not checked
	looked  atomic.Int64 // when a view last found it, UnixNano
}

// maxTransaction bounds one transaction that writes, waiting for locks included, and one
// statement of a view: a server that hangs is found out.
const maxTransaction = 15 * time.Second

var _ Store = (*sqlStore)(nil)

// Open opens the cluster's database that uri names and checks that its schema
// is the one this program was built for. Without a schema, or with an older
// or a newer one, it is vda.FailedPrecondition and says what to do; when the
// database cannot be reached it is vda.Unavailable with host and port.
func Open(ctx context.Context, uri string, options ...Option) (Store, error) {
	s, err := connect(ctx, uri)
	if err != nil {
		return nil, err
	}
	for _, o := range options {
		o(s)
	}
	if s.version, err = s.checkVersion(ctx); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// Option is something that a program wants of its Store.
type Option func(*sqlStore)

// OnEvent has fn called with each event of a transaction of this Store, once it is
// committed. It must not wait.
func OnEvent(fn func(vda.Event)) Option { return func(s *sqlStore) { s.onEvent = fn } }

// OnStatement has fn called after each statement of a transaction that the database has answered. It
// must not wait; transactions that are under way at once call it at once.
func OnStatement(fn func()) Option { return func(s *sqlStore) { s.onStatement = fn } }

// errNoFile is about the file of SQLite.
var errNoFile = errors.New(
	"there is no such file, and so no VDA schema; check the path, or make a new database with vda_db --action create")

// connect opens the database, which must exist, without a look at its schema.
func connect(ctx context.Context, uri string) (*sqlStore, error) {
	t, err := parseURI(uri)
	if err != nil {
		return nil, err
	}
	if t.file != "" {
		if _, err := os.Stat(t.file); errors.Is(err, fs.ErrNotExist) {
			return nil, vda.Errorf(vda.FailedPrecondition, "%s: %w", t.where, errNoFile)
		}
		t.sqlite += "&mode=rw" // not c, create
	}
	return connectTo(ctx, t)
}

// connectTo makes the file of SQLite when there is none.
func connectTo(ctx context.Context, t *target) (s *sqlStore, err error) {
	s = &sqlStore{target: t, limit: maxTransaction}
	switch {
	case t.sqlite != "":
		connect := t.connect
		if connect == nil {
			connect = sqlite.NewConnector
		}
		writer, err := connect(t.sqlite + "&_txlock=immediate")
		if err != nil {
			return nil, s.wrap(err)
		}
		reader, err := connect(t.sqlite + "&_pragma=query_only(1)")
		if err != nil {
			return nil, s.wrap(err)
		}
		s.write = sql.OpenDB(&preparing{Connector: writer, most: sqliteStatements, all: true})
		s.read = sql.OpenDB(&preparing{Connector: reader, most: sqliteStatements, all: true})
		s.write.SetMaxOpenConns(1)
		s.line = make(chan struct{}, 1)
		s.read.SetMaxOpenConns(sqliteReaders)
		s.read.SetMaxIdleConns(sqliteReaders)
	case t.postgres != nil:
		s.write = stdlib.OpenDB(*t.postgres)
	case t.mysql != nil:
		connector, err := mysql.NewConnector(t.mysql)
		if err != nil {
			return nil, vda.Errorf(vda.InvalidArgument, "db-uri: %s", reason.Full(err))
		}
		s.write = sql.OpenDB(&preparing{Connector: connector, most: mysqlStatements})
	}
	if s.read == nil {
		s.read = s.write
		s.write.SetMaxOpenConns(serverConns)
		s.line = make(chan struct{}, serverConns-urgentConns)
		s.write.SetMaxIdleConns(serverConns)
		s.write.SetConnMaxIdleTime(connMaxIdle)
	}
	begin := time.Now()
	if err := s.write.PingContext(ctx); err != nil {
		s.Close()
		if ctx.Err() != nil {
			return nil, s.timeUp(ctx.Err(), time.Since(begin), nil, nil)
		}
		return nil, s.wrap(err)
	}
	return s, nil
}

// Ping implements Store. It does not wait for SQLite's one writer.
func (s *sqlStore) Ping(ctx context.Context) error {
	begin := time.Now()
	var version sql.NullInt64
	if err := s.read.QueryRowContext(ctx, schemaQuery).Scan(&version); err != nil {
		if ctx.Err() != nil {
			return s.timeUp(ctx.Err(), time.Since(begin), nil, nil)
		}
		return s.wrap(err)
	}
	return s.isOurs(version.Int64)
}

// Close implements Store. Transactions under way end first.
func (s *sqlStore) Close() error {
	err := s.write.Close()
	if s.read != s.write {
		err = errors.Join(err, s.read.Close())
	}
	return err
}

// String names the database without its password.
func (s *sqlStore) String() string { return s.target.where }

func itoa(n uint64) string { return strconv.FormatUint(n, 10) }
