//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/virtual-disk-array/vda/test/e2e/guest"
	"github.com/virtual-disk-array/vda/test/e2e/lab"
	"github.com/virtual-disk-array/vda/test/verdict"
)

// csiSocket is where a server's driver serves.
const csiSocket = "/run/vda_csi.sock"

// csiRack is a secured cluster with the driver: its controller on the portal's server, its
// node on the Linux host.
type csiRack struct {
	*rack
	node  string // how the driver names the Linux host
	token string // the driver's
}

// csiVolume is a volume and where the Linux host is to have it.
type csiVolume struct {
	name, id, staging, target string
	capability                map[string]any
	keys                      map[string]any // the secret of its StorageClass; nil: it has none
	context, pub              any
}

// keyed has the volume's host and controllers prove themselves to each other.
func (v *csiVolume) keyed(of *secrets) *csiVolume {
	v.keys = map[string]any{"dhchapKey": of.hosts["host0"], "dhchapCtrlrKey": of.ctrlr}
	return v
}

// newVolume is a volume with a file system, "" for a raw block device.
func newVolume(name, fs string) *csiVolume {
	v := &csiVolume{name: name, staging: "/var/lib/kubelet/" + name + "-staging", target: "/var/lib/kubelet/" + name,
		capability: map[string]any{"accessMode": map[string]any{"mode": "SINGLE_NODE_WRITER"}}}
	if fs == "" {
		v.capability["block"] = map[string]any{}
	} else {
		v.capability["mount"] = map[string]any{"fsType": fs}
	}
	return v
}

// csi makes a call of a server's driver that must succeed.
func (r *rack) csi(server, method string, req map[string]any) map[string]any {
	r.t.Helper()
	return r.reply(method, r.waitFor(server, call(method, req), 90*time.Second))
}

// reply reads what a driver has answered.
func (r *rack) reply(method, out string) map[string]any {
	r.t.Helper()
	reply := map[string]any{}
	if err := json.Unmarshal([]byte(out), &reply); err != nil {
		r.t.Fatalf("%s: %v: %s", method, err, out)
	}
	return reply
}

func call(method string, req map[string]any) string {
	return "csicall " + csiSocket + " " + method + " " + quoted(req)
}

// quoted is a request as a word of a shell.
func quoted(req map[string]any) string {
	if req == nil {
		req = map[string]any{}
	}
	text, err := json.Marshal(req)
	if err != nil {
		panic(err)
	}
	return "'" + string(text) + "'"
}

// startCSI starts a server's driver, again when there was one.
func (c *csiRack) startCSI(server, services string) {
	c.t.Helper()
	c.stopCSI(server)
	const file = "/tmp/csi-token"
	c.run(server, "umask 077; echo "+c.token+" > "+file+"; setsid vda_csi --services "+services+" --endpoint unix://"+csiSocket+
		" --portals 192.168.0.11:9520 --port 9920 --token-file "+file+" >> /tmp/csi.log 2>&1 < /dev/null & true")
	c.waitFor(server, "test -S "+csiSocket+" && csicall "+csiSocket+" Probe '{}'", 30*time.Second)
}

// stopCSI kills a server's driver.
func (r *rack) stopCSI(server string) {
	r.t.Helper()
	r.run(server, "pkill -9 -x vda_csi || killall -9 vda_csi || true; sleep 0.2; rm -f "+csiSocket)
}

// create has a volume made, of a source or of nothing.
func (c *csiRack) create(v *csiVolume, mib int, ratio string, from map[string]any) {
	c.t.Helper()
	req := map[string]any{"name": v.name, "volumeCapabilities": []any{v.capability},
		"capacityRange": map[string]any{"requiredBytes": fmt.Sprint(mib << 20)},
		"parameters":    map[string]any{"stripeCount": "2", "physicalRatio": ratio, "dhchap": "none"}}
	if v.keys != nil {
		req["parameters"].(map[string]any)["dhchap"] = "mutual"
		req["secrets"] = v.keys
	}
	if from != nil {
		req["volumeContentSource"] = from
	}
	made := c.csi("portal", "CreateVolume", req)["volume"].(map[string]any)
	v.id, v.context = made["volumeId"].(string), made["volumeContext"]
}

