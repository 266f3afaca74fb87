package conformance

import (
	"testing"

	"github.com/virtual-disk-array/vda/nvmf/host"
	"github.com/virtual-disk-array/vda/spdk"
)

// TestOneAttachesTheOther has each data plane use the other as a disk node:
// attach, stripe, lvstore, lvol, export; written through the one on top.
func TestOneAttachesTheOther(t *testing.T) {
	for _, below := range kinds {
		for _, above := range kinds {
			t.Run(above.name+"_on_"+below.name, func(t *testing.T) {
				dn, cn := start(t, below, false), start(t, above, false)
				array(t, dn, cn)
			})
		}
	}
}

func array(t *testing.T, dn, cn *plane) {
	ctx, port := t.Context(), freePort(t)
	dn.ok(dn.NvmfCreateTransport(ctx, spdk.NvmfTransportCreate{TrType: "TCP"}))
	var bases []string
	for _, vd := range []string{"0", "1"} {
		nqn := subNQN + vd
		must[string](t)(dn.BdevMallocCreate(ctx, spdk.MallocCreate{Name: "D" + vd, BlockSize: 4096, NumBlocks: 8192}))
		must[string](t)(dn.BdevLvolCreateLvstore(ctx, spdk.LvstoreCreate{BdevName: "D" + vd, LvsName: "pd" + vd, ClusterSz: 1 << 20}))
		vol := must[string](t)(dn.BdevLvolCreate(ctx, spdk.LvolCreate{LvsName: "pd" + vd, LvolName: "vd", SizeInMiB: 24}))
		dn.ok(dn.NvmfCreateSubsystem(ctx, spdk.NvmfSubsystemCreate{NQN: nqn, SerialNumber: "VD" + vd}))
		id := "aaaaaaaa-1111-4222-8333-bbbbbbbbbbc" + vd
		must[uint32](t)(dn.NvmfSubsystemAddNS(ctx, nqn, spdk.NvmfNamespace{BdevName: vol, UUID: id, NGUID: "aaaaaaaa111142228333bbbbbbbbbbc" +
			vd}))
		dn.ok(dn.NvmfSubsystemAddHost(ctx, nqn, hostNQN))
		dn.ok(dn.NvmfSubsystemAddListener(ctx, nqn, at(port)))
		names := must[[]string](t)(cn.BdevNvmeAttachController(ctx, spdk.NvmeAttach{Name: "vd" + vd, TrType: "TCP",
			AdrFam: "IPv4", TrAddr: "127.0.0.1",
			TrSvcID: port, SubNQN: nqn, HostNQN: hostNQN, CtrlrLossTimeoutSec: spdk.Ptr[int32](-1), ReconnectDelaySec: spdk.Ptr[uint32](1)}))
		if len(names) != 1 || names[0] != "vd"+vd+"n1" {
			t.Fatalf("attached %v", names)
		}
		bases = append(bases, names[0])
	}
	cn.ok(cn.BdevRaidCreate(ctx, spdk.RaidCreate{Name: "R0", RaidLevel: "raid0", StripSizeKB: 64, BaseBdevs: bases}))
	must[string](t)(cn.BdevLvolCreateLvstore(ctx, spdk.LvstoreCreate{BdevName: "R0", LvsName: "da", ClusterSz: 1 << 20}))
	vol := must[string](t)(cn.BdevLvolCreate(ctx, spdk.LvolCreate{LvsName: "da", LvolName: "vol", SizeInMiB: 32}))
	cnPort := freePort(t)
	cn.ok(cn.NvmfCreateTransport(ctx, spdk.NvmfTransportCreate{TrType: "TCP"}))
	cn.ok(cn.NvmfCreateSubsystem(ctx, spdk.NvmfSubsystemCreate{NQN: subNQN, SerialNumber: "EXP", ANAReporting: true}))
	must[uint32](t)(cn.NvmfSubsystemAddNS(ctx, subNQN, spdk.NvmfNamespace{BdevName: vol, UUID: nsUUID, NGUID: nsNGUID, ANAGrpID: 1}))
	cn.ok(cn.NvmfSubsystemAddHost(ctx, subNQN, hostNQN))
	cn.ok(cn.NvmfSubsystemAddListener(ctx, subNQN, at(cnPort)))
	ns := cn.connect(host.Config{Trsvcid: cnPort}).Namespace(1)
	if ns == nil || ns.Size() != 32<<20 {
		t.Fatalf("the exported namespace is %+v", ns)
	}
	transfer(t, ns)
}
