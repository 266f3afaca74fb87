package cli

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/portal/portaltest"
	"github.com/virtual-disk-array/vda/store"
)

// well makes a cluster that is well: nodes, a monitor and an array.
func well(t *testing.T) (*portaltest.Cluster, *user) {
	t.Helper()
	c := portaltest.New(t)
	u := &user{t, c.Portal()}
	c.Populate(c.Dial(u.addr), 2, 2)
	c.Agent("mon0:9620")
	c.Change(func(tx store.Tx) error {
		_, err := tx.BeatMonitor("m0", "mon0:9620")
		return err
	})
	u.ok("da create --da-name da0 --cntlr-cnt 2 --da-size 16M")
	return c, u
}

// TestPoint1Status: status answers whether all is well, and exits with 1 when not.
func TestPoint1Status(t *testing.T) {
	c, u := well(t)
	out, _ := u.ok("status")
	for _, want := range []string{"The cluster is well.\nIt is plain: anyone who reaches a port can give orders",
		"  dn       2   0", "  dn0:9720", "  all",
		"  healthy  1       16 MiB", "  cn0:9820  ", "  monitor"} {
		if !strings.Contains(out, want) {
			t.Errorf("status does not show %q:\n%s", want, out)
		}
	}
	c.Change(func(tx store.Tx) error {
		n, err := tx.NodeByName(vda.DiskNode, "dn1:9720")
		if err != nil {
			return err
		}
		return tx.SetHealth(store.ObjDN, n.ID, vda.Health{Error: true, Msg: "it is on fire"})
	})
	for _, line := range []string{"status", "status -o json", "status -o yaml", "status -o table"} {
		out, errs, exit := u.run(line)
		if exit != exitRefused || !strings.Contains(out, "dn dn1:9720: it is on fire") || !strings.Contains(errs, "not well: 1 problem") {
			t.Errorf("%s of a cluster that is not well: exit %d, %s\n%s", line, exit, errs, out)
		}
	}
	out, _, _ = u.run("status -o json")
	var reply struct {
		Status struct {
			Well     bool     `json:"well"`
			Problems []string `json:"problem_list"`
		} `json:"status_msg"`
	}
	if err := json.Unmarshal([]byte(out), &reply); err != nil || reply.Status.Well || len(reply.Status.Problems) != 1 {
		t.Errorf("as JSON: %v %+v\n%s", err, reply, out)
	}
	if _, errs, exit := u.run("status --addr-port 127.0.0.1:1"); exit != exitUnreachable || !strings.Contains(errs, "127.0.0.1:1") {
		t.Errorf("without a portal: exit %d, %s", exit, errs)
	}
}

// TestAlertsAreOfTheStatus: status shows alerts with since when they are, and a cluster that has
// one is not well.
func TestAlertsAreOfTheStatus(t *testing.T) {
	c, u := well(t)
	c.Change(func(tx store.Tx) error {
		_, err := tx.UpsertAlert(vda.Alert{Code: vda.AlertSpaceLow, Text: "1 of 100 bytes are free", Since: time.Unix(1_700_000_000, 0)})
		return err
	})
	out, errs, exit := u.run("status")
	if exit != exitRefused || !strings.Contains(errs, "not well: 1 alert") ||
		!strings.Contains(out, "2023-11-14T22:13:20Z  warning   space_low          1 of 100 bytes are free") {
		t.Errorf("exit %d, %s\n%s", exit, errs, out)
	}
	out, _, exit = u.run("status -o json")
	var reply struct {
		Status struct {
			Well   bool `json:"well"`
			Alerts []struct {
				Code  string `json:"code"`
				Since string `json:"since"`
			} `json:"alert_msg_list"`
		} `json:"status_msg"`
	}
	if err := json.Unmarshal([]byte(out), &reply); err != nil || exit != exitRefused || reply.Status.Well || len(reply.Status.Alerts) != 1 ||
		reply.Status.Alerts[0].Code != "space_low" || reply.Status.Alerts[0].Since != "2023-11-14T22:13:20Z" {
		t.Errorf("as JSON: exit %d, %v %+v\n%s", exit, err, reply, out)
	}
}

// TestPoint12Version: one command tells the version of every program.
func TestPoint12Version(t *testing.T) {
	c, u := well(t)
	c.Agent("cn1:9820").Stop()
	out, _ := u.ok("version")
	for _, want := range []string{"client", "portal", "monitor", "dn agent    dn0:9720", "cn agent    cn0:9820", "data plane",
		"commit ", "not known: "} {
		if !strings.Contains(out, want) {
			t.Errorf("version does not show %q:\n%s", want, out)
		}
	}
	if out, _ := u.ok("version -o json"); !json.Valid([]byte(out)) || !strings.Contains(out, `"version_msg_list"`) {
		t.Errorf("as JSON:\n%s", out)
	}
	if out, _ := u.ok("--version"); !strings.HasPrefix(out, "vda_cli ") || !strings.Contains(out, "commit") {
		t.Errorf("--version: %s", out)
	}
}

func TestShortSizes(t *testing.T) {
	for n, want := range map[uint64]string{0: "0 B", 999: "999 B", 1000: "0.98 KiB", 1 << 20: "1 MiB", 16 << 20: "16 MiB", 3 << 29: "1.50 GiB",
		1<<40 - 1: "1.00 TiB", 123 << 30: "123 GiB"} {
		if got := short(n); got != want {
			t.Errorf("%d is %q, want %q", n, got, want)
		}
	}
}
