//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/virtual-disk-array/vda/test/e2e/tutorial"
	"github.com/virtual-disk-array/vda/test/verdict"
)

// hostOptions make a Linux host notice a silent controller after 2 s instead
// of 5 s, come back to it each second, and never give it up.
const hostOptions = " --keep-alive-tmo=2 --reconnect-delay=1 --ctrl-loss-tmo=-1"

// patientOptions are those of a host that no node's death is shown with: a machine with much else to
// do may stand still for longer than 2 s, and the host is to keep its connections.
const patientOptions = " --keep-alive-tmo=20 --reconnect-delay=1 --ctrl-loss-tmo=-1"

// cnServers are the controller nodes' addresses by host name.
var cnServers = map[string]string{"cn0": "192.168.0.16", "cn1": "192.168.0.17"}

// TestFailover moves the primaries of two arrays in every way while a Linux
// host runs fio with verification, on the raw device of one and on ext4 on the
// other. fio must see no error, all paths must come back after each fault, and
// ext4 must be clean. ROUNDS is how many faults there are. HOST_DEFAULTS=1 adds a
// host with the options of a plain nvme connect, which takes two minutes more.
func TestFailover(plain *testing.T) {
	t := verdict.New(plain)
	doc, err := os.Open("../../docs/multiple_servers_deployment.rst")
	if err != nil {
		t.Fatal(err)
	}
	defer doc.Close()
	steps, err := tutorial.Parse(doc)
	if err != nil {
		t.Fatal(err)
	}
	r := newRack(t)
	defer r.logs()
	for _, s := range steps {
		if !strings.HasPrefix(s.Host, "host") {
			if s.Stdin != "" {
				s.Command += " <<'END'\n" + s.Stdin + "END"
			}
			r.run(s.Host, r.onPlane(s.Host, s.Command))
			r.afterTyping(s)
		}
	}
	// Both arrays go to host0.
	r.run("cli", cli+"exp delete --da-name da1 --exp-name exp1")
	r.run("cli", cli+"exp create --da-name da1 --exp-name exp2 --initiator-nqn nqn.2016-06.io.spdk:host0")
	const fsNQN = "nqn.2016-06.io.spdk:vda-exp-da1-exp2"
	r.run("host0", "modprobe nvme-tcp; mkdir -p /mnt")
	connect := func(options string) {
		for _, nqn := range []string{da0NQN, fsNQN} {
			for _, a := range cnServers {
				r.run("host0", "nvme connect -t tcp -n "+nqn+" -a "+a+" -s 4430 --hostnqn nqn.2016-06.io.spdk:host0"+options)
			}
			r.waitFor("host0", "test -b \""+device(nqn)+"\"", 20*time.Second)
		}
	}
	connect(hostOptions)
	r.run("host0", "mkfs.ext4 -q "+device(fsNQN)+" && mount "+device(fsNQN)+" /mnt")

	// Longer than a lease and than all that notices a fault.
	const long = 8 * time.Second
	type fault struct {
		name   string
		hold   time.Duration
		inject func(cn string)
		heal   func(cn string)
		limit  time.Duration // generous: the machine may be busy
	}
	killed := fault{"data plane killed", long, func(cn string) { r.run(cn, "kill -9 $(pidof vda_tgt spdk_tgt)") },
		r.restartPlane, 20 * time.Second}
	power := fault{"power cut of the node", long, func(cn string) { r.run(cn, "kill -9 $(pidof vda_tgt spdk_tgt vda_cn_agent)") },
		func(cn string) { r.restartPlane(cn); r.restartAgent(cn) }, 20 * time.Second}
	hung := fault{"data plane hung", long, func(cn string) { r.run(cn, "kill -STOP $(pidof vda_tgt spdk_tgt)") },
		func(cn string) { r.run(cn, "kill -CONT $(pidof vda_tgt spdk_tgt)") }, 30 * time.Second}
	suffer := func(f fault) {
		r.allLive(da0NQN)
		r.allLive(fsNQN)
		cn := r.primary("da0")
		// fio goes on while the paths come back.
		const before, after = 3 * time.Second, 6 * time.Second
		r.startFio("raw", device(da0NQN), "24m", before+f.hold+after)
		r.startFio("ext4", "/mnt/file", "24m", before+f.hold+after)
		time.Sleep(before)
		f.inject(cn)
		time.Sleep(f.hold)
		f.heal(cn)
		r.allLive(da0NQN)
		r.allLive(fsNQN)
		for _, job := range []string{"raw", "ext4"} {
			pause, ios := r.endFio(job)
			fmt.Printf("%-28s %-5s %6d I/O, longest %.3f s\n", f.name, job, ios, pause.Seconds())
			if pause > f.limit {
				t.Errorf("%s: I/O on %s took %v", f.name, job, pause)
			}
		}
	}
	faults := []fault{
		{"calm", 2 * time.Second, func(string) {}, func(string) {}, 5 * time.Second},
		{"planned switch", 3 * time.Second, func(cn string) {
			for _, da := range []string{"da0", "da1"} {
				if r.primary(da) == cn {
					r.run("cli", cli+"da failover --da-name "+da)
				}
			}
		}, func(string) {}, 10 * time.Second},
		killed, hung,
		{"cut off", long, func(cn string) {
			r.run(cn, "nft 'add table inet cut; add chain inet cut in { type filter hook input priority 0; }; add rule inet cut in iif eth0 drop'")
		}, func(cn string) { r.run(cn, "nft delete table inet cut") }, 30 * time.Second},
		power,
	}
	for i := range rounds(t, len(faults)) {
		f := faults[i%len(faults)]
		f.name = fmt.Sprintf("%2d %s", i+1, f.name)
		suffer(f)
	}
	// The same host with the options that it has by default, when asked to:
	// keep-alive 5 s, a reconnect every 10 s.
	if os.Getenv("HOST_DEFAULTS") != "" {
		r.run("host0", "umount /mnt && nvme disconnect -n "+da0NQN+" && nvme disconnect -n "+fsNQN)
		connect("")
		r.run("host0", "mount "+device(fsNQN)+" /mnt")
		for _, f := range []fault{killed, hung} {
			f.name += ", host's defaults"
			suffer(f)
		}
	}
	r.run("host0", "umount /mnt && fsck.ext4 -f -n "+device(fsNQN))
	if out := r.run("host0", "dmesg | grep -E 'I/O error|EXT4-fs error|Buffer I/O' || true"); out != "" {
		t.Errorf("the host's kernel says: %s", out)
	}
}

