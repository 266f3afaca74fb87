package cli

import (
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/store"
)

// TestPoint8Events: what happened is listed, the last first, and shown as it happens; what
// users did is told apart.
func TestPoint8Events(t *testing.T) {
	c, u := well(t)
	c.Change(func(tx store.Tx) error {
		return tx.Record(vda.Event{Kind: vda.EventDiskFault, Object: "pd", Name: "pd0", Parent: "dn0:9720", Text: "I/O error"})
	})
	out, _ := u.ok("event list")
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if !regexp.MustCompile(`^TIME +SEVERITY +KIND +OBJECT +WHAT$`).MatchString(lines[0]) ||
		!regexp.MustCompile(`^20\S+Z +error +disk_fault +pd dn0:9720/pd0 +I/O error$`).MatchString(lines[1]) ||
		!regexp.MustCompile(`^20\S+Z +info +change +da da0 +CreateDa by a user at 127\.0\.0\.1:\d+: da_name=da0 cntlr_cnt=2 `).MatchString(lines[2]) {
		t.Errorf("event list:\n%s", out)
	}
	out, _ = u.ok("event list --severity error --since 1h --object pd --kind disk_fault")
	if strings.Count(out, "\n") != 2 || !strings.Contains(out, "I/O error") {
		t.Errorf("event list with all filters:\n%s", out)
	}
	if out, _ = u.ok("event list --severity error --name da0"); out != "No event.\n" {
		t.Errorf("event list of none: %q", out)
	}
	out, _ = u.ok("event list --limit 1")
	token := regexp.MustCompile(`more: --token (\d+)`).FindStringSubmatch(out)
	if token == nil {
		t.Fatalf("event list --limit 1 does not say that there is more:\n%s", out)
	}
	if out, _ = u.ok("event list --limit 1 --token " + token[1]); !strings.Contains(out, "CreateDa") {
		t.Errorf("the second page:\n%s", out)
	}
	out, _ = u.ok("audit list --name da0 -o json")
	var audit struct {
		List []struct{ Method, Object, Kind string } `json:"event_msg_list"`
	}
	if err := json.Unmarshal([]byte(out), &audit); err != nil || len(audit.List) != 1 || audit.List[0].Method != "CreateDa" {
		t.Errorf("audit list: %v, %v\n%s", audit, err, out)
	}
	if out, _ = u.ok("audit list"); strings.Contains(out, "disk_fault") || strings.Count(out, "CreatePd") != 2 {
		t.Errorf("audit list:\n%s", out)
	}
	out, _ = u.ok("event watch --after 0 --limit 2")
	if lines := strings.Split(strings.TrimSpace(out), "\n"); len(lines) != 2 || !strings.Contains(lines[0], "CreateDn by a user") {
		t.Errorf("event watch:\n%s", out)
	}
	out, _ = u.ok("event watch --after 0 --limit 2 -o json --object cn")
	for dec := json.NewDecoder(strings.NewReader(out)); dec.More(); {
		var e struct{ Object string }
		if err := dec.Decode(&e); err != nil || e.Object != "cn" {
			t.Errorf("event watch -o json: %v\n%s", err, out)
			break
		}
	}
	if _, errs, exit := u.run("event watch --severity bad"); exit != exitRefused || !strings.Contains(errs, `severity is "bad"`) {
		t.Errorf("event watch --severity bad: exit %d, %s", exit, errs)
	}
}

// TestEventsDoc: docs/events.md has all kinds, with their severity and meaning.
func TestEventsDoc(t *testing.T) {
	b, err := os.ReadFile("../docs/events.md")
	if err != nil {
		t.Fatal(err)
	}
	var want strings.Builder
	want.WriteString("| kind | severity | it means |\n|---|---|---|\n")
	for _, k := range vda.EventKinds {
		want.WriteString("| `" + string(k.Kind) + "` | " + string(k.Severity) + " | " + k.Means + " |\n")
	}
	if !strings.Contains(string(b), want.String()) {
		t.Errorf("docs/events.md does not have this table:\n%s", want.String())
	}
}
