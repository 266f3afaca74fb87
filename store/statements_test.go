package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"fmt"
	"strings"
	"sync"
	"testing"

	"modernc.org/sqlite"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/store/dbtest"
)

// counts is SQLite, which counts what it prepares: each text that it is asked to carry out, and each that it is asked
// to prepare for later.
type counts struct {
	mu    sync.Mutex
	texts map[string]int // how often each was prepared
	open  int            // statements that are kept
	conns int
}

func (c *counts) connect(dsn string) (driver.Connector, error) {
	inner, err := sqlite.NewConnector(dsn)
	return countedConnector{inner, c}, err
}

func (c *counts) prepared(text string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.texts[text]++
}

func (c *counts) opened(by int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.open += by
}

type countedConnector struct {
	driver.Connector
	c *counts
}

func (n countedConnector) Connect(ctx context.Context) (driver.Conn, error) {
	inner, err := n.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	n.c.mu.Lock()
	n.c.conns++
	n.c.mu.Unlock()
	return countedConn{inner.(fullConn), n.c}, nil
}

type countedConn struct {
	fullConn
	c *counts
}

func (n countedConn) PrepareContext(ctx context.Context, text string) (driver.Stmt, error) {
	n.c.prepared(text)
	s, err := n.fullConn.PrepareContext(ctx, text)
	if err != nil {
		return nil, err
	}
	n.c.opened(1)
	return countedStmt{s, n.c}, nil
}

func (n countedConn) ExecContext(ctx context.Context, text string, args []driver.NamedValue) (driver.Result, error) {
	n.c.prepared(text)
	return n.fullConn.ExecContext(ctx, text, args)
}

func (n countedConn) QueryContext(ctx context.Context, text string, args []driver.NamedValue) (driver.Rows, error) {
	n.c.prepared(text)
	return n.fullConn.QueryContext(ctx, text, args)
}

type countedStmt struct {
	driver.Stmt
	c *counts
}

func (s countedStmt) ExecContext(ctx context.Context, args []driver.NamedValue) (driver.Result, error) {
	return s.Stmt.(driver.StmtExecContext).ExecContext(ctx, args)
}

func (s countedStmt) QueryContext(ctx context.Context, args []driver.NamedValue) (driver.Rows, error) {
	return s.Stmt.(driver.StmtQueryContext).QueryContext(ctx, args)
}

func (s countedStmt) Close() error {
	s.c.opened(-1)
	return s.Stmt.Close()
}

// openCounted is an empty database in SQLite.
func openCounted(t *testing.T) (*sqlStore, *counts) {
	t.Helper()
	uri := dbtest.SQLite(t)
	if _, _, err := Create(t.Context(), uri); err != nil {
		t.Fatal(err)
	}
	target, err := parseURI(uri)
	if err != nil {
		t.Fatal(err)
	}
	c := &counts{texts: map[string]int{}}
	target.connect = c.connect
	s, err := connectTo(t.Context(), target)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s, c
}

