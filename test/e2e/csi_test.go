//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/virtual-disk-array/vda/test/verdict"
)

// csiSocket is where a server's driver serves.
const csiSocket = "/run/vda_csi.sock"

// csi makes a call of a server's driver that must succeed.
func (r *rack) csi(server, method string, req map[string]any) map[string]any {
	r.t.Helper()
	out := r.waitFor(server, call(method, req), 90*time.Second)
	reply := map[string]any{}
	if err := json.Unmarshal([]byte(out), &reply); err != nil {
		r.t.Fatalf("%s: %v: %s", method, err, out)
	}
	return reply
}

func call(method string, req map[string]any) string {
	if req == nil {
		req = map[string]any{}
	}
	text, err := json.Marshal(req)
	if err != nil {
		panic(err)
	}
	return "csicall " + csiSocket + " " + method + " '" + string(text) + "'"
}

// startCSI starts a server's driver, again when there was one.
func (r *rack) startCSI(server, services string) {
	r.t.Helper()
	r.run(server, "pkill -9 -x vda_csi || killall -9 vda_csi || true; sleep 0.2; rm -f "+csiSocket)
	r.run(server, "setsid vda_csi --services "+services+" --endpoint unix://"+csiSocket+
		" --portals 192.168.0.11:9520 --port 9920 > /tmp/csi.log 2>&1 < /dev/null & true")
	r.waitFor(server, "test -S "+csiSocket+" && csicall "+csiSocket+" Probe '{}'", 30*time.Second)
}

