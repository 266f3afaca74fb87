package store

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/pressly/goose/v3"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/reason"
)

//go:embed migrations
var migrations embed.FS

// versionTable is where goose keeps which migrations have run.
const versionTable = "vda_schema_version"

// tables are those of the schema, in the order in which they can be dropped.
var tables = []string{"vda_event", "vda_alert", "vda_label", "vda_description", "vda_monitor", "vda_es", "vda_exp_host", "vda_exp",
	"vda_snap", "vda_cntlr", "vda_vd", "vda_mirror", "vda_grp", "vda_da", "vda_cn", "vda_pd", "vda_dn", "vda_token", "vda_member",
	"vda_user", "vda_security", "vda_cluster", versionTable}

// SchemaStatus is what a database holds.
type SchemaStatus struct {
	Database  string // without credentials
	Version   int64  // of the schema; 0: there is none
	Target    int64  // version this program was built for
	ClusterID string // "" without a schema
}

func (st SchemaStatus) String() string {
	switch {
	case st.Version == 0:
		return fmt.Sprintf("%s: no VDA schema", st.Database)
	case st.Version < st.Target:
		return fmt.Sprintf("%s: schema version %d, this program needs %d: run vda_db --action migrate; cluster %s", st.Database,
			st.Version, st.Target, st.ClusterID)
	case st.Version > st.Target:
		return fmt.Sprintf("%s: schema version %d is newer than this program's %d: use the programs of the release that "+
			"migrated it, or later ones; cluster %s", st.Database, st.Version, st.Target, st.ClusterID)
	}
	return fmt.Sprintf("%s: schema version %d, up to date; cluster %s", st.Database, st.Version, st.ClusterID)
}

// Create makes the schema and a new cluster id. On a database that has the
// schema already it changes nothing and reports made=false. A half-made
// schema is completed.
func Create(ctx context.Context, uri string) (st SchemaStatus, made bool, err error) {
	t, err := parseURI(uri)
	if err != nil {
		return st, false, err
	}
	s, err := connectTo(ctx, t)
	if err != nil {
		return st, false, err
	}
	defer s.Close()
	if st, err = s.status(ctx); err != nil {
		return st, false, err
	}
	switch {
	case st.Version > st.Target:
		return st, false, s.tooNew(st)
	case st.Version > 0 && st.Version < st.Target:
		return st, false, &vda.Error{Kind: vda.FailedPrecondition, Op: "create schema", Object: st.Database,
			Msg: fmt.Sprintf("schema version %d is there already, this program needs %d: run vda_db --action migrate", st.Version, st.Target)}
	case st.Version == st.Target && st.ClusterID != "":
		return st, false, nil
	}
	if err := s.makeSchema(ctx); err != nil {
		return st, false, err
	}
	st, err = s.status(ctx)
	return st, true, err
}

// Migrate brings an older schema to this program's version; data stay.
func Migrate(ctx context.Context, uri string) (before, after SchemaStatus, err error) {
	s, err := connect(ctx, uri)
	if err != nil {
		return before, after, err
	}
	defer s.Close()
	if before, err = s.status(ctx); err != nil {
		return before, after, err
	}
	switch {
	case before.Version == 0:
		return before, before, s.noSchema()
	case before.Version > before.Target:
		return before, before, s.tooNew(before)
	}
	if err := s.makeSchema(ctx); err != nil {
		return before, before, err
	}
	after, err = s.status(ctx)
	return before, after, err
}

// Drop removes the schema and everything in it. It refuses a database that
// has no VDA schema, and one of a newer program, whose tables it cannot know.
func Drop(ctx context.Context, uri string) (SchemaStatus, error) {
	s, err := connect(ctx, uri)
	if errors.Is(err, errNoFile) {
		return SchemaStatus{}, fmt.Errorf("%w; nothing was dropped", err)
	}
	if err != nil {
		return SchemaStatus{}, err
	}
	defer s.Close()
	st, err := s.status(ctx)
	switch {
	case err != nil:
		return st, err
	case st.Version > st.Target:
		return st, s.tooNew(st)
	case st.Version == 0:
		return st, &vda.Error{Kind: vda.FailedPrecondition, Op: "drop schema", Object: st.Database,
			Msg: "there is no VDA schema in it; nothing was dropped"}
	}
	if err := s.dropTables(ctx); err != nil {
		return st, err
	}
	if s.target.postgres != nil {
		// Only if it is empty; it may not be ours alone.
		if _, err := s.write.ExecContext(ctx, "DROP SCHEMA IF EXISTS vda RESTRICT"); err != nil && s.classOf(err) == classUnreachable {
			return st, s.wrap(err)
		}
	}
	return st, nil
}

// Status tells which schema a database holds and changes nothing.
func Status(ctx context.Context, uri string) (SchemaStatus, error) {
	s, err := connect(ctx, uri)
	if err != nil {
		return SchemaStatus{}, err
	}
	defer s.Close()
	return s.status(ctx)
}

func (s *sqlStore) provider() (*goose.Provider, error) {
	dir, err := fs.Sub(migrations, "migrations/"+s.target.dialect.name)
	if err != nil {
		return nil, err
	}
	return goose.NewProvider(s.target.dialect.goose, s.write, dir,
		goose.WithTableName(versionTable), goose.WithDisableGlobalRegistry(true), goose.WithLogger(goose.NopLogger()))
}