// TestStatementsStayPrepared: SQLite is asked once per connection to prepare what is carried out again and again.
func TestStatementsStayPrepared(t *testing.T) {
	s, c := openCounted(t)
	for i := range 20 {
		err := s.Update(t.Context(), func(tx Tx) error {
			node := &vda.Node{ID: NewID(), Name: fmt.Sprintf("host%d:9720", i)}
			if err := tx.InsertNode(vda.DiskNode, node); err != nil {
				return err
			}
			return tx.SetNodeApplied(vda.DiskNode, node.ID, 7)
		})
		if err != nil {
			t.Fatal(err)
		}
		err = s.View(t.Context(), func(tx Reader) error {
			if states, err := tx.NodeStates(vda.DiskNode); err != nil || len(states) != i+1 {
				return fmt.Errorf("%d nodes, error %v", len(states), err)
			}
			_, _, err := tx.ListDN(NodeFilter{}, Page{})
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if len(c.texts) < 4 {
		t.Fatalf("only %d statements were counted", len(c.texts))
	}
	for text, n := range c.texts {
		if n > c.conns {
			t.Errorf("prepared %d times on %d connections: %s", n, c.conns, text)
		}
	}
	if err := s.Close(); err != nil || c.open != 0 {
		t.Errorf("closed with %d statements, and error %v", c.open, err)
	}
}

// TestPreparedStatements: what is kept gives what a statement gives that is prepared for once.
func TestPreparedStatements(t *testing.T) {
	s, c := openCounted(t)
	ctx := t.Context()
	s.write.SetMaxIdleConns(1)
	exec := func(q string, args ...any) {
		t.Helper()
		if _, err := s.write.ExecContext(ctx, q, args...); err != nil {
			t.Fatalf("%s: %v", q, err)
		}
	}
	exec("CREATE TABLE t (id BIGINT PRIMARY KEY, name TEXT)")
	for i := range 3 {
		exec("INSERT INTO t VALUES (?, ?)", i, fmt.Sprint("n", i))
	}
	t.Run("AfterAnError", func(t *testing.T) {
		if _, err := s.write.ExecContext(ctx, "INSERT INTO t VALUES (?, ?)", 1, "twice"); s.classOf(err) != classDuplicate {
			t.Fatalf("a second row of one key: %v", err)
		}
		exec("INSERT INTO t VALUES (?, ?)", 3, nil)
		var name sql.NullString
		if err := s.write.QueryRowContext(ctx, "SELECT name FROM t WHERE id = ?", 3).Scan(&name); err != nil || name.Valid {
			t.Errorf("NULL is %v, error %v", name, err)
		}
	})
	t.Run("TwiceAtOnce", func(t *testing.T) {
		tx, err := s.write.BeginTx(ctx, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer tx.Rollback()
		const q = "SELECT id FROM t WHERE id >= ? ORDER BY id"
		ids := func(from int, each func()) (got []int) {
			rows, err := tx.QueryContext(ctx, q, from)
			if err != nil {
				t.Fatal(err)
			}
			defer rows.Close()
			for rows.Next() {
				var id int
				if err := rows.Scan(&id); err != nil {
					t.Fatal(err)
				}
				got = append(got, id)
				if each != nil {
					each()
				}
			}
			if err := rows.Err(); err != nil {
				t.Fatal(err)
			}
			return got
		}
		outer := ids(0, func() {
			if inner := ids(2, nil); len(inner) != 2 {
				t.Errorf("inside: %v", inner)
			}
		})
		if len(outer) != 4 {
			t.Errorf("outside: %v", outer)
		}
	})
	t.Run("TypesOfColumns", func(t *testing.T) {
		rows, err := s.read.QueryContext(ctx, "SELECT id, name FROM t WHERE id = ?", 1)
		if err != nil {
			t.Fatal(err)
		}
		defer rows.Close()
		if types, err := rows.ColumnTypes(); err != nil || types[0].DatabaseTypeName() != "BIGINT" || types[1].DatabaseTypeName() != "TEXT" {
			t.Errorf("types %+v, error %v", types, err)
		}
	})
	t.Run("AfterTheSchemaChanged", func(t *testing.T) {
		const q = "SELECT * FROM t WHERE id = ?"
		columns := func() []string {
			rows, err := s.read.QueryContext(ctx, q, 1)
			if err != nil {
				t.Fatal(err)
			}
			defer rows.Close()
			names, err := rows.Columns()
			if err != nil || !rows.Next() {
				t.Fatal("no row: ", err)
			}
			return names
		}
		before := columns()
		exec("ALTER TABLE t ADD COLUMN more TEXT") // on another connection
		if after := columns(); len(before) != 2 || len(after) != 3 {
			t.Errorf("columns %v, then %v", before, after)
		}
		exec("DROP TABLE t")
		if _, err := s.read.QueryContext(ctx, q, 1); err == nil || !strings.Contains(err.Error(), "no such table") {
			t.Errorf("of a table that is gone: %v", err)
		}
		exec("CREATE TABLE t (id BIGINT PRIMARY KEY)")
		exec("INSERT INTO t (id) VALUES (?)", 1)
		if again := columns(); len(again) != 1 {
			t.Errorf("of the new table: %v", again)
		}
	})
	t.Run("AfterTheTimeIsUp", func(t *testing.T) {
		const endless = "SELECT COUNT(*) FROM (WITH RECURSIVE n(i) AS (SELECT ? UNION ALL SELECT i + 1 FROM n WHERE i < ?) SELECT i FROM n)"
		short, cancel := context.WithCancel(ctx)
		done := make(chan error, 1)
		go func() {
			var n int
			done <- s.read.QueryRowContext(short, endless, 0, int64(1)<<60).Scan(&n)
		}()
		cancel()
		if err := <-done; err == nil {
			t.Fatal("it has counted to the end")
		}
		var n int
		if err := s.read.QueryRowContext(ctx, endless, 0, 9).Scan(&n); err != nil || n != 10 {
			t.Errorf("then %d, error %v", n, err)
		}
	})
	t.Run("Bounded", func(t *testing.T) {
		conns := c.conns
		for i := range 3 * sqliteStatements {
			var n int
			if err := s.write.QueryRowContext(ctx, fmt.Sprintf("SELECT %d FROM t WHERE id = ?", i), 1).Scan(&n); err != nil || n != i {
				t.Fatalf("%d, error %v", n, err)
			}
			if c.open > conns*sqliteStatements {
				t.Fatalf("%d statements are kept by %d connections", c.open, conns)
			}
		}
	})
}

// TestMariaDBPreparesOnce: a statement costs one round trip once it is known, not two.
func TestMariaDBPreparesOnce(t *testing.T) {
	t.Parallel()
	server, uri := dbtest.MariaDB(t)
	target, err := parseURI(uri)
	if err != nil {
		t.Fatal(err)
	}
	s, err := connectTo(t.Context(), target)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	conn, err := s.write.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	const times = 50
	for i := range times {
		var n int
		if err := conn.QueryRowContext(t.Context(), "SELECT ? + 1", i).Scan(&n); err != nil || n != i+1 {
			t.Fatalf("%d, error %v", n, err)
		}
	}
	var name string
	var prepared, executed int
	if err := conn.QueryRowContext(t.Context(), "SHOW SESSION STATUS LIKE 'Com_stmt_prepare'").Scan(&name, &prepared); err != nil {
		t.Fatal(err)
	}
	if err := conn.QueryRowContext(t.Context(), "SHOW SESSION STATUS LIKE 'Com_stmt_execute'").Scan(&name, &executed); err != nil {
		t.Fatal(err)
	}
	if prepared != 1 || executed != times {
		t.Errorf("%d times: prepared %d times, carried out %d times", times, prepared, executed)
	}
	if server == nil {
		return // its settings are another's
	}
	const room = 4 // on the whole server
	server.Admin(fmt.Sprint("SET GLOBAL max_prepared_stmt_count = ", room))
	for i := range 5 * room {
		var n int
		if err := conn.QueryRowContext(t.Context(), fmt.Sprintf("SELECT ? + %d", i), 1).Scan(&n); err != nil || n != i+1 {
			t.Fatalf("with room for %d statements: %d, error %v", room, n, err)
		}
	}
}
