package main

import (
	"fmt"
	"strings"
)

// rate is a counter's per second, summed by labels.
func rate(by, metric, labels string) string {
	return fmt.Sprintf("sum by (%s) (rate(%s{%s}[$__rate_interval]))", by, metric, labels)
}

// mean is the mean time of an operation: seconds per completed one.
func mean(by, kind, op, labels string) string {
	return rate(by, kind+"_"+op+"_seconds_total", labels) + " / " + rate(by, kind+"_"+op+"s_completed_total", labels)
}

// quantile is one of a histogram of latencies.
func quantile(q, by, metric, labels string) string {
	return fmt.Sprintf("histogram_quantile(%s, sum by (%s, le) (rate(%s_bucket{%s}[$__rate_interval])))", q, by, metric, labels)
}

// with is labels and one more.
func with(labels, more string) string { return strings.TrimPrefix(labels+","+more, ",") }

// io are the panels of what is read and written: kind is the metrics' first words.
func io(kind, by, labels, legend string) []panel {
	of := func(op string) string { return legend + " " + op }
	return []panel{
		{title: "Operations", unit: "iops", queries: []query{
			{rate(by, kind+"_reads_completed_total", labels), of("reads")}, {rate(by, kind+"_writes_completed_total", labels), of("writes")}}},
		{title: "Throughput", unit: "Bps", queries: []query{
			{rate(by, kind+"_read_bytes_total", labels), of("read")}, {rate(by, kind+"_written_bytes_total", labels), of("written")}}},
		{title: "Mean latency", unit: "s", queries: []query{
			{mean(by, kind, "read", labels), of("read")}, {mean(by, kind, "write", labels), of("write")}}},
		{title: "99th percentile of latency", about: "Nodes on vda_tgt only; right to a factor of 2.", unit: "s", queries: []query{
			{quantile("0.99", by, kind+"_io_duration_seconds", with(labels, `op="read"`)), of("read")},
			{quantile("0.99", by, kind+"_io_duration_seconds", with(labels, `op="write"`)), of("write")}}},
		{title: "Failed requests", unit: "iops", queries: []query{{rate(by, kind+"_errors_total", labels), legend}}},
	}
}

func number(title, expr, unit string) panel {
	return panel{title: title, unit: unit, number: true, queries: []query{{expr, ""}}}
}