// TestCSI has a Linux host's kernel use volumes as kubelet does: a file system and a raw
// block device are made, mounted and written; their primary's node dies while programs
// write; they grow; the driver is killed and goes on; and in the end nothing is left.
func TestCSI(plain *testing.T) {
	t := verdict.New(plain)
	dns, cns := []string{"dn0", "dn1"}, []string{"cn0", "cn1"}
	r := newHosts(t, "portal", "host0", "dn0", "dn1", "cn0", "cn1")
	defer r.logs()
	defer func() {
		if t.Failed() {
			t.Logf("%s", r.try("host0", "tail -n 40 /tmp/csi.log; dmesg | tail -n 30").Stdout)
		}
	}()
	r.plan = r.plan.OnDisks()
	r.hosts["cli"] = r.hosts["portal"]
	tool, err := filepath.Abs(filepath.Join("..", "..", "out", "csicall"))
	if err != nil {
		t.Fatal(err)
	}
	build := exec.CommandContext(t.Context(), "go", "build", "-o", tool, "./csicall")
	build.Env = append(build.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	r.run("portal", "tar -xzf vda.tar.gz -C /usr/local/bin && cp "+tool+" /usr/local/bin/csicall && vda_db --action create --db-uri "+
		"sqlite:////root/vda.db")
	r.startControlPlane()
	script := "set -e; export VDA_PORTAL=192.168.0.11:9520\n"
	for _, server := range append(dns, cns...) {
		r.startNode(server)
		kind, a, port, svc := server[:2], addressOf(server), "9720", "4420"
		if kind == "cn" {
			port, svc = "9820", "4430"
		}
		script += fmt.Sprintf("vda_cli %[1]s create --%[1]s-name %[2]s:%[3]s --location %[2]s --%[1]s-listener-conf "+
			`'{"trtype":"tcp","traddr":"%[2]s","adrfam":"ipv4","trsvcid":"%[4]s"}'`+"\n", kind, a, port, svc)
		if kind == "dn" {
			script += "vda_cli pd create --dn-name " + a + ":9720 --pd-name pd0 --pd-conf '" +
				`{"type":"aio","filename":"/root/disk","size":536870912}` + "'\n"
		}
	}
	r.run("portal", script)
	r.startCSI("portal", "controller")
	r.run("portal", "cd /usr/local/bin && setsid python3 -m http.server 8000 > /tmp/http.log 2>&1 < /dev/null & true")
	r.waitFor("host0", "cd /usr/bin && for p in vda_csi csicall; do busybox wget -q -O $p http://192.168.0.11:8000/$p && chmod 755 $p; done",
		60*time.Second)
	r.run("host0", "modprobe nvme-tcp && modprobe ext4; mkdir -p /var/lib/kubelet /tmp")
	r.startCSI("host0", "node")
	node := r.csi("host0", "NodeGetInfo", nil)["nodeId"].(string)

	type volume struct {
		name, id, staging, target string
		capability                map[string]any
		context, pub              any
	}
	mode := map[string]any{"mode": "SINGLE_NODE_WRITER"}
	fs := &volume{name: "fs", staging: "/var/lib/kubelet/fs-staging", target: "/var/lib/kubelet/fs",
		capability: map[string]any{"accessMode": mode, "mount": map[string]any{"fsType": "ext4"}}}
	raw := &volume{name: "raw", staging: "/var/lib/kubelet/raw-staging", target: "/var/lib/kubelet/raw",
		capability: map[string]any{"accessMode": mode, "block": map[string]any{}}}
	both := []*volume{fs, raw}
	publish := func(v *volume) {
		t.Helper()
		v.pub = r.csi("portal", "ControllerPublishVolume", map[string]any{"volumeId": v.id, "nodeId": node, "volumeCapability": v.capability,
			"volumeContext": v.context})["publishContext"]
		for range 2 { // a call that is repeated changes nothing
			r.csi("host0", "NodeStageVolume", map[string]any{"volumeId": v.id, "stagingTargetPath": v.staging, "volumeCapability": v.capability,
				"publishContext": v.pub, "volumeContext": v.context})
			r.csi("host0", "NodePublishVolume", map[string]any{"volumeId": v.id, "stagingTargetPath": v.staging, "targetPath": v.target,
				"volumeCapability": v.capability, "publishContext": v.pub, "volumeContext": v.context})
		}
	}
	unpublish := func(v *volume) {
		t.Helper()
		for range 2 {
			r.csi("host0", "NodeUnpublishVolume", map[string]any{"volumeId": v.id, "targetPath": v.target})
			r.csi("host0", "NodeUnstageVolume", map[string]any{"volumeId": v.id, "stagingTargetPath": v.staging})
			r.csi("portal", "ControllerUnpublishVolume", map[string]any{"volumeId": v.id, "nodeId": node})
		}
	}
	var first time.Duration
	for _, v := range both {
		begin := time.Now()
		reply := r.csi("portal", "CreateVolume", map[string]any{"name": v.name, "volumeCapabilities": []any{v.capability},
			"capacityRange": map[string]any{"requiredBytes": "67108864"}, "parameters": map[string]any{"stripeCount": "2", "physicalRatio": "50"}})
		vol := reply["volume"].(map[string]any)
		v.id, v.context = vol["volumeId"].(string), vol["volumeContext"]
		publish(v)
		r.run("host0", "dd if=/dev/zero of="+map[bool]string{true: v.target + "/first",
			false: v.target}[v == fs]+" bs=4096 count=1 conv=fsync,notrunc")
		first = time.Since(begin)
	}
	fmt.Printf("CreateVolume to the first write: %.2f s\n", first.Seconds())
	r.run("host0", "test -b "+raw.target+" && mountpoint -q "+fs.target+" || grep -q "+fs.target+" /proc/mounts")
	if out := r.run("host0", "cat /sys/class/nvme/nvme*/state | sort | uniq -c"); !strings.Contains(out, "4 live") {
		t.Errorf("controllers: %s", out)
	}

	// A volume that is published cannot be unstaged, and a driver that was killed goes on.
	if res := r.try("host0", call("NodeUnstageVolume", map[string]any{"volumeId": fs.id, "stagingTargetPath": fs.staging})); res.Code == 0 {
		t.Errorf("unstaged under a workload: %s", res.Stdout)
	}
	r.startCSI("host0", "node")
	r.csi("host0", "NodeGetVolumeStats", map[string]any{"volumeId": fs.id, "volumePath": fs.target})
	r.csi("host0", "NodeGetVolumeHealth", map[string]any{"volumeId": fs.id})

	// The primary's node dies while fio writes and verifies; the volume grows.
	r.startFio("fs", fs.target+"/file", "8m", 15*time.Second)
	time.Sleep(2 * time.Second)
	cn := r.primary("fs")
	r.die(cn)
	time.Sleep(4 * time.Second)
	r.startNode(cn)
	r.csi("portal", "ControllerExpandVolume", map[string]any{"volumeId": fs.id, "capacityRange": map[string]any{"requiredBytes": "134217728"},
		"volumeCapability": fs.capability})
	r.csi("host0", "NodeExpandVolume", map[string]any{"volumeId": fs.id, "volumePath": fs.target, "stagingTargetPath": fs.staging,
		"capacityRange": map[string]any{"requiredBytes": "134217728"}})
	pause, ios := r.endFio("fs")
	fmt.Printf("the primary's node died, and the volume grew: %d I/O, longest %.3f s\n", ios, pause.Seconds())
	if out := strings.TrimSpace(r.run("host0", "stat -f -c '%b %S' "+fs.target)); !bigger(out, 100<<20) {
		t.Errorf("the file system has %s after it has grown to 128 MiB", out)
	}
	r.run("host0", "echo kept > "+fs.target+"/kept && sync")
	for _, v := range both {
		unpublish(v)
	}
	if out := r.run("host0", "ls /sys/class/nvme; grep -c kubelet /proc/mounts || true"); strings.TrimSpace(out) != "0" {
		t.Errorf("left on the host: %s", out)
	}
	publish(fs)
	if out := r.run("host0", "cat "+fs.target+"/kept"); out != "kept\n" {
		t.Errorf("the file has %q", out)
	}
	unpublish(fs)
	for _, v := range both {
		r.csi("portal", "DeleteVolume", map[string]any{"volumeId": v.id})
	}
	if out := r.run("portal", cli+"da list -o name; "+cli+"exp list -o name"); strings.TrimSpace(out) != "" {
		t.Errorf("left in the cluster: %s", out)
	}
	if out := r.run("host0", "dmesg | grep -E 'I/O error|EXT4-fs error|Buffer I/O' || true"); out != "" {
		t.Errorf("the host's kernel says: %s", out)
	}
}

// bigger reports that blocks times their size are more than bytes.
func bigger(out string, bytes int64) bool {
	var blocks, size int64
	_, err := fmt.Sscan(out, &blocks, &size)
	return err == nil && blocks*size > bytes
}
