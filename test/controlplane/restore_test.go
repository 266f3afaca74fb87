package controlplane

import (
	"database/sql"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/virtual-disk-array/vda/agent/planetest"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/store"
)

// contents are the tables of a backup.
func contents(t *testing.T, file string) (names []string) {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+file)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	rows, err := db.Query(`SELECT name FROM sqlite_master WHERE type = 'table' AND name LIKE 'vda!_%' ESCAPE '!'
		AND name NOT IN ('vda_cluster', 'vda_monitor', 'vda_schema_version')`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			t.Fatal(err)
		}
		names = append(names, name)
	}
	if err := rows.Err(); err != nil || len(names) == 0 {
		t.Fatalf("tables %v: %v", names, err)
	}
	return names
}

// run has statements carried out on a file of SQLite.
func run(t *testing.T, file string, statements ...string) {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+file+"?_pragma=busy_timeout(10000)&_pragma=foreign_keys(0)")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	db.SetMaxOpenConns(1)
	for _, s := range statements {
		if _, err := db.Exec(s); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
	}
}

// putBack has the database hold what the backup holds.
func putBack(t *testing.T, file, backup string) {
	t.Helper()
	statements := []string{"ATTACH '" + backup + "' AS b", "BEGIN IMMEDIATE"}
	for _, table := range contents(t, backup) { // nothing keeps references in order here
		statements = append(statements, "DELETE FROM "+table, "INSERT INTO "+table+" SELECT * FROM b."+table)
	}
	run(t, file, append(statements, "COMMIT")...)
}

// TestABackupThatIsNotSaidToBeRestored: what was made after the backup stays
// exported, also when changes of the restored database bring its versions level
// with those of its nodes, until the operator says that it is the truth.
func TestABackupThatIsNotSaidToBeRestored(t *testing.T) {
	dir := t.TempDir()
	file, backup := filepath.Join(dir, "vda.db"), filepath.Join(dir, "backup.db")
	c := begin(t, "sqlite:///"+file, 0)
	up := func() int { return c.serves(c.cns[0], 2) + c.serves(c.cns[1], 2) }
	c.must(nil, c.array(0))
	run(t, file, "VACUUM INTO '"+backup+"'")
	c.must(nil, c.array(1))
	c.until("both arrays are up", func() bool { return up() == 2 })

	putBack(t, file, backup)
	for i := range 30 {
		host := fmt.Sprintf("nqn.2014-08.org.example:other-%d", i)
		r, err := c.portal.ModifyExp(t.Context(), &apiv1.ModifyExpRequest{DaName: "da0", ExpName: "exp0", NewInitiatorNqn: &host})
		c.must(r, err)
	}
	refusals := func() (said int) {
		t.Helper()
		r, err := c.portal.ListCn(t.Context(), &apiv1.ListCnRequest{})
		c.must(r, err)
		for _, cn := range r.CnMsgList {
			info, err := c.portal.SyncupCn(t.Context(), &apiv1.SyncupCnRequest{CnName: cn.CnName})
			c.must(info, err)
			if strings.Contains(info.ReplyInfo.ReplyMsg, "vda_db --action restored") {
				said++
			}
		}
		return said
	}
	if n := refusals(); n != 2 {
		t.Errorf("%d of 2 cns refuse and name vda_db --action restored", n)
	}
	if n := up(); n != 2 {
		t.Errorf("%d arrays are served after changes of a restored database, want the 2 of before", n)
	}

	if _, err := store.Supersede(t.Context(), "sqlite:///"+file); err != nil {
		t.Fatal(err)
	}
	if n := refusals(); n != 0 {
		t.Errorf("%d cns refuse after restored", n)
	}
}

