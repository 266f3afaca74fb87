//go:build e2e

package chaos

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/virtual-disk-array/vda/test/verdict"
)

// primaryNow is the machine of the primary as the control plane has it: a
// primary that hangs still looks optimized to the host.
func (c *cluster) primaryNow(t *verdict.T) *machine {
	t.Helper()
	out, err := c.cli(t.Context(), "da get --da-name da0")
	if err != nil {
		t.Fatal(err)
	}
	var reply struct {
		DaMsg struct {
			CntlrMsgList []struct {
				CnName  string `json:"cn_name"`
				Primary bool   `json:"primary"`
			} `json:"cntlr_msg_list"`
		} `json:"da_msg"`
	}
	if err := json.Unmarshal(out, &reply); err != nil {
		t.Fatal(err)
	}
	var found *machine
	for _, cntlr := range reply.DaMsg.CntlrMsgList {
		for _, m := range c.order {
			if !cntlr.Primary || m.kind != "cn" || m.agent() != cntlr.CnName {
				continue
			}
			if found != nil {
				t.Fatalf("two primaries: %s", out)
			}
			found = m
		}
	}
	if found == nil {
		t.Fatalf("no primary: %s", out)
	}
	return found
}

// term is the array's, as SQL has it.
func (c *cluster) term(t *verdict.T) int {
	t.Helper()
	out, err := c.sql(t.Context(), "select term from vda.vda_da where name = 'da0'")
	n, bad := strconv.Atoi(strings.TrimSpace(string(out)))
	if err != nil || bad != nil {
		t.Fatalf("term: %q %v", out, err)
	}
	return n
}

// served waits until another machine than the one given is primary and the
// host's I/O flows.
func (c *cluster) served(t *verdict.T, not *machine, limit time.Duration) *machine {
	t.Helper()
	for end := time.Now().Add(limit); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		if m := c.primaryNow(t); m != not && c.flows(c.host.now()) {
			return m
		}
	}
	t.Fatalf("%s stays primary, or I/O stands still: %+v", not.name, c.host.now())
	return nil
}

// TestHungNodesMove stops one primary's data plane, the next one's agent, and
// both of the third for 40 s. Each time the array moves, all other controllers
// follow, and the return of the three at once does no harm.
func TestHungNodesMove(plain *testing.T) {
	t := verdict.New(plain)
	c := start(t, clusterConfig{Cntlrs: 4, Exps: 1})
	var thaw []func()
	primary := c.primaryNow(t)
	for i := range 3 {
		processes := []*process{primary.plane, primary.daemon}
		begin := time.Now()
		for j, p := range processes {
			if i == 2 || i == j {
				t.Logf("SIGSTOP %s", p.name)
				fn := p.freeze()
				t.Cleanup(fn)
				thaw = append(thaw, fn)
			}
		}
		next := c.served(t, primary, 25*time.Second)
		w, _ := c.host.worst(begin, time.Now())
		t.Logf("%s is primary, longest I/O %.3f s", next.name, w.End.Sub(w.Start).Seconds())
		primary = next
	}
	term := c.term(t)
	time.Sleep(40 * time.Second)
	begin := time.Now()
	for _, fn := range thaw {
		fn()
	}
	if !c.whole(recovery) {
		t.Errorf("the nodes do not come back: %+v", c.host.now())
	}
	w, _ := c.host.worst(begin, time.Now())
	t.Logf("all paths back after %.3f s, longest I/O %.3f s", time.Since(begin).Seconds(), w.End.Sub(w.Start).Seconds())
	if m := c.primaryNow(t); m != primary || c.term(t) != term {
		t.Errorf("their return moved the array from %s to %s, term %d to %d", primary.name, m.name, term, c.term(t))
	}
	finish(t, c)
}

// TestSwitchesKeepSnapshots switches an array a dozen times under load, with
// two snapshots of its volume. The media must keep them.
func TestSwitchesKeepSnapshots(plain *testing.T) {
	t := verdict.New(plain)
	c := start(t, clusterConfig{Cntlrs: 3, Exps: 2, Spare: 2 * daBytes})
	lvols := func(m *machine) []string {
		out, err := c.output(t.Context(), m, "/root/vda_rpc -s /tmp/sock bdev_lvol_get_lvols")
		var all []struct{ Alias string }
		if err == nil {
			err = json.Unmarshal(out, &all)
		}
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, l := range all {
			names = append(names, l.Alias)
		}
		return names
	}
	at := c.primaryNow(t)
	vol := lvols(at)
	if len(vol) != 1 {
		t.Fatalf("lvols on %s: %q", at.name, vol)
	}
	lvs, _, _ := strings.Cut(vol[0], "/")
	for i := range 2 {
		if _, err := c.output(t.Context(), at, fmt.Sprintf("/root/vda_rpc -s /tmp/sock bdev_lvol_snapshot --lvol-name %s --snapshot-name snap%d",
			vol[0], i)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
	}
	for i := range 12 {
		if _, err := c.cli(t.Context(), "da failover --da-name da0"); err != nil {
			t.Fatalf("switch %d: %v", i, err)
		}
		next := c.served(t, at, 10*time.Second)
		if !c.whole(recovery) {
			t.Fatalf("switch %d: not all paths come back: %+v", i, c.host.now())
		}
		have := strings.Join(lvols(next), " ")
		for _, name := range []string{lvs + "/snap0", lvs + "/snap1", vol[0]} {
			if !strings.Contains(have, name) {
				t.Fatalf("switch %d, from %s to %s: %s is lost; there are %s", i, at.name, next.name, name, have)
			}
		}
		at = next
	}
	finish(t, c)
}

// TestStalledMonitorDoesNoHarm stops each monitor in turn for longer than its
// lease. The other one takes over, moves an array whose primary is killed
// meanwhile, and what the first one knew when it wakes up moves nothing.
func TestStalledMonitorDoesNoHarm(plain *testing.T) {
	t := verdict.New(plain)
	c := start(t, clusterConfig{Cntlrs: 2, Exps: 1})
	time.Sleep(8 * time.Second) // both monitors have their share of the nodes
	for _, name := range []string{"monitor0", "monitor1"} {
		thaw := c.machines[name].daemon.freeze()
		t.Cleanup(thaw)
		time.Sleep(12 * time.Second) // the lease is 5 s; the other one waits for it to end
		at, term := c.primaryNow(t), c.term(t)
		begin := time.Now()
		at.plane.kill(2 * time.Second)
		next := c.served(t, at, 20*time.Second)
		w, _ := c.host.worst(begin, time.Now())
		t.Logf("%s stalled: %s took over from %s, longest I/O %.3f s", name, next.name, at.name, w.End.Sub(w.Start).Seconds())
		if pause := w.End.Sub(w.Start); pause > 5*time.Second {
			t.Errorf("%s stalled: nobody cared for %s for %v", name, at.name, pause)
		}
		thaw()
		time.Sleep(10 * time.Second)
		if m, now := c.primaryNow(t), c.term(t); m != next || now != term+1 {
			t.Errorf("%s stalled: term %d at %s; %s woke up with term %d at %s, not %d at %s", name, term, at.name, name, now,
				m.name, term+1, next.name)
		}
		if !c.whole(recovery) {
			t.Fatalf("not all paths come back: %+v", c.host.now())
		}
	}
	finish(t, c)
}
