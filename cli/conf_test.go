package cli

import (
	"strings"
	"testing"

	"github.com/virtual-disk-array/vda/portal/portaltest"
)

// TestPoint5Confs: flags give what a conf holds, so that nobody writes JSON; the two
// forms exclude each other.
func TestPoint5Confs(t *testing.T) {
	c := portaltest.New(t)
	u := &user{t, c.Portal()}
	c.Agent("dn0:9720")
	c.Agent("dn1:9720")
	c.Agent("cn0:9820")
	u.ok("dn create --dn-name dn0:9720 --traddr 192.168.0.14 --trsvcid 4420")
	u.ok("dn create --dn-name dn1:9720 --traddr fd00::1 --trsvcid 4420")
	u.ok("cn create --cn-name cn0:9820 --traddr 192.168.0.16 --trsvcid 4430")
	c.Agent("cn1:9820")
	u.ok("cn create --cn-name cn1:9820 --traddr 192.168.0.17 --trsvcid 4430 --backend-traddr 10.3.0.17 --backend-trsvcid 4431")
	u.ok("cn modify --cn-name cn0:9820 --new-backend-traddr fd00::16 --new-backend-trsvcid 4431")
	u.ok("pd create --dn-name dn0:9720 --pd-name pd0 --type malloc --size 128M")
	u.ok("pd create --dn-name dn1:9720 --pd-name pd0 --type malloc --size 128M --cluster-size 1M")
	u.ok("da create --da-name da0 --da-size 8M --stripe-count 2 --stripe-size 128K")
	u.ok("da create --da-name da1 --da-size 8M --stripe-size 4K")
	u.ok("dn modify --dn-name dn1:9720 --new-location rack2")
	for line, want := range map[string]string{
		"dn get --dn-name dn0:9720 -o jsonpath={.dn_msg.dn_listener_conf}":         `{"trtype":"tcp","traddr":"192.168.0.14","adrfam":"ipv4","trsvcid":"4420"}`,
		"dn get --dn-name dn1:9720 -o jsonpath={.dn_msg.dn_listener_conf}":         `{"trtype":"tcp","traddr":"fd00::1","adrfam":"ipv6","trsvcid":"4420"}`,
		"cn get --cn-name cn0:9820 -o jsonpath={.cn_msg.cn_listener_conf}":         `{"trtype":"tcp","traddr":"192.168.0.16","adrfam":"ipv4","trsvcid":"4430"}`,
		"cn get --cn-name cn1:9820 -o jsonpath={.cn_msg.cn_backend_listener_conf}": `{"trtype":"tcp","traddr":"10.3.0.17","adrfam":"ipv4","trsvcid":"4431"}`,
		"cn get --cn-name cn0:9820 -o jsonpath={.cn_msg.cn_backend_listener_conf}": `{"trtype":"tcp","traddr":"fd00::16","adrfam":"ipv6","trsvcid":"4431"}`,
		"pd get --dn-name dn0:9720 --pd-name pd0 -o jsonpath={.pd_msg.pd_conf}":    `{"type":"malloc","size":134217728}`,
		"pd get --dn-name dn1:9720 --pd-name pd0 -o jsonpath={.pd_msg.pd_conf}":    `{"type":"malloc","size":134217728,"cluster_size":1048576}`,
		"da get --da-name da0 -o jsonpath={.da_msg.da_conf}":                       `{"stripe_count":2,"stripe_size_kb":128}`,
		"da get --da-name da1 -o jsonpath={.da_msg.da_conf}":                       `{"stripe_size_kb":4}`,
	} {
		if out, _ := u.ok(line); strings.TrimSpace(out) != want {
			t.Errorf("%s prints %s, want %s", line, out, want)
		}
	}
	u.ok("cn modify --cn-name cn0:9820 --new-location rack1")
	conf := `'{"trtype":"tcp","traddr":"192.168.0.14","adrfam":"ipv4","trsvcid":"4420"}'`
	for line, says := range map[string]string{
		`dn create --dn-name x:1`:                                                            "--dn-listener-conf is required, or --traddr and --trsvcid instead",
		"dn create --dn-name x:1 --traddr 10.0.0.1":                                          "--trsvcid is required with --traddr",
		"dn create --dn-name x:1 --trsvcid 4420":                                             "--traddr is required with --trsvcid",
		"dn create --dn-name x:1 --traddr host --trsvcid 4420":                               `--traddr "host": it must be an IP address`,
		"dn create --dn-name x:1 --traddr 10.0.0.1 --trsvcid 1 --dn-listener-conf " + conf:   "--traddr and --dn-listener-conf say the same",
		"cn modify --cn-name cn0:9820 --new-traddr 10.0.0.1 --new-cn-listener-conf " + conf:  "--new-traddr and --new-cn-listener-conf",
		"cn modify --cn-name cn0:9820 --new-backend-traddr 10.0.0.1":                         "--new-backend-trsvcid is required with",
		"pd create --dn-name dn0:9720 --pd-name pd1":                                         "--pd-conf is required, or --type instead",
		"pd create --dn-name dn0:9720 --pd-name pd1 --path /dev/sdb":                         "--type is required with --path",
		"pd create --dn-name dn0:9720 --pd-name pd1 --type disk --path /dev/sdb":             `--type "disk": it must be malloc, aio or nvme`,
		"pd create --dn-name dn0:9720 --pd-name pd1 --type malloc --size 1X":                 "--size",
		"da create --da-name x --da-size 8M --stripe-count 0":                                "1 or more",
		"da create --da-name x --da-size 8M --stripe-size 100":                               `--stripe-size "100": it must be a power of two`,
		`da create --da-name x --da-size 8M --stripe-count 2 --da-conf '{"stripe_count":2}'`: "--stripe-count and --da-conf say the same",
	} {
		if _, errs, exit := u.run(line); exit != exitUsage || !strings.Contains(errs, says) {
			t.Errorf("%s: exit %d, %s", line, exit, errs)
		}
	}
	// What the portal alone knows it still says.
	_, errs, exit := u.run("da create --da-name x --da-size 8M --stripe-size 5K")
	if exit != exitRefused || !strings.Contains(errs, "stripe_size_kb") {
		t.Errorf("exit %d, %s", exit, errs)
	}
}
