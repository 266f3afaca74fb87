//go:build e2e

package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/virtual-disk-array/vda/test/verdict"
)

// volume is an array with a file system that the Linux host has mounted.
type volume struct {
	*rack
	da, fs   string
	size     int // MiB
	at       string
	readOnly string // options with which a snapshot of it is mounted
	beside   string // and those with which a clone is
	grow     string // makes the mounted file system as large as its device
}

func nqnOf(da, exp string) string { return "nqn.2016-06.io.spdk:vda-exp-" + da + "-" + exp }

// use exports an array, or a snapshot of it, to the Linux host, which connects by both paths.
func (r *rack) use(da, exp, more string) (dev string) {
	r.t.Helper()
	r.run("portal", cli+"exp create --da-name "+da+" --exp-name "+exp+" --initiator-nqn nqn.2016-06.io.spdk:host0 "+more)
	for _, cn := range []string{"cn0", "cn1"} {
		r.waitFor("host0", "nvme connect -t tcp -n "+nqnOf(da, exp)+" -a "+addressOf(cn)+" -s 4430 --hostnqn nqn.2016-06.io.spdk:host0"+
			patientOptions, 30*time.Second)
	}
	r.waitFor("host0", "test -b \""+device(nqnOf(da, exp))+"\"", 30*time.Second)
	r.allLive(nqnOf(da, exp))
	return strings.TrimSpace(r.run("host0", "echo "+device(nqnOf(da, exp))))
}

// unuse is the end of that.
func (r *rack) unuse(da, exp string) {
	r.t.Helper()
	r.run("host0", "nvme disconnect -n "+nqnOf(da, exp)+" > /dev/null")
	r.run("portal", cli+"exp delete --da-name "+da+" --exp-name "+exp+" --wait=60s")
}

// TestVolumes has Linux do with volumes what docs/volumes.md says of it, on ext4 and XFS: a file
// system is frozen and snapshotted, and snapshotted while programs write; snapshots are read-only
// disks, on which the kernel mounts what they show; file systems grow under fio without another
// connection; a clone is a disk of its own; and hosts fence each other by reservations.
func TestVolumes(plain *testing.T) {
	t := verdict.New(plain)
	r := newCluster(t, []string{"dn0", "dn1"}, []string{"cn0", "cn1"}, 2<<30)
	defer r.logs()
	begin := time.Now()
	lap := func(what string) { fmt.Printf("%5.1f s: %s\n", time.Since(begin).Seconds(), what) }
	r.run("host0", "modprobe -a nvme-tcp ext4 xfs; mkdir -p /mnt/snap /mnt/clone")
	volumes := []*volume{
		{r, "books", "ext4", 64, "/mnt/books", "ro,noload", "rw", "resize2fs " + device(nqnOf("books", "exp0"))},
		{r, "films", "xfs", 320, "/mnt/films", "ro,norecovery,nouuid", "rw,nouuid", "xfs_growfs /mnt/films"}, // mkfs.xfs takes 300 MiB at least
	}
	for _, v := range volumes {
		r.waitFor("portal", fmt.Sprintf(cli+"da create --da-name %s --cntlr-cnt 2 --da-size %dM --physical-size %dM", v.da, v.size, 4*v.size),
			60*time.Second)
		dev := r.use(v.da, "exp0", "")
		r.run("host0", "mkdir -p "+v.at+" && mkfs."+v.fs+" -q "+dev+" && mount -t "+v.fs+" "+dev+" "+v.at)
	}
	lap("ext4 and XFS are mounted")
	for _, v := range volumes {
		v.snapshots()
		lap(v.fs + " was snapshotted, frozen and in use")
	}
	for _, v := range volumes {
		v.clone()
		lap("a clone of " + v.fs + " was compared and written to")
	}
	for _, v := range volumes {
		v.grows()
		lap(v.fs + " has grown under fio")
	}
	for _, v := range volumes {
		r.run("host0", "umount "+v.at)
		if v.fs == "ext4" {
			r.run("host0", "fsck.ext4 -f -n "+device(nqnOf(v.da, "exp0")))
		} else { // its log is replayed when it was not clean
			r.run("host0", "mount -t xfs "+device(nqnOf(v.da, "exp0"))+" "+v.at+" && umount "+v.at)
		}
	}
	if out := r.run("host0", "dmesg | grep -E 'I/O error|EXT4-fs error|Buffer I/O|XFS.*(orrupt|error)' || true"); out != "" {
		t.Errorf("the host's kernel says: %s", out)
	}
	r.reservations()
	lap("two hosts have fenced each other")
}

