//go:build e2e

package scale

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
)

// TestLoadWritesWhatRecordDoes compares all rows that the two write, but for ids and what is random, in
// clusters that are alike otherwise.
func TestLoadWritesWhatRecordDoes(t *testing.T) {
	const arrays = 60
	var rows [2][]string
	for i, write := range []func(c *cluster){
		func(c *cluster) {
			for c.arrays < arrays {
				c.record(20)
			}
		},
		func(c *cluster) {
			c.load(arrays / 2)
			c.load(arrays - c.arrays)
		},
	} {
		t.Run([]string{"record", "load"}[i], func(t *testing.T) {
			c := begin(t)
			c.grow(24, 0)
			for _, q := range []string{ // versions begin with the time
				"UPDATE vda.vda_dn SET version = 1000, applied = 1000, marks = ''", "UPDATE vda.vda_cn SET version = 1000, applied = 1000, marks = ''",
				"UPDATE vda.vda_pd SET version = 1000"} {
				c.exec(q)
			}
			write(c)
			rows[i] = c.dump()
		})
	}
	if len(rows[0]) < 9*arrays {
		t.Errorf("%d rows are compared", len(rows[0]))
	}
	if slices.Equal(rows[0], rows[1]) {
		return
	}
	said := 0
	for i, lines := range rows {
		for _, line := range lines {
			if _, both := slices.BinarySearch(rows[1-i], line); !both && said < 20 {
				t.Errorf("only by %s: %s", []string{"record", "load"}[i], line)
				said++
			}
		}
	}
}

var random = regexp.MustCompile(`:[0-9a-f]{8}\b`) // in marks

// dump returns the rows of nodes, disks and arrays, with names in place of ids, sorted.
func (c *cluster) dump() (lines []string) {
	c.Helper()
	var names, short []string
	for i := range c.dns {
		names = append(names, c.dnIDs[i], fmt.Sprint("dn", i), c.pdIDs[i], fmt.Sprint("pd", i), c.cnIDs[i], fmt.Sprint("cn", i),
			c.dns[i].addr, fmt.Sprint("address of dn", i), c.cns[i].addr, fmt.Sprint("address of cn", i))
		// vda_pd and vda_cn are looked at in an order that is that of the last digits of their ids.
		short = append(short, c.pdIDs[i][24:], "its digits", c.cnIDs[i][24:], "its digits")
	}
	for _, q := range []string{
		"SELECT id, name FROM vda.vda_da",
		"SELECT t.id, 'grp of ' || d.name FROM vda.vda_grp t JOIN vda.vda_da d ON d.id = t.da_id",
		"SELECT t.id, 'mirror of ' || d.name FROM vda.vda_mirror t JOIN vda.vda_da d ON d.id = t.da_id",
		"SELECT t.id, 'vd of ' || d.name FROM vda.vda_vd t JOIN vda.vda_da d ON d.id = t.da_id",
		"SELECT t.id, 'controller ' || t.idx || ' of ' || d.name FROM vda.vda_cntlr t JOIN vda.vda_da d ON d.id = t.da_id",
		"SELECT t.id, 'exporter of ' || d.name FROM vda.vda_exp t JOIN vda.vda_da d ON d.id = t.da_id",
		"SELECT t.ns_uuid, 'namespace of ' || d.name FROM vda.vda_exp t JOIN vda.vda_da d ON d.id = t.da_id",
		"SELECT t.id, 'exporter of ' || k.id FROM vda.vda_es t JOIN vda.vda_cntlr k ON k.id = t.cntlr_id",
		"SELECT t.serial, 'serial of ' || d.name FROM vda.vda_exp t JOIN vda.vda_da d ON d.id = t.da_id",
	} {
		rows, err := c.sql.Query(c.Context(), q)
		if err != nil {
			c.Fatal(err)
		}
		var id, name string
		if _, err := pgx.ForEachRow(rows, []any{&id, &name}, func() error {
			names = append(names, id, name)
			return nil
		}); err != nil {
			c.Fatal(err)
		}
	}
	replace := strings.NewReplacer(append(names, short...)...)
	for _, table := range []string{"vda_dn", "vda_cn", "vda_pd", "vda_da", "vda_grp", "vda_mirror", "vda_vd", "vda_cntlr", "vda_exp",
		"vda_exp_host", "vda_es"} {
		rows, err := c.sql.Query(c.Context(), "SELECT to_jsonb(t)::text FROM vda."+table+" t")
		if err != nil {
			c.Fatal(err)
		}
		all, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			c.Fatal(err)
		}
		for _, line := range all {
			line = random.ReplaceAllString(replace.Replace(replace.Replace(line)), "")
			lines = append(lines, table+" "+line)
		}
	}
	slices.Sort(lines)
	return lines
}
