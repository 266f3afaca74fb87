//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/virtual-disk-array/vda/test/verdict"
)

// A cluster with many exporters: two dns, three cns, and a Linux host that uses
// some of them.
const (
	expsOfArray = 5
	pathsOfEach = 2
)

// size is how many arrays the cluster has, and how many exporters of them, one of
// an array, the host uses: 200 exporters with 400 paths, and 60 of these. A data
// plane on SPDK polls, and leaves a small machine too little time for as many.
func (r *rack) size() (arrays, used int) {
	if r.plan.UsesSPDK() {
		return 8, 8
	}
	return 40, 30
}

// manyCNs are the controller nodes' addresses by server.
var manyCNs = map[string]string{"cn0": "192.168.0.16", "cn1": "192.168.0.17", "cn2": "192.168.0.20"}

var manyDNs = map[string]string{"dn0": "192.168.0.14", "dn1": "192.168.0.15"}

// rounds is how often faults are made: ROUNDS, or what is enough for a merge.
func rounds(t *verdict.T, otherwise int) int {
	t.Helper()
	text := os.Getenv("ROUNDS")
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("ROUNDS %q is not a number from 1 on", text)
	}
	return n
}

// TestAllPathsComeBack cuts the power of controller nodes and disk nodes, one by
// one, by twos and all at once, while a Linux host has 60 paths to 30 of 200
// exporters. An agent puts 130 subsystems back after each, and the host tries all
// the while: a single refusal with Do Not Retry would cost it a path for ever. All
// paths have to come back, and each disk has to hold what was written to it.
func TestAllPathsComeBack(plain *testing.T) {
	t := verdict.New(plain)
	r := newHosts(t, "portal", "dn0", "dn1", "cn0", "cn1", "cn2", "host0")
	defer r.logs()
	begin := time.Now()
	arrays, used := r.size()
	paths := used * pathsOfEach
	r.run("portal", "tar -xzf vda.tar.gz -C /usr/local/bin && vda_db --action create --db-uri "+sqliteURI)
	r.startControlPlane()
	for server := range manyDNs {
		r.startNode(server)
	}
	for server := range manyCNs {
		r.startNode(server)
	}
	r.makeMany()
	fmt.Printf("%d exporters are there after %.1f s\n", arrays*expsOfArray, time.Since(begin).Seconds())
	r.useMany()
	disks := r.disks()
	fmt.Printf("%d paths to %d of them after %.1f s\n", paths, used, time.Since(begin).Seconds())

	cuts := [][]string{
		{"cn0"}, {"cn0", "cn1", "cn2"}, {"cn2", "dn0"},
		// Without monitors and a dn, primaries let their hosts go.
		{"portal", "dn1"},
		{"portal", "cn0", "cn1", "cn2", "dn0", "dn1"},
		{"cn1"}, {"dn0"}, {"cn1", "cn2"}, {"portal", "cn0", "dn0"}, {"cn2"}, {"cn0", "cn1"}, {"dn0", "dn1"},
	}
	for i := range rounds(t, 5) {
		servers := cuts[i%len(cuts)]
		r.cutPower(servers)
		took := r.allBack()
		if now := r.disks(); now != disks {
			t.Fatalf("round %d: the host has other disks than before:\n%s\nbefore:\n%s", i+1, now, disks)
		}
		r.verifyMany()
		fmt.Printf("power cut %2d of %-32s all %d paths are back after %.1f s\n", i+1, strings.Join(servers, ", ")+":", paths, took.Seconds())
	}
	if out := r.run("host0", "dmesg | grep -E 'I/O error|Removing c' || true"); out != "" {
		t.Errorf("the host's kernel says: %s", out)
	}
	r.deleteOne()
}

// deleteOne deletes an exporter that the host uses, and makes it again. The host is
// told not to come back, which SPDK never does, and may connect to the new one.
func (r *rack) deleteOne() {
	r.t.Helper()
	if r.plan.UsesSPDK() {
		return
	}
	const nqn = "nqn.2016-06.io.spdk:vda-exp-da0-exp0"
	r.run("portal", "vda_cli --addr-port 192.168.0.11:9520 exp delete --da-name da0 --exp-name exp0")
	r.waitFor("host0", "! cat /sys/class/nvme/nvme*/subsysnqn | grep -q '"+nqn+"$'", 90*time.Second)
	r.run("portal", "vda_cli --addr-port 192.168.0.11:9520 exp create --da-name da0 --exp-name exp0 --initiator-nqn nqn.2016-06.io.spdk:host0")
	r.run("host0", r.connects(1))
	r.allBack()
}

