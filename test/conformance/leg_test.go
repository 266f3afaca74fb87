package conformance

import (
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/virtual-disk-array/vda/nvmf/host"
	"github.com/virtual-disk-array/vda/spdk"
)

// TestLossOfALeg: a mirror hears of the loss of a leg as soon as its connection
// is known to be lost: at once when the leg's data plane dies, and when that
// hangs, as soon as it has not answered a keep-alive. I/O to the leg does not
// wait for another connection, which may take as long as it likes.
func TestLossOfALeg(t *testing.T) {
	for _, k := range kinds {
		if k.name != "vda" {
			continue // mirrors are vda_tgt's
		}
		for name, sig := range map[string]syscall.Signal{"killed": syscall.SIGKILL, "stopped": syscall.SIGSTOP} {
			t.Run(name, func(t *testing.T) { lossOfALeg(t, k, sig) })
		}
	}
}

func lossOfALeg(t *testing.T, k kind, sig syscall.Signal) {
	ctx := t.Context()
	p := start(t, k, false)
	p.ok(p.Call(ctx, "bdev_nvme_set_options", map[string]any{"keep_alive_timeout_ms": 3000}, nil))
	var legs []spdk.MirrorLeg
	attach := func(i int, port string) {
		names := must[[]string](t)(p.BdevNvmeAttachController(ctx, spdk.NvmeAttach{Name: fmt.Sprintf("L%d", i), TrType: "TCP", AdrFam: "IPv4",
			TrAddr: "127.0.0.1", TrSvcID: port, SubNQN: subNQN, HostNQN: hostNQN, CtrlrLossTimeoutSec: spdk.Ptr[int32](-1),
			ReconnectDelaySec: spdk.Ptr[uint32](1), FastIOFailTimeoutSec: spdk.Ptr[uint32](600), FailAtOnce: true}))
		legs = append(legs, spdk.MirrorLeg{VD: fmt.Sprintf("b%031x", i), Bdev: names[0], Role: "member"})
	}
	stays := start(t, k, false)
	attach(0, stays.serve())
	goes := start(t, k, false)
	goes.kind = "killed"                              // so its end is not a fault
	t.Cleanup(func() { _ = goes.cmd.Process.Kill() }) // before it is asked to end
	other := goes.serve()
	p.ok(goes.NvmfSubsystemRemoveNS(ctx, subNQN, 1)) // whose UUID the first leg has
	must[uint32](t)(goes.NvmfSubsystemAddNS(ctx, subNQN, spdk.NvmfNamespace{NSID: 1, BdevName: "M0"}))
	attach(1, other)
	must[*spdk.Mirror](t)(p.VdaMirrorCreate(ctx, spdk.MirrorCreate{Name: "mir0", DA: fmt.Sprintf("da%030x", 1),
		Mirror: fmt.Sprintf("aa%030x", 1), Size: 4 << 20, Term: 1, Gen: 1, Legs: legs, Fresh: true}))
	port := freePort(t)
	const nqn = subNQN + "-mir"
	p.ok(p.NvmfCreateTransport(ctx, spdk.NvmfTransportCreate{TrType: "TCP"}))
	p.ok(p.NvmfCreateSubsystem(ctx, spdk.NvmfSubsystemCreate{NQN: nqn, SerialNumber: "S"}))
	must[uint32](t)(p.NvmfSubsystemAddNS(ctx, nqn, spdk.NvmfNamespace{BdevName: "mir0"}))
	p.ok(p.NvmfSubsystemAddHost(ctx, nqn, hostNQN))
	p.ok(p.NvmfSubsystemAddListener(ctx, nqn, at(port)))
	user := p.connect(host.Config{Trsvcid: port, SubNQN: nqn})
	wrote := make(chan struct{})
	go func() {
		defer close(wrote)
		for user.Namespace(1).WriteAt(ctx, make([]byte, 4096), 0) == nil {
		}
	}()
	began := time.Now()
	p.ok(goes.cmd.Process.Signal(sig))
	s := &spdk.Mirror{}
	news := must[*spdk.MirrorNews](t)(p.VdaMirrorWatch(ctx, 0, time.Second))
	if !news.All || len(news.Mirrors) != 1 {
		t.Errorf("the first call returns %+v, want all mirrors", news)
	}
	for end := time.Now().Add(time.Minute); len(s.Legs) < 2 || !s.Legs[1].Lost; {
		if time.Now().After(end) {
			t.Fatalf("the leg is not lost after a minute: %+v", s)
		}
		news = must[*spdk.MirrorNews](t)(p.VdaMirrorWatch(ctx, news.Changes, time.Second))
		for i := range news.Mirrors {
			s = &news.Mirrors[i]
		}
	}
	took := time.Since(began)
	t.Logf("%v: the mirror says so after %v: %s", sig, took.Round(time.Millisecond), s.Legs[1].Why)
	if took > 9*time.Second {
		t.Errorf("%v: the mirror had to lose patience with the leg, which takes 10 s", sig)
	}
	user.Close()
	<-wrote
}
