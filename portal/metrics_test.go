package portal_test

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/virtual-disk-array/vda"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/daemon/httpd/metricsdoc"
	"github.com/virtual-disk-array/vda/portal"
	"github.com/virtual-disk-array/vda/portal/portaltest"
	"github.com/virtual-disk-array/vda/store"
	"github.com/virtual-disk-array/vda/syncer"
)

// TestMetrics: a portal shows nodes, disks and arrays as they are; what it shows is
// lint-clean and documented.
func TestMetrics(t *testing.T) {
	c := portaltest.New(t)
	counted := syncer.NewEventMetrics()
	addr := c.Portal(func(cfg *portal.Config) { cfg.Events = counted })
	cl := c.Dial(addr)
	c.Change(func(tx store.Tx) error { _, err := tx.BeatMonitor("m0", "mon0:9620"); return err })
	c.Populate(cl, 2, 2)
	if _, err := cl.CreateDa(t.Context(), &apiv1.CreateDaRequest{DaName: "da0", DaSize: 4 << 20, CntlrCnt: 2}); err != nil {
		t.Fatal(err)
	}
	c.Change(func(tx store.Tx) error {
		n, err := tx.NodeByName(vda.DiskNode, "dn1:9720")
		if err != nil {
			return err
		}
		return tx.SetHealth(store.ObjDN, n.ID, vda.Health{Error: true, Msg: "it is on fire"})
	})
	c.Change(func(tx store.Tx) error {
		da, err := tx.DAByName("da0")
		if err != nil {
			return err
		}
		return tx.SetDASpace(da.ID, vda.Space{Total: 8 << 20, Used: 4 << 20})
	})
	settleAlerts(c)
	counted.Count(vda.Event{Kind: vda.EventFailoverEnd, Took: 1500e6})
	counted.Count(vda.Event{Kind: vda.EventRebuildEnd, Took: 10e9})
	page := func() string {
		t.Helper()
		r, err := http.Get("http://" + addr + "/metrics")
		if err != nil {
			t.Fatal(err)
		}
		defer r.Body.Close()
		b, err := io.ReadAll(r.Body)
		if err != nil || r.StatusCode != http.StatusOK {
			t.Fatalf("/metrics: %d, %v", r.StatusCode, err)
		}
		return string(b)
	}
	text := page()
	for _, want := range []string{`vda_cluster_readable 1`, `vda_cluster_secured 0`, `vda_node_healthy{kind="dn",node="dn0:9720"} 1`,
		`vda_node_healthy{kind="dn",node="dn1:9720"} 0`, `vda_node_online{kind="cn",node="cn1:9820"} 1`, `vda_cn_controllers{node="cn0:9820"} 1`,
		`vda_da_used_bytes{da="da0"} 4.194304e+06`, `vda_da_space_bytes{da="da0"} 8.388608e+06`, `vda_da_thin{da="da0"} 0`,
		`vda_monitors 1`, `vda_alerts{code="node_down"} 1`,
		`vda_alerts{code="pd_faulty"} 0`, `vda_da_size_bytes{da="da0"} 4.194304e+06`, `vda_da_state{da="da0",state="healthy"} 1`, `vda_pd_healthy{node="dn0:9720",pd="pd0"} 1`,
		`vda_events_total{kind="failover_ended"} 1`, `vda_events_total{kind="node_down"} 0`, `vda_failover_duration_seconds_bucket{le="1"} 0`,
		`vda_failover_duration_seconds_bucket{le="2"} 1`,
		`vda_rebuild_duration_seconds_bucket{le="4"} 0`, `vda_rebuild_duration_seconds_bucket{le="16"} 1`, `vda_rebuild_duration_seconds_sum 10`,
		`vda_events_total{kind="rebuild_ended"} 1`, `vda_server_calls_total{code="OK",method="vda.v1.Portal/CreateDa"} 1`} {
		if !strings.Contains(text, "\n"+want+"\n") {
			t.Errorf("/metrics does not have %s", want)
		}
	}
	metricsdoc.Check(t, "../docs/metrics.md", "portal", text)
	if err := c.Store.Close(); err != nil {
		t.Fatal(err)
	}
	if text = page(); !strings.Contains(text, "\nvda_cluster_readable 0\n") || strings.Contains(text, "vda_da_healthy") {
		t.Error("/metrics without a database does not say that it knows nothing")
	}
}