// sqliteURI is the database of a control plane on one server.
const sqliteURI = "sqlite:////root/vda.db"

// startControlPlane starts portal and monitor on one server, and secures the cluster that is
// to be.
func (r *rack) startControlPlane() {
	r.t.Helper()
	const logged = " --db-uri " + sqliteURI + " >> /tmp/vda_control.log 2>&1 &"
	portal := "nohup vda_portal --listener 192.168.0.11 --port 9520 --discovery 192.168.0.11:8009" + logged
	monitor := "nohup vda_monitor --listener 192.168.0.11 --port 9620" + logged
	r.beforePortal(portal)
	r.run("portal", r.secured("portal", portal))
	r.waitFor("portal", "timeout 1 bash -c '</dev/tcp/192.168.0.11/9520'", 30*time.Second)
	r.secure(portal)
	r.run("portal", r.secured("portal", monitor))
}

// startNode starts a node's data plane and agent, as its services would.
func (r *rack) startNode(server string) {
	r.t.Helper()
	kind, address, port, svc, flags := "cn", addressOf(server), "9820", "4430", ""
	if strings.HasPrefix(server, "dn") {
		kind, port, svc, flags = "dn", "9720", "4420", " --aio-dir /root"
	}
	socket := "/tmp/" + kind + ".sock"
	r.run(server, "test -e /usr/local/bin/vda_tgt || tar -xzf vda.tar.gz -C /usr/local/bin")
	r.run(server, r.onPlane(server, "nohup "+vdaPlane+socket+" --wait-for-rpc >> /tmp/"+kind+".log 2>&1 &"))
	r.waitFor(server, "vda_rpc -s "+socket+" bdev_set_options -d", 30*time.Second)
	r.run(server, "vda_rpc -s "+socket+" framework_start_init && vda_rpc -s "+socket+" framework_wait_init")
	r.run(server, r.secured(server, "nohup vda_"+kind+"_agent --listener "+address+" --port "+port+" --sock-path "+socket+flags+
		` --listener-conf '{"trtype":"tcp","traddr":"`+address+`","adrfam":"ipv4","trsvcid":"`+svc+`"}' >> /tmp/vda_agent.log 2>&1 &`))
}

// registerMany registers the nodes.
func (r *rack) registerMany() {
	r.t.Helper()
	conf := func(address, port string) string {
		return ` '{"trtype":"tcp","traddr":"` + address + `","adrfam":"ipv4","trsvcid":"` + port + `"}'`
	}
	script := "set -e; export VDA_PORTAL=192.168.0.11:9520\n"
	for _, a := range manyDNs {
		script += "vda_cli dn create --dn-name " + a + ":9720 --location " + a + " --dn-listener-conf" + conf(a, "4420") + "\n" +
			"vda_cli pd create --dn-name " + a + ":9720 --pd-name pd0 --pd-conf '" + `{"type":"aio","filename":"/root/disk","size":805306368}` + "'\n"
	}
	for _, a := range manyCNs {
		script += "vda_cli cn create --cn-name " + a + ":9820 --location " + a + " --cn-listener-conf" + conf(a, "4430") + "\n"
	}
	r.run("portal", script)
}

// makeMany registers the nodes and makes arrays and exporters.
func (r *rack) makeMany() {
	r.t.Helper()
	r.registerMany()
	// Several at once, as users would.
	arrays, _ := r.size()
	r.run("portal", fmt.Sprintf(`export VDA_PORTAL=192.168.0.11:9520
one() {
  vda_cli da create --da-name da$1 --cntlr-cnt 2 --da-size 8M && for e in $(seq 0 %d); do
    vda_cli exp create --da-name da$1 --exp-name exp$e --initiator-nqn nqn.2016-06.io.spdk:host0 || return 1
  done
}
for d in $(seq 0 %d); do
  one $d > /tmp/made$d 2>&1 &
  [ $(($d %% 4)) != 3 ] || wait
done
wait
[ $(cat /tmp/made* | grep -c '"reply_msg": "success"') = %d ] || { tail -n 30 /tmp/made*; exit 1; }`, expsOfArray-1, arrays-1, arrays*(expsOfArray+1)))
}

// useMany connects the host to some exporters and writes to each.
func (r *rack) useMany() {
	r.t.Helper()
	_, used := r.size()
	r.run("host0", "modprobe nvme-tcp\n"+r.connects(used))
	r.allBack()
	r.run("host0", `for n in $(ls -d /sys/block/nvme*n1 | grep -v 'nvme[0-9]*c'); do
  cat $n/wwid | sed 's/$/ of this disk/' | dd of=/dev/${n##*/} bs=4096 count=1 conv=sync oflag=direct status=none || exit 1
done`)
	r.verifyMany()
}

