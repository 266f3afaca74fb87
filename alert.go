package vda

import "time"

// Alert is something that is wrong now, and that somebody should do something about.
type Alert struct {
	Code   AlertCode
	Object string // kind of object, as of an Event
	Name   string // with its parent's
	Text   string // what is wrong

	// Since is when it began: as what is wrong says, or when it was first seen.
	Since time.Time
}

// FullName says which alert it is: there is one of a code and object at a time.
func (a *Alert) FullName() string { return string(a.Code) + " " + a.Object + " " + a.Name }

// AlertCode says what is wrong; AlertKinds has all.
type AlertCode string

// The codes of alerts.
const (
	AlertNoDatabase AlertCode = "database_unreadable"
	AlertDAError    AlertCode = "da_error"
	AlertDADegraded AlertCode = "da_degraded"
	AlertDANotWhole AlertCode = "da_not_whole"
	AlertNodeDown   AlertCode = "node_down"
	AlertPDFaulty   AlertCode = "pd_faulty"
	AlertNoMonitor  AlertCode = "monitor_missing"
	AlertUnflushed  AlertCode = "pd_not_flushed"
	AlertSpaceLow   AlertCode = "space_low"
	AlertVersions   AlertCode = "data_plane_versions_differ"
	AlertPlain      AlertCode = "cluster_plain"

	AlertDASpaceFull AlertCode = "da_space_full"
	AlertDASpaceLow  AlertCode = "da_space_low"
)

// SpaceLow is the share of a cluster's bytes below which too few are free.
const SpaceLow = 0.1

// ByPrometheus reports that Prometheus alone tells of an alert, and no monitor raises it.
func (c AlertCode) ByPrometheus() bool { return c == AlertNoDatabase || c == AlertPlain }