func (c *csiRack) attach(v *csiVolume) {
	c.t.Helper()
	v.pub = c.csi("portal", "ControllerPublishVolume", map[string]any{"volumeId": v.id, "nodeId": c.node, "volumeCapability": v.capability,
		"volumeContext": v.context, "secrets": v.keys})["publishContext"]
}

// The requests of the Node service about a volume.
func (v *csiVolume) stage() map[string]any {
	return map[string]any{"volumeId": v.id, "stagingTargetPath": v.staging, "volumeCapability": v.capability, "publishContext": v.pub,
		"volumeContext": v.context, "secrets": v.keys}
}

func (v *csiVolume) publish() map[string]any {
	req := maps.Clone(v.stage())
	req["targetPath"] = v.target
	delete(req, "secrets") // it has none of its own: the connections are there
	return req
}

func (v *csiVolume) unpublish() map[string]any {
	return map[string]any{"volumeId": v.id, "targetPath": v.target}
}

func (v *csiVolume) unstage() map[string]any {
	return map[string]any{"volumeId": v.id, "stagingTargetPath": v.staging}
}

// use gives a volume to a workload, by calls that are made times.
func (c *csiRack) use(v *csiVolume, times int) {
	c.t.Helper()
	c.attach(v)
	for range times { // a call that is repeated changes nothing
		c.csi("host0", "NodeStageVolume", v.stage())
		c.csi("host0", "NodePublishVolume", v.publish())
	}
}

// drop takes a volume away from its workload.
func (c *csiRack) drop(v *csiVolume, times int) {
	c.t.Helper()
	for range times {
		c.csi("host0", "NodeUnpublishVolume", v.unpublish())
		c.csi("host0", "NodeUnstageVolume", v.unstage())
		c.csi("portal", "ControllerUnpublishVolume", map[string]any{"volumeId": v.id, "nodeId": c.node})
	}
}

func (c *csiRack) remove(v *csiVolume) {
	c.t.Helper()
	c.csi("portal", "DeleteVolume", map[string]any{"volumeId": v.id})
}

// newCSIRack starts a cluster with the driver.
func newCSIRack(t *verdict.T) *csiRack {
	t.Helper()
	dns, cns := []string{"dn0", "dn1"}, []string{"cn0", "cn1"}
	r := newHosts(t, "portal", "host0", "dn0", "dn1", "cn0", "cn1")
	r.plan = r.plan.OnDisks()
	r.hosts["cli"] = r.hosts["portal"]
	tool, err := filepath.Abs(filepath.Join("..", "..", "out", "csicall"))
	if err != nil {
		t.Fatal(err)
	}
	build := exec.CommandContext(t.Context(), "go", "build", "-ldflags=-s -w", "-o", tool, "./csicall")
	build.Env = append(build.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	hand(t.Context(), t, r.hosts["portal"].(*lab.Host), tool, "/usr/local/bin/csicall")
	r.run("portal", "chmod 755 /usr/local/bin/csicall && tar -xzf vda.tar.gz -C /usr/local/bin")
	r.run("portal", "vda_db --action create --db-uri "+sqliteURI)
	r.secrets = newSecrets(sqliteURI)
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
				`{"type":"aio","filename":"/root/disk","size":1073741824}` + "'\n"
		}
	}
	r.run("portal", script)
	c := &csiRack{rack: r, token: r.user("csi", "csi")}
	c.startCSI("portal", "controller")
	r.run("portal", "cd /usr/local/bin && setsid python3 -m http.server 8000 > /tmp/http.log 2>&1 < /dev/null & true")
	c.startHost()
	c.node = r.csi("host0", "NodeGetInfo", nil)["nodeId"].(string)
	return c
}

// startHost gives the Linux host what it has of the driver after a boot.
func (c *csiRack) startHost() {
	c.t.Helper()
	c.waitFor("host0", "cd /usr/bin && for p in vda_csi csicall; do\n"+
		"busybox wget -q -O $p http://192.168.0.11:8000/$p && chmod 755 $p || exit 1\ndone", 60*time.Second)
	c.run("host0", "modprobe nvme-tcp && modprobe ext4; mkdir -p /var/lib/kubelet /tmp")
	c.startCSI("host0", "node")
}