// primary is the cn that has an array's primary controller.
func (r *rack) primary(da string) string {
	r.t.Helper()
	var reply struct {
		DaMsg struct {
			CntlrMsgList []struct {
				CnName  string `json:"cn_name"`
				Primary bool   `json:"primary"`
			} `json:"cntlr_msg_list"`
		} `json:"da_msg"`
	}
	out := r.run("cli", cli+"da get --da-name "+da)
	if err := json.Unmarshal([]byte(out), &reply); err != nil {
		r.t.Fatal(err)
	}
	for _, c := range reply.DaMsg.CntlrMsgList {
		for name, a := range cnServers {
			if c.Primary && strings.HasPrefix(c.CnName, a+":") {
				return name
			}
		}
	}
	r.t.Fatalf("%s has no primary: %s", da, out)
	return ""
}

// restartPlane starts a data plane that was killed, as its service would be.
func (r *rack) restartPlane(cn string) {
	r.t.Helper()
	r.run(cn, r.onPlane(cn, "nohup vda_tgt --rpc-socket /tmp/cn.sock --wait-for-rpc >> /tmp/cn.log 2>&1 &"))
	r.waitFor(cn, "vda_rpc -s /tmp/cn.sock bdev_set_options -d", 30*time.Second)
	r.run(cn, "vda_rpc -s /tmp/cn.sock framework_start_init && vda_rpc -s /tmp/cn.sock framework_wait_init")
}

