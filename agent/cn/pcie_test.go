package cn_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/virtual-disk-array/vda/agent"
	"github.com/virtual-disk-array/vda/agent/planetest"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/spdk"
)

const pciAddress = "0000:01:00.0"

// pcie is a data plane with an NVMe disk in a PCI slot that it reaches over
// TCP in truth: all but the attach call is as it would be.
type pcie struct {
	*spdk.Client
	t  testing.TB
	at spdk.TransportID

	socket string
}

// StartID tells the runs of a vda_tgt inside the test apart, which have one
// process.
func (c pcie) StartID(ctx context.Context) (string, error) {
	id, err := c.Client.StartID(ctx)
	if err != nil {
		return "", err
	}
	fi, err := os.Stat(c.socket)
	if err != nil {
		return "", err
	}
	return fmt.Sprint(id, " ", fi.ModTime().UnixNano()), nil
}

func (c pcie) Call(ctx context.Context, method string, params, result any) error {
	if a, ok := params.(spdk.NvmeAttach); ok && method == "bdev_nvme_attach_controller" {
		if a.TrType != "PCIe" || a.TrAddr != pciAddress || a.TrSvcID != "" || a.SubNQN != "" {
			c.t.Errorf("attach of %+v", a)
		}
		a.TrType, a.TrAddr, a.AdrFam, a.TrSvcID, a.SubNQN = "TCP", c.at.TrAddr, c.at.AdrFam, c.at.TrSvcID, c.at.SubNQN
		params = a
	}
	return c.Client.Call(ctx, method, params, result)
}

// TestRealNVMeDisk has a pd of type nvme. There is no PCI device to test with;
// the disk is one behind NVMe/TCP.
func TestRealNVMeDisk(t *testing.T) { planes(t, realNVMeDisk) }

func realNVMeDisk(t *testing.T, spdkDN, spdkCN bool) {
	l := &lab{T: t, term: 1}
	_, g := nvmeDN(l, spdkDN)
	l.addCN(0, planetest.NodeConfig{Socket: newTgt(t, spdkCN).socket, Port: freePort(t)})
	l.array()
	l.spec.Size = 8 << 20 // of the one vd
	l.leased()
	l.up(0)
	l.spec.Create = false
	ns := l.disk(0)
	verify(t, ns, 0)
	write(t, ns, 0x77)
	verify(t, ns, 0x77)

	g.stop() // the disk keeps what is on it
	g.start()
	l.healthy(0)
	planetest.Eventually(t, func() string {
		for _, o := range g.objects() {
			if o == "subsystem nqn.2016-06.io.spdk:vda-vd-"+id("b0", 0) {
				return ""
			}
		}
		return "the vd is not back"
	})
	l.healthy(0)
	planetest.Eventually(t, func() string { // the controller may not have noticed yet, and let its hosts go
		ns, err := l.reach(0)
		if err == nil {
			err = ns.ReadAt(t.Context(), make([]byte, 4096), 0)
		}
		if err != nil {
			return err.Error()
		}
		return ""
	})
	verify(t, l.disk(0), 0x77)

	c := l.cntlr(0, 0)
	c.Deleted, c.DestroyData = true, true
	l.good(0, c)
	l.fence(true)
	if o := g.objects(); len(o) > 0 {
		t.Errorf("left: %v", o)
	}
}

// nvmeDN adds a dn with an NVMe disk of 64 MiB, and returns that and the dn's
// data plane.
func nvmeDN(l *lab, isSPDK bool) (box *stranger, g *tgt) {
	box = &stranger{tgt: newTgt(l, false), port: freePort(l.T)}
	at := spdk.TransportID{TrType: "TCP", AdrFam: "IPv4", TrAddr: "127.0.0.1", TrSvcID: box.port, SubNQN: strangerNQN}
	box.call("nvmf_create_transport", object{"trtype": "TCP"})
	box.call("bdev_malloc_create", object{"name": "Malloc0", "num_blocks": 16384, "block_size": 4096})
	box.call("nvmf_create_subsystem", object{"nqn": strangerNQN, "serial_number": "SPDK1", "allow_any_host": true})
	box.call("nvmf_subsystem_add_ns", object{"nqn": strangerNQN, "namespace": object{"bdev_name": "Malloc0"}})
	box.call("nvmf_subsystem_add_listener", object{"nqn": strangerNQN,
		"listen_address": object{"trtype": "TCP", "adrfam": "IPv4", "traddr": "127.0.0.1", "trsvcid": box.port}})

	g = newTgt(l, isSPDK)
	l.addDN(0, planetest.NodeConfig{Socket: g.socket, Port: freePort(l.T), Connect: func() (agent.Client, error) {
		c, err := spdk.New(spdk.Config{Socket: g.socket})
		return pcie{c, l, at, g.socket}, err
	}})
	l.pdConf = []string{`{"type":"nvme","traddr":"` + pciAddress + `"}`}
	return box, g
}

// An NVMe disk is formatted only when it is blank, or wiped once its user has
// been shown what is on it; a deleted pd leaves it blank.
func TestRealNVMeDiskInUse(t *testing.T) { planes(t, realNVMeDiskInUse) }

func realNVMeDiskInUse(t *testing.T, spdkDN, _ bool) {
	l := &lab{T: t, term: 1}
	box, _ := nvmeDN(l, spdkDN)
	disk, n := box.disk(), l.dns[0]
	put := func(what string) {
		t.Helper()
		if err := disk.WriteAt(t.Context(), append([]byte(what), make([]byte, 4096-len(what))...), 40<<20); err != nil {
			t.Fatal(err)
		}
	}
	holds := func() string {
		t.Helper()
		b := make([]byte, 4096)
		if err := disk.ReadAt(t.Context(), b, 40<<20); err != nil {
			t.Fatal(err)
		}
		return string(bytes.TrimRight(b, "\x00"))
	}
	pd := func(i int, more string, deleted bool) string {
		t.Helper()
		n.version++
		r, err := n.a.Sync(t.Context(), &apiv1.SyncDnRequest{ClusterId: cluster, NodeId: n.id, Version: n.version, AllowEmpty: true,
			Pds: []*apiv1.PdSpec{{Id: id("a0", i), Name: fmt.Sprint("pd", i), ConfJson: `{"type":"nvme","traddr":"` + pciAddress + `"` + more + `}`,
				Format: !deleted, Deleted: deleted, Version: n.version}}})
		if err != nil || len(r.States) != 1 || deleted && !r.States[0].Gone {
			t.Fatalf("%v, %v", r, err)
		}
		return r.States[0].ErrorMsg
	}
	put("somebody's data")
	for i, more := range []string{"", `,"wipe":true`} {
		put(fmt.Sprint("somebody's data ", i))
		if msg := pd(i, more, false); !strings.Contains(msg, "not blank") || !strings.Contains(msg, fmt.Sprint(40<<20)) {
			t.Errorf("pd %d: %q", i, msg)
		}
		if got := holds(); got != fmt.Sprint("somebody's data ", i) {
			t.Errorf("pd %d: the disk holds %q", i, got)
		}
		pd(i, more, true)
	}
	if msg := pd(2, `,"wipe":true`, false); msg != "" || holds() != "" {
		t.Errorf("shown and wiped: %q; the disk holds %q", msg, holds())
	}
	pd(2, `,"wipe":true`, true)
	if msg := pd(3, "", false); msg != "" {
		t.Errorf("after a deleted pd: %q", msg)
	}
}