// TestCSI has a Linux host's kernel use volumes of a secured cluster as kubelet does, one whose host
// and controllers prove themselves and one without keys: a file system and a raw
// block device are made, mounted and written; their primary's node dies while programs
// write; they grow, are snapshotted and copied; the driver is killed at each step of each
// call; the host is restarted without an unstage; and in the end nothing is left.
func TestCSI(plain *testing.T) {
	t := verdict.New(plain)
	r := newCSIRack(t)
	defer r.logs()
	defer func() {
		if t.Failed() {
			t.Logf("%s", r.try("host0", "tail -n 40 /tmp/csi.log; dmesg | tail -n 30").Stdout)
		}
	}()
	begin := time.Now()
	lap := func(what string) {
		fmt.Printf("%5.1f s: %s\n", time.Since(begin).Seconds(), what)
	}
	fs, raw := newVolume("fs", "ext4").keyed(r.secrets), newVolume("raw", "")
	r.create(raw, 64, "50", nil)
	r.use(raw, 2)
	r.run("host0", "dd if=/dev/zero of="+raw.target+" bs=4096 count=1 conv=fsync,notrunc")
	r.firstWrites(fs)
	lap("volumes are written to")
	r.run("host0", "test -b "+raw.target+" && mountpoint -q "+fs.target+" || grep -q "+fs.target+" /proc/mounts")
	if out := r.run("host0", "cat /sys/class/nvme/nvme*/state | sort | uniq -c"); !strings.Contains(out, "4 live") {
		t.Errorf("controllers: %s", out)
	}

	r.provesItself(fs)

	// A volume that is published cannot be unstaged, and a driver that was killed goes on.
	if res := r.try("host0", call("NodeUnstageVolume", fs.unstage())); res.Code == 0 {
		t.Errorf("unstaged under a workload: %s", res.Stdout)
	}
	r.startCSI("host0", "node")
	r.csi("host0", "NodeGetVolumeStats", map[string]any{"volumeId": fs.id, "volumePath": fs.target})
	r.csi("host0", "NodeGetVolumeHealth", map[string]any{"volumeId": fs.id})

	r.loseNode(fs)
	lap("the primary's node has died, and the volume has grown")
	r.copies(fs)
	lap("a snapshot is restored, and a volume is cloned")
	for _, v := range []*csiVolume{fs, raw} {
		r.drop(v, 2)
	}
	r.nothingOnHost()
	r.deaths()
	lap("the driver has died at each step")
	r.controllerDies()
	lap("the controller's driver has died")
	r.restartHost(fs, raw)
	lap("the host was restarted")
	for _, v := range []*csiVolume{fs, raw} {
		r.remove(v)
	}
	if out := r.run("portal", cli+"da list -o name; "+cli+"exp list -o name; "+cli+"snap list -o name"); strings.TrimSpace(out) != "" {
		t.Errorf("left in the cluster: %s", out)
	}
	r.nothingOnHost()
}

// provesItself checks that the host's connections to a volume that it uses are of hosts and
// controllers that have proved themselves, that the host gets at another such volume by its
// key alone, and that no key is in a log.
func (c *csiRack) provesItself(used *csiVolume) {
	c.t.Helper()
	out := c.run("host0", "cd /sys/class/nvme; for n in *; do echo $(cat $n/dhchap_secret) $(cat $n/dhchap_ctrl_secret); done")
	own := 0
	for line := range strings.Lines(out) {
		if line == c.secrets.hosts["host0"]+" "+c.secrets.ctrlr+"\n" {
			own++
		}
	}
	if own != 2 {
		c.t.Errorf("of the host's connections %d prove themselves as %s's two must:\n%s", own, used.name, out)
	}
	v := newVolume("proven", "ext4").keyed(c.secrets)
	c.create(v, 16, "100", nil)
	c.attach(v)
	for what, keys := range map[string]map[string]any{
		"another host's key":       {"dhchapKey": c.secrets.hosts["host1"], "dhchapCtrlrKey": c.secrets.ctrlr},
		"another controller's key": {"dhchapKey": c.secrets.hosts["host0"], "dhchapCtrlrKey": c.secrets.hosts["host1"]},
		"no key":                   nil,
	} {
		with := *v
		with.keys = keys
		res := c.try("host0", call("NodeStageVolume", with.stage()))
		if says := string(res.Stdout) + string(res.Stderr); res.Code == 0 || !strings.Contains(says, "dhchapKey") {
			c.t.Errorf("staged with %s: exit %d: %s", what, res.Code, says)
		}
	}
	c.use(v, 1)
	c.drop(v, 1)
	c.remove(v)
	for _, server := range []string{"portal", "host0"} {
		if out := c.run(server, "grep -n DHHC-1 /tmp/*.log || true"); out != "" {
			c.t.Errorf("keys in a log of %s: %s", server, out)
		}
	}
}