// snapshots takes two of a file system, and looks at them.
func (v *volume) snapshots() {
	v.t.Helper()
	v.run("host0", "echo before > "+v.at+"/kept && fsfreeze -f "+v.at)
	v.run("portal", cli+"snap create --da-name "+v.da+" --snap-name frozen")
	v.run("host0", "fsfreeze -u "+v.at+" && echo after > "+v.at+"/kept && sync -f "+v.at)
	v.startFio(v.da, v.at+"/file", "16m", 6*time.Second)
	time.Sleep(2 * time.Second)
	begin := time.Now()
	v.run("portal", cli+"snap create --da-name "+v.da+" --snap-name inuse")
	took := time.Since(begin)
	pause, ios := v.endFio(v.da)
	fmt.Printf("%-5s a snapshot under fio took %.3f s with its command: %d I/O, longest %.3f s\n", v.fs, took.Seconds(), ios, pause.Seconds())
	for _, snap := range []string{"frozen", "inuse"} {
		dev := v.use(v.da, snap, "--snap-name "+snap)
		v.protected(dev)
		v.run("host0", "mount -t "+v.fs+" -o "+v.readOnly+" "+dev+" /mnt/snap")
		// The journal of what was not frozen is not replayed: that is done on a clone.
		if out := strings.TrimSpace(v.run("host0", "ls /mnt/snap; cat /mnt/snap/kept")); snap == "frozen" && !strings.HasSuffix(out, "\nbefore") {
			v.t.Errorf("%s in the snapshot %s: %q", v.fs, snap, out)
		}
		if res := v.try("host0", "touch /mnt/snap/new"); res.Code == 0 {
			v.t.Errorf("%s: a file was made in the snapshot %s", v.fs, snap)
		}
		v.run("host0", "umount /mnt/snap")
		if v.fs == "ext4" && snap == "frozen" {
			v.run("host0", "fsck.ext4 -f -n "+dev) // there is nothing to be replayed
		}
		v.unuse(v.da, snap)
	}
}

// protected has Linux say that a disk is read-only, and the controller that a write to it is not
// done: the kernel asks it nothing where programs write, so the command itself is sent.
func (v *volume) protected(dev string) {
	v.t.Helper()
	if out := strings.TrimSpace(v.run("host0", "blockdev --getro "+dev)); out != "1" {
		v.t.Errorf("%s, a snapshot: read-only is %s", dev, out)
	}
	was := v.run("host0", "dd if="+dev+" bs=4096 count=1 iflag=direct status=none | sha256sum")
	out := v.run("host0", "dd if=/dev/urandom of=/tmp/block bs=4096 count=1 status=none; "+
		"nvme write "+dev+" --start-block=0 --block-count=0 --data-size=4096 --data=/tmp/block 2>&1 || true")
	if !strings.Contains(strings.ToLower(out), "write protected") {
		v.t.Errorf("a write to a snapshot ends with %q", out)
	}
	if now := v.run("host0", "dd if="+dev+" bs=4096 count=1 iflag=direct status=none | sha256sum"); now != was {
		v.t.Errorf("a write to a snapshot has changed it")
	}
}

