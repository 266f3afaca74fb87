package portal

import (
	"context"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/virtual-disk-array/vda"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/reason"
	"github.com/virtual-disk-array/vda/store"
)

// A scrape shows the cluster as the database has it at that moment: one view, and some
// series per node, pd and array. All portals of a cluster show the same.

// scrapeTime bounds the view of a scrape.
const scrapeTime = 5 * time.Second

// clusterMetrics are a prometheus.Collector.
type clusterMetrics struct{ s *Server }

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(name, help, labels, nil)
}

var (
	readableDesc = desc("vda_cluster_readable",
		"1 when the database answered this scrape; else 0, and the other metrics of the cluster are missing.")
	securedDesc  = desc("vda_cluster_secured", "1 when the cluster is secured for good; 0 when anyone who reaches a port can give orders.")
	nodeInfoDesc = desc("vda_node_info", "1, with where a node's agent is, its failure domain and the version of its data plane as labels.",
		"kind", "node", "addr", "location", "data_plane")
	nodeHealthyDesc = desc("vda_node_healthy", "1 when a node is without an error, as the database has it; else 0.", "kind", "node")
	nodeOnlineDesc  = desc("vda_node_online", "1 when an administrator lets pieces of arrays be placed on a node; else 0.", "kind", "node")
	nodeDrainDesc   = desc("vda_dn_draining", "1 while all vds are to leave a dn; else 0.", "node")
	primariesDesc   = desc("vda_cn_primaries", "Primaries of arrays on a cn.", "node")
	cntlrsDesc      = desc("vda_cn_controllers", "Controllers of arrays on a cn.", "node")
	pdSizeDesc      = desc("vda_pd_size_bytes", "Bytes of a pd that vds can use.", "node", "pd")
	pdFreeDesc      = desc("vda_pd_free_bytes", "Bytes of a pd that no vd has.", "node", "pd")
	pdHealthyDesc   = desc("vda_pd_healthy", "1 when a pd is without an error; else 0.", "node", "pd")
	pdOnlineDesc    = desc("vda_pd_online", "1 when an administrator lets vds be placed on a pd, and does not drain it; else 0.", "node", "pd")
	pdUnflushedDesc = desc("vda_pd_not_flushed", "1 when a power cut may lose writes to a pd that were flushed, and its conf does not accept "+
		"that; else 0.", "node", "pd")
	daSizeDesc     = desc("vda_da_size_bytes", "Bytes of an array that hosts see.", "da")
	daPhysicalDesc = desc("vda_da_physical_bytes", "Bytes of data that an array has bought; below its size it is thin.", "da")
	daThinDesc     = desc("vda_da_thin", "1 for an array that promises its hosts more than it has bought; else 0.", "da")
	daSpaceDesc    = desc("vda_da_space_bytes", "Bytes that an array has for data of its own and of its snapshots; missing while not "+
		"known.", "da")
	daUsedDesc    = desc("vda_da_used_bytes", "Bytes of these that are in use; missing while not known.", "da")
	daHealthyDesc = desc("vda_da_healthy", "1 when an array is without an error; else 0.", "da")
	daStateDesc   = desc("vda_da_state", "1 for the state that an array is in: healthy, error, or of a mirrored array rebuilding, "+
		"degraded, single or down.", "da", "state")
	daLackDesc   = desc("vda_da_lack_bytes", "Bytes that are to be copied until all legs of an array's mirrors have all data.", "da")
	monitorsDesc = desc("vda_monitors", "Monitors that have a row in the database.")
	beatDesc     = desc("vda_monitor_last_beat_timestamp_seconds", "When a monitor has last told the database that it runs, in seconds "+
		"since 1970; missing when none ever has.")
	alertsDesc    = desc("vda_alerts", "Alerts that are raised, by code; docs/alerts.md has the codes.", "code")
	clusterMetric = []*prometheus.Desc{readableDesc, securedDesc,
		nodeInfoDesc, nodeHealthyDesc, nodeOnlineDesc, nodeDrainDesc, primariesDesc, cntlrsDesc,
		pdSizeDesc, pdFreeDesc, pdHealthyDesc, pdOnlineDesc, pdUnflushedDesc, daSizeDesc, daPhysicalDesc, daThinDesc,
		daSpaceDesc, daUsedDesc, daHealthyDesc, daStateDesc, daLackDesc, monitorsDesc, beatDesc, alertsDesc}
)