// nothingOnHost checks that the host has neither connections nor mounts of volumes, and that
// its kernel has seen no error of theirs since it was started.
func (c *csiRack) nothingOnHost() {
	c.t.Helper()
	if out := c.run("host0", "ls /sys/class/nvme; grep -c kubelet /proc/mounts || true"); strings.TrimSpace(out) != "0" {
		c.t.Errorf("left on the host: %s", out)
	}
	if out := c.run("host0", "dmesg | grep -E 'I/O error|EXT4-fs error|Buffer I/O' || true"); out != "" {
		c.t.Errorf("the host's kernel says: %s", out)
	}
}

// firstWrites makes volumes with a file system, of which fs stays, and says how long it
// takes from CreateVolume until one has been written to.
func (c *csiRack) firstWrites(fs *csiVolume) {
	c.t.Helper()
	var took []time.Duration
	for i := range 5 {
		v, ratio := newVolume(fmt.Sprint("first", i), "ext4").keyed(c.secrets), "50"
		if i == 0 {
			v, ratio = fs, "600" // with room for a snapshot and a clone
		}
		begin := time.Now()
		c.create(v, 64, ratio, nil)
		c.use(v, 1)
		c.run("host0", "dd if=/dev/zero of="+v.target+"/first bs=4096 count=1 conv=fsync")
		took = append(took, time.Since(begin))
		if v == fs {
			c.use(v, 1)
			continue
		}
		c.drop(v, 1)
		c.remove(v)
	}
	slices.Sort(took)
	fmt.Printf("CreateVolume to the first write: p50 %.2f s, %.2f to %.2f s, of %d ext4 volumes\n", took[len(took)/2].Seconds(),
		took[0].Seconds(), took[len(took)-1].Seconds(), len(took))
}

// loseNode has the node of a volume's primary die while programs write to its file system;
// one verifies, and one waits for each write to be on media, as databases do. The volume grows
// meanwhile.
func (c *csiRack) loseNode(fs *csiVolume) {
	c.t.Helper()
	const length = 15 * time.Second
	c.startFio("fs", fs.target+"/file", "8m", length)
	c.run("host0", "rm -f /tmp/fsync.*; (trap '' PIPE; fio --name=fsync --filename="+fs.target+"/log --size=4m --rw=write --bs=4k --fsync=1"+
		" --rate_iops=25 --ioengine=psync --time_based --runtime="+fmt.Sprint(int(length.Seconds()))+
		" --output-format=json --output=/tmp/fsync.json > /tmp/fsync.txt 2>&1; echo $? > /tmp/fsync.code) > /dev/null 2>&1 &")
	time.Sleep(3 * time.Second)
	cn := c.primary("fs")
	c.die(cn)
	time.Sleep(4 * time.Second)
	c.startNode(cn)
	c.grow(fs, 128)
	pause, ios := c.endFio("fs")
	fmt.Printf("the primary's node died, and the volume grew: %d I/O, longest %.3f s\n", ios, pause.Seconds())
	syncs, longest := c.endSyncs()
	fmt.Printf("the same with an fsync after each write: %d fsyncs, longest %.3f s\n", syncs, longest.Seconds())
	if out := strings.TrimSpace(c.run("host0", "stat -f -c '%b %S' "+fs.target)); !bigger(out, 100<<20) {
		c.t.Errorf("the file system has %s after it has grown to 128 MiB", out)
	}
}