// TestRestoredBackup makes an array after a backup, restores the backup, and has
// what it does not know listed, adopted with its exporter, and deleted, by real
// agents.
func TestRestoredBackup(t *testing.T) {
	dir := t.TempDir()
	file, backup := filepath.Join(dir, "vda.db"), filepath.Join(dir, "backup.db")
	c := begin(t, "sqlite:///"+file, 0)
	syncup := func() {
		t.Helper()
		for _, n := range c.dns {
			c.must(c.portal.SyncupDn(t.Context(), &apiv1.SyncupDnRequest{DnName: n.name}))
		}
		for _, n := range c.cns {
			c.must(c.portal.SyncupCn(t.Context(), &apiv1.SyncupCnRequest{CnName: n.name}))
		}
	}
	restore := func() {
		t.Helper()
		putBack(t, file, backup)
		// The second time, nodes have seen where the first has gone.
		if _, err := store.Supersede(t.Context(), "sqlite:///"+file); err != nil {
			t.Fatal(err)
		}
		syncup()
	}
	space := func() (free, orphans uint64) {
		t.Helper()
		r, err := c.portal.ListPd(t.Context(), &apiv1.ListPdRequest{})
		c.must(r, err)
		for _, pd := range r.PdMsgList {
			free, orphans = free+pd.FreeSize, orphans+pd.OrphanSize
		}
		return free, orphans
	}
	// A node that is still at work when its time is up says what it knew before.
	spaceIs := func(what string, wantFree, wantOrphans uint64) {
		t.Helper()
		planetest.Eventually(t, func() string {
			if free, orphans := space(); free != wantFree || orphans != wantOrphans {
				syncup()
				return fmt.Sprintf("%s: %d bytes free, %d of orphans; want %d and %d", what, free, orphans, wantFree, wantOrphans)
			}
			return ""
		})
	}
	list := func() (das, vds []*apiv1.OrphanMsg) {
		t.Helper()
		r, err := c.portal.ListOrphan(t.Context(), &apiv1.ListOrphanRequest{})
		c.must(r, err)
		for _, o := range r.OrphanMsgList {
			if o.Kind == "da" {
				das = append(das, o)
			} else {
				vds = append(vds, o)
			}
		}
		return das, vds
	}
	up := func() int { return c.serves(c.cns[0], 2) + c.serves(c.cns[1], 2) }

	c.must(nil, c.array(0))
	run(t, file, "VACUUM INTO '"+backup+"'")
	freeBefore, _ := space()
	c.must(nil, c.array(1))
	c.until("both arrays are up", func() bool { return up() == 2 })
	freeWith, _ := space()

	restore()
	das, vds := list()
	if len(das) != 1 || das[0].Name != "da1" || das[0].Problem != "" || len(das[0].NodeNameList) != 2 || len(vds) != 2 {
		t.Fatalf("orphans %v and %v", das, vds)
	}
	c.until("da0 alone is served after the restore", func() bool { return up() == 1 })
	spaceIs("restored", freeWith, freeBefore-freeWith)
	r, err := c.portal.AdoptOrphan(t.Context(), &apiv1.AdoptOrphanRequest{OrphanId: das[0].OrphanId})
	c.must(r, err)
	if r.ReplyInfo.ReplyMsg != "success" {
		t.Logf("adopt: %s", r.ReplyInfo.ReplyMsg)
	}
	c.until("the adopted array is served", func() bool { syncup(); return up() == 2 })
	da, err := c.portal.GetDa(t.Context(), &apiv1.GetDaRequest{DaName: "da1"})
	c.must(da, err)
	if da.DaMsg.Error || strings.Join(da.DaMsg.ExpNameList, " ") != "exp0" {
		t.Errorf("adopted: %v", da.DaMsg)
	}
	spaceIs("adopted", freeWith, 0)

	restore()
	if das, _ = list(); len(das) != 1 {
		t.Fatalf("orphans %v", das)
	}
	_, err = c.portal.DeleteOrphan(t.Context(), &apiv1.DeleteOrphanRequest{OrphanId: das[0].OrphanId})
	c.must(nil, err)
	syncup()
	if das, vds = list(); len(das)+len(vds) != 0 {
		t.Errorf("deleted, but there are %v and %v", das, vds)
	}
	spaceIs("deleted", freeBefore, 0)
	c.until("da0 is served", func() bool { return up() == 1 })
}