// Describe implements prometheus.Collector.
func (clusterMetrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range clusterMetric {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c clusterMetrics) Collect(ch chan<- prometheus.Metric) {
	show := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	ctx, cancel := context.WithTimeout(context.Background(), scrapeTime)
	defer cancel()
	var v overview
	var das []*apiv1.DaMsg
	err := c.s.view(ctx, func(tx store.Reader) (err error) {
		v = overview{}
		if err = v.read(tx); err == nil {
			das, err = allDaMsgs(tx)
		}
		return err
	})
	if err != nil {
		c.s.log.Debug("a scrape has no metrics of the cluster", "err", reason.Of(err))
		show(readableDesc, 0)
		return
	}
	show(readableDesc, 1)
	show(securedDesc, one(v.secured))
	show(monitorsDesc, float64(len(v.monitors)))
	if !v.beat.IsZero() {
		show(beatDesc, float64(v.beat.UnixMicro())/1e6)
	}
	raised := map[vda.AlertCode]int{}
	for i := range v.alerts {
		raised[v.alerts[i].Code]++
	}
	for _, k := range vda.AlertKinds { // 0 is an answer too
		if !k.Code.ByPrometheus() {
			show(alertsDesc, float64(raised[k.Code]), string(k.Code))
		}
	}
	node := func(k vda.NodeKind, n *vda.Node) {
		show(nodeInfoDesc, 1, string(k), n.Name, n.Agent(), n.Location, n.DataPlaneVersion)
		show(nodeHealthyDesc, one(!n.Health.Error), string(k), n.Name)
		show(nodeOnlineDesc, one(n.Online), string(k), n.Name)
	}
	names := map[string]string{}
	for i := range v.dns {
		dn := &v.dns[i]
		names[dn.ID] = dn.Name
		node(vda.DiskNode, &dn.Node)
		show(nodeDrainDesc, one(dn.Drain), dn.Name)
	}
	for i := range v.cns {
		cn := &v.cns[i]
		node(vda.ControllerNode, &cn.Node)
		show(primariesDesc, float64(cn.PrimaryCount), cn.Name)
		show(cntlrsDesc, float64(cn.CntlrCount), cn.Name)
	}
	for i := range v.pds {
		pd := &v.pds[i]
		dn, ok := names[pd.DNID]
		if !ok {
			continue // being deleted
		}
		show(pdSizeDesc, float64(pd.TotalClusters*pd.ClusterSize), dn, pd.Name)
		show(pdFreeDesc, float64(pd.FreeClusters*pd.ClusterSize), dn, pd.Name)
		show(pdOnlineDesc, one(pd.Online && !pd.Drain), dn, pd.Name)
		show(pdUnflushedDesc, one(pd.Unflushed()), dn, pd.Name)
		show(pdHealthyDesc, one(!pd.Health.Error), dn, pd.Name)
	}
	for _, da := range das {
		show(daSizeDesc, float64(da.DaSize), da.DaName)
		show(daPhysicalDesc, float64(da.PhysicalSize), da.DaName)
		show(daThinDesc, one(da.Thin), da.DaName)
		if total := da.UsedSize + da.FreeSize; total > 0 {
			show(daSpaceDesc, float64(total), da.DaName)
			show(daUsedDesc, float64(da.UsedSize), da.DaName)
		}
		show(daHealthyDesc, one(!da.Error), da.DaName)
		show(daStateDesc, 1, da.DaName, stateOf(da.Error, vda.RedundancyState(da.RedundancyState)))
		show(daLackDesc, float64(da.LackBytes), da.DaName)
	}
}

// allDaMsgs reads every array: each has metrics of its own.
func allDaMsgs(tx store.Reader) (all []*apiv1.DaMsg, err error) {
	das, _, err := tx.ListDA(store.DAFilter{}, store.Page{})
	if err != nil {
		return nil, err
	}
	for some := range slices.Chunk(das, maxLimit) { // a question names so many arrays at most
		msgs, err := daMsgs(tx, some)
		if err != nil {
			return nil, err
		}
		all = append(all, msgs...)
	}
	return all, nil
}

func one(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
