//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/virtual-disk-array/vda/test/verdict"
)

// thinMiB is the size of the volume that an emulated processor writes and checks over and over.
const thinMiB = 32

// TestLinuxHostOnDataPlane drives vda_tgt alone with Linux's NVMe/TCP driver:
// discovery and its event, and a thin volume under verified I/O and discard,
// without and with digests.
func TestLinuxHostOnDataPlane(plain *testing.T) {
	t := verdict.New(plain)
	r := newHosts(t, "dn0", "host0")
	defer r.logs()
	rpc := func(method, params string) string {
		t.Helper()
		return r.run("dn0", "vda_rpc -s /tmp/dn.sock "+method+" '"+params+"'")
	}
	r.run("dn0", "tar -xzf vda.tar.gz -C /usr/local/bin && (vda_tgt -r /tmp/dn.sock > /tmp/dn.log 2>&1 &)")
	r.waitFor("dn0", "test -S /tmp/dn.sock", 30*time.Second)
	rpc("nvmf_create_transport", `{"trtype":"TCP"}`)
	rpc("bdev_malloc_create", `{"name":"Malloc0","block_size":4096,"num_blocks":65536}`)
	rpc("bdev_lvol_create_lvstore", `{"bdev_name":"Malloc0","lvs_name":"lvs","cluster_sz":1048576}`)
	rpc("bdev_lvol_create", `{"lvs_name":"lvs","lvol_name":"thin","size_in_mib":`+fmt.Sprint(thinMiB)+`,"thin_provision":true}`)
	export := func(nqn, bdev string) {
		t.Helper()
		rpc("nvmf_create_subsystem", `{"nqn":"`+nqn+`","allow_any_host":true,"serial_number":"S","model_number":"M"}`)
		rpc("nvmf_subsystem_add_ns", `{"nqn":"`+nqn+`","namespace":{"bdev_name":"`+bdev+`"}}`)
		rpc("nvmf_subsystem_add_listener", `{"nqn":"`+nqn+`","listen_address":{"trtype":"TCP","adrfam":"IPv4","traddr":"192.168.0.14","trsvcid":"4420"}}`)
	}
	const first, second = "nqn.2016-06.io.spdk:first", "nqn.2016-06.io.spdk:second"
	export(first, "lvs/thin")
	r.run("host0", "modprobe nvme-tcp")

	// The discovery subsystem has a listener of its own, and so an entry.
	rpc("nvmf_subsystem_add_listener", `{"nqn":"nqn.2014-08.org.nvmexpress.discovery","listen_address":{"trtype":"TCP","adrfam":"IPv4","traddr":"192.168.0.14","trsvcid":"4420"}}`)
	out := r.run("host0", "nvme discover -t tcp -a 192.168.0.14 -s 4420")
	for _, want := range []string{first, "current discovery subsystem", "treq:    not specified"} {
		if !strings.Contains(out, want) {
			t.Errorf("nvme discover does not show %q:\n%s", want, out)
		}
	}
	// A persistent discovery controller hears of a new subsystem.
	r.run("host0", `cat > /tmp/event.sh <<'END'
#!/bin/sh
env | grep '^NVME_' >> /tmp/events
END
chmod 755 /tmp/event.sh; setsid busybox uevent /tmp/event.sh > /dev/null 2>&1 < /dev/null &`)
	r.run("host0", "nvme discover -t tcp -a 192.168.0.14 -s 4420 -p > /dev/null")
	rpc("bdev_malloc_create", `{"name":"Malloc1","block_size":4096,"num_blocks":4096}`)
	export(second, "Malloc1")
	r.waitFor("host0", "grep -q 'NVME_AEN=0x70f002' /tmp/events", 30*time.Second)
	r.run("host0", "nvme connect-all -t tcp -a 192.168.0.14 -s 4420")
	for _, nqn := range []string{first, second} {
		r.waitFor("host0", "test -b \""+device(nqn)+"\"", 30*time.Second)
	}
	r.run("host0", "nvme disconnect-all")

	allocated := func() int {
		t.Helper()
		var bdevs []struct {
			DriverSpecific struct {
				Lvol struct {
					NumAllocatedClusters int `json:"num_allocated_clusters"`
				} `json:"lvol"`
			} `json:"driver_specific"`
		}
		if err := json.Unmarshal([]byte(rpc("bdev_get_bdevs", `{"name":"lvs/thin"}`)), &bdevs); err != nil || len(bdevs) != 1 {
			t.Fatalf("bdev_get_bdevs: %v, %d bdevs", err, len(bdevs))
		}
		return bdevs[0].DriverSpecific.Lvol.NumAllocatedClusters
	}
	// A snapshot takes no writes, and Linux knows.
	const snap = "nqn.2016-06.io.spdk:snap"
	rpc("bdev_lvol_create", `{"lvs_name":"lvs","lvol_name":"old","size_in_mib":8,"thin_provision":true}`)
	rpc("bdev_lvol_snapshot", `{"lvol_name":"lvs/old","snapshot_name":"snap"}`)
	export(snap, "lvs/snap")
	r.run("host0", "nvme connect -t tcp -a 192.168.0.14 -s 4420 -n "+snap)
	r.waitFor("host0", "test -b \""+device(snap)+"\"", 30*time.Second)
	if got := strings.TrimSpace(r.run("host0", "cat /sys/block/$(basename "+device(snap)+")/ro")); got != "1" {
		t.Errorf("a namespace on a snapshot: ro is %s", got)
	}
	r.run("host0", "nvme disconnect -n "+snap+" > /dev/null")

	nvmeCLI(t, r, first, func() string {
		r.run("host0", "nvme connect -t tcp -a 192.168.0.14 -s 4420 -n "+first)
		r.waitFor("host0", "test -b \""+device(first)+"\"", 30*time.Second)
		return device(first)
	})
	for _, digests := range []string{"", "--hdr-digest --data-digest"} {
		r.run("host0", "nvme connect -t tcp -a 192.168.0.14 -s 4420 -n "+first+" "+digests)
		r.waitFor("host0", "test -b \""+device(first)+"\"", 30*time.Second)
		dev := device(first)
		if got := allocated(); got != 0 {
			t.Errorf("the empty thin volume has %d clusters", got)
		}
		begin := time.Now()
		r.run("host0", "fio --name=v --filename="+dev+" --rw=randrw --bsrange=4k-128k --size=100% --iodepth=16 --ioengine=libaio --direct=1 "+
			"--verify=crc32c --verify_fatal=1 --verify_backlog=256")
		r.run("host0", "fio --name=w --filename="+dev+" --rw=write --bs=128k --size=100% --iodepth=8 --ioengine=libaio --direct=1 "+
			"--verify=crc32c --verify_fatal=1")
		if got := allocated(); got != thinMiB {
			t.Errorf("the written thin volume has %d clusters, want %d", got, thinMiB)
		}
		r.run("host0", "blkdiscard "+dev)
		if got := allocated(); got != 0 {
			t.Errorf("after blkdiscard the thin volume has %d clusters", got)
		}
		r.run("host0", fmt.Sprintf("cmp -n %d %s /dev/zero", thinMiB<<20, dev))
		r.run("host0", "nvme disconnect -n "+first+" > /dev/null")
		fmt.Printf("thin volume under fio --verify and blkdiscard, digests %q: %.1f s\n", digests, time.Since(begin).Seconds())
	}
}

