package portal_test

import (
	"errors"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/virtual-disk-array/vda"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/array"
	"github.com/virtual-disk-array/vda/daemon/httpd/metricsdoc"
	"github.com/virtual-disk-array/vda/portal"
	"github.com/virtual-disk-array/vda/portal/portaltest"
	"github.com/virtual-disk-array/vda/store"
)

// TestAlerts: what is wrong is told, the gravest first, and what an administrator does on
// purpose is not.
func TestAlerts(t *testing.T) {
	c := portaltest.New(t)
	cl := c.Client()
	alerts := func() (all []string) {
		t.Helper()
		settleAlerts(c)
		r, err := cl.ListAlert(t.Context(), &apiv1.ListAlertRequest{})
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range r.AlertMsgList {
			all = append(all, strings.Join([]string{a.Severity, a.Code, a.Object, a.Name, a.Text}, " "))
		}
		return all
	}
	ill := func(o store.Object, k vda.NodeKind, name string) {
		c.Change(func(tx store.Tx) error {
			n, err := tx.NodeByName(k, name)
			if err != nil {
				return err
			}
			if o != store.ObjPD {
				return tx.SetHealth(o, n.ID, vda.Health{Error: true, Msg: "no answer"})
			}
			pd, err := tx.PDByName(n.ID, "pd0")
			if err != nil {
				return err
			}
			return tx.SetHealth(o, pd.ID, vda.Health{Error: true, Msg: "I/O error"})
		})
	}
	check := func(when string, want ...string) {
		t.Helper()
		if got := alerts(); !slices.Equal(got, want) {
			t.Errorf("%s:\n got %q\nwant %q", when, got, want)
		}
	}
	none := "error monitor_missing   no monitor has ever run: nobody notices when a node is down; start vda_monitor"
	check("without a monitor", none)
	c.Change(func(tx store.Tx) error { _, err := tx.BeatMonitor("m0", "mon0:9620"); return err })
	c.Populate(cl, 3, 2)
	check("all is well")
	ill(store.ObjPD, vda.DiskNode, "dn0:9720")
	ill(store.ObjCN, vda.ControllerNode, "cn0:9820")
	node, disk := "error node_down cn cn0:9820 no answer", "error pd_faulty pd dn0:9720/pd0 I/O error"
	check("a disk and a cn are ill", node, disk)
	off := false
	if _, err := cl.ModifyCn(t.Context(), &apiv1.ModifyCnRequest{CnName: "cn0:9820", NewOnline: &off}); err != nil {
		t.Fatal(err)
	}
	check("the cn is offline on purpose", disk)
	if _, err := cl.DrainDn(t.Context(), &apiv1.DrainDnRequest{DnName: "dn0:9720"}); err != nil {
		t.Fatal(err)
	}
	check("the disk's dn is drained")
	c.Change(func(tx store.Tx) error {
		pds, _, err := tx.ListPD(store.PDFilter{}, store.Page{})
		for i := range pds {
			if err == nil {
				err = tx.TakePD(pds[i].ID, pds[i].FreeClusters)
			}
		}
		return err
	})
	if got := alerts(); len(got) != 1 || !strings.HasPrefix(got[0], "warning space_low   0 of ") {
		t.Errorf("nothing is free: %q", got)
	}
}

// TestMonitorMissing: a monitor that has ended without a word is missed, and what it said last
// is told with that.
func TestMonitorMissing(t *testing.T) {
	now := time.Now()
	c := portaltest.New(t)
	c.Change(func(tx store.Tx) error {
		_, err := tx.BeatMonitor("m0", "mon0:9620")
		return errors.Join(err, array.SettleAlerts(tx, []vda.Alert{{Code: vda.AlertSpaceLow, Text: "1 of 100 bytes are free"}}))
	})
	for _, row := range []struct {
		at   time.Duration
		want string
	}{{0, "space_low"}, {50 * time.Second, "space_low"}, {2 * time.Minute, "monitor_missing space_low"}} {
		var got []string
		var all []vda.Alert
		c.Change(func(tx store.Tx) (err error) { all, err = portal.RaisedAlerts(tx, now.Add(row.at)); return err })
		for _, a := range all {
			got = append(got, string(a.Code))
			if a.Code == vda.AlertNoMonitor && (a.Since.Before(now.Add(-time.Second)) || a.Since.After(time.Now())) {
				t.Errorf("missed since %v, the last beat was at %v", a.Since, now)
			}
		}
		if is := strings.Join(got, " "); is != row.want {
			t.Errorf("%v after the last beat: %q, want %q", row.at, is, row.want)
		}
	}
}

// after is how long it takes until an alert is raised, in words.
func after(hold string) string {
	if hold == "0s" {
		return ""
	}
	return ", after " + hold
}

// settleAlerts does what a monitor does from time to time.
func settleAlerts(c *portaltest.Cluster) {
	c.Change(func(tx store.Tx) error {
		found, err := array.FindAlerts(tx)
		if err == nil {
			err = array.SettleAlerts(tx, found)
		}
		return err
	})
}