// TestBackupOlderThanAGrowth: an array gets more physical size twice after a backup, which is
// restored. It is down, and says why; the groups are listed and adopted, in order, whatever
// cn had the primary of then; then it serves as before.
func TestBackupOlderThanAGrowth(t *testing.T) {
	const mib = 1 << 20
	dir := t.TempDir()
	file, backup := filepath.Join(dir, "vda.db"), filepath.Join(dir, "backup.db")
	c := begin(t, "sqlite:///"+file, 0)
	syncup := func() {
		t.Helper()
		for _, n := range c.dns {
			c.must(c.portal.SyncupDn(t.Context(), &apiv1.SyncupDnRequest{DnName: n.name}))
		}
		for _, n := range c.cns {
			c.must(c.portal.SyncupCn(t.Context(), &apiv1.SyncupCnRequest{CnName: n.name}))
		}
	}
	show := func() *apiv1.DaMsg {
		t.Helper()
		r, err := c.portal.GetDa(t.Context(), &apiv1.GetDaRequest{DaName: "da0"})
		c.must(r, err)
		return r.DaMsg
	}
	// has waits until the array is well and has so many groups, all joined.
	has := func(groups int, size, physical uint64) {
		t.Helper()
		c.until(fmt.Sprint("da0 has ", groups, " groups"), func() bool {
			da := show()
			joining := 0
			for _, g := range da.GrpMsgList {
				if g.Joining {
					joining++
				}
			}
			if !da.Error && joining == 0 && len(da.GrpMsgList) == groups && da.DaSize == size && da.PhysicalSize == physical &&
				c.serves(c.cns[0], 1)+c.serves(c.cns[1], 1) == 1 {
				return true
			}
			syncup()
			return false
		})
	}
	grow := func(size, physical uint64) {
		t.Helper()
		if physical != 0 {
			c.must(c.portal.ModifyDa(t.Context(), &apiv1.ModifyDaRequest{DaName: "da0", PhysicalSize: &physical}))
			return
		}
		c.must(c.portal.ModifyDa(t.Context(), &apiv1.ModifyDaRequest{DaName: "da0", DaSize: &size}))
	}
	grps := func() (all []*apiv1.OrphanMsg) {
		t.Helper()
		r, err := c.portal.ListOrphan(t.Context(), &apiv1.ListOrphanRequest{})
		c.must(r, err)
		for _, o := range r.OrphanMsgList {
			if o.Kind == "grp" {
				all = append(all, o)
			}
		}
		return all
	}
	c.must(nil, c.make(0, &apiv1.CreateDaRequest{DaConf: `{"stripe_count":1, "stripe_size_kb":64}`}))
	has(1, 8*mib, 8*mib)
	run(t, file, "VACUUM INTO '"+backup+"'")
	grow(0, 12*mib)
	has(2, 8*mib, 12*mib)
	c.must(c.portal.FailoverDa(t.Context(), &apiv1.FailoverDaRequest{DaName: "da0"})) // the backup names the other cn
	grow(0, 20*mib)
	has(3, 8*mib, 20*mib)
	grow(16*mib, 0)
	has(3, 16*mib, 20*mib)
	if all := grps(); len(all) != 0 {
		t.Errorf("orphans before there are any: %v", all)
	}

	putBack(t, file, backup)
	if _, err := store.Supersede(t.Context(), "sqlite:///"+file); err != nil {
		t.Fatal(err)
	}
	c.until("the array is down, and its groups are orphans", func() bool {
		syncup()
		return len(grps()) == 2 && show().Error
	})
	if why := show().ErrorMsg; !strings.Contains(why, "bytes, its disks have") || !strings.Contains(why, "it is not made again") {
		t.Errorf("its error is %q", why)
	}
	all := grps()
	at := func(problem bool) *apiv1.OrphanMsg {
		t.Helper()
		for _, o := range all {
			if (o.Problem != "") == problem {
				return o
			}
		}
		t.Fatalf("orphans %v", all)
		return nil
	}
	if o := at(false); o.Name != "da0" || o.Size == 0 || len(o.NodeNameList) != 1 {
		t.Errorf("orphan %v", o)
	}
	_, err := c.portal.AdoptOrphan(t.Context(), &apiv1.AdoptOrphanRequest{OrphanId: at(true).OrphanId})
	if err == nil || !strings.Contains(err.Error(), "comes before it; adopt that first") {
		t.Errorf("the second before the first: %v", err)
	}
	for range 2 {
		all = grps()
		c.must(c.portal.AdoptOrphan(t.Context(), &apiv1.AdoptOrphanRequest{OrphanId: at(false).OrphanId}))
	}
	has(3, 16*mib, 20*mib)
	if all := grps(); len(all) != 0 {
		t.Errorf("orphans after the adoption: %v", all)
	}
	r, err := c.portal.ListPd(t.Context(), &apiv1.ListPdRequest{})
	c.must(r, err)
	for _, pd := range r.PdMsgList {
		if pd.OrphanSize != 0 {
			t.Errorf("%v", pd)
		}
	}
	grow(0, 24*mib) // and it is an array as any other
	has(4, 16*mib, 24*mib)
	c.must(c.portal.FailoverDa(t.Context(), &apiv1.FailoverDaRequest{DaName: "da0"}))
	has(4, 16*mib, 24*mib)
}
