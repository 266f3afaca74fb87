package cli

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"
)

// TestPoint2Connect: an exporter says how its hosts connect, for a shell, for nvme
// connect-all and for fstab.
func TestPoint2Connect(t *testing.T) {
	_, u := well(t)
	u.ok("exp create da0/exp0 --initiator-nqn nqn.2016-06.io.spdk:host0")
	nqn, _ := u.ok("exp get da0/exp0 -o jsonpath={.exp_msg.exp_nqn}")
	nqn = strings.TrimSpace(nqn)
	out, _ := u.ok("exp connect da0/exp0")
	lines := strings.Split(strings.TrimSpace(out), "\n")
	line := regexp.MustCompile(`^nvme connect -t tcp -a [0-9.]+ -s [0-9]+ -n ` + regexp.QuoteMeta(nqn) +
		` --hostnqn nqn\.2016-06\.io\.spdk:host0 --ctrl-loss-tmo=-1 --reconnect-delay=[12]$`)
	if len(lines) != 2 || lines[0] == lines[1] || !line.MatchString(lines[0]) || !line.MatchString(lines[1]) {
		t.Errorf("for a shell:\n%s", out)
	}
	u.ok("exp modify da0/exp0 --add-initiator-nqn nqn.2016-06.io.spdk:host1")
	if out, _ = u.ok("exp connect da0/exp0"); !strings.Contains(out, "# also let in: --hostnqn nqn.2016-06.io.spdk:host1\n") {
		t.Errorf("for a shell, of two hosts:\n%s", out)
	}
	out, _ = u.ok("exp connect da0/exp0 --as nvme-json")
	var hosts []struct {
		Hostnqn    string
		Subsystems []struct {
			Nqn   string
			Ports []struct{ Transport, Traddr, Trsvcid string }
		}
	}
	if err := json.Unmarshal([]byte(out), &hosts); err != nil || len(hosts) != 2 || hosts[1].Hostnqn != "nqn.2016-06.io.spdk:host1" ||
		len(hosts[1].Subsystems) != 1 || hosts[1].Subsystems[0].Nqn != nqn || len(hosts[1].Subsystems[0].Ports) != 2 ||
		hosts[1].Subsystems[0].Ports[0].Transport != "tcp" || !strings.Contains(lines[0], hosts[0].Subsystems[0].Ports[0].Traddr) {
		t.Errorf("for nvme connect-all: %v\n%s", err, out)
	}
	out, _ = u.ok("exp connect da0/exp0 --as fstab")
	if !regexp.MustCompile(`^/dev/disk/by-id/nvme-uuid\.[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12} /mnt/da0 auto _netdev,nofail 0 2\n$`).
		MatchString(out) {
		t.Errorf("for fstab: %s", out)
	}
	if out, _ = u.ok("exp connect da0/exp0 -o json"); !strings.Contains(out, `"ns_uuid": "`) {
		t.Errorf("as JSON:\n%s", out)
	}
	// What the tutorial shows of an exporter stays as it is.
	if out, _ = u.ok("exp get da0/exp0"); strings.Contains(out, "ns_uuid") {
		t.Errorf("exp get:\n%s", out)
	}
	u.ok("da create thin0 --da-size 16M --physical-size 8M")
	u.ok("snap create thin0/monday")
	u.ok("exp create thin0/exp1 --snap-name monday --initiator-nqn nqn.2016-06.io.spdk:host0")
	if out, _ = u.ok("exp connect thin0/exp1 --as fstab"); !strings.Contains(out, " /mnt/thin0-monday auto ro,_netdev,nofail ") {
		t.Errorf("of a snapshot: %s", out)
	}
	_, errs, exit := u.run("exp connect da0/exp0 --as xml")
	if exit != exitUsage || !strings.Contains(errs, "one of shell, nvme-json, fstab") {
		t.Errorf("exit %d, %s", exit, errs)
	}
}
