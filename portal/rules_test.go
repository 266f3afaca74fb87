package portal_test

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/virtual-disk-array/vda"
)

// series are metrics by name, with the labels that they have there, and values as promtool
// reads them.
type series map[string]string

// ruleCases are for each alert what makes its rule fire, with the labels that the alert then
// has, and what does not, though it is close.
var ruleCases = map[vda.AlertCode]struct {
	fires  series
	labels string
	quiet  []series
}{
	vda.AlertPlain: {fires: series{`vda_cluster_secured{instance="a"}`: "0x300"},
		quiet: []series{{`vda_cluster_secured{instance="a"}`: "1x300"}}},
	vda.AlertNoDatabase: {fires: series{`vda_cluster_readable{instance="a"}`: "0x300", `vda_cluster_readable{instance="b"}`: "0x300"},
		quiet: []series{{`vda_cluster_readable{instance="a"}`: "0x300", `vda_cluster_readable{instance="b"}`: "1x300"}}},
	vda.AlertDAError: {fires: series{`vda_da_healthy{da="da0"}`: "0x300", `vda_da_healthy{da="da1"}`: "1x300"}, labels: "da: da0",
		quiet: []series{{`vda_da_healthy{da="da0"}`: "1x300"}, {`vda_da_healthy{da="da0"}`: "0 1 0 1 0 1 0 1x300"}}},
	vda.AlertDASpaceFull: {labels: "da: da0",
		fires: series{`vda_da_used_bytes{da="da0"}`: "95x300", `vda_da_space_bytes{da="da0"}`: "100x300", `vda_da_thin{da="da0"}`: "1x300"},
		quiet: []series{
			{`vda_da_used_bytes{da="da0"}`: "95x300", `vda_da_space_bytes{da="da0"}`: "100x300", `vda_da_thin{da="da0"}`: "0x300"},
			{`vda_da_used_bytes{da="da0"}`: "94x300", `vda_da_space_bytes{da="da0"}`: "100x300", `vda_da_thin{da="da0"}`: "1x300"}}},
	vda.AlertDASpaceLow: {labels: "da: da0",
		fires: series{`vda_da_used_bytes{da="da0"}`: "80x300", `vda_da_space_bytes{da="da0"}`: "100x300", `vda_da_thin{da="da0"}`: "1x300"},
		quiet: []series{
			{`vda_da_used_bytes{da="da0"}`: "79x300", `vda_da_space_bytes{da="da0"}`: "100x300", `vda_da_thin{da="da0"}`: "1x300"}}},
	vda.AlertDADegraded: {fires: series{`vda_da_state{da="da0",state="single"}`: "1x300"}, labels: "da: da0",
		quiet: []series{{`vda_da_state{da="da0",state="rebuilding"}`: "1x300"}, {`vda_da_state{da="da0",state="healthy"}`: "1x300"}}},
	vda.AlertDANotWhole: {fires: series{`vda_da_state{da="da0",state="degraded"}`: "1x100 0x3000", `vda_da_state{da="da0",state="rebuilding"}`: "0x100 1x3000"},
		labels: "da: da0", quiet: []series{{`vda_da_state{da="da0",state="healthy"}`: "1x6000"}, {`vda_da_state{da="da0",state="rebuilding"}`: "1x2000 0x4000"}}},
	vda.AlertNodeDown: {labels: "kind: dn, node: d",
		fires: series{`vda_node_healthy{kind="dn",node="d"}`: "0x300", `vda_node_online{kind="dn",node="d"}`: "1x300",
			`vda_dn_draining{node="d"}`: "0x300"},
		quiet: []series{
			{`vda_node_healthy{kind="cn",node="d"}`: "0x300", `vda_node_online{kind="cn",node="d"}`: "0x300"},
			{`vda_node_healthy{kind="dn",node="d"}`: "0x300", `vda_node_online{kind="dn",node="d"}`: "1x300",
				`vda_dn_draining{node="d"}`: "1x300"}}},
	vda.AlertPDFaulty: {labels: "node: d, pd: p", fires: faulty(1, 1, 1, 0),
		quiet: []series{faulty(0, 1, 1, 0), faulty(1, 0, 1, 0), faulty(1, 1, 0, 0), faulty(1, 1, 1, 1)}},
	vda.AlertUnflushed: {labels: "node: d, pd: p",
		fires: series{`vda_pd_not_flushed{node="d",pd="p"}`: "1x300", `vda_pd_not_flushed{node="d",pd="q"}`: "0x300"},
		quiet: []series{{`vda_pd_not_flushed{node="d",pd="p"}`: "0x300"}}},
	vda.AlertNoMonitor: {fires: series{"vda_monitors": "1x300", "vda_monitor_last_beat_timestamp_seconds": "0x300"},
		quiet: []series{{"vda_monitors": "1x300", "vda_monitor_last_beat_timestamp_seconds": "0+15x300"}}},
	vda.AlertSpaceLow: {
		fires: series{`vda_pd_free_bytes{node="d",pd="p"}`: "9x300", `vda_pd_size_bytes{node="d",pd="p"}`: "100x300"},
		quiet: []series{{`vda_pd_free_bytes{node="d",pd="p"}`: "0x300", `vda_pd_size_bytes{node="d",pd="p"}`: "100x300",
			`vda_pd_free_bytes{node="e",pd="p"}`: "20x300", `vda_pd_size_bytes{node="e",pd="p"}`: "100x300"}}},
	vda.AlertVersions: {labels: "kind: dn",
		fires: series{`vda_node_info{kind="dn",node="d",data_plane="1"}`: "1x300", `vda_node_info{kind="dn",node="e",data_plane="2"}`: "1x300"},
		quiet: []series{{`vda_node_info{kind="dn",node="d",data_plane="1"}`: "1x300",
			`vda_node_info{kind="cn",node="e",data_plane="2"}`: "1x300"}}},
}

