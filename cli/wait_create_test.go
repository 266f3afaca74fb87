package cli

import (
	"strings"
	"testing"
	"time"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/portal/portaltest"
	"github.com/virtual-disk-array/vda/store"
)

// TestPoint8Wait: a create with --wait returns when what is made can be used; it tells what is
// lacking meanwhile, and ends with the error of what stays ill.
func TestPoint8Wait(t *testing.T) {
	c := portaltest.New(t)
	u := &user{t, c.Portal()}
	defer func(d time.Duration) { stuckTime = d }(stuckTime)
	stuckTime = time.Millisecond
	late := func(line, says string) {
		t.Helper()
		out, errs, exit := u.run(line + " --wait=1ns")
		if exit != 1 || !strings.Contains(errs, says) || !strings.Contains(errs, "was not waited for any longer") ||
			!strings.Contains(out, `"reply_code": 13`) {
			t.Errorf("%s: exit %d, %s%s", line, exit, errs, out)
		}
	}
	ill := func(line, says string) {
		t.Helper()
		out, errs, exit := u.run(line + " --wait")
		if exit != 1 || !strings.Contains(errs, says) || !strings.Contains(out, `"reply_code": 8`) {
			t.Errorf("%s: exit %d, %s%s", line, exit, errs, out)
		}
	}
	heard := func(k vda.NodeKind, name string) {
		t.Helper()
		c.Change(func(tx store.Tx) error {
			n, err := tx.NodeByName(k, name)
			if err != nil {
				return err
			}
			n.DataPlaneVersion = "vda_tgt"
			return tx.UpdateNode(k, n)
		})
	}
	c.Agent("dn0:9720")
	c.Agent("cn0:9820")
	// The monitors hear nodes, of which there is none here.
	dn, cn := "dn create dn0:9720 --traddr 192.168.0.14 --trsvcid 4420", "cn create cn0:9820 --traddr 192.168.0.15 --trsvcid 4421"
	late(dn, "dn dn0:9720 has not been heard by a monitor")
	late(cn, "cn cn0:9820 has not been heard by a monitor")
	heard(vda.DiskNode, "dn0:9720")
	heard(vda.ControllerNode, "cn0:9820")

	if out, errs := u.ok("pd create dn0:9720/pd0 --type malloc --size 128M --wait"); errs != "" || strings.Contains(out, `"total_size": 0`) {
		t.Errorf("pd create: %s%s", errs, out)
	}
	if _, errs := u.ok("da create da0 --da-size 4M --wait"); errs != "" {
		t.Errorf("da create: %s", errs)
	}
	if out, errs := u.ok("exp create da0/exp0 --initiator-nqn nqn.2016-06.io.spdk:host0 --wait"); errs != "" ||
		strings.Contains(out, `"error": true`) {
		t.Errorf("exp create: %s%s", errs, out)
	}
	c.Change(func(tx store.Tx) error {
		n, err := tx.NodeByName(vda.ControllerNode, "cn0:9820")
		if err != nil {
			return err
		}
		return tx.SetHealth(store.ObjCN, n.ID, vda.Health{Error: true, Msg: "it is on fire"})
	})
	ill("exp create da0/exp1 --initiator-nqn nqn.2016-06.io.spdk:host1",
		"exp exp1 of da da0 is made, and is not well: its path by cn cn0:9820: ")
}