// clone makes an array of the snapshot of a file system in use: it is the same, block by block, as
// it, and then its own.
func (v *volume) clone() {
	v.t.Helper()
	const snap = "inuse"
	from := v.use(v.da, snap, "--snap-name "+snap)
	begin := time.Now()
	v.run("portal", cli+"da create --da-name copy --cntlr-cnt 2 --from-snap "+v.da+"/"+snap)
	dev := v.use("copy", "exp0", "")
	took := time.Since(begin)
	if v.fs == "ext4" { // the other is too large for a machine that is emulated
		v.run("host0", "cmp "+from+" "+dev)
	}
	v.run("host0", "mount -t "+v.fs+" -o "+v.beside+" "+dev+" /mnt/clone") // which replays the journal
	if out := strings.TrimSpace(v.run("host0", "cat /mnt/clone/kept")); out != "after" {
		v.t.Errorf("%s in a clone: %q", v.fs, out)
	}
	v.run("host0", "echo mine > /mnt/clone/kept && umount /mnt/clone && ! cmp -s "+from+" "+dev)
	if v.fs == "ext4" {
		v.run("host0", "fsck.ext4 -f -n "+dev)
	}
	v.unuse("copy", "exp0")
	v.unuse(v.da, snap)
	v.waitFor("portal", cli+"da get --da-name copy | tee /tmp/da | grep -q '\"clone_of\": \"\"' || { cat /tmp/da; exit 1; }", 100*time.Second)
	v.run("portal", cli+"da delete --da-name copy --wait=60s")
	if out := strings.TrimSpace(v.run("host0", "cat "+v.at+"/kept")); out != "after" {
		v.t.Errorf("what was cloned has %q", out)
	}
	fmt.Printf("%-5s Linux had a clone of %d MiB %.3f s after the order\n", v.fs, v.size, took.Seconds())
}

// bytes is what the file system says that it has.
func (v *volume) bytes() int64 {
	v.t.Helper()
	var blocks, size int64
	out := v.run("host0", "stat -f -c '%b %S' "+v.at)
	if _, err := fmt.Sscan(out, &blocks, &size); err != nil {
		v.t.Fatalf("stat -f %s: %v: %q", v.at, err, out)
	}
	return blocks * size
}

// grows gives an array more bytes while fio writes to its file system, which grows too.
func (v *volume) grows() {
	v.t.Helper()
	const more, zeros = 64, 12 // MiB that are added, and looked at where they begin and where they end
	dev := device(nqnOf(v.da, "exp0"))
	connections := func() string { // and how often each was made
		return v.run("host0", "dmesg | grep -cE 'nvme.*(new ctrl|reconnect|starting error recovery)'; ls /sys/class/nvme")
	}
	v.startFio(v.da, v.at+"/file", "16m", 5*time.Second)
	calm, _ := v.endFio(v.da)
	was, had := connections(), v.bytes()
	v.startFio(v.da, v.at+"/file", "16m", 10*time.Second)
	time.Sleep(time.Second)
	begin := time.Now()
	v.run("portal", fmt.Sprintf(cli+"da modify --da-name %s --da-size %dM", v.da, v.size+more))
	v.waitFor("host0", fmt.Sprintf("test $(blockdev --getsize64 %s) = %d", dev, (v.size+more)<<20), 100*time.Second)
	took := time.Since(begin)
	for _, at := range []int{v.size, v.size + more - zeros} {
		v.run("host0", fmt.Sprintf("dd if=%s bs=1M skip=%d count=%d iflag=direct status=none > /tmp/added; test $(stat -c %%s /tmp/added) = %d"+
			" && cmp -n %d /tmp/added /dev/zero", dev, at, zeros, zeros<<20, zeros<<20))
	}
	v.run("host0", v.grow)
	whole := time.Since(begin)
	pause, ios := v.endFio(v.da)
	fmt.Printf("%-5s Linux saw the new size %.3f s after the order, and the file system had it after %.3f s: %d I/O, longest %.3f s; "+
		"%.3f s without a growth\n", v.fs, took.Seconds(), whole.Seconds(), ios, pause.Seconds(), calm.Seconds())
	if now := connections(); now != was {
		v.t.Errorf("connections before %s and after %s: it has connected again", was, now)
	}
	// Tables, and the log of XFS, do not count.
	if now := v.bytes(); now < had+more*3/4<<20 {
		v.t.Errorf("the file system had %d bytes, and has %d after it has grown by %d MiB", had, now, more)
	}
	v.run("host0", fmt.Sprintf("dd if=/dev/urandom of=%s/large bs=1M count=24 conv=fsync status=none", v.at))
	v.run("host0", "sha256sum "+v.at+"/large > /tmp/sum && echo 3 > /proc/sys/vm/drop_caches && sha256sum -c /tmp/sum")
}
