//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/virtual-disk-array/vda/test/verdict"
)

// TestMirroredArray has a Linux host run fio with verification on ext4 on an array that
// becomes mirrored, loses a dn and gets it back, leaves a dn that is drained, and loses a dn
// together with its primary's node. fio must see no error, and ext4 must be clean in the
// end, and the legs equal.
func TestMirroredArray(plain *testing.T) {
	t := verdict.New(plain)
	dns, cns := []string{"dn0", "dn1", "dn2"}, []string{"cn0", "cn1"}
	r := newCluster(t, dns, cns, 256<<20)
	defer r.logs()
	r.waitFor("portal", cli+"da create --da-name da0 --cntlr-cnt 2 --da-size 64M", 60*time.Second)
	r.run("portal", cli+"exp create --da-name da0 --exp-name exp0 --initiator-nqn nqn.2016-06.io.spdk:host0")
	const nqn = "nqn.2016-06.io.spdk:vda-exp-da0-exp0"
	r.run("host0", "modprobe nvme-tcp; mkdir -p /mnt")
	for _, cn := range cns {
		r.waitFor("host0", "nvme connect -t tcp -n "+nqn+" -a "+addressOf(cn)+" -s 4430 --hostnqn nqn.2016-06.io.spdk:host0"+hostOptions,
			30*time.Second)
	}
	r.waitFor("host0", "test -b \""+device(nqn)+"\"", 20*time.Second)
	r.allLive(nqn)
	r.run("host0", "mkfs.ext4 -q "+device(nqn)+" && mount "+device(nqn)+" /mnt")

	leg := func(nth int) string { // the dn of a leg that has all data
		members := r.members()
		if len(members) != 2 {
			t.Fatalf("members are on %q, not on two dns", members)
		}
		return members[nth]
	}
	for _, step := range []struct {
		name string
		do   func()
	}{
		{"none becomes mirror:2", func() { r.run("portal", cli+"da modify --da-name da0 --redundancy mirror:2 --wait=100s") }},
		{"a dn dies and is back", func() {
			dn := leg(0)
			r.die(dn)
			r.waitState("single")
			time.Sleep(2 * time.Second) // I/O goes on without it
			r.startNode(dn)
			r.waitState("full")
		}},
		{"a dn is drained", func() {
			dn := leg(1)
			r.run("portal", cli+"dn drain --wait=100s --dn-name "+addressOf(dn)+":9720")
			if now := r.members(); slices.Contains(now, dn) {
				t.Errorf("%s is drained, and has a leg still: %q", dn, now)
			}
			r.run("portal", cli+"dn undrain --dn-name "+addressOf(dn)+":9720")
		}},
		{"the primary and a dn die", func() {
			dn, cn := leg(0), r.primary("da0")
			r.die(dn)
			r.die(cn)
			r.waitState("single")
			r.startNode(dn)
			r.startNode(cn)
			r.waitState("full")
		}},
	} {
		begin := time.Now()
		r.startFio("ext4", "/mnt/file", "24m", 15*time.Second)
		time.Sleep(2 * time.Second)
		step.do()
		done := time.Since(begin)
		pause, ios := r.endFio("ext4")
		fmt.Printf("%-28s %6d I/O, longest %.3f s; done after %.1f s\n", step.name, ios, pause.Seconds(), done.Seconds())
		if pause > 40*time.Second { // the machine may be busy
			t.Errorf("%s: I/O took %v", step.name, pause)
		}
		r.waitState("full")
		r.allLive(nqn)
	}
	r.run("host0", "umount /mnt && fsck.ext4 -f -n "+device(nqn))
	if out := r.run("host0", "dmesg | grep -E 'I/O error|EXT4-fs error|Buffer I/O' || true"); out != "" {
		t.Errorf("the host's kernel says: %s", out)
	}
	r.run("portal", cli+"da scrub --da-name da0 --wait=60s")
	out := r.run("portal", cli+"da get --da-name da0")
	if !strings.Contains(out, `"state": "done"`) || strings.Contains(out, `"error": true`) {
		t.Errorf("after a scrub: %s", out)
	}
}

// newCluster starts a portal, a monitor, and nodes, each with a disk of its own; a Linux host is
// there beside them.
func newCluster(t *verdict.T, dns, cns []string, disk int) *rack {
	t.Helper()
	r := newHosts(t, slices.Concat([]string{"portal", "host0"}, dns, cns)...)
	r.plan = r.plan.OnDisks()
	r.hosts["cli"] = r.hosts["portal"]
	r.run("portal", "tar -xzf vda.tar.gz -C /usr/local/bin && vda_db --action create --db-uri "+sqliteURI)
	r.startControlPlane()
	script := "set -e; export VDA_PORTAL=192.168.0.11:9520\n"
	for _, server := range slices.Concat(dns, cns) {
		r.startNode(server)
		kind, a, port, svc := server[:2], addressOf(server), "9720", "4420"
		if kind == "cn" {
			port, svc = "9820", "4430"
		}
		script += fmt.Sprintf("vda_cli %[1]s create --%[1]s-name %[2]s:%[3]s --location %[2]s --%[1]s-listener-conf "+
			`'{"trtype":"tcp","traddr":"%[2]s","adrfam":"ipv4","trsvcid":"%[4]s"}'`+"\n", kind, a, port, svc)
		if kind == "dn" {
			script += "vda_cli pd create --dn-name " + a + ":9720 --pd-name pd0 --pd-conf '" +
				fmt.Sprintf(`{"type":"aio","filename":"/root/disk","size":%d}`, disk) + "'\n"
		}
	}
	r.run("portal", script)
	return r
}

// die kills a node's processes. What is started next waits for what has not gone yet.
func (r *rack) die(server string) {
	r.t.Helper()
	r.run(server, "kill -9 $(pidof vda_tgt spdk_tgt vda_dn_agent vda_cn_agent)")
}

// waitState waits until an array is as whole as that.
func (r *rack) waitState(state string) {
	r.t.Helper()
	r.waitFor("portal", cli+"da get --da-name da0 | tee /tmp/da | grep -q '\"redundancy_state\": \""+state+"\"' || { cat /tmp/da; exit 1; }",
		100*time.Second)
}

// members are the dns with legs that have all data and stay.
func (r *rack) members() (dns []string) {
	r.t.Helper()
	var reply struct {
		DaMsg struct {
			GrpMsgList []struct {
				VdMsgList []struct {
					DnName string `json:"dn_name"`
					Role   string `json:"role"`
				} `json:"vd_msg_list"`
			} `json:"grp_msg_list"`
		} `json:"da_msg"`
	}
	out := r.run("portal", cli+"da get --da-name da0")
	if err := json.Unmarshal([]byte(out), &reply); err != nil {
		r.t.Fatal(err)
	}
	for _, g := range reply.DaMsg.GrpMsgList {
		for _, v := range g.VdMsgList {
			for _, a := range addresses {
				if v.Role == "member" && v.DnName == a.address+":9720" {
					dns = append(dns, a.name)
				}
			}
		}
	}
	return dns
}