// nvmeCLI has nvme-cli ask for what controllers and namespaces tell, and go
// through a reservation.
func nvmeCLI(t *verdict.T, r *rack, nqn string, connect func() string) {
	t.Helper()
	dev := connect()
	shows := func(cmd string, want ...string) {
		t.Helper()
		out := r.run("host0", "nvme "+cmd+" 2>&1 || echo FAILED")
		if strings.Contains(out, "FAILED") {
			t.Errorf("nvme %s:\n%s", cmd, out)
			return
		}
		for _, w := range want {
			if !regexp.MustCompile(w).MatchString(out) {
				t.Errorf("nvme %s does not show %q:\n%s", cmd, w, out)
			}
		}
	}
	shows("id-ctrl "+dev, `subnqn\s*: `+nqn, `oncs\s*: 0xad`, `fuses\s*: 0x1`, `kas\s*: 10`)
	shows("id-ns "+dev, fmt.Sprintf(`nsze\s*: %#x\b`, thinMiB<<20/4096), `nuse\s*: 0\b`, `nsfeat\s*: 0x11`, `npdg\s*: 255`, `rescap\s*: 0xfe`, `lbads:12`)
	shows("ns-descs "+dev, `(?i)uuid`, `(?i)nguid`)
	shows("list-subsys", nqn, `tcp`, `live`)
	shows("smart-log "+dev, `critical_warning\s*: 0`, `temperature\s*: (25|77)`, `available_spare\s*: 100%`, `media_errors\s*: 0`)
	shows("fw-log "+dev, `frs1`)
	shows("error-log "+dev, `(?i)error log entries`)
	shows("effects-log "+dev+" --csi=0", `(?i)get log page`, `(?i)reservation`, `(?i)write zeroes`)
	shows("supported-log-pages "+dev, `0x2`, `0x80`)
	shows("changed-ns-list-log " + dev)
	shows("get-feature "+dev+" -f 6", `0x0*1`)

	shows("resv-register "+dev+" --nrkey=0x10 --rrega=0 --cptpl=3", `(?i)success`) // as IOC_PR_REGISTER asks
	shows("resv-acquire "+dev+" --crkey=0x10 --rtype=1 --racqa=0", `(?i)success`)
	shows("resv-report "+dev+" --eds", `gen\s*: 1`, `rtype\s*: 1`, `rkey\s*: (0x)?10`, `rcsts\s*: (0x)?1`)
	shows("resv-release "+dev+" --crkey=0x10 --rtype=1 --rrela=0", `(?i)success`)
	shows("resv-register "+dev+" --crkey=0x10 --rrega=1", `(?i)success`)
	shows("resv-report "+dev+" --eds", `regctl\s*: 0`)
	shows("resv-notif-log "+dev, `(?i)log_page_count|lpc|type`)
	// Of Write Zeroes Linux takes WZSL, not MDTS.
	if got := strings.TrimSpace(r.run("host0", "cat /sys/block/$(basename "+dev+")/queue/write_zeroes_max_bytes")); got != "33554432" {
		t.Errorf("Linux writes %s bytes of zeros at once, want 32 MiB", got)
	}
	r.run("host0", "nvme disconnect -n "+nqn+" > /dev/null")
}
