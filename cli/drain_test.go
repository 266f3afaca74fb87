package cli

import (
	"strings"
	"testing"
	"time"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/store"
)

// TestPoint11Drain: cn drain takes a cn out of placement and waits until its primaries have left;
// what cannot leave ends it with the reason; cn undrain takes the cn back.
func TestPoint11Drain(t *testing.T) {
	c, u := well(t)
	u.ok("exp create da0/exp0 --initiator-nqn nqn.2016-06.io.spdk:host0")
	u.ok("da create --da-name lone --da-size 4M")
	out, _ := u.ok("da get lone -o jsonpath={.da_msg.primary_cn}")
	lone := strings.TrimSpace(out)
	other := map[string]string{"cn0:9820": "cn1:9820", "cn1:9820": "cn0:9820"}[lone]

	_, errs, exit := u.run("cn drain " + lone + " --wait=1ns")
	if exit != 1 || !strings.Contains(errs, "controllers are left") || !strings.Contains(errs, "was not waited for any longer") {
		t.Errorf("no monitor moves it: exit %d, %s", exit, errs)
	}
	// The monitor moves da0, which failover does here.
	if out, _ = u.ok("da get da0 -o jsonpath={.da_msg.primary_cn}"); strings.TrimSpace(out) == lone {
		u.ok("da failover da0 --to-cn " + other)
	}
	defer func(d time.Duration) { stuckTime = d }(stuckTime)
	stuckTime = time.Millisecond
	_, errs, exit = u.run("cn drain " + lone + " --wait")
	if exit != 1 || !strings.Contains(errs, "1 controllers cannot leave now, and are tried again: "+
		"da lone: the array has one controller only") {
		t.Errorf("an array with one controller: exit %d, %s", exit, errs)
	}
	if out, _ := u.ok("cn list -o table --columns name,state"); !strings.Contains(out, lone+"  leaving") ||
		!strings.Contains(out, other+"  up") {
		t.Errorf("cn list:\n%s", out)
	}
	if out, _ := u.ok("status"); !strings.Contains(strings.Join(strings.Fields(out), " "), "cn 2 0 1 1") {
		t.Errorf("status:\n%s", out)
	}
	_, errs, exit = u.run("cn modify " + lone + " --new-online true")
	if exit != 1 || !strings.Contains(errs, "cn undrain ends that") {
		t.Errorf("online beside a drain: exit %d, %s", exit, errs)
	}
	u.ok("da delete lone")
	if out, errs := u.ok("cn drain " + lone + " --wait"); errs != "" || !strings.Contains(out, `"drain_left_cnt": 0`) ||
		!strings.Contains(out, `"online": false`) {
		t.Errorf("all primaries have left: %s%s", errs, out)
	}
	// Nothing more can leave: the other cn has a controller of da0.
	_, errs, exit = u.run("cn drain " + lone + " --cntlrs --wait")
	if exit != 1 || !strings.Contains(errs, "da da0: no other cn is online and well, without a controller of the array") {
		t.Errorf("no place for a successor: exit %d, %s", exit, errs)
	}
	// The path is needed while the primary is not well.
	c.Change(func(tx store.Tx) error {
		n, err := tx.NodeByName(vda.ControllerNode, other)
		if err != nil {
			return err
		}
		return tx.SetHealth(store.ObjCN, n.ID, vda.Health{Error: true, Msg: "it is on fire"})
	})
	_, errs, exit = u.run("cn drain " + lone + " --wait")
	if exit != 1 || !strings.Contains(errs, "da da0: cn "+other+", where its primary is, is not well: it is on fire") {
		t.Errorf("the primary is not well: exit %d, %s", exit, errs)
	}
	if out, _ := u.ok("cn undrain " + lone); !strings.Contains(out, `"online": true`) || !strings.Contains(out, `"drain": false`) {
		t.Errorf("cn undrain:\n%s", out)
	}
	if out, _, _ := u.run("__complete cn drain cn"); !strings.HasPrefix(out, "cn0:9820\ncn1:9820\n") {
		t.Errorf("completed: %q", out)
	}
}
