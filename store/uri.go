package store

import (
	"database/sql/driver"
	"net"
	"net/url"
	"path/filepath"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/virtual-disk-array/vda"
)

const uriForms = "postgresql://USER:PASSWORD@HOST:PORT/DATABASE, mysql://USER:PASSWORD@HOST:PORT/DATABASE or sqlite:////ABSOLUTE/PATH"

// connectTimeout bounds one attempt to reach a database server, unless the
// URI says otherwise.
const connectTimeout = 5 * time.Second

// hostTimeout is the same where a URI names several servers: one that is dead
// without saying so must leave time for the next.
const hostTimeout = time.Second

// target is a parsed URI: one of sqlite, postgres and mysql is set.
type target struct {
	dialect *dialect
	// where names the database in messages: never a password in it.
	where    string
	sqlite   string // DSN of the writer
	file     string // of SQLite
	postgres *pgx.ConnConfig
	mysql    *mysql.Config

	connect func(dsn string) (driver.Connector, error) // to SQLite, of a test that counts; nil: sqlite.NewConnector
}

// parseURI reads the URI forms that the documentation names and
// SQLAlchemy's. Its errors never carry the URI: there is a password in it.
func parseURI(uri string) (*target, error) {
	scheme, rest, ok := strings.Cut(uri, "://")
	if !ok {
		return nil, vda.Errorf(vda.InvalidArgument, "db-uri: no scheme; it must be one of %s", uriForms)
	}
	switch strings.ToLower(scheme) {
	case "sqlite", "sqlite3":
		return parseSQLite(rest)
	case "postgresql", "postgres", "postgresql+psycopg2", "postgresql+psycopg", "postgresql+asyncpg":
		return parsePostgres("postgresql://" + rest)
	case "mysql", "mariadb", "mysql+pymysql", "mysql+mysqldb", "mysql+mysqlconnector", "mariadb+pymysql":
		return parseMySQL("mysql://" + rest)
	}
	return nil, vda.Errorf(vda.InvalidArgument, "db-uri: scheme %q is not known; it must be one of %s", scheme, uriForms)
}

// parseSQLite reads what follows sqlite://. One option is known:
// synchronous=off|normal|full|extra, default full, which is durable.
func parseSQLite(rest string) (*target, error) {
	path, query, _ := strings.Cut(rest, "?")
	if !strings.HasPrefix(path, "/") {
		return nil, vda.Errorf(vda.InvalidArgument, "db-uri: sqlite takes no host; it must be sqlite:////ABSOLUTE/PATH")
	}
	path = path[1:] // sqlite:///relative and sqlite:////absolute, as SQLAlchemy has it
	if path == "" || path == ":memory:" {
		return nil, vda.Errorf(vda.InvalidArgument,
			"db-uri: a database in memory is shared by no two processes; it must be sqlite:////ABSOLUTE/PATH")
	}
	path, err := url.PathUnescape(path)
	if err != nil {
		return nil, vda.Errorf(vda.InvalidArgument, "db-uri: the path has a bad %%-escape")
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, vda.Errorf(vda.InvalidArgument, "db-uri: %q is not a path: %v", path, err)
	}
	opts, err := url.ParseQuery(query)
	if err != nil {
		return nil, vda.Errorf(vda.InvalidArgument, "db-uri: options after ? cannot be read")
	}
	synchronous := "full"
	for k, v := range opts {
		if k != "synchronous" {
			return nil, vda.Errorf(vda.InvalidArgument, "db-uri: option %q is not known for sqlite; only synchronous is", k)
		}
		switch synchronous = strings.ToLower(v[0]); synchronous {
		case "off", "normal", "full", "extra":
		default:
			return nil, vda.Errorf(vda.InvalidArgument, "db-uri: synchronous=%q must be off, normal, full or extra", v[0])
		}
	}
	q := url.Values{}
	q.Add("_pragma", "busy_timeout(5000)")
	q.Add("_pragma", "journal_mode(wal)")
	q.Add("_pragma", "synchronous("+synchronous+")")
	q.Add("_pragma", "foreign_keys(1)")
	dsn := (&url.URL{Scheme: "file", Path: abs, RawQuery: q.Encode()}).String()
	return &target{dialect: &sqliteDialect, where: "sqlite " + abs, sqlite: dsn, file: abs}, nil
}

