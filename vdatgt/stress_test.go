package vdatgt

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/virtual-disk-array/vda/spdk"
)

// TestCallsAtOnce has many clients make and remove the same few objects of
// every kind at the same time. Calls may be refused; none may hang, panic or
// leave the target unable to shut down.
func TestCallsAtOnce(t *testing.T) {
	p := start(t, Config{})
	port := freePort(t)
	ok(t, p.NvmfCreateTransport(t.Context(), spdk.NvmfTransportCreate{TrType: "TCP"}))
	const clients, calls = 8, 60
	var wg sync.WaitGroup
	for i := range clients {
		wg.Go(func() {
			c, err := spdk.New(spdk.Config{Socket: p.Socket()})
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			r := rand.New(rand.NewPCG(1, uint64(i)))
			for range calls {
				ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
				what, err := randomCall(ctx, c.API, r, port)
				cancel()
				if ctx.Err() == context.DeadlineExceeded || spdk.IsConnection(err) {
					t.Errorf("%s: %v", what, err)
					return
				}
				if e := spdk.Code(err); err != nil && e == 0 {
					t.Errorf("%s: %v", what, err)
				}
			}
		})
	}
	wg.Wait()
	must[[]spdk.Bdev](t)(p.BdevGetBdevs(t.Context()))
}

func randomCall(ctx context.Context, c spdk.API, r *rand.Rand, port string) (string, error) {
	n := func(kind string) string { return fmt.Sprintf("%s%d", kind, r.IntN(3)) }
	sub := "nqn.2016-06.io.spdk:" + n("s")
	backing := []string{n("M"), n("R"), n("lvs") + "/" + n("v"), n("C") + "n1"}[r.IntN(4)]
	switch r.IntN(19) {
	case 0, 1, 2:
		_, err := c.BdevMallocCreate(ctx, spdk.MallocCreate{Name: n("M"), BlockSize: 4096, NumBlocks: 4096})
		return "malloc create", err
	case 3:
		return "malloc delete", c.BdevMallocDelete(ctx, n("M"))
	case 4, 5:
		return "raid create", c.BdevRaidCreate(ctx, spdk.RaidCreate{Name: n("R"), RaidLevel: "concat", BaseBdevs: []string{n("M")}})
	case 6:
		return "raid delete", c.BdevRaidDelete(ctx, n("R"))
	case 7, 8:
		_, err := c.BdevLvolCreateLvstore(ctx, spdk.LvstoreCreate{BdevName: backing, LvsName: n("lvs"), ClusterSz: miB})
		return "lvstore create", err
	case 9:
		return "lvstore delete", c.BdevLvolDeleteLvstore(ctx, n("lvs"))
	case 10:
		_, err := c.BdevLvolCreate(ctx, spdk.LvolCreate{LvsName: n("lvs"), LvolName: n("v"), SizeInMiB: 2, ThinProvision: true})
		return "lvol create", err
	case 11:
		return "lvol delete", c.BdevLvolDelete(ctx, n("lvs")+"/"+n("v"))
	case 12:
		_, err := c.BdevLvolSnapshot(ctx, n("lvs")+"/"+n("v"), n("v"))
		return "snapshot", err
	case 13:
		if err := c.NvmfCreateSubsystem(ctx, spdk.NvmfSubsystemCreate{NQN: sub, AllowAnyHost: true}); err != nil {
			return "subsystem create", err
		}
		return "listener", c.NvmfSubsystemAddListener(ctx, sub, at(port))
	case 14:
		return "subsystem delete", c.NvmfDeleteSubsystem(ctx, sub)
	case 15:
		_, err := c.NvmfSubsystemAddNS(ctx, sub, spdk.NvmfNamespace{NSID: 1, BdevName: backing, UUID: fmt.Sprintf("0b1c2d3e-0000-4000-8000-%012d",
			r.Uint32N(1e9))})
		return "add ns", err
	case 16:
		return "remove ns", c.NvmfSubsystemRemoveNS(ctx, sub, 1)
	case 17:
		_, err := c.BdevNvmeAttachController(ctx, spdk.NvmeAttach{Name: n("C"), TrType: "TCP", TrAddr: "127.0.0.1", TrSvcID: port, SubNQN: sub})
		return "attach", err
	default:
		return "detach", c.BdevNvmeDetachController(ctx, n("C"))
	}
}
