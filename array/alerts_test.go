package array_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/array"
	"github.com/virtual-disk-array/vda/store"
)

// TestFindAlerts: what is wrong is found, and what an administrator has so on purpose is not;
// but an array whose data cannot be read always is.
func TestFindAlerts(t *testing.T) {
	c := newCluster(t)
	c.update(insertMirrored)
	ill := vda.Health{Error: true, Msg: "no answer"}
	leg := func(id string, f func(v *vda.VD)) func(tx store.Tx) error {
		return func(tx store.Tx) error {
			v, err := tx.VD(id)
			if err != nil {
				return err
			}
			f(v)
			return tx.UpdateVD(v)
		}
	}
	health := func(o store.Object, id string, h vda.Health) func(tx store.Tx) error {
		return func(tx store.Tx) error { return tx.SetHealth(o, id, h) }
	}
	node := func(k vda.NodeKind, id string, online bool) func(tx store.Tx) error {
		return func(tx store.Tx) error {
			n, err := tx.Node(k, id)
			if err != nil {
				return err
			}
			n.Online = online
			return tx.UpdateNode(k, n)
		}
	}
	cache := func(is vda.WriteCache, accepted string) func(tx store.Tx) error {
		return func(tx store.Tx) error {
			p, err := tx.PD(pd(2))
			if err != nil {
				return err
			}
			p.WriteCache, p.Conf = is, `{"type":"aio","filename":"/srv/disk"}`
			if accepted != "" {
				p.Conf = `{"type":"aio","filename":"/srv/disk","volatile_cache":"` + accepted + `"}`
			}
			return tx.UpdatePD(p)
		}
	}
	for _, step := range []struct {
		what string
		do   func(tx store.Tx) error
		want string
	}{
		{"all is well", func(store.Tx) error { return nil }, ""},
		{"a leg is stale", leg("d", func(v *vda.VD) { v.Role = vda.Stale }), "da_degraded da m, da_not_whole da m"},
		{"its dn goes offline", node(vda.DiskNode, dn(2), false), ""},
		{"and is down", health(store.ObjDN, dn(2), ill), ""},
		{"the last member is not well", health(store.ObjVD, "c", ill), "da_degraded da m, da_not_whole da m"},
		{"it is", health(store.ObjVD, "c", vda.Health{}), ""},
		{"the dn is back online", node(vda.DiskNode, dn(2), true), "da_degraded da m, da_not_whole da m, node_down dn dn2"},
		{"it is well", health(store.ObjDN, dn(2), vda.Health{}), "da_degraded da m, da_not_whole da m"},
		{"the leg is copied to", leg("d", func(v *vda.VD) { v.Role = vda.Target }), "da_not_whole da m"},
		{"it is a member", leg("d", func(v *vda.VD) { v.Role = vda.Member }), ""},
		{"a group is joining", insertJoining, ""},
		{"a leg of it is not there", health(store.ObjVD, "x", ill), ""},
		{"nor is the other", health(store.ObjVD, "y", ill), ""},
		{"a pd", health(store.ObjPD, pd(3), ill), "pd_faulty pd dn3/pd"},
		{"its dn too", health(store.ObjDN, dn(3), ill), "node_down dn dn3"},
		{"both well", health(store.ObjDN, dn(3), vda.Health{}), "pd_faulty pd dn3/pd"},
		{"the dn goes offline", node(vda.DiskNode, dn(3), false), ""},
		{"another pd's cache is volatile, and flushed", cache(vda.CacheFlushed, ""), ""},
		{"nobody flushes it", cache(vda.CacheNotFlushed, ""), "pd_not_flushed pd dn2/pd"},
		{"who made the pd knows", cache(vda.CacheNotFlushed, vda.CacheAccepted), ""},
		{"it is memory", cache(vda.CacheMemory, ""), ""},
		{"a secondary", func(tx store.Tx) error {
			if err := tx.SetHealth(store.ObjCntlr, "m-s", ill); err != nil {
				return err
			}
			return tx.SetHealth(store.ObjDA, "m", ill)
		}, "da_error da m"},
		{"its cn goes offline", node(vda.ControllerNode, cn(1), false), ""},
		{"the primary too", health(store.ObjCntlr, "m-p", ill), "da_error da m"},
		{"whose cn goes offline", node(vda.ControllerNode, cn(0), false), "da_error da m"},
	} {
		c.update(step.do)
		var got []string
		if err := c.View(t.Context(), func(tx store.Reader) error {
			found, err := array.FindAlerts(tx)
			for _, a := range found {
				got = append(got, a.FullName())
			}
			return err
		}); err != nil {
			t.Fatal(err)
		}
		if is := strings.Join(got, ", "); is != step.want {
			t.Errorf("%s: %q, want %q", step.what, is, step.want)
		}
	}
}

// TestSettleAlerts: what was not there is recorded as raised, what has gone as ended, once; a
// text that has changed is neither.
func TestSettleAlerts(t *testing.T) {
	c := newCluster(t)
	a := vda.Alert{Code: vda.AlertPDFaulty, Object: "pd", Name: "dn0/pd0", Text: "I/O error"}
	b := vda.Alert{Code: vda.AlertSpaceLow, Text: "1 of 100 bytes are free"}
	other := b
	other.Text = "2 of 100 bytes are free"
	for _, found := range [][]vda.Alert{{a}, {a, b}, {a, other}, {a, other}, {other}, {}} {
		c.update(func(tx store.Tx) error { return array.SettleAlerts(tx, found) })
		c.update(func(tx store.Tx) error {
			is, err := tx.Alerts()
			if len(is) != len(found) || len(is) > 0 && is[len(is)-1].Text != found[len(found)-1].Text {
				t.Errorf("there are %+v, want %+v", is, found)
			}
			return err
		})
	}
	want := []string{"alert_raised pd dn0/pd0: pd_faulty: I/O error", "alert_raised  : space_low: 1 of 100 bytes are free",
		"alert_cleared pd dn0/pd0: pd_faulty: I/O error", "alert_cleared  : space_low: 2 of 100 bytes are free"}
	if got := c.history(); !slices.Equal(got, want) {
		t.Errorf("events\n%q, want\n%q", got, want)
	}
}