// faulty is a pd in error, and whether its dn is well and online, it is online, and the dn drained.
func faulty(dnWell, dnOnline, online, drains int) series {
	return series{`vda_pd_healthy{node="d",pd="p"}`: "0x300", `vda_node_healthy{kind="dn",node="d"}`: fmt.Sprint(dnWell, "x300"),
		`vda_node_online{kind="dn",node="d"}`: fmt.Sprint(dnOnline, "x300"), `vda_pd_online{node="d",pd="p"}`: fmt.Sprint(online, "x300"),
		`vda_dn_draining{node="d"}`: fmt.Sprint(drains, "x300")}
}

// TestRulesFire has Prometheus's own promtool read the rules, and try them: each fires when it
// should, not a step before the time that it waits, and not for what is close.
func TestRulesFire(t *testing.T) {
	promtool, err := exec.LookPath("promtool")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("promtool is not installed: test/setup.sh installs it")
		}
		t.Skip("promtool is not installed: test/setup.sh installs it")
	}
	rules, err := filepath.Abs("../docs/vda.rules.yml")
	if err != nil {
		t.Fatal(err)
	}
	const step = 15 * time.Second
	var b strings.Builder
	fmt.Fprintf(&b, "rule_files: [%q]\nevaluation_interval: %v\ntests:\n", rules, step)
	try := func(k vda.AlertCode, in series, at time.Duration, expect string) {
		fmt.Fprintf(&b, "  - name: %q\n    interval: %v\n    input_series:\n", fmt.Sprint(k, " at ", at), step)
		for _, name := range slices.Sorted(maps.Keys(in)) {
			fmt.Fprintf(&b, "      - {series: '%s', values: '%s'}\n", name, in[name])
		}
		fmt.Fprintf(&b, "    alert_rule_test:\n      - {eval_time: %v, alertname: VDA_%s, exp_alerts: [%s]}\n", at, k, expect)
	}
	for _, k := range vda.AlertKinds {
		c, ok := ruleCases[k.Code]
		if !ok || len(c.quiet) == 0 {
			t.Errorf("the rule of %s is tried by nothing", k.Code)
			continue
		}
		labels := "severity: " + string(k.Severity)
		if c.labels != "" {
			labels += ", " + c.labels
		}
		fired := fmt.Sprintf("{exp_labels: {%s}, exp_annotations: {summary: '%s'}}", labels, k.Means)
		wrong := time.Duration(0) // since when it is
		if k.Code == vda.AlertNoMonitor {
			wrong = time.Minute + step
		}
		hold := k.Code.Hold().Truncate(step)
		try(k.Code, c.fires, wrong+hold, fired)
		if hold > 0 {
			try(k.Code, c.fires, wrong+hold-step, "")
		}
		for _, q := range c.quiet {
			try(k.Code, q, 2*hold+time.Minute, "")
		}
	}
	file := filepath.Join(t.TempDir(), "rules.test.yml")
	if err := os.WriteFile(file, []byte(b.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(promtool, "check", "rules", rules).CombinedOutput(); err != nil {
		t.Errorf("promtool check rules: %v\n%s", err, out)
	}
	if out, err := exec.Command(promtool, "test", "rules", file).CombinedOutput(); err != nil {
		t.Errorf("promtool test rules: %v\n%s", err, out)
	}
}
