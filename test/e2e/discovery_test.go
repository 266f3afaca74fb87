//go:build e2e

package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/virtual-disk-array/vda/test/verdict"
)

// TestHostDiscovers: Linux's host finds its controllers by a portal's discovery service: it is let in
// to two arrays of three, gets all paths to both with one command and one address, and nothing else.
func TestHostDiscovers(plain *testing.T) {
	t := verdict.New(plain)
	r := newHosts(t, "portal", "dn0", "dn1", "cn0", "cn1", "cn2", "host0")
	defer r.logs()
	r.run("portal", "tar -xzf vda.tar.gz -C /usr/local/bin && vda_db --action create --db-uri "+sqliteURI)
	r.startControlPlane()
	for server := range manyDNs {
		r.startNode(server)
	}
	for server := range manyCNs {
		r.startNode(server)
	}
	r.registerMany()
	r.run("host0", "modprobe nvme-tcp")
	const vda = "vda_cli --addr-port 192.168.0.11:9520 "
	script, finder := "set -e\n", strings.TrimSpace(r.run("host0", "cat /etc/nvme/hostnqn"))
	for i, nqn := range []string{finder, "nqn.2016-06.io.spdk:other", finder} {
		da := fmt.Sprint("da", i)
		script += vda + "da create " + da + " --cntlr-cnt 2 --da-size 8M\n" + vda + "exp create " + da + "/exp --initiator-nqn " + nqn + "\n"
	}
	r.run("portal", script)
	exps := []string{"vda-exp-da0-exp", "vda-exp-da2-exp"}
	const at = " -t tcp -a 192.168.0.11 -s 8009"
	log := r.run("host0", "nvme discover"+at)
	for _, e := range exps {
		if n := strings.Count(log, "nqn.2016-06.io.spdk:"+e+"\n"); n != pathsOfEach {
			t.Errorf("nvme discover shows %d paths to %s, want %d:\n%s", n, e, pathsOfEach, log)
		}
	}
	if strings.Contains(log, "da1") {
		t.Errorf("nvme discover shows what is another host's:\n%s", log)
	}
	r.run("host0", "nvme connect-all"+at+patientOptions)
	const live = "for c in /sys/class/nvme/nvme*; do echo $(cat $c/state) $(cat $c/subsysnqn) $(cat $c/address); done"
	r.waitFor("host0", fmt.Sprintf("[ $(%s | grep -c '^live .*:vda-exp-da[02]-exp ') = %d ]", live, len(exps)*pathsOfEach), 90*time.Second)
	now := r.run("host0", live)
	if strings.Count(now, "\n") != len(exps)*pathsOfEach {
		t.Errorf("nvme connect-all has made\n%s", now)
	}
	fmt.Printf("nvme connect-all has made\n%s", now)
	for _, e := range exps {
		d := device("nqn.2016-06.io.spdk:" + e)
		r.waitFor("host0", "test -b \""+d+"\"", 30*time.Second)
		r.run("host0", "dd if=/dev/urandom of="+d+" bs=1M count=1 oflag=direct 2>&1")
	}
}
