package store

import (
	"container/list"
	"context"
	"database/sql/driver"
	"errors"
	"strings"

	"github.com/go-sql-driver/mysql"
)

// How many statements a connection keeps prepared. SQLite's are memory of this process; MariaDB and MySQL have
// room for 16,382 of all connections of all programs, by default. pgx keeps those of PostgreSQL by itself.
const (
	sqliteStatements = 256
	mysqlStatements  = 64
)

// preparing is a driver.Connector whose connections keep their statements prepared. Without it SQLite reads the
// text of a statement and plans it each time, which takes longer than most of ours run, and MariaDB and MySQL are
// asked twice: to prepare, and to carry out. A *sql.Stmt does the same for a program that has one per statement,
// but needs a second connection when the one of a transaction has not prepared it yet, and SQLite has one writer.
//
// The database itself notices that a schema has changed: SQLite prepares again by itself (sqlite3_prepare_v2), and
// so do MariaDB and MySQL.
type preparing struct {
	driver.Connector
	most int  // statements per connection
	all  bool // those without parameters, too
}

// Connect implements driver.Connector.
func (p *preparing) Connect(ctx context.Context) (driver.Conn, error) {
	inner, err := p.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	full, ok := inner.(fullConn)
	if !ok {
		return inner, nil // a driver that we know nothing of
	}
	return &preparingConn{fullConn: full, cfg: p, byText: map[string]*list.Element{}}, nil
}

// fullConn is what the drivers of SQLite and of MySQL do.
type fullConn interface {
	driver.Conn
	driver.ConnBeginTx
	driver.ConnPrepareContext
	driver.ExecerContext
	driver.QueryerContext
	driver.Pinger
	driver.SessionResetter
	driver.Validator
}

// preparingConn is used by one goroutine at a time, as database/sql has it.
type preparingConn struct {
	fullConn
	cfg    *preparing
	byText map[string]*list.Element
	recent list.List // of *prepared, the one used last in front
}

// prepared is a statement that stays.
type prepared struct {
	text string
	driver.Stmt
	busy bool // its rows are being read: nobody else may use it
}

// statement is the prepared one of a text; nil: it is to be carried out without.
func (c *preparingConn) statement(ctx context.Context, text string, args int) (*prepared, error) {
	if args == 0 && !c.cfg.all || !isKept(text) {
		return nil, nil
	}
	if e := c.byText[text]; e != nil {
		p := e.Value.(*prepared)
		if p.busy {
			return nil, nil
		}
		c.recent.MoveToFront(e)
		return p, nil
	}
	for e := c.recent.Back(); e != nil && len(c.byText) >= c.cfg.most; {
		before := e.Prev()
		if p := e.Value.(*prepared); !p.busy {
			c.drop(p)
		}
		e = before
	}
	s, err := c.PrepareContext(ctx, text)
	if tooMany(err) {
		for _, e := range c.byText {
			if p := e.Value.(*prepared); !p.busy {
				c.drop(p)
			}
		}
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	p := &prepared{text: text, Stmt: s}
	c.byText[text] = c.recent.PushFront(p)
	return p, nil
}

// tooMany is the error of a server of MariaDB or MySQL that has as many prepared statements as it takes
// (max_prepared_stmt_count). One that is carried out needs room for itself alone, and only while it is.
func tooMany(err error) bool {
	var e *mysql.MySQLError
	return errors.As(err, &e) && e.Number == 1461
}

// isKept tells the statements of a program at work from those that change the schema, of which each runs once.
func isKept(text string) bool {
	for _, verb := range []string{"SELECT ", "INSERT ", "UPDATE ", "DELETE "} {
		if strings.HasPrefix(text, verb) {
			return true
		}
	}
	return false
}

// drop closes a statement. What is wrong with closing one is wrong with its connection, and found out there.
func (c *preparingConn) drop(p *prepared) {
	if e := c.byText[p.text]; e != nil && e.Value == p {
		c.recent.Remove(e)
		delete(c.byText, p.text)
		_ = p.Close()
	}
}

// ExecContext implements driver.ExecerContext.
func (c *preparingConn) ExecContext(ctx context.Context, text string, args []driver.NamedValue) (driver.Result, error) {
	p, err := c.statement(ctx, text, len(args))
	if err != nil {
		return nil, err
	}
	var s driver.StmtExecContext
	if p != nil {
		s, _ = p.Stmt.(driver.StmtExecContext)
	}
	if s == nil {
		return c.fullConn.ExecContext(ctx, text, args)
	}
	r, err := s.ExecContext(ctx, args)
	if err != nil {
		c.drop(p)
	}
	return r, err
}

// QueryContext implements driver.QueryerContext.
func (c *preparingConn) QueryContext(ctx context.Context, text string, args []driver.NamedValue) (driver.Rows, error) {
	p, err := c.statement(ctx, text, len(args))
	if err != nil {
		return nil, err
	}
	var s driver.StmtQueryContext
	if p != nil {
		s, _ = p.Stmt.(driver.StmtQueryContext)
	}
	if s == nil {
		return c.fullConn.QueryContext(ctx, text, args)
	}
	r, err := s.QueryContext(ctx, args)
	if err != nil {
		c.drop(p)
		return nil, err
	}
	p.busy = true
	full, ok := r.(fullRows)
	if !ok {
		return r, nil // of neither driver: the statement is not used again
	}
	return &preparedRows{full, c, p}, nil
}

// CheckNamedValue implements driver.NamedValueChecker: as the driver does.
func (c *preparingConn) CheckNamedValue(v *driver.NamedValue) error {
	if n, ok := c.fullConn.(driver.NamedValueChecker); ok {
		return n.CheckNamedValue(v)
	}
	return driver.ErrSkip
}

// Close closes the statements before the connection.
func (c *preparingConn) Close() error {
	for e := c.recent.Front(); e != nil; e = e.Next() {
		_ = e.Value.(*prepared).Close() // fails when the connection is broken
	}
	c.recent.Init()
	clear(c.byText)
	return c.fullConn.Close()
}

// fullRows is what the rows of both drivers tell of their columns.
type fullRows interface {
	driver.Rows
	driver.RowsColumnTypeDatabaseTypeName
	driver.RowsColumnTypeNullable
	driver.RowsColumnTypePrecisionScale
	driver.RowsColumnTypeScanType
}

// preparedRows gives the statement back when they are closed.
type preparedRows struct {
	fullRows
	conn *preparingConn
	of   *prepared
}

// Close implements driver.Rows.
func (r *preparedRows) Close() error {
	err := r.fullRows.Close()
	r.of.busy = false
	if err != nil {
		r.conn.drop(r.of)
	}
	return err
}