// grow expands a volume that is used.
func (c *csiRack) grow(v *csiVolume, mib int) {
	c.t.Helper()
	size := map[string]any{"requiredBytes": fmt.Sprint(mib << 20)}
	c.csi("portal", "ControllerExpandVolume", map[string]any{"volumeId": v.id, "capacityRange": size, "volumeCapability": v.capability})
	c.csi("host0", "NodeExpandVolume", map[string]any{"volumeId": v.id, "volumePath": v.target, "stagingTargetPath": v.staging,
		"capacityRange": size})
}

// endSyncs waits for the program that syncs each write.
func (c *csiRack) endSyncs() (count int64, longest time.Duration) {
	c.t.Helper()
	code := strings.TrimSpace(c.waitFor("host0", "cat /tmp/fsync.code", 100*time.Second))
	text := c.run("host0", "cat /tmp/fsync.json")
	var out struct {
		Jobs []struct {
			Error int
			Sync  struct {
				TotalIOs int64               `json:"total_ios"`
				LatNs    struct{ Max int64 } `json:"lat_ns"`
			}
		}
	}
	err := json.NewDecoder(strings.NewReader(text[max(strings.Index(text, "{"), 0):])).Decode(&out)
	if err != nil || code != "0" || len(out.Jobs) != 1 || out.Jobs[0].Error != 0 || out.Jobs[0].Sync.LatNs.Max == 0 {
		c.t.Fatalf("fio with fsync: exit %s: %v: %s\n%s", code, err, c.run("host0", "cat /tmp/fsync.txt"), text)
	}
	return out.Jobs[0].Sync.TotalIOs, time.Duration(out.Jobs[0].Sync.LatNs.Max)
}

// copies restores a snapshot of a volume that is used, and clones the volume: each copy has
// what its source had at that time, and goes its own way.
func (c *csiRack) copies(fs *csiVolume) {
	c.t.Helper()
	c.run("host0", "echo before > "+fs.target+"/kept && sync -f "+fs.target+"/kept")
	snap := c.csi("portal", "CreateSnapshot", map[string]any{"name": "snap", "sourceVolumeId": fs.id})["snapshot"].(map[string]any)
	id := snap["snapshotId"].(string)
	c.run("host0", "echo after > "+fs.target+"/kept && sync -f "+fs.target+"/kept")
	restored, cloned := newVolume("restored", "ext4").keyed(c.secrets), newVolume("cloned", "ext4")
	c.create(restored, 160, "100", map[string]any{"snapshot": map[string]any{"snapshotId": id}}) // larger than its source
	c.create(cloned, 128, "100", map[string]any{"volume": map[string]any{"volumeId": fs.id}})
	for v, want := range map[*csiVolume]string{restored: "before", cloned: "after"} {
		c.use(v, 1)
		if out := strings.TrimSpace(c.run("host0", "cat "+v.target+"/kept")); out != want {
			c.t.Errorf("%s has %q, not %q", v.name, out, want)
		}
		c.run("host0", "echo "+v.name+" > "+v.target+"/kept && sync -f "+v.target+"/kept")
	}
	if out := strings.TrimSpace(c.run("host0", "stat -f -c '%b %S' "+restored.target)); !bigger(out, 140<<20) {
		c.t.Errorf("the file system of the restored volume has %s of 160 MiB", out)
	}
	if out := strings.TrimSpace(c.run("host0", "cat "+fs.target+"/kept")); out != "after" {
		c.t.Errorf("the source of copies has %q", out)
	}
	for _, v := range []*csiVolume{restored, cloned} {
		c.drop(v, 1)
	}
	c.csi("portal", "DeleteSnapshot", map[string]any{"snapshotId": id}) // waits until the copy has all data
	for _, v := range []*csiVolume{restored, cloned} {
		c.remove(v)
	}
}

