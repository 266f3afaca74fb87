package cli

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/store"
)

// TestPoint10Lists: objects have labels and descriptions and are found by them; a list says that
// it goes on, and --all follows all its pages.
func TestPoint10Lists(t *testing.T) {
	c, u := well(t)
	u.ok("da create da1 --da-size 8M --label env=prod --label owner=ann --description 'orders of 2026'")
	if out, _ := u.ok("da list --label env=prod -o table --columns name,labels,description --no-headers"); out !=
		"da1  env=prod,owner=ann  orders of 2026\n" {
		t.Errorf("found by its label: %q", out)
	}

	const events = most + 50 // more than the largest page
	c.Change(func(tx store.Tx) error {
		for i := range events {
			err := tx.Record(vda.Event{Kind: vda.EventDiskFault, Object: "pd", Name: "pd0", Parent: "dn0:9720", Text: fmt.Sprint(i)})
			if err != nil {
				return err
			}
		}
		return nil
	})
	list := func(out string) (texts []string, next string) {
		var reply struct {
			List []struct{ Text string } `json:"event_msg_list"`
			Next string                  `json:"next_token"`
		}
		if err := json.Unmarshal([]byte(out), &reply); err != nil {
			t.Fatalf("%v in\n%s", err, out)
		}
		for _, e := range reply.List {
			texts = append(texts, e.Text)
		}
		return texts, reply.Next
	}
	const note = "vda_cli: note: these are not all; --all lists as many as there are, --limit and --token a page\n"
	out, errs := u.ok("event list -o json --kind disk_fault")
	texts, next := list(out)
	if len(texts) != 100 || next == "" || errs != note {
		t.Errorf("a page of %d with the token %q, and %q", len(texts), next, errs)
	}
	for _, line := range []string{"event list -o json --limit 2", "event list -o json --kind disk_fault --token " + next, "da list"} {
		if _, errs := u.ok(line); errs != "" {
			t.Errorf("%s: %s", line, errs)
		}
	}
	out, errs = u.ok("event list -o json --kind disk_fault --all")
	texts, next = list(out)
	slices.Sort(texts)
	if len(slices.Compact(texts)) != events || next != "" || errs != "" {
		t.Errorf("all: %d, the token %q, %q", len(texts), next, errs)
	}
	if strings.Count(out, "req_id\": \"") != 1+events || strings.Count(out, "reply_info") != 1 {
		t.Errorf("the replies are not one:\n%.300s", out)
	}
	if out, _ = u.ok("event list --kind disk_fault --all"); strings.Count(out, "\n") != 1+events || strings.Contains(out, "more:") {
		t.Errorf("all as a table: %d lines", strings.Count(out, "\n"))
	}
	if out, _ = u.ok("da list --all -o name"); out != "da0\nda1\n" {
		t.Errorf("all arrays: %q", out)
	}
	_, errs, exit := u.run("da list --all --limit 5")
	if exit != exitUsage || !strings.Contains(errs, "--all and --limit 5 exclude each other") {
		t.Errorf("exit %d, %s", exit, errs)
	}
}

// TestTablesOfEvents: events and alerts have columns to choose from, as objects do.
func TestTablesOfEvents(t *testing.T) {
	c, u := well(t)
	if out, _ := u.ok("alert list"); out != "No alert.\n" {
		t.Errorf("alert list of none: %q", out)
	}
	c.Change(func(tx store.Tx) error {
		n, err := tx.NodeByName(vda.DiskNode, "dn1:9720")
		if err != nil {
			return err
		}
		if _, err := tx.UpsertAlert(vda.Alert{Code: vda.AlertNodeDown, Object: "dn", Name: "dn1:9720", Text: "it is on fire",
			Since: time.Unix(1_700_000_000, 0)}); err != nil {
			return err
		}
		return tx.SetHealth(store.ObjDN, n.ID, vda.Health{Error: true, Msg: "it is on fire"})
	})
	const raised = "2023-11-14T22:13:20Z  error  node_down  dn dn1:9720  it is on fire\n"
	for line, want := range map[string]string{
		"alert list -o table --columns object,code --no-headers":                          "dn dn1:9720  node_down\n",
		"alert list --columns severity":                                                   "SEVERITY\nerror\n",
		"alert list --no-headers":                                                         raised,
		"event list --limit 1 --object da -o table --columns kind,object,method":          "KIND    OBJECT  METHOD\nchange  da da0  CreateDa\n",
		"event list --object da --limit 1 -o wide --columns object,severity --no-headers": "da da0  info\n",
	} {
		if out, _ := u.ok(line); out != want {
			t.Errorf("%s prints %q, want %q", line, out, want)
		}
	}
	if out, _ := u.ok("event list --object da -o wide"); !strings.Contains(out, "REQ-ID") {
		t.Errorf("event list -o wide:\n%s", out)
	}
}
