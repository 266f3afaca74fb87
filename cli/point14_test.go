package cli

import (
	"regexp"
	"strings"
	"testing"

	"github.com/virtual-disk-array/vda/portal/portaltest"
)

// TestPoint14NodeNames: a node has a name of its own, which stays when its agent moves; the
// form of old, the address as the name, goes on.
func TestPoint14NodeNames(t *testing.T) {
	c := portaltest.New(t)
	u := &user{t, c.Portal()}
	for _, addr := range []string{"192.0.2.1:9720", "192.0.2.2:9720", "192.0.2.3:9820", "192.0.2.4:9820"} {
		c.Agent(addr)
	}
	for _, line := range []string{
		"dn create dn0 --dn-addr 192.0.2.1:9720 --traddr 192.0.2.1 --trsvcid 4420",
		"dn create --dn-name 192.0.2.2:9720 --traddr 192.0.2.2 --trsvcid 4420",
		"cn create --cn-name cn0 --cn-addr 192.0.2.3:9820 --traddr 192.0.2.3 --trsvcid 4430",
		"cn create 192.0.2.4:9820 --cn-addr 192.0.2.4:9820 --traddr 192.0.2.4 --trsvcid 4430",
		"pd create dn0/pd0 --type malloc --size 128M",
		"pd create 192.0.2.2:9720/pd0 --type malloc --size 128M",
		"da create da0 --cntlr-cnt 2 --da-size 32M --stripe-count 2 --stripe-size 64K",
	} {
		if _, errs, exit := u.run(line); exit != 0 || strings.Contains(errs, "could not be brought up to date") {
			t.Fatalf("%s: exit %d\n%s", line, exit, errs)
		}
	}
	shown := func(line string, want ...string) {
		t.Helper()
		out, _ := u.ok(line)
		for _, w := range want {
			if !strings.Contains(out, w) {
				t.Errorf("%s does not show %q:\n%s", line, w, out)
			}
		}
	}
	shown("dn list -o name", "192.0.2.2:9720\ndn0\n")
	shown("dn list -o table --columns NAME,AGENT --no-headers", "192.0.2.2:9720  192.0.2.2:9720\n", "dn0             192.0.2.1:9720\n")
	shown("dn get dn0", `"dn_name": "dn0"`, `"dn_addr": "192.0.2.1:9720"`)
	shown("cn get cn0", `"cn_name": "cn0"`, `"cn_addr": "192.0.2.3:9820"`)
	shown("cn get 192.0.2.4:9820", `"cn_name": "192.0.2.4:9820"`, `"cn_addr": "192.0.2.4:9820"`)
	shown("dn describe dn0", "dn dn0  192.0.2.1:9720  ")
	shown("da get da0", `"dn_name": "dn0"`, `"cn_name": "cn0"`, `"dn_name": "192.0.2.2:9720"`)

	refused := func(line string, want ...string) {
		t.Helper()
		_, errs, exit := u.run(line)
		if exit == 0 {
			t.Errorf("%s: done", line)
		}
		for _, w := range want {
			if !strings.Contains(errs, w) {
				t.Errorf("%s: no %q in\n%s", line, w, errs)
			}
		}
	}
	refused("dn create dn9 --traddr 192.0.2.9 --trsvcid 4420", `dn_addr is missing: dn_name "dn9" is not the host:port of an agent`)
	refused("dn create dn9 --dn-addr 192.0.2.9 --traddr 192.0.2.9 --trsvcid 4420", `dn_addr "192.0.2.9" is not host:port`)
	refused("dn create 192.0.2.8:9720 --dn-addr 192.0.2.9:9720 --traddr 192.0.2.9 --trsvcid 4420",
		`dn_name "192.0.2.8:9720" is an address, and dn_addr is "192.0.2.9:9720"`)
	refused("dn create dn9 --dn-addr 192.0.2.1:9720 --traddr 192.0.2.9 --trsvcid 4420", "the agent at 192.0.2.1:9720 is that of dn dn0")
	refused("dn create --dn-name 192.0.2.1:9720 --traddr 192.0.2.9 --trsvcid 4420", "the agent at 192.0.2.1:9720 is that of dn dn0")
	refused("dn create dn0 --dn-addr 192.0.2.1:9720 --traddr 192.0.2.1 --trsvcid 4420", "dn dn0 already exists exactly as asked for")
	refused("dn create dn0 --dn-addr 192.0.2.7:9720 --traddr 192.0.2.1 --trsvcid 4420",
		"agent's address is 192.0.2.1:9720, not 192.0.2.7:9720")
	refused("dn get 192.0.2.1:9720", `there is no dn "192.0.2.1:9720"; the agent there is that of dn dn0`)
	refused("dn get 'a node'", `dn_name "a node" contains " "`)

	// Agents move: one that goes by a name, and one that went by its address.
	for _, m := range []struct{ get, modify, from, to, addr, is string }{
		{"dn get dn0", "dn modify dn0 --new-dn-addr ", "192.0.2.1:9720", "192.0.2.21:9721", "dn_addr", "dn dn0"},
		{"cn get 192.0.2.4:9820", "cn modify 192.0.2.4:9820 --new-cn-addr ", "192.0.2.4:9820", "192.0.2.24:9821", "cn_addr",
			"cn 192.0.2.4:9820"},
	} {
		refused(m.modify+m.to, m.is+" has ", "so its agent has to answer at "+m.to+" first (agent not reachable: ", "--state-dir")
		refused(m.modify+"nowhere", `new_`+m.addr+` "nowhere" is not host:port`)
		c.Agent(m.to) // which has never been the node's
		refused(m.modify+m.to, "(the agent there has never been that of the node)")
		c.Agent(m.to).Stop()
		c.Move(m.from, m.to)
		if _, errs := u.ok(m.modify + m.to); strings.Contains(errs, "could not be brought up to date") {
			t.Errorf("%s%s: %s", m.modify, m.to, errs)
		}
		shown(m.get, `"`+m.addr+`": "`+m.to+`"`, `"error": false`)
	}
	refused("dn modify dn0 --new-dn-addr 192.0.2.2:9720", "the agent at 192.0.2.2:9720 is that of dn 192.0.2.2:9720")
	for _, line := range []string{"syncup dn dn0", "syncup cn 192.0.2.4:9820", "da failover da0 --to-cn cn0",
		"da failover da0 --to-cn 192.0.2.4:9820"} {
		if _, errs := u.ok(line); strings.Contains(errs, "could not be brought up to date") {
			t.Errorf("%s: %s", line, errs)
		}
	}
	// The address that the cn left is not free for another name, which its own name is.
	refused("cn create --cn-name 192.0.2.4:9820 --traddr 192.0.2.4 --trsvcid 4430", "agent's address is 192.0.2.24:9821, not 192.0.2.4:9820")
	// A node that has nothing is told of another agent as it would be made with it.
	u.ok("dn create dn5 --dn-addr 192.0.2.5:9720 --traddr 192.0.2.5 --trsvcid 4420")
	u.ok("dn modify dn5 --new-dn-addr 192.0.2.6:9720")
	shown("dn get dn5", `"dn_addr": "192.0.2.6:9720"`)
	out, _ := u.ok("version -o json") // which asks the agents
	if !regexp.MustCompile(`"name": "dn0",\s+"version": "[^"]`).MatchString(out) {
		t.Errorf("the version of dn0's agent is not known:\n%s", out)
	}
}
