package vdatgt

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/virtual-disk-array/vda/nvmf/host"
	"github.com/virtual-disk-array/vda/spdk"
)

const miB = 1 << 20 // bytes

// Names of the array below.
const (
	exportNQN = "nqn.2016-06.io.spdk:vda-exp-da0-exp0"
	userNQN   = "nqn.2016-06.io.spdk:user"
	peerNQN   = "nqn.2016-06.io.spdk:vda-px-cntlr1"
	exportID  = "0b1c2d3e-0000-4000-8000-00000000e0e0"
)

// disk is a disk node with one virtual disk.
type disk struct {
	*plane
	port, nqn string
}

// newDisk makes a memory disk, an lvstore on it and an lvol that is exported
// to the controller of the first term.
func newDisk(t *testing.T, i int) *disk {
	d := &disk{plane: start(t, Config{}), port: freePort(t), nqn: fmt.Sprintf("nqn.2016-06.io.spdk:vda-vd-%d", i)}
	ctx := t.Context()
	must[string](t)(d.BdevMallocCreate(ctx, spdk.MallocCreate{Name: "vda-pd-0", BlockSize: 4096, NumBlocks: 64 * miB / 4096}))
	must[string](t)(d.BdevLvolCreateLvstore(ctx, spdk.LvstoreCreate{BdevName: "vda-pd-0", LvsName: "vda-pd", ClusterSz: miB}))
	vol := must[string](t)(d.BdevLvolCreate(ctx, spdk.LvolCreate{LvsName: "vda-pd", LvolName: "vda-vd", SizeInMiB: 24, ClearMethod: "none"}))
	id := fmt.Sprintf("0b1c2d3e-0000-4000-8000-0000000000%02d", i)
	d.export(spdk.NvmfSubsystemCreate{NQN: d.nqn, SerialNumber: "VD", ModelNumber: "VDA_VD"},
		spdk.NvmfNamespace{BdevName: vol, UUID: id, NGUID: hexID(id)}, d.port, term(1))
	return d
}

func term(n int) string { return fmt.Sprintf("nqn.2016-06.io.spdk:vda-cntlr-da0-%d", n) }

func hexID(id string) string {
	return string(bytes.ReplaceAll([]byte(id), []byte("-"), nil))
}

// join attaches the disks and puts the stripe over them.
func join(p *plane, disks []*disk, n int) {
	p.t.Helper()
	var bases []string
	for i, d := range disks {
		bases = append(bases, p.connect(fmt.Sprintf("vda-vd-%d", i), d.port, d.nqn, term(n)))
	}
	ok(p.t, p.BdevRaidCreate(p.t.Context(), spdk.RaidCreate{Name: "vda-grp-0", RaidLevel: "raid0", StripSizeKB: 64, BaseBdevs: bases}))
}

// exporter is the subsystem that the user sees on controller i.
func exporter(i int) spdk.NvmfSubsystemCreate {
	return spdk.NvmfSubsystemCreate{NQN: exportNQN, SerialNumber: "0123456789abcdef0123", ModelNumber: "VDA_CONTROLLER",
		ANAReporting: true, MinCntlid: uint16(i*1000 + 1), MaxCntlid: uint16(i*1000 + 1000)}
}

func exported(bdev string) spdk.NvmfNamespace {
	return spdk.NvmfNamespace{NSID: 1, BdevName: bdev, UUID: exportID, NGUID: hexID(exportID), ANAGrpID: 1}
}

// fill writes every block of ns.
func fill(t *testing.T, ns *host.Namespace, version int) {
	t.Helper()
	buf := make([]byte, miB)
	for off := int64(0); off < ns.Size(); off += miB {
		stamp(buf, off, version)
		ok(t, ns.WriteAt(t.Context(), buf, off))
	}
	ok(t, ns.Flush(t.Context()))
}

// verify reads every block of ns.
func verify(t *testing.T, ns *host.Namespace, version int) {
	t.Helper()
	got, want := make([]byte, miB), make([]byte, miB)
	for off := int64(0); off < ns.Size(); off += miB {
		ok(t, ns.ReadAt(t.Context(), got, off))
		stamp(want, off, version)
		if !bytes.Equal(got, want) {
			t.Fatalf("MiB %d does not hold version %d", off/miB, version)
		}
	}
}