func parsePostgres(uri string) (*target, error) {
	cfg, err := pgx.ParseConfig(uri)
	if err != nil {
		return nil, vda.Errorf(vda.InvalidArgument,
			"db-uri: not a PostgreSQL URI; it must be postgresql://USER:PASSWORD@HOST:PORT/DATABASE, with special characters %%-encoded")
	}
	timeout := connectTimeout
	// A schema of our own: a user who was granted the database, but not the
	// right to create in public (PostgreSQL 15), can have it.
	if cfg.RuntimeParams["search_path"] == "" {
		cfg.RuntimeParams["search_path"] = "vda"
	}
	if cfg.RuntimeParams["application_name"] == "" {
		cfg.RuntimeParams["application_name"] = "vda"
	}
	hosts := []string{hostPort(cfg.Host, cfg.Port)}
	for _, f := range cfg.Fallbacks {
		if h := hostPort(f.Host, f.Port); h != hosts[len(hosts)-1] {
			hosts = append(hosts, h)
		}
	}
	if len(hosts) > 1 {
		// A primary and its standbys: only one of them takes writes.
		timeout = hostTimeout
		if cfg.ValidateConnect == nil {
			cfg.ValidateConnect = pgconn.ValidateConnectTargetSessionAttrsReadWrite
		}
	}
	if cfg.ConnectTimeout == 0 {
		cfg.ConnectTimeout = timeout
	}
	return &target{dialect: &postgresDialect, where: "postgresql " + strings.Join(hosts, ",") + "/" + cfg.Database, postgres: cfg}, nil
}

func hostPort(host string, port uint16) string {
	return net.JoinHostPort(host, itoa(uint64(port)))
}

func parseMySQL(uri string) (*target, error) {
	const form = "it must be mysql://USER:PASSWORD@HOST:PORT/DATABASE, with special characters %-encoded"
	u, err := url.Parse(uri)
	if err != nil {
		return nil, vda.Errorf(vda.InvalidArgument, "db-uri: not a MySQL URI; %s", form)
	}
	cfg := mysql.NewConfig()
	if u.User != nil {
		cfg.User = u.User.Username()
		cfg.Passwd, _ = u.User.Password()
	}
	cfg.DBName = strings.TrimPrefix(u.Path, "/")
	if cfg.DBName == "" {
		return nil, vda.Errorf(vda.InvalidArgument, "db-uri: no database name; %s", form)
	}
	cfg.Net, cfg.Addr = "tcp", u.Host
	if u.Hostname() == "" {
		cfg.Addr = "127.0.0.1:3306"
	} else if u.Port() == "" {
		cfg.Addr = net.JoinHostPort(u.Hostname(), "3306")
	}
	cfg.Timeout = connectTimeout
	for k, v := range u.Query() {
		switch k {
		case "charset": // always utf8mb4 here
		case "unix_socket":
			cfg.Net, cfg.Addr = "unix", v[0]
		case "connect_timeout":
			d, err := time.ParseDuration(v[0] + "s")
			if err != nil || d <= 0 {
				return nil, vda.Errorf(vda.InvalidArgument, "db-uri: connect_timeout=%q must be a number of seconds", v[0])
			}
			cfg.Timeout = d
		case "tls":
			cfg.TLSConfig = v[0]
		default:
			return nil, vda.Errorf(vda.InvalidArgument,
				"db-uri: option %q is not known for mysql; charset, unix_socket, connect_timeout and tls are", k)
		}
	}
	cfg.ClientFoundRows = true
	cfg.Collation = "utf8mb4_bin"
	cfg.Params = map[string]string{"innodb_lock_wait_timeout": "10", "time_zone": "'+00:00'"}
	cfg.Logger = &mysql.NopLogger{}
	return &target{dialect: &mysqlDialect, where: "mysql " + cfg.Addr + "/" + cfg.DBName, mysql: cfg}, nil
}