// AlertKinds has all codes, the gravest first. What monitors raise, the rules for Prometheus
// and the runbook docs/alerts.md are made from it.
var AlertKinds = []struct {
	Code     AlertCode
	Severity Severity
	For      string // how long it has to be so until the alert is raised, as Go and Prometheus write it
	Expr     string // for Prometheus, over the metrics of a portal
	Means    string
	Do       string
}{
	{AlertNoDatabase, SeverityError, "1m", "max(vda_cluster_readable) == 0",
		"No portal can read the database. Arrays serve, but nothing is changed and no failover happens. Prometheus alone can tell.",
		"Bring the database back. `vda_db --action status` says what is wrong with it."},
	{AlertDAError, SeverityError, "30s", "max by (da) (1 - vda_da_healthy) > 0",
		"Something is wrong with an array: its hosts may lack a path, or all of them.",
		"`vda_cli da get NAME` says which vd or controller; `vda_cli event list --name NAME` since when. Mend the node or disk that it names."},
	{AlertDASpaceFull, SeverityError, "0s", "max by (da) (vda_da_used_bytes / vda_da_space_bytes) >= 0.95 and max by (da) (vda_da_thin) == 1",
		"A thin array has 95 % of its physical size in use. When all is used up, its hosts get Capacity Exceeded for writes to blocks that " +
			"have none yet, until there is room again; nothing that is written is lost.",
		"Give it more (`vda_cli da modify --physical-size`), delete snapshots (`vda_cli snap list`), or have hosts discard what they do not " +
			"need (`fstrim`)."},
	{AlertDASpaceLow, SeverityWarning, "1m", "max by (da) (vda_da_used_bytes / vda_da_space_bytes) >= 0.8 and max by (da) (vda_da_thin) == 1",
		"A thin array has 80 % of its physical size in use.", "As for da_space_full, while there is time."},
	{AlertDADegraded, SeverityWarning, "15m", `max by (da) (vda_da_state{state=~"degraded|single|down"}) > 0`,
		"A mirrored array lacks a leg, so that it tolerates fewer losses than it promises.",
		"Mend the dn that the leg is on; it is copied to by itself. After `--replace-after` of vda_monitor another leg takes its place, if " +
			"there is room on a dn that has none of the column."},
	{AlertDANotWhole, SeverityWarning, "12h", `max by (da) (vda_da_state{state=~"rebuilding|degraded|single|down"}) > 0`,
		"A mirrored array has lacked a leg for 12 hours, also where it was copied to all the time: a copy does not come to its end, or is lost " +
			"again and again.",
		"`vda_cli da get NAME` says how much is left to copy, at which rate, and which leg. `--rebuild-mbps` of the array and the load of " +
			"hosts bound the rate; `vda_cli event list --name NAME` shows a leg that comes and goes: mend or drain its dn."},
	{AlertNodeDown, SeverityError, "1m", "max by (kind, node) (1 - vda_node_healthy) > 0 and max by (kind, node) (vda_node_online) == 1 " +
		"unless on (node) (max by (node) (vda_dn_draining) == 1)",
		"A dn or cn does not answer, or cannot do its work. Not told of one that an administrator took offline or drains.",
		"Look at the machine, the agent's log and its data plane's. For maintenance, drain it or set `--new-online false` first."},
	{AlertPDFaulty, SeverityError, "1m", `max by (node, pd) (1 - vda_pd_healthy) > 0 and on (node) (max by (node) ` +
		`(vda_node_healthy{kind="dn"}) == 1) and max by (node, pd) (vda_pd_online) == 1 and on (node) ` +
		`(max by (node) (vda_node_online{kind="dn"}) == 1) unless on (node) (max by (node) (vda_dn_draining) == 1)`,
		"A pd does not work, though its dn does. Not told of one that is taken offline or drained.",
		"`vda_cli pd get` says why. Replace the disk: `vda_cli pd drain`, and when it is empty `pd delete`."},
	{AlertNoMonitor, SeverityError, "1m",
		"max(vda_monitors) == 0 or time() - max(vda_monitor_last_beat_timestamp_seconds) > 60",
		"No monitor runs: nobody notices when a node is down, and the other alerts of `vda_cli` stay as they are.",
		"Start vda_monitor; two or three on different machines are best."},
	{AlertUnflushed, SeverityWarning, "10m", "max by (node, pd) (vda_pd_not_flushed) == 1",
		"A power cut may lose writes to a pd that were acknowledged and flushed: its disk, or the file that it is, has a volatile write cache, " +
			"and SPDK passes no flush on to it. Not told of a pd that was made with volatile_cache accepted.",
		"Run vda_tgt on that dn, which passes flushes on. Or drain the pd, delete it, and create it on a disk without such a cache, or with " +
			"`--volatile-cache accepted` where all may be lost, as in a test."},
	{AlertSpaceLow, SeverityWarning, "10m", "sum(max by (node, pd) (vda_pd_free_bytes)) / sum(max by (node, pd) (vda_pd_size_bytes)) < 0.1",
		"Less than a tenth of the bytes of the cluster is free: new arrays, and new legs for mirrors, may find no room.",
		"Add disks (`vda_cli pd create`), or delete what is not needed."},
	{AlertVersions, SeverityWarning, "1h", "count by (kind) (count by (kind, data_plane) (vda_node_info)) > 1",
		"Data planes of one kind of node have different versions, as in the middle of an upgrade.",
		"Finish the upgrade; `vda_cli version` shows who has which."},
	{AlertPlain, SeverityWarning, "5m", "min(vda_cluster_secured) == 0",
		"The cluster is plain: anyone who reaches a port of a daemon can give it orders, up to deleting all data, and all is in the clear. " +
			"Prometheus alone tells, and vda_cli status with a line: a plain cluster is well.",
		"Secure it while it serves, as docs/security.md says, or keep it in a network of its own and silence this."},
}

// Severity is that of all alerts of the code; error for a code that is not known.
func (c AlertCode) Severity() Severity {
	for _, k := range AlertKinds {
		if k.Code == c {
			return k.Severity
		}
	}
	return SeverityError
}

// Hold is how long something has to be wrong until the alert is raised.
func (c AlertCode) Hold() time.Duration {
	for _, k := range AlertKinds {
		if k.Code == c {
			d, _ := time.ParseDuration(k.For) // a test parses all
			return d
		}
	}
	return 0
}

// Rank is the place of the code in AlertKinds: the gravest have the lowest.
func (c AlertCode) Rank() int {
	for i, k := range AlertKinds {
		if k.Code == c {
			return i
		}
	}
	return len(AlertKinds)
}
