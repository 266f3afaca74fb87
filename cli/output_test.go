package cli

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/virtual-disk-array/vda"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/store"
)

// TestPoint3Lists: lists show health, capacity, where primaries are, paths and ages.
func TestPoint3Lists(t *testing.T) {
	c, u := well(t)
	u.ok("exp create --da-name da0 --exp-name exp0 --initiator-nqn nqn.2016-06.io.spdk:host0")
	u.ok("da create --da-name thin0 --da-size 16M --physical-size 8M")
	u.ok("snap create --da-name thin0 --snap-name monday")
	for line, heads := range map[string]string{
		"dn list":   "NAME STATE LOCATION LISTENER PDS SIZE FREE PROBLEM",
		"cn list":   "NAME STATE LOCATION LISTENER CONTROLLERS PRIMARIES PROBLEM",
		"pd list":   "DN NAME STATE DISK SIZE FREE VDS AGE PROBLEM",
		"da list":   "NAME STATE SIZE PHYSICAL REDUNDANCY PRIMARY PATHS AGE PROBLEM",
		"exp list":  "DA NAME STATE PATHS HOST CNS AGE",
		"snap list": "DA NAME STATE SIZE HOLDS WRITABLE AGE PROBLEM",
	} {
		out, _ := u.ok(line + " -o table")
		first, rest, _ := strings.Cut(out, "\n")
		state := either(line == "snap list", "  taken  ", "  up  ")
		if strings.Join(strings.Fields(first), " ") != heads || !strings.Contains(rest, state) {
			t.Errorf("%s:\n%s", line, out)
		}
	}
	c.Change(func(tx store.Tx) error {
		n, err := tx.NodeByName(vda.ControllerNode, "cn1:9820")
		if err != nil {
			return err
		}
		return tx.SetHealth(store.ObjCN, n.ID, vda.Health{Error: true, Msg: "gone", Since: time.Now().Add(-3 * time.Hour)})
	})
	for line, want := range map[string]string{
		"cn list -o table":                       "gone (for 3h)",
		"da list -o table":                       "1/2",
		"exp list -o table":                      "degraded  1/2",
		"dn list -o wide":                        "DATA-PLANE",
		"dn list -o table --columns name,labels": "NAME      LABELS\n",
		"da list -o wide":                        "stripe_count=1",
	} {
		if out, _ := u.ok(line); !strings.Contains(out, want) {
			t.Errorf("%s does not show %q:\n%s", line, want, out)
		}
	}
	out, _ := u.ok("da get --da-name da0")
	if !strings.Contains(out, `"primary_cn": "cn0:9820"`) && !strings.Contains(out, `"primary_cn": "cn1:9820"`) {
		t.Errorf("da get does not show where the primary is:\n%s", out)
	}
}