// connects is a script that connects the host to the first exporters of the first
// arrays, by all paths.
func (r *rack) connects(arrays int) string {
	r.t.Helper()
	out := r.run("portal", fmt.Sprintf(`for d in $(seq 0 %d); do
  vda_cli --addr-port 192.168.0.11:9520 exp get --da-name da$d --exp-name exp0 | sed -n 's/.*"cn_name": "\([0-9.]*\):9820".*/'$d' \1/p'
done`, arrays-1))
	// Linux tries a first connection once. One that was closed meanwhile, as a cn does when it stood
	// still and another is primary by then, is made again, as a user would; a refusal is not.
	script, paths := `connect() {
  nvme connect "$@" > /dev/null && return
  dmesg | tail -n 4 | grep -q 'QID 0 timeout' || exit 1
  nvme connect "$@" > /dev/null || exit 1
}
`, 0
	for line := range strings.Lines(out) {
		var d int
		var a string
		if _, err := fmt.Sscan(line, &d, &a); err != nil {
			r.t.Fatalf("exp get: %q", out)
		}
		paths++
		script += fmt.Sprintf("connect -t tcp -n nqn.2016-06.io.spdk:vda-exp-da%d-exp0 -a %s -s 4430 --hostnqn nqn.2016-06.io.spdk:host0"+
			patientOptions+"\n", d, a)
	}
	if paths != arrays*pathsOfEach {
		r.t.Fatalf("%d paths, want %d:\n%s", paths, arrays*pathsOfEach, out)
	}
	return script
}

// disks are the host's, by name and identity.
func (r *rack) disks() string {
	r.t.Helper()
	return r.run("host0", `for n in $(ls -d /sys/block/nvme*n1 | grep -v 'nvme[0-9]*c'); do echo ${n##*/} $(cat $n/wwid); done | sort`)
}

// verifyMany reads from each disk what was written there.
func (r *rack) verifyMany() {
	r.t.Helper()
	_, used := r.size()
	r.run("host0", fmt.Sprintf(`count=0
for n in $(ls -d /sys/block/nvme*n1 | grep -v 'nvme[0-9]*c'); do
  want="$(cat $n/wwid) of this disk"
  have=$(timeout 60 dd if=/dev/${n##*/} bs=4096 count=1 iflag=direct status=none | tr -d '\0')
  [ "$have" = "$want" ] || { echo "$n holds $have"; exit 1; }
  count=$(($count + 1))
done
[ $count = %d ] || { echo $count disks; exit 1; }`, used))
}

// cutPower kills all of some servers' processes of VDA at once, and starts them
// again after some seconds, longer than a lease, as a reboot does.
func (r *rack) cutPower(servers []string) {
	r.t.Helper()
	for _, s := range servers {
		r.run(s, "kill -9 $(pidof vda_tgt spdk_tgt vda_cn_agent vda_dn_agent vda_portal vda_monitor)")
	}
	time.Sleep(4 * time.Second)
	for _, s := range servers {
		if s == "portal" {
			r.startControlPlane()
		} else {
			r.startNode(s)
		}
	}
}

// allBack waits until the host has every path connected and usable.
func (r *rack) allBack() time.Duration {
	r.t.Helper()
	begin := time.Now()
	_, used := r.size()
	// A path that was given up does not come back: no need to wait for the others. Linux
	// waits 60 s on a connection that was closed while it connects, which a busy machine
	// can bring about twice.
	r.waitOr("host0", fmt.Sprintf(`there=$(ls -d /sys/class/nvme/nvme* | wc -l)
[ $there = %[1]d ] || { echo "$there controllers of %[1]d are left"; exit 9; }
live=$(cat /sys/class/nvme/nvme*/state | grep -c '^live')
usable=$(cat /sys/class/nvme/nvme*/nvme*c*n*/ana_state | grep -c optimized)
echo $live live, $usable usable of %[1]d
[ $live = %[1]d ] && [ $usable = %[1]d ]`, used*pathsOfEach), 9, 150*time.Second)
	return time.Since(begin)
}

// waitOr is waitFor that fails at once when the script exits with a code.
func (r *rack) waitOr(host, script string, fatal int, limit time.Duration) {
	r.t.Helper()
	for begin := time.Now(); ; time.Sleep(200 * time.Millisecond) {
		res := r.try(host, script)
		if res.Code == 0 {
			return
		}
		if took := time.Since(begin); res.Code == fatal || took > limit {
			r.t.Fatalf("%s: exit %d after %v: %s%s", host, res.Code, took.Round(time.Second), res.Stdout, res.Stderr)
		}
	}
}