// TestSpaceAlerts: a thin array that runs full is told of in time; one that is not thin
// has room for all that its hosts may write.
func TestSpaceAlerts(t *testing.T) {
	c := portaltest.New(t)
	cl := c.Client()
	c.Populate(cl, 2, 2)
	c.Change(func(tx store.Tx) error { _, err := tx.BeatMonitor("m0", "mon0:9620"); return err })
	four := uint64(4 << 20)
	for name, size := range map[string]uint64{"thick": 4 << 20, "thin": 8 << 20} {
		if _, err := cl.CreateDa(t.Context(), &apiv1.CreateDaRequest{DaName: name, DaSize: size, PhysicalSize: &four, CntlrCnt: 2}); err != nil {
			t.Fatal(err)
		}
	}
	for _, row := range []struct {
		used uint64
		want string
	}{{0, ""}, {79, ""}, {80, "warning da_space_low da thin 20 of 100 bytes of its physical size are left"},
		{94, "warning da_space_low da thin 6 of 100 bytes of its physical size are left"},
		{95, "error da_space_full da thin 5 of 100 bytes of its physical size are left"},
		{100, "error da_space_full da thin 0 of 100 bytes of its physical size are left"}} {
		c.Change(func(tx store.Tx) error {
			das, _, err := tx.ListDA(store.DAFilter{}, store.Page{})
			for i := range das {
				if err == nil {
					err = tx.SetDASpace(das[i].ID, vda.Space{Total: 100, Used: row.used})
				}
			}
			return err
		})
		settleAlerts(c)
		r, err := cl.ListAlert(t.Context(), &apiv1.ListAlertRequest{})
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, a := range r.AlertMsgList {
			got = append(got, strings.Join([]string{a.Severity, a.Code, a.Object, a.Name, a.Text}, " "))
		}
		if strings.Join(got, "\n") != row.want {
			t.Errorf("%d of 100 bytes used: %q, want %q", row.used, got, row.want)
		}
		d, err := cl.GetDa(t.Context(), &apiv1.GetDaRequest{DaName: "thin"})
		if err != nil || d.DaMsg.UsedSize != row.used || d.DaMsg.FreeSize != 100-row.used {
			t.Errorf("da get: used %d, free %d, %v", d.GetDaMsg().GetUsedSize(), d.GetDaMsg().GetFreeSize(), err)
		}
	}
}

const alertsHead = `# Alerts

` + "`vda_cli alert list`" + ` shows what is wrong and since when, the pages of a portal too, and ` +
	"`vda_cli status`" + ` ends with status 1 while
there is an alert. One of the monitors looks every 5 seconds, and raises an alert when something has been wrong for as long as is
said here, at once where it says nothing. It is an [event](events.md) when that is raised and when it ends. Nodes and disks that an
administrator has taken offline or drains are left out; so are a mirrored array that lacks only legs on such, while its data can be
read and written, and an array that lacks only secondaries on cns that were taken offline. [vda.rules.yml](vda.rules.yml) has the
same for Prometheus, over the [metrics](metrics.md) of the portals. Codes stay as they are.

`

// TestAlertsDoc: the runbook and the rules for Prometheus are made from vda.AlertKinds, and
// the rules name metrics that there are.
func TestAlertsDoc(t *testing.T) {
	var doc, rules strings.Builder
	rules.WriteString("# Made from vda.AlertKinds: go test ./portal -run TestAlertsDoc -update-metrics\ngroups:\n  - name: vda\n    rules:\n")
	metrics, err := os.ReadFile("../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range vda.AlertKinds {
		doc.WriteString("## " + string(k.Code) + "\n\n" + string(k.Severity) + after(k.For) + ". " + k.Means +
			"\n\n**What to do.** " + k.Do + "\n\n")
		rules.WriteString("      - alert: VDA_" + string(k.Code) + "\n        expr: '" + k.Expr + "'\n        for: " + k.For +
			"\n        labels: {severity: " + string(k.Severity) + "}\n        annotations: {summary: '" + k.Means + "'}\n")
		if strings.Contains(k.Means+k.Expr, "'") {
			t.Errorf("%s has a quote, which the rules cannot have", k.Code)
		}
		if d, err := time.ParseDuration(k.For); err != nil || d < 0 {
			t.Errorf("%s: %q is not a time: %v", k.Code, k.For, err)
		}
		names := regexp.MustCompile(`vda_[a-z_]+`).FindAllString(k.Expr, -1)
		if len(names) == 0 {
			t.Errorf("%s names no metric", k.Code)
		}
		for _, n := range names {
			if !strings.Contains(string(metrics), "| `"+n+"` |") {
				t.Errorf("%s: there is no metric %s", k.Code, n)
			}
		}
	}
	head := alertsHead
	page := head + strings.TrimSpace(doc.String()) + "\n"
	for path, want := range map[string]string{"../docs/alerts.md": page, "../docs/vda.rules.yml": rules.String()} {
		is, err := os.ReadFile(path)
		switch {
		case string(is) == want:
		case *metricsdoc.Update:
			err = os.WriteFile(path, []byte(want), 0o644)
		default:
			t.Errorf("%s is not up to date: go test ./portal -run TestAlertsDoc -update-metrics", path)
		}
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
	}
}
