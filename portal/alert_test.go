package portal_test

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/virtual-disk-array/vda"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/daemon/httpd/metricsdoc"
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
	none := "error monitor_missing   no monitor runs: nobody notices when a node is down; start vda_monitor"
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
		doc.WriteString("## " + string(k.Code) + "\n\n" + string(k.Severity) + ". " + k.Means + "\n\n**What to do.** " + k.Do + "\n\n")
		rules.WriteString("      - alert: VDA_" + string(k.Code) + "\n        expr: '" + k.Expr + "'\n        for: " + k.For +
			"\n        labels: {severity: " + string(k.Severity) + "}\n        annotations: {summary: '" + k.Means + "'}\n")
		if strings.Contains(k.Means+k.Expr, "'") {
			t.Errorf("%s has a quote, which the rules cannot have", k.Code)
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
	head := "# Alerts\n\n`vda_cli alert list` shows what is wrong now, from the rows of the database. Nodes and disks that an " +
		"administrator has\ntaken offline or drains are left out. [vda.rules.yml](vda.rules.yml) has the same for Prometheus, over the " +
		"[metrics](metrics.md)\nof the portals. Codes stay as they are.\n\n"
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