func (s *sqlStore) status(ctx context.Context) (SchemaStatus, error) {
	st := SchemaStatus{Database: s.target.where}
	p, err := s.provider()
	if err != nil {
		return st, err
	}
	for _, m := range p.ListSources() {
		st.Target = max(st.Target, m.Version)
	}
	var version sql.NullInt64
	err = s.write.QueryRowContext(ctx, schemaQuery).Scan(&version)
	if err != nil {
		if s.classOf(err) == classNoSchema {
			return st, nil
		}
		return st, s.wrap(err)
	}
	st.Version = version.Int64
	if st.Version == 0 {
		return st, nil
	}
	err = s.write.QueryRowContext(ctx, "SELECT id FROM vda_cluster").Scan(&st.ClusterID)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return st, s.wrap(err)
	}
	return st, nil
}

// checkVersion refuses any schema but this program's own, whose version it
// returns.
func (s *sqlStore) checkVersion(ctx context.Context) (int64, error) {
	st, err := s.status(ctx)
	switch {
	case err != nil:
		return 0, err
	case st.ClusterID == "":
		return 0, s.noSchema()
	}
	s.version = st.Target
	return st.Target, s.isOurs(st.Version)
}

// schemaQuery reads the version of the schema.
const schemaQuery = "SELECT MAX(version_id) FROM " + versionTable + " WHERE is_applied = TRUE"

// isOurs refuses a version of the schema that this program was not built for.
func (s *sqlStore) isOurs(version int64) error {
	switch {
	case s.version == 0 || version == s.version:
		return nil
	case version == 0:
		return s.noSchema()
	case version > s.version:
		return s.tooNew(SchemaStatus{Database: s.target.where, Version: version, Target: s.version})
	}
	return &vda.Error{Kind: vda.FailedPrecondition, Op: reason.OpDatabase, Object: s.target.where,
		Msg: fmt.Sprintf("has schema version %d, older than this program's %d; run vda_db --action migrate", version, s.version)}
}

// viewCheck is how often views look at the schema's version.
const viewCheck = time.Second

// checkSchema refuses to go on when somebody has migrated the schema since the
// program started; always: whenever that was looked at last.
func (t *sqlReader) checkSchema(always bool) error {
	s := t.store
	now := time.Now().UnixNano()
	if s.version == 0 || !always && now-s.looked.Load() < int64(viewCheck) {
		return nil
	}
	var version sql.NullInt64
	if err := t.scanOne(schemaQuery, nil, &version); err != nil {
		return err
	}
	if err := s.isOurs(version.Int64); err != nil {
		return err
	}
	s.looked.Store(now)
	return nil
}

func (s *sqlStore) noSchema() error {
	return &vda.Error{Kind: vda.FailedPrecondition, Op: reason.OpDatabase, Object: s.target.where, Msg: noSchemaMsg}
}

func (s *sqlStore) tooNew(st SchemaStatus) error {
	return &vda.Error{Kind: vda.FailedPrecondition, Op: reason.OpDatabase, Object: st.Database,
		Msg: fmt.Sprintf("has schema version %d, newer than this program's %d; use the programs of the release that migrated it, or "+
			"later ones", st.Version, st.Target)}
}

// makeSchema runs the migrations that are missing and gives the cluster an
// id if it has none.
func (s *sqlStore) makeSchema(ctx context.Context) error {
	if err := s.makeNamespace(ctx); err != nil {
		return err
	}
	p, err := s.provider()
	if err != nil {
		return err
	}
	if _, err := p.Up(ctx); err != nil {
		return s.wrap(err)
	}
	tx, err := s.write.BeginTx(ctx, &s.target.dialect.update)
	if err != nil {
		return s.wrap(err)
	}
	defer tx.Rollback()
	var n int
	if err := tx.QueryRowContext(ctx, "SELECT COUNT(*) FROM vda_cluster").Scan(&n); err != nil {
		return s.wrap(err)
	}
	if n == 0 {
		q := s.target.dialect.rebind("INSERT INTO vda_cluster (id, created_us) VALUES (?, ?)")
		if _, err := tx.ExecContext(ctx, q, newClusterID(), time.Now().UnixMicro()); err != nil {
			return s.wrap(err)
		}
	}
	return s.wrap(tx.Commit())
}

// makeNamespace makes PostgreSQL's schema vda, if tables are to go there and
// no administrator has made it already for a user who may not.
func (s *sqlStore) makeNamespace(ctx context.Context) error {
	if pg := s.target.postgres; pg == nil || pg.RuntimeParams["search_path"] != "vda" {
		return nil
	}
	var n int
	if err := s.write.QueryRowContext(ctx, "SELECT COUNT(*) FROM pg_namespace WHERE nspname = 'vda'").Scan(&n); err != nil {
		return s.wrap(err)
	}
	if n > 0 {
		return nil
	}
	if _, err := s.write.ExecContext(ctx, "CREATE SCHEMA IF NOT EXISTS vda"); err != nil {
		return &vda.Error{Kind: vda.FailedPrecondition, Op: "create schema", Object: s.target.where,
			Msg: "the user may not create a schema; GRANT CREATE ON DATABASE to it, or CREATE SCHEMA vda AUTHORIZATION the user", Err: said(err)}
	}
	return nil
}

// newClusterID returns 32 random hex digits. The first 16 of them stamp the
// disks, so they must not be a time.
func newClusterID() string { return strings.ReplaceAll(uuid.NewString(), "-", "") }

// NewID returns a new id: 32 hex digits of a UUIDv7, so that ids grow with
// time and their indexes stay dense.
func NewID() string {
	id := uuid.Must(uuid.NewV7()) // fails only when the system has no randomness
	return strings.ReplaceAll(id.String(), "-", "")
}