// restartAgent starts a controller node's agent that was killed.
func (r *rack) restartAgent(cn string) {
	r.t.Helper()
	a := cnServers[cn]
	r.run(cn, "nohup vda_cn_agent --listener "+a+` --port 9820 --sock-path /tmp/cn.sock --listener-conf '{"trtype":"tcp","traddr":"`+a+
		`","adrfam":"ipv4","trsvcid":"4430"}' >> /tmp/vda_cn_agent.log 2>&1 &`)
}

// allLive waits until the host has both paths of a subsystem, one of them
// optimized.
func (r *rack) allLive(nqn string) {
	r.t.Helper()
	r.waitFor("host0", `live=0 good=0
for s in /sys/class/nvme-subsystem/nvme-subsys*; do
  [ "$(cat $s/subsysnqn)" = `+nqn+` ] || continue
  live=$(cat $s/nvme*/state | grep -c live)
  good=$(cat $s/nvme*/nvme*c*n*/ana_state | grep -c '^optimized')
  bad=$(cat $s/nvme*/nvme*c*n*/ana_state | grep -c 'inaccessible\|change')
done
echo $live live, $good optimized, $bad inaccessible or changing, want 2, 1, 0
test $live = 2 -a $good = 1 -a $bad = 0`, 90*time.Second)
}

// startFio starts random writes with verification. fio ignores SIGPIPE, as
// databases do: Linux's NVMe/TCP driver sends a command in the name of the process
// that submits it, and the kernel gives that process SIGPIPE when the connection was
// closed in the moment before. The command itself goes on by the other path.
func (r *rack) startFio(job, file, size string, length time.Duration) {
	r.t.Helper()
	r.run("host0", "rm -f /tmp/"+job+".*; (trap '' PIPE; fio --name="+job+" --filename="+file+" --size="+size+
		" --rw=randrw --rwmixread=30 --bs=4k --iodepth=4 --rate_iops=60,60 --ioengine=libaio --direct=1"+
		" --verify=crc32c --verify_fatal=1 --verify_backlog=128 --time_based --runtime="+fmt.Sprint(int(length.Seconds()))+
		" --output-format=json --output=/tmp/"+job+".json > /tmp/"+job+".txt 2>&1; echo $? > /tmp/"+job+".end; mv /tmp/"+job+".end "+
		"/tmp/"+job+".code) > /dev/null 2>&1 &")
}

// endFio waits for the job and returns its longest I/O and how many there
// were.
func (r *rack) endFio(job string) (longest time.Duration, ios int64) {
	r.t.Helper()
	code := strings.TrimSpace(r.waitFor("host0", "cat /tmp/"+job+".code", 100*time.Second))
	text := r.run("host0", "cat /tmp/"+job+".json")
	type side struct {
		TotalIOs int64 `json:"total_ios"`
		ClatNs   struct {
			Max int64 `json:"max"`
		} `json:"clat_ns"`
	}
	var out struct {
		Jobs []struct {
			Error       int
			Read, Write side
		}
	}
	// Warnings may stand around the JSON.
	if err := json.NewDecoder(strings.NewReader(text[max(strings.Index(text, "{"), 0):])).Decode(&out); err != nil || len(out.Jobs) != 1 {
		r.t.Fatalf("fio %s: exit %s: %v: %s\n%s", job, code, err, r.run("host0", "cat /tmp/"+job+".txt"), text)
	}
	j := out.Jobs[0]
	if code != "0" || j.Error != 0 {
		r.t.Fatalf("fio %s: exit %s, error %d, %d I/O: %s", job, code, j.Error, j.Read.TotalIOs+j.Write.TotalIOs,
			r.run("host0", "cat /tmp/"+job+".txt"))
	}
	return time.Duration(max(j.Read.ClatNs.Max, j.Write.ClatNs.Max)), j.Read.TotalIOs + j.Write.TotalIOs
}