// TestPoint4Output: no JSON in cells, and every other way to print a reply.
func TestPoint4Output(t *testing.T) {
	_, u := well(t)
	u.ok("exp create --da-name da0 --exp-name exp0 --initiator-nqn nqn.2016-06.io.spdk:host0")
	u.ok(`da create --da-name da1 --da-size 16M --da-conf '{"stripe_count":2,"stripe_size_kb":64}'`)
	for _, line := range []string{"dn list", "cn list", "pd list", "da list", "exp list", "dn get --dn-name dn0:9720", "da get --da-name da1",
		"exp get --da-name da0 --exp-name exp0", "pd get --dn-name dn0:9720 --pd-name pd0"} {
		for _, o := range []string{"table", "wide"} {
			if out, _ := u.ok(line + " -o " + o); strings.Contains(out, "{") || len(out) < 50 {
				t.Errorf("%s -o %s:\n%s", line, o, out)
			}
		}
	}
	for line, want := range map[string]string{
		"dn list -o name": "dn0:9720\ndn1:9720\n",
		"pd list -o name": "dn0:9720/pd0\ndn1:9720/pd0\n",
		"exp get --da-name da0 --exp-name exp0 -o name":                        "da0/exp0\n",
		"dn list -o jsonpath={.dn_msg_list[*].dn_name}":                        "dn0:9720 dn1:9720\n",
		"dn list -o jsonpath={.dn_msg_list[-1].dn_name}":                       "dn1:9720\n",
		"da list -o jsonpath={.da_msg_list[?(@.da_name=='da1')].da_size}":      "16777216\n",
		"da list -o jsonpath={.da_msg_list[?(@.da_size!=1)].thin}":             "false false\n",
		"da get --da-name da0 -o jsonpath={.da_msg['da_name']}:{.nothing}":     "da0:\n",
		`dn list -o 'jsonpath={range .dn_msg_list[*]}{.dn_name}{"\n"}{end}'`:   "dn0:9720\ndn1:9720\n",
		"da list -o table --columns name,paths --no-headers":                   "da0  2/2\nda1  1/1\n",
		"da list -o table --columns state":                                     "STATE\nup\nup\n",
		"dn list -o jsonpath={.dn_msg_list[?(@.online==false)].dn_name}":       "\n",
		"da get --da-name da0 -o jsonpath={$.da_msg.exp_name_list[0]}":         "exp0\n",
		"da get --da-name da0 -o jsonpath=name={.da_msg.da_name},{.x[0][*].y}": "name=da0,\n",
	} {
		if out, _ := u.ok(line); out != want {
			t.Errorf("%s prints %q, want %q", line, out, want)
		}
	}
	for line, says := range map[string]string{
		"dn list -o xml":                   "json, yaml, table, wide, name or jsonpath",
		"dn list -o jsonpath":              "jsonpath={PATH}",
		"dn list -o jsonpath={.a":          "not closed",
		"dn list -o jsonpath={.a[x]}":      "[x] must be a number",
		"dn list -o jsonpath={end}":        "{end}",
		"dn list -o jsonpath={a}":          "begin with a dot",
		"dn list -o table --columns x":     `no column "x"; there are name, state`,
		"da get --da-name da0 --columns x": "one object",
		"dn list -o 'jsonpath={range .x}'": "no {end}",
	} {
		if _, errs, exit := u.run(line); exit != exitUsage || !strings.Contains(errs, says) {
			t.Errorf("%s: exit %d, %s", line, exit, errs)
		}
	}
	// JSON stays the default.
	if out, _ := u.ok("dn list"); !json.Valid([]byte(out)) {
		t.Errorf("dn list is not JSON:\n%s", out)
	}
}

func TestAges(t *testing.T) {
	for d, want := range map[time.Duration]string{-time.Hour: "0s", 90 * time.Second: "90s", 3 * time.Minute: "3m", 26 * time.Hour: "26h",
		80 * time.Hour: "3d"} {
		if got := age(d); got != want {
			t.Errorf("%v is %q, want %q", d, got, want)
		}
	}
	// A version 7 UUID of 2025-11-12, and one that is not of that version.
	defer func() { now = time.Now }()
	now = func() time.Time { return time.UnixMilli(0x019ac5b8f9f0).Add(72 * time.Hour) }
	if got := ageOf("019ac5b8f9f07d0c8a54d1c3b2a19e01"); got != "3d" {
		t.Errorf("age %q", got)
	}
	for _, id := range []string{"019ac5b8f9f04d0c8a54d1c3b2a19e01", "", "xyz"} {
		if got := ageOf(id); got != "" {
			t.Errorf("age of %q is %q", id, got)
		}
	}
}

// TestBrief: what a table shows of a conf.
func TestBrief(t *testing.T) {
	for conf, want := range map[string]string{
		`{"trtype":"tcp","traddr":"192.168.0.14","adrfam":"ipv4","trsvcid":"4420"}`: "tcp://192.168.0.14:4420",
		`{"trtype":"tcp","traddr":"fd00::1","adrfam":"ipv6","trsvcid":"4420"}`:      "tcp://[fd00::1]:4420",
		`{"type":"aio","filename":"/dev/sdb"}`:                                      "aio:/dev/sdb",
		`{"type":"nvme","traddr":"0000:5e:00.0"}`:                                   "nvme:0000:5e:00.0",
		`{"type":"malloc","size":134217728}`:                                        "malloc",
		`{"stripe_size_kb":64,"stripe_count":2}`:                                    "stripe_count=2 stripe_size_kb=64",
		`no JSON`:                                                                   "no JSON", ``: "", `[]`: "[]", `null`: "null",
	} {
		if got := brief(conf); got != want {
			t.Errorf("%s is %q, want %q", conf, got, want)
		}
	}
	if got := limitsOf(&apiv1.DaMsg{RwIosPerSec: 2000, RMbytesPerSec: 100}); got != "2000 IOPS, 100 MiB/s read" {
		t.Errorf("limits: %q", got)
	}
}
