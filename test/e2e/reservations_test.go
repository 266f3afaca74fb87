//go:build e2e

package e2e

import (
	"fmt"
	"regexp"
	"strings"
	"time"
)

// reservations has two hosts, which are two identities of one Linux, fence each other by both
// controllers of an array: what nvme-cli sends by a controller's own device goes by that path alone.
func (r *rack) reservations() {
	r.t.Helper()
	nqn := nqnOf("quorum", "exp0")
	r.run("portal", cli+"da create --da-name quorum --cntlr-cnt 2 --da-size 8M --reservations")
	r.run("portal", cli+"exp create --da-name quorum --exp-name exp0 --initiator-nqn nqn.2016-06.io.spdk:node0")
	r.run("portal", cli+"exp modify --da-name quorum --exp-name exp0 --add-initiator-nqn nqn.2016-06.io.spdk:node1")
	r.run("host0", "dd if=/dev/urandom of=/tmp/block bs=4096 count=1 status=none")
	cns := []string{"cn0", "cn1"}
	paths := map[string]string{} // the device of a host's controller
	for i, h := range []string{"node0", "node1"} {
		for _, cn := range cns {
			r.waitFor("host0", fmt.Sprintf("nvme connect -t tcp -n %s -a %s -s 4430 --hostnqn nqn.2016-06.io.spdk:%s "+
				"--hostid 00000000-0000-4000-8000-00000000000%d%s", nqn, addressOf(cn), h, i, hostOptions), 30*time.Second)
			out := r.waitFor("host0", fmt.Sprintf(`for c in /sys/class/nvme/nvme*; do
if [ "$(cat $c/subsysnqn)" = %s ] && [ "$(cat $c/hostnqn)" = nqn.2016-06.io.spdk:%s ] && grep -q traddr=%s, $c/address; then
ls -d $c/nvme*c*n1 > /dev/null && echo /dev/$(basename $c) && exit 0; fi; done; exit 1`, nqn, h, addressOf(cn)), 60*time.Second)
			paths[h+" by "+cn] = strings.TrimSpace(out)
		}
	}
	sends := func(by, cmd, want string) {
		r.t.Helper()
		verb, args, _ := strings.Cut(cmd, " ")
		out := r.run("host0", "nvme "+verb+" "+paths[by]+" --namespace-id=1 "+args+" 2>&1 || true")
		if !regexp.MustCompile("(?i)" + want).MatchString(out) {
			r.t.Errorf("%s: nvme %s says %q, want %q", by, cmd, out, want)
		}
	}
	const (
		write = "write --start-block=0 --block-count=0 --data-size=4096 --data=/tmp/block"
		read  = "read --start-block=0 --block-count=0 --data-size=4096 --data=/tmp/read"
	)
	sends("node0 by cn0", "id-ns", `rescap\s*: 0xff`)
	sends("node0 by cn1", "id-ns", `rescap\s*: 0xff`)
	sends("node0 by cn1", "resv-register --nrkey=0x10 --rrega=0 --cptpl=3", "success")
	sends("node1 by cn0", "resv-register --nrkey=0x11 --rrega=0 --cptpl=3", "success")
	sends("node0 by cn0", "resv-acquire --crkey=0x10 --rtype=1 --racqa=0", "success")
	holds := func(holder, other string) {
		r.t.Helper()
		for _, cn := range cns {
			sends(holder+" by "+cn, write, "success")
			sends(other+" by "+cn, write, "reservation conflict")
			sends(other+" by "+cn, read, "success")
		}
	}
	holds("node0", "node1")
	sends("node1 by cn1", "resv-acquire --crkey=0x11 --prkey=0x10 --rtype=1 --racqa=2", "success")
	holds("node1", "node0")
	r.run("portal", cli+"da failover --da-name quorum")
	for _, cn := range cns {
		r.waitFor("host0", "nvme "+strings.Replace(read, " ", " "+paths["node1 by "+cn]+" --namespace-id=1 ", 1), 60*time.Second)
	}
	holds("node1", "node0")
	for _, cn := range cns {
		sends("node0 by "+cn, "resv-report --eds", `(?s)rtype\s*: 1.*regctl\s*: 1.*rkey\s*: (0x)?11`)
	}
	sends("node1 by cn0", "resv-release --crkey=0x11 --rtype=1 --rrela=0", "success")
	sends("node0 by cn0", write, "success")
	sends("node0 by cn1", write, "success")
	r.run("host0", "nvme disconnect -n "+nqn+" > /dev/null")
	r.run("portal", cli+"exp delete --da-name quorum --exp-name exp0 --wait=60s && "+cli+"da delete --da-name quorum --wait=60s")
}
