package cli

import (
	"context"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/virtual-disk-array/vda"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/portal/portaltest"
	"github.com/virtual-disk-array/vda/store"
)

// TestWait: a drain and a move are waited for until they are done, as long as a user
// wants, or until somebody ends them.
func TestWait(t *testing.T) {
	c := portaltest.New(t)
	u := &user{t, c.Portal()}
	client := c.Dial(u.addr)
	c.Populate(client, 3, 1)
	c.CanMirror()
	u.ok(`da create --da-name da0 --da-size 4M --redundancy mirror:2`)
	stdout, _ := u.ok(`da get --da-name da0`)
	leg := regexp.MustCompile(`"vd_id": "([0-9a-f]{32})"[^}]*"dn_name": "(dn[0-9]:9720)"`).FindAllStringSubmatch(stdout, -1)
	if len(leg) != 2 {
		t.Fatalf("da get:\n%s", stdout)
	}
	vd, dn := leg[0][1], leg[0][2]

	stdout, stderr, exit := u.run(`dn drain --dn-name ` + dn + ` --wait=1ns`)
	if exit != 1 || !strings.Contains(stderr, "1 vds are left, ") || !strings.Contains(stderr, "was not waited for any longer") ||
		!strings.Contains(stdout, `"reply_code": 13`) {
		t.Errorf("no monitor moves it: exit %d\n%s%s", exit, stderr, stdout)
	}
	for _, other := range []string{"dn0:9720", "dn1:9720", "dn2:9720"} {
		if other == dn || other == leg[1][2] {
			continue
		}
		if stdout, stderr := u.ok(`dn drain --dn-name ` + other + ` --wait`); stderr != "" || !strings.Contains(stdout, `"drain": true`) {
			t.Errorf("nothing is on it: %s%s", stderr, stdout)
		}
	}
	ended := func(line, want string) {
		t.Helper()
		done := make(chan struct{})
		go func() {
			defer close(done)
			_, stderr, exit := u.run(line)
			if exit != 1 || !strings.Contains(stderr, want) {
				t.Errorf("%s: exit %d, %s", line, exit, stderr)
			}
		}()
		<-done
	}
	// The rest cannot move.
	defer func(d time.Duration) { stuckTime = d }(stuckTime)
	stuckTime = time.Millisecond
	ended(`dn drain --dn-name `+dn+` --wait`, "1 vds cannot leave now, and are tried again: a leg of ")
	for _, name := range []string{"dn0:9720", "dn1:9720", "dn2:9720"} {
		u.ok(`dn undrain --dn-name ` + name)
	}

	// The move is done, which a transaction here does in place of the monitors.
	gone := func() {
		err := c.Store.Update(context.Background(), func(tx store.Tx) error {
			v, err := tx.VD(vd)
			if err != nil {
				return err
			}
			if !v.Leaving {
				return vda.Errorf(vda.Conflict, "it does not move yet")
			}
			return tx.DeleteVD(vd)
		})
		if err != nil {
			t.Error(err)
		}
	}
	u.ok(`vd move --vd-id ` + vd)
	u.ok(`vd get --vd-id ` + vd)
	ended(`vd move --vd-id `+vd+` --wait`, "is leaving already")
	gone()
	ended(`vd move --vd-id `+vd+` --wait`, "there is no vd")

	_, stderr, exit = u.run(`vd move --vd-id x --wait=soon`)
	if exit != 2 || !strings.Contains(stderr, "like 30m") {
		t.Errorf("exit %d, %s", exit, stderr)
	}
}

// TestWaitForAMove: what is said of a move on its way, and how it ends.
func TestWaitForAMove(t *testing.T) {
	for n, want := range map[uint64]string{0: "0 B", 9999: "9999 B", 10 << 10: "10 KiB", 5<<30 + 1: "5120 MiB", 1 << 63: "8192 PiB"} {
		if got := roughly(n); got != want {
			t.Errorf("%d bytes are %q, want %q", n, got, want)
		}
	}
	var s standing
	for _, d := range []struct {
		d    drained
		left string
		done bool
		err  string
	}{
		{drained{true, "vds", 2, 4096, nil}, "2 vds are left, 4096 B to be copied", false, ""},
		{ofVds(true, 2, 4096, []*apiv1.StuckVdMsg{{Reason: "no room"}}), "2 vds are left, 4096 B to be copied; 1 cannot leave now: no room",
			false, ""},
		{drained{true, "controllers", 2, 0, nil}, "2 controllers are left", false, ""},
		{drained{true, "vds", 0, 0, nil}, "", true, ""},
		{drained{false, "vds", 2, 0, nil}, "", false, "somebody has ended the drain; 2 vds were left"},
	} {
		left, done, err := s.look(d.d)
		text := ""
		if err != nil {
			text = err.Error()
		}
		if left != d.left || done != d.done || text != d.err {
			t.Errorf("%+v: %q, %v, %q", d.d, left, done, text)
		}
	}
}
