package cli

import (
	"regexp"
	"strings"
	"testing"

	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/portal/portaltest"
)

// TestPoint5Discover: pd discover shows which disks of a node are free and why others are not, so that
// pd create needs no guess: what it prints of a free one makes a pd.
func TestPoint5Discover(t *testing.T) {
	c := portaltest.New(t)
	u := &user{t, c.Portal()}
	dn := c.Agent("dn0:9720")
	u.ok("dn create --dn-name dn0:9720 --traddr 192.168.0.14 --trsvcid 4420")
	dn.Has(
		&apiv1.Disk{Path: "/dev/disk/by-id/ata-A_1", Device: "/dev/sdb", Kind: "disk", Size: 64 << 20, Model: "A", Serial: "1", State: "free"},
		&apiv1.Disk{Path: "/dev/sda", Device: "/dev/sda", Kind: "disk", Size: 1 << 40, State: "used",
			Why: "/dev/sda is in use: it is mounted at /"},
		&apiv1.Disk{Path: "/dev/sdc", Device: "/dev/sdc", Kind: "disk", Size: 64 << 20, State: "data", Why: "it carries an XFS file system"},
	)
	for _, line := range []string{"pd discover --dn-name dn0:9720 -o table", "pd discover dn0:9720", "pd discover dn0:9720 -o table"} {
		out, _ := u.ok(line)
		for _, want := range []string{`PATH +STATE +SIZE +KIND +MODEL +PD +WHY`, `/dev/disk/by-id/ata-A_1 +free +64 MiB +disk +A +- +-`,
			`/dev/sda +used +1 TiB +disk +- +- +/dev/sda is in use: it is mounted at /`, `/dev/sdc +data .* it carries an XFS file system`} {
			if !regexp.MustCompile(want).MatchString(out) {
				t.Errorf("%s does not show %s:\n%s", line, want, out)
			}
		}
	}
	if out, _ := u.ok("pd discover dn0:9720 -o wide"); !regexp.MustCompile(`/dev/sdb +1\n`).MatchString(out) {
		t.Errorf("wide:\n%s", out)
	}
	if out, _ := u.ok("pd discover dn0:9720 -o name"); out != "/dev/disk/by-id/ata-A_1\n" {
		t.Errorf("the free ones are %q", out)
	}
	conf, _ := u.ok("pd discover dn0:9720 -o jsonpath={.disk_msg_list[*].pd_conf}")
	conf = strings.TrimSpace(conf)
	if conf != `{"type":"aio","filename":"/dev/disk/by-id/ata-A_1"}` {
		t.Fatalf("the conf of the free one is %q", conf)
	}
	u.ok("pd create dn0:9720/pd0 --pd-conf '" + conf + "'")
	pd := strings.TrimSpace(first(u.ok("pd get dn0:9720/pd0 -o jsonpath={.pd_msg.pd_id}")))

	// It is a pd's now, whether the node says so already or by another name.
	if out, _ := u.ok("pd discover dn0:9720"); !regexp.MustCompile(`ata-A_1 +pd .* pd0 +it is the disk of pd pd0`).MatchString(out) {
		t.Errorf("a pd's disk:\n%s", out)
	}
	dn.Has(&apiv1.Disk{Path: "/dev/sdx", Device: "/dev/sdx", State: "pd", Why: "it is the disk of pd pd0", PdId: pd})
	if out, _ := u.ok("pd discover dn0:9720 -o jsonpath={.disk_msg_list[0].pd_name}{.disk_msg_list[0].pd_conf}"); out != "pd0\n" {
		t.Errorf("%q", out)
	}
	dn.Has()
	if out, _ := u.ok("pd discover dn0:9720"); out != "No disk.\n" {
		t.Errorf("%q", out)
	}

	dn.Stop()
	for line, says := range map[string]string{"pd discover dn0:9720": "dn dn0:9720: agent not reachable",
		"pd discover dn9:9720": `there is no dn "dn9:9720"`} {
		if _, errs, exit := u.run(line); exit == 0 || exit == exitUsage || !strings.Contains(errs, says) {
			t.Errorf("%s: exit %d, %s", line, exit, errs)
		}
	}
}

func first(s, _ string) string { return s }