// walk makes a call of plugins of which one dies at each of its steps, and once more of the
// driver. It returns the steps.
func (c *csiRack) walk(method string, req map[string]any) []string {
	c.t.Helper()
	out := strings.TrimSpace(c.run("host0", "csicall walk "+method+" "+quoted(req)))
	lines := strings.Split(out, "\n")
	c.reply(method, lines[len(lines)-1])
	return lines[:len(lines)-1]
}

// deaths has the driver die at each step of each call about volumes of both kinds, which are
// used in the end, and taken away, as if nothing had been.
func (c *csiRack) deaths() {
	c.t.Helper()
	c.stopCSI("host0")
	fs, raw := newVolume("mortal-fs", "ext4").keyed(c.secrets), newVolume("mortal-raw", "")
	for _, v := range []*csiVolume{fs, raw} {
		c.create(v, 64, "100", nil)
		c.attach(v)
		steps := map[string][]string{"NodeStageVolume": c.walk("NodeStageVolume", v.stage()),
			"NodePublishVolume": c.walk("NodePublishVolume", v.publish())}
		if v == fs {
			c.run("host0", "echo kept > "+v.target+"/kept && sync -f "+v.target+"/kept")
			size := map[string]any{"requiredBytes": fmt.Sprint(128 << 20)}
			c.csi("portal", "ControllerExpandVolume", map[string]any{"volumeId": v.id, "capacityRange": size, "volumeCapability": v.capability})
			steps["NodeExpandVolume"] = c.walk("NodeExpandVolume", map[string]any{"volumeId": v.id, "volumePath": v.target,
				"stagingTargetPath": v.staging, "capacityRange": size})
			if out := strings.TrimSpace(c.run("host0", "cat "+v.target+"/kept; stat -f -c '%b %S' "+v.target)); !strings.HasPrefix(out, "kept\n") ||
				!bigger(out[5:], 100<<20) {
				c.t.Errorf("after the driver has died at each step the file and the size are %q", out)
			}
		} else {
			c.run("host0", "test -b "+v.target+" && dd if=/dev/zero of="+v.target+" bs=4096 count=1 conv=fsync,notrunc")
		}
		steps["NodeUnpublishVolume"] = c.walk("NodeUnpublishVolume", v.unpublish())
		steps["NodeUnstageVolume"] = c.walk("NodeUnstageVolume", v.unstage())
		want := map[string][]string{"NodeStageVolume": {"during Connect", "after Connect"}, "NodePublishVolume": {"before Bind", "after Bind"},
			"NodeUnpublishVolume": {"before Unmount", "after Unmount"},
			"NodeUnstageVolume":   {"after Flush", "during Disconnect", "after Disconnect"}}
		if v == fs {
			want["NodeStageVolume"] = append(want["NodeStageVolume"], "during Format", "after Format", "before Mount", "after Mount", "after Grow")
			want["NodeUnstageVolume"] = append(want["NodeUnstageVolume"], "before Unmount", "after Unmount")
			want["NodeExpandVolume"] = []string{"after Grow"}
		}
		for method, list := range want {
			fmt.Printf("%s of %s died %s\n", method, v.name, strings.Join(steps[method], ", "))
			for _, w := range list {
				if !slices.ContainsFunc(steps[method], func(s string) bool { return strings.HasPrefix(s, w) }) {
					c.t.Errorf("%s of %s did not die %s, but %q", method, v.name, w, steps[method])
				}
			}
		}
	}
	c.nothingOnHost()
	c.startCSI("host0", "node")
	for _, v := range []*csiVolume{fs, raw} { // a last time by the driver
		c.drop(v, 1)
	}
	c.use(fs, 1)
	if out := strings.TrimSpace(c.run("host0", "cat "+fs.target+"/kept")); out != "kept" {
		c.t.Errorf("the file has %q", out)
	}
	for _, v := range []*csiVolume{fs, raw} {
		c.drop(v, 1)
		c.remove(v)
	}
}