var boards = []board{
	{name: "cluster", title: "VDA cluster", panels: append([]panel{
		number("Database readable", "max(vda_cluster_readable)", "short"),
		number("Alerts", "sum(max by (code) (vda_alerts))", "short"),
		number("Nodes down", "sum(max by (kind, node) (1 - vda_node_healthy))", "short"),
		number("Arrays in error", "sum(max by (da) (1 - vda_da_healthy))", "short"),
		number("Arrays", "count(max by (da) (vda_da_healthy))", "short"),
		number("Space in use", "1 - sum(max by (node, pd) (vda_pd_free_bytes)) / sum(max by (node, pd) (vda_pd_size_bytes))", "percentunit"),
		{title: "Alerts by code", unit: "short", queries: []query{{"max by (code) (vda_alerts) > 0", "{{code}}"}}},
		{title: "Arrays by state", unit: "short", queries: []query{{"count by (state) (max by (da, state) (vda_da_state) == 1)", "{{state}}"}}},
		{title: "Primaries", about: "Of arrays, per cn.", unit: "short", queries: []query{{"max by (node) (vda_cn_primaries)", "{{node}}"}}},
		{title: "Free space", unit: "bytes", queries: []query{{"sum by (node) (max by (node, pd) (vda_pd_free_bytes))", "{{node}}"}}},
		{title: "To be copied", about: "What legs of mirrors lack.", unit: "bytes", queries: []query{
			{"max by (da) (vda_da_lack_bytes) > 0", "{{da}}"}}},
		{title: "Failovers", about: "How long they took, 99 of 100 at most.", unit: "s", queries: []query{
			{"histogram_quantile(0.99, sum by (le) (increase(vda_failover_duration_seconds_bucket[1h])))", "99 %"},
			{"histogram_quantile(0.5, sum by (le) (increase(vda_failover_duration_seconds_bucket[1h])))", "50 %"}}},
		{title: "Rebuilds", about: "How long legs were copied to.", unit: "s", queries: []query{
			{"histogram_quantile(0.99, sum by (le) (increase(vda_rebuild_duration_seconds_bucket[1d])))", "99 %"}}},
		{title: "Events", about: "Per hour, by kind.", unit: "short", queries: []query{
			{"sum by (kind) (increase(vda_events_total[1h])) > 0", "{{kind}}"}}},
		{title: "Requests of users", unit: "reqps", queries: []query{
			{`sum by (method) (rate(vda_server_calls_total{method=~"vda.v1.Portal/.*"}[$__rate_interval]))`, "{{method}}"}}},
		{title: "Requests that failed", unit: "reqps", queries: []query{
			{`sum by (method, code) (rate(vda_server_calls_total{method=~"vda.v1.Portal/.*",code!="OK"}[$__rate_interval]))`,
				"{{method}} {{code}}"}}},
	}, io("vda_da", "job", "", "all arrays")...)},

	{name: "node", title: "VDA node", vars: []variable{
		{"node", "Node", "label_values(vda_node_info, node)", false},
		{"instance", "Agent", `label_values(vda_agent_objects_in_error, instance)`, true},
	}, panels: append([]panel{
		number("Healthy", `max(vda_node_healthy{node="$node"})`, "short"),
		number("Online", `max(vda_node_online{node="$node"})`, "short"),
		number("Primaries", `max(vda_cn_primaries{node="$node"})`, "short"),
		number("Controllers", `max(vda_cn_controllers{node="$node"})`, "short"),
		number("Objects in error", `sum(vda_agent_objects_in_error{instance=~"$instance"})`, "short"),
		number("Draining", `max(vda_dn_draining{node="$node"})`, "short"),
		{title: "Space of disks", unit: "bytes", queries: []query{
			{`max by (pd) (vda_pd_size_bytes{node="$node"})`, "{{pd}} size"}, {`max by (pd) (vda_pd_free_bytes{node="$node"})`, "{{pd}} free"}}},
	}, io("vda_pd", "instance, pd", `instance=~"$instance"`, "{{instance}} {{pd}}")...)},

	{name: "array", title: "VDA array", vars: []variable{{"da", "Array", "label_values(vda_da_size_bytes, da)", false}},
		panels: append([]panel{
			number("Healthy", `max(vda_da_healthy{da="$da"})`, "short"),
			number("Size", `max(vda_da_size_bytes{da="$da"})`, "bytes"),
			number("Bought", `max(vda_da_physical_bytes{da="$da"})`, "bytes"),
			number("In use", `max(vda_da_used_bytes{da="$da"}) / max(vda_da_space_bytes{da="$da"})`, "percentunit"),
			number("To be copied", `max(vda_da_lack_bytes{da="$da"})`, "bytes"),
			number("Hosts' controllers", `sum(vda_host_connections{da="$da"})`, "short"),
			{title: "State", unit: "short", queries: []query{{`max by (state) (vda_da_state{da="$da"})`, "{{state}}"}}},
			{title: "Throttled", about: "The part of the time in which requests waited for the array's limits; vda_tgt only.", unit: "percentunit",
				queries: []query{{rate("da", "vda_da_qos_throttled_seconds_total", `da="$da"`), "{{da}}"}}},
		}, io("vda_da", "da", `da="$da"`, "{{da}}")...)},

	{name: "paths", title: "VDA host paths", vars: []variable{
		{"da", "Array", "label_values(vda_path_state, da)", false},
		{"exp", "Exporter", `label_values(vda_path_state{da="$da"}, exp)`, true},
	}, panels: append([]panel{
		{title: "State", about: "Of the paths, by node.", unit: "short", queries: []query{
			{`max by (instance, exp, state) (vda_path_state{da="$da",exp=~"$exp"})`, "{{exp}} on {{instance}}: {{state}}"}}},
		{title: "Connected hosts", about: "0: a host has lost a path.", unit: "short", queries: []query{
			{`max by (instance, exp, host) (vda_host_connections{da="$da",exp=~"$exp"})`, "{{exp}} on {{instance}}: {{host}}"}}},
	}, io("vda_path", "instance, exp", `da="$da",exp=~"$exp"`, "{{exp}} on {{instance}}")...)},
}