// TestArray is the life of an array over two disk nodes and two controller
// nodes: made, written through the primary, read through the secondary,
// switched over by fencing and swapping under a running reader, and started
// again from what is on the disks.
func TestArray(t *testing.T) {
	ctx := t.Context()
	disks := []*disk{newDisk(t, 0), newDisk(t, 1)}

	// The primary: stripe, lvstore, lvol, exporter. The secondary is let in
	// beside the user.
	cn0, port0 := start(t, Config{}), freePort(t)
	join(cn0, disks, 1)
	must[string](t)(cn0.BdevLvolCreateLvstore(ctx, spdk.LvstoreCreate{BdevName: "vda-grp-0", LvsName: "vda-da-0", ClusterSz: miB}))
	vol := must[string](t)(cn0.BdevLvolCreate(ctx, spdk.LvolCreate{LvsName: "vda-da-0", LvolName: "vda-vol-0", SizeInMiB: 32}))
	cn0.export(exporter(0), exported(vol), port0, userNQN)
	ok(t, cn0.NvmfSubsystemAddHost(ctx, exportNQN, peerNQN))

	user := dial(t, port0, exportNQN, userNQN)
	if user.Size() != 32*miB || user.BlockSize() != 4096 || user.Identity().UUID.String() != exportID {
		t.Fatalf("the user sees %d bytes, blocks of %d, %v", user.Size(), user.BlockSize(), user.Identity().UUID)
	}
	zeros, got := make([]byte, miB), make([]byte, miB)
	for off := int64(0); off < user.Size(); off += miB {
		ok(t, user.ReadAt(ctx, got, off))
		if !bytes.Equal(got, zeros) {
			t.Fatalf("new space is not zeros at MiB %d", off/miB)
		}
	}
	fill(t, user, 1)

	// The secondary: the same namespace through the primary.
	cn1, port1 := start(t, Config{}), freePort(t)
	proxy := cn1.connect("vda-px-0", port0, exportNQN, peerNQN)
	cn1.export(exporter(1), exported(proxy), port1, userNQN)
	ok(t, cn1.NvmfSubsystemListenerSetANAState(ctx, exportNQN, at(port1), spdk.ANANonOptimized, 1))
	second := dial(t, port1, exportNQN, userNQN)
	if second.Identity().UUID != user.Identity().UUID || second.ANA() != host.ANANonOptimized {
		t.Fatalf("the second path is %v in ANA state %v", second.Identity().UUID, second.ANA())
	}
	if a, b := user.Controller().CNTLID(), second.Controller().CNTLID(); a < 1 || a > 1000 || b < 1001 || b > 2000 {
		t.Errorf("controller ids %d and %d", a, b)
	}
	verify(t, second, 1)
	fill(t, second, 2)
	verify(t, user, 2)

	// Somebody else gets in nowhere.
	for _, port := range []string{port0, port1} {
		c, err := host.Connect(ctx, host.Config{Traddr: "127.0.0.1", Trsvcid: port, SubNQN: exportNQN, HostNQN: "nqn.2016-06.io.spdk:other",
			Log: testLog()})
		if err == nil {
			c.Close()
			t.Fatal("a host that was not admitted is connected")
		}
	}

	// The old primary is cut off from the disks while the user reads through
	// the secondary; then the secondary opens the array itself and swaps.
	reading, stopReading := context.WithCancel(ctx)
	read := make(chan error, 1)
	go func() { read <- readOn(reading, second, 2) }()
	ok(t, cn1.NvmfSubsystemListenerSetANAState(ctx, exportNQN, at(port1), spdk.ANAInaccessible, 0))
	for _, d := range disks {
		ok(t, d.NvmfSubsystemRemoveHost(ctx, d.nqn, term(1)))
		ok(t, d.NvmfSubsystemAddHost(ctx, d.nqn, term(2)))
		if l := must[[]spdk.NvmfController](t)(d.NvmfSubsystemGetControllers(ctx, d.nqn)); len(l) != 0 {
			t.Fatalf("the fenced controller is still connected: %+v", l)
		}
	}
	if err := user.WriteAt(bounded(t, 10*time.Second), make([]byte, 4096), 0); err == nil {
		t.Fatal("a write through the fenced primary was acknowledged")
	}
	join(cn1, disks, 2)
	must[*spdk.Lvstore](t)(cn1.BdevLvolGetLvstore(ctx, "vda-da-0"))
	ok(t, cn1.VdaNvmfSwapNS(ctx, exportNQN, 1, "vda-da-0/vda-vol-0"))
	ok(t, cn1.NvmfSubsystemListenerSetANAState(ctx, exportNQN, at(port1), spdk.ANAOptimized, 0))
	ok(t, cn1.BdevNvmeDetachController(ctx, "vda-px-0"))
	time.Sleep(200 * time.Millisecond)
	stopReading()
	if err := <-read; err != nil {
		t.Fatalf("the reader saw an error other than a path's: %v", err)
	}
	verify(t, second, 2)
	fill(t, second, 3)

	// Everything on the controllers goes; what is on the disks is the array.
	ok(t, cn0.stop())
	ok(t, cn1.stop())
	for _, d := range disks {
		ok(t, d.NvmfSubsystemRemoveHost(ctx, d.nqn, term(2)))
		ok(t, d.NvmfSubsystemAddHost(ctx, d.nqn, term(3)))
	}
	again, port := start(t, Config{}), freePort(t)
	join(again, disks, 3)
	again.export(exporter(0), exported("vda-da-0/vda-vol-0"), port, userNQN)
	verify(t, dial(t, port, exportNQN, userNQN), 3)
}

// readOn reads blocks of a version until ctx ends; statuses that send a host
// to another path are fine, anything else is not.
func readOn(ctx context.Context, ns *host.Namespace, version int) error {
	got, want := make([]byte, 4096), make([]byte, 4096)
	for i := int64(0); ctx.Err() == nil; i++ {
		off := i * 37 * 4096 % ns.Size()
		err := ns.ReadAt(ctx, got, off)
		var failed *host.IOError
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.As(err, &failed) && failed.Status.IsPath():
			time.Sleep(time.Millisecond)
			continue
		case err != nil:
			return err
		}
		stamp(want, off, version)
		if !bytes.Equal(got, want) {
			return fmt.Errorf("block %d does not hold version %d", off/4096, version)
		}
	}
	return nil
}

func bounded(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}
