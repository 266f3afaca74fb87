//go:build e2e

package scale

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/placement"
	"github.com/virtual-disk-array/vda/store"
)

// place is where the i-th array is: evenly over all nodes, its vd in another rack than its
// controllers; or, as the first of a crowd, on the first controller node, with the second beside it.
type place struct{ dn, primary, secondary int }

func (c *cluster) place(i int) place {
	k := i % len(c.dns)
	if i < c.crowd {
		return place{k, 0, 1}
	}
	return place{(k + 2) % len(c.dnIDs), k, (k + 1) % len(c.cnIDs)}
}

// shape is what all arrays have in common.
func shape() (da vda.DA, bytes, clusters uint64) {
	da = vda.DA{Size: size, PhysicalSize: size, CntlrCnt: 2, StripeCount: 1, StripeSizeKB: 64, ClusterSize: vda.ClusterSizeFor(size),
		Redundancy: 1, MinLegs: 1, Term: 1}
	da.Conf = vda.Striping{Count: 1, SizeKB: 64}.JSON()
	bytes = placement.VDSize(da.PhysicalSize, da.ClusterSize, 1, 64<<10)
	return da, bytes, (bytes + 1<<20 - 1) >> 20
}

// counted is a node's version, as rows are stamped with it.
type counted struct {
	kind             vda.NodeKind
	version, applied uint64
	marks            vda.VersionMarks
	vds, cntlrs, own uint64 // that have been added; own are primaries
}

func (n *counted) bump() uint64 {
	n.version++
	n.marks = n.marks.Next(n.version, n.applied)
	return n.version
}

// load writes the rows that record writes, of n arrays, with a statement per table: the
// first array is record's, and the others are copies of it with ids, names, places and
// versions of their own.
func (c *cluster) load(n int) {
	c.Helper()
	c.record(1)
	if n--; n == 0 {
		return
	}
	ctx := c.Context()
	for { // until it meets no transaction of monitors, which lock rows of these tables, too
		err := pgx.BeginFunc(ctx, c.sql, func(tx pgx.Tx) error { return c.copy(ctx, tx, n) })
		var refused *pgconn.PgError
		if errors.As(err, &refused) && refused.Code == deadlock {
			continue
		}
		if err != nil {
			c.Fatal(err)
		}
		break
	}
	c.arrays += n
}

// deadlock is the SQLSTATE of one.
const deadlock = "40P01"

func (c *cluster) copy(ctx context.Context, tx pgx.Tx, n int) error {
	var of string // the array to be copied
	err := tx.QueryRow(ctx, "SELECT id FROM vda.vda_da WHERE live_name = $1", fmt.Sprintf("da%06d", c.arrays-1)).Scan(&of)
	if err != nil {
		return err
	}
	nodes, err := locked(ctx, tx)
	if err != nil {
		return err
	}
	columns := []string{"da", "name", "grp", "mirror", "vd", "pd", "dn", "dnv", "c0", "cn0", "c0v", "c1", "cn1", "c1v", "exp", "nqn", "serial",
		"nsuuid", "expv", "es0", "es1"}
	rows := make([][]any, n)
	for i := range rows {
		at := c.place(c.arrays + i)
		dn, first, second := nodes[c.dnIDs[at.dn]], nodes[c.cnIDs[at.primary]], nodes[c.cnIDs[at.secondary]]
		vd := dn.bump()
		for _, cn := range []*counted{first, second} { // by the array, and by its exporter
			cn.bump()
			cn.bump()
			cn.cntlrs++
		}
		dn.vds++
		first.own++
		name, exp := fmt.Sprintf("da%06d", c.arrays+i), store.NewID()
		rows[i] = []any{store.NewID(), name, store.NewID(), store.NewID(), store.NewID(), c.pdIDs[at.dn], c.dnIDs[at.dn], int64(vd),
			store.NewID(), c.cnIDs[at.primary], int64(first.version), store.NewID(), c.cnIDs[at.secondary], int64(second.version), exp,
			vda.ExpNQN(name, "exp0"), exp[:20], uuid.NewString(), int64(max(first.version, second.version)), store.NewID(), store.NewID()}
	}
	var types []string
	for _, name := range columns {
		if strings.HasSuffix(name, "v") {
			types = append(types, name+" BIGINT")
		} else {
			types = append(types, name+" TEXT")
		}
	}
	if _, err := tx.Exec(ctx, "CREATE TEMPORARY TABLE more ("+strings.Join(types, ", ")+") ON COMMIT DROP"); err != nil {
		return err
	}
	if _, err := tx.CopyFrom(ctx, pgx.Identifier{"more"}, columns, pgx.CopyFromRows(rows)); err != nil {
		return err
	}
	either := func(a, b string) string { return "CASE k.idx WHEN 0 THEN m." + a + " ELSE m." + b + " END" }
	for _, t := range []struct {
		table, from string
		set         map[string]string
	}{
		{"vda_da", "t.id = $1", map[string]string{"id": "m.da", "name": "m.name", "live_name": "m.name"}},
		{"vda_grp", "t.da_id = $1", map[string]string{"id": "m.grp", "da_id": "m.da"}},
		{"vda_mirror", "t.da_id = $1", map[string]string{"id": "m.mirror", "da_id": "m.da"}},
		{"vda_vd", "t.da_id = $1", map[string]string{"id": "m.vd", "da_id": "m.da", "pd_id": "m.pd", "dn_id": "m.dn", "mirror_id": "m.mirror",
			"version": "m.dnv"}},
		{"vda_cntlr", "k.id = t.id AND k.da_id = $1", map[string]string{"id": either("c0", "c1"), "da_id": "m.da", "cn_id": either("cn0", "cn1"),
			"version": either("c0v", "c1v")}},
		{"vda_exp", "t.da_id = $1", map[string]string{"id": "m.exp", "da_id": "m.da", "nqn": "m.nqn", "live_nqn": "m.nqn", "serial": "m.serial",
			"ns_uuid": "m.nsuuid", "version": "m.expv"}},
		{"vda_es", "k.id = t.cntlr_id AND k.da_id = $1", map[string]string{"id": either("es0", "es1"), "exp_id": "m.exp",
			"cntlr_id": either("c0", "c1")}},
	} {
		if err := insertMore(ctx, tx, t.table, t.from, t.set, of); err != nil {
			return fmt.Errorf("%s: %w", t.table, err)
		}
	}
	return c.count(ctx, tx, nodes)
}