// controllerDies kills the controller's driver in the middle of its calls, at times that are
// up to chance. A call that is made again finds what the one before has done.
func (c *csiRack) controllerDies() {
	c.t.Helper()
	rnd := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 0))
	died := 0
	dying := func(method string, req map[string]any) map[string]any {
		c.t.Helper()
		res := c.try("portal", fmt.Sprintf("%s > /tmp/reply 2>&1 & call=$!; sleep 0.%03d; pkill -9 -x vda_csi; wait $call", call(method, req),
			rnd.IntN(150)))
		if res.Code != 0 {
			died++
		}
		c.startCSI("portal", "controller")
		return c.csi("portal", method, req)
	}
	v := newVolume("dying", "ext4")
	for i := range 2 {
		made := dying("CreateVolume", map[string]any{"name": v.name, "volumeCapabilities": []any{v.capability},
			"capacityRange": map[string]any{"requiredBytes": "16777216"}})["volume"].(map[string]any)
		v.id = made["volumeId"].(string)
		dying("ControllerPublishVolume", map[string]any{"volumeId": v.id, "nodeId": c.node, "volumeCapability": v.capability})
		if out := strings.Fields(c.run("portal", cli+"exp list -o name")); len(out) != 1 {
			c.t.Errorf("round %d: the exporters of one publication are %q", i, out)
		}
		dying("ControllerUnpublishVolume", map[string]any{"volumeId": v.id, "nodeId": c.node})
		dying("DeleteVolume", map[string]any{"volumeId": v.id})
		if out := strings.Fields(c.run("portal", cli+"exp list -o name; "+cli+"da list -o name")); slices.Contains(out, v.id) {
			c.t.Errorf("round %d: left: %q", i, out)
		}
	}
	fmt.Printf("the controller's driver died in %d of 8 calls\n", died)
}

// restartHost has the host restart without an unstage, while a program writes. What was on
// media is there: one volume is used again, as kubelet does, with what it was told before, and
// one is not, as its pod has gone meanwhile.
func (c *csiRack) restartHost(fs, raw *csiVolume) {
	c.t.Helper()
	for _, v := range []*csiVolume{fs, raw} {
		c.use(v, 1)
	}
	if out := c.run("host0", "cat "+fs.target+"/kept"); out != "after\n" {
		c.t.Errorf("the file has %q", out)
	}
	c.run("host0", "echo durable > "+fs.target+"/kept && sync -f "+fs.target+"/kept; echo durable | dd of="+raw.target+
		" bs=4096 count=1 conv=sync,fsync,notrunc")
	c.startFio("torn", fs.target+"/torn", "8m", time.Minute)
	time.Sleep(time.Second)
	c.run("host0", "(sleep 0.3; echo b > /proc/sysrq-trigger) > /dev/null 2>&1 &")
	ctx, cancel := context.WithTimeout(c.t.Context(), 2*time.Minute)
	defer cancel()
	if err := c.hosts["host0"].(*guest.Guest).Restart(ctx); err != nil {
		c.t.Fatal(err)
	}
	c.startHost()
	if now := c.csi("host0", "NodeGetInfo", nil)["nodeId"]; now != c.node {
		c.t.Fatalf("the host is node %v after a restart, and was %s", now, c.node)
	}
	c.csi("host0", "NodeUnpublishVolume", raw.unpublish())
	c.csi("host0", "NodeUnstageVolume", raw.unstage())
	c.csi("portal", "ControllerUnpublishVolume", map[string]any{"volumeId": raw.id, "nodeId": c.node})
	c.run("host0", "mkdir -p "+fs.staging+" "+fs.target) // which stay on a disk
	c.csi("host0", "NodeStageVolume", fs.stage())
	c.csi("host0", "NodePublishVolume", fs.publish())
	if out := c.run("host0", "cat "+fs.target+"/kept && touch "+fs.target+"/new"); out != "durable\n" {
		c.t.Errorf("after a restart the file has %q", out)
	}
	c.use(raw, 1)
	if out := c.run("host0", "head -c 7 "+raw.target); out != "durable" {
		c.t.Errorf("after a restart the block device has %q", out)
	}
	for _, v := range []*csiVolume{fs, raw} {
		c.drop(v, 1)
	}
}

// bigger reports that blocks times their size are more than bytes.
func bigger(out string, bytes int64) bool {
	var blocks, size int64
	_, err := fmt.Sscan(out, &blocks, &size)
	return err == nil && blocks*size > bytes
}