// insertMore copies the rows of a table that belong to an array, as often as the table more
// has rows, with other values in the columns of set.
func insertMore(ctx context.Context, tx pgx.Tx, table, from string, set map[string]string, of string) error {
	cols, err := tx.Query(ctx, "SELECT column_name FROM information_schema.columns WHERE table_schema = 'vda' AND table_name = $1", table)
	if err != nil {
		return err
	}
	names, err := pgx.CollectRows(cols, pgx.RowTo[string])
	if err != nil {
		return err
	}
	var values []string
	for _, name := range names {
		value := set[name]
		if value == "" {
			value = "t." + name
		}
		values = append(values, value)
	}
	tables := "vda." + table + " t"
	if strings.Contains(from, "k.") {
		tables += ", vda.vda_cntlr k"
	}
	_, err = tx.Exec(ctx, "INSERT INTO vda."+table+" ("+strings.Join(names, ", ")+") SELECT "+strings.Join(values, ", ")+" FROM "+tables+
		", more m WHERE "+from, of)
	return err
}

// locked returns all nodes, which stay locked, as do the disks, in the order in which
// transactions lock them.
func locked(ctx context.Context, tx pgx.Tx) (map[string]*counted, error) {
	if _, err := tx.Exec(ctx, "SELECT id FROM vda.vda_pd ORDER BY id FOR UPDATE"); err != nil {
		return nil, err
	}
	nodes := map[string]*counted{}
	for _, kind := range []vda.NodeKind{vda.DiskNode, vda.ControllerNode} {
		table := map[vda.NodeKind]string{vda.DiskNode: "vda_dn", vda.ControllerNode: "vda_cn"}[kind]
		rows, err := tx.Query(ctx, "SELECT id, version, applied, marks FROM vda."+table+" ORDER BY id FOR UPDATE")
		if err != nil {
			return nil, err
		}
		var id, marks string
		var version, applied int64
		_, err = pgx.ForEachRow(rows, []any{&id, &version, &applied, &marks}, func() error {
			m, err := vda.ParseVersionMarks(marks)
			nodes[id] = &counted{kind: kind, version: uint64(version), applied: uint64(applied), marks: slices.Clone(m)}
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return nodes, nil
}

// count writes what has become of nodes and disks.
func (c *cluster) count(ctx context.Context, tx pgx.Tx, nodes map[string]*counted) error {
	_, _, clusters := shape()
	var b pgx.Batch
	for id, n := range nodes {
		if n.kind == vda.ControllerNode {
			b.Queue("UPDATE vda.vda_cn SET version = $2, marks = $3, cntlr_count = cntlr_count + $4, primary_count = primary_count + $5 "+
				"WHERE id = $1", id, int64(n.version), n.marks.String(), int64(n.cntlrs), int64(n.own))
			continue
		}
		b.Queue("UPDATE vda.vda_dn SET version = $2, marks = $3 WHERE id = $1", id, int64(n.version), n.marks.String())
		b.Queue("UPDATE vda.vda_pd SET free_clusters = free_clusters - $2, vd_count = vd_count + $3 WHERE dn_id = $1", id,
			int64(n.vds*clusters), int64(n.vds))
	}
	return tx.SendBatch(ctx, &b).Close()
}
