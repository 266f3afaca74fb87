package conformance

import (
	"bytes"
	"io"
	"net"
	"testing"
	"time"

	"github.com/virtual-disk-array/vda/nvmf/host"
	"github.com/virtual-disk-array/vda/spdk"
)

// relay takes connections to a port of its own, which it returns, to another one
// until it is shut; those that it has go on.
func relay(t *testing.T, port string) (at string, shut func()) {
	lis := must[net.Listener](t)(net.Listen("tcp", "127.0.0.1:0"))
	t.Cleanup(func() { lis.Close() })
	go func() {
		for {
			from, err := lis.Accept()
			if err != nil {
				return
			}
			to, err := net.Dial("tcp", "127.0.0.1:"+port)
			if err != nil {
				from.Close()
				continue
			}
			for _, way := range [][2]net.Conn{{from, to}, {to, from}} {
				go func() {
					io.Copy(way[0], way[1])
					way[0].Close()
					way[1].Close()
				}()
			}
		}
	}()
	_, at, err := net.SplitHostPort(lis.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return at, func() { lis.Close() }
}

// TestHostThatComesBack: a host's association ends while its write is at a slow
// disk. It comes back at once, and on vda_tgt it is let in when that write has
// ended: SPDK lets it in before. Where it is to have one association only, the
// one that it has ends when it connects again, and on SPDK stays.
func TestHostThatComesBack(t *testing.T) {
	const latency = 1500 * time.Millisecond
	onEach(t, func(t *testing.T, p *plane) {
		ctx, port := t.Context(), p.serve()
		p.ok(p.NvmfSubsystemRemoveNS(ctx, subNQN, 1))
		us := latency.Microseconds()
		p.ok(p.Call(ctx, "bdev_delay_create", map[string]any{"name": "D0", "base_bdev_name": "M0", "avg_read_latency": 1,
			"p99_read_latency": 1, "avg_write_latency": us, "p99_write_latency": us}, nil))
		must[uint32](t)(p.NvmfSubsystemAddNS(ctx, subNQN, spdk.NvmfNamespace{NSID: 1, BdevName: "D0", UUID: nsUUID, ANAGrpID: 1}))
		count := func() int {
			return len(must[[]spdk.NvmfController](t)(p.NvmfSubsystemGetControllers(ctx, subNQN)))
		}
		for _, single := range []bool{false, true} {
			if single && p.VdaNvmfSetSingleAssociation(ctx, subNQN, true) != nil {
				return // SPDK: typed_test.go says how it refuses
			}
			at, shut := relay(t, port)
			c := p.connect(host.Config{Trsvcid: at})
			shut() // or it would connect again, when its association ends
			begun := time.Now()
			ended := make(chan error, 1)
			go func() { ended <- c.Namespace(1).WriteAt(ctx, bytes.Repeat([]byte{1}, 4096), 0) }()
			eventually(t, "the write is at the disk", func() bool {
				var s struct {
					PollGroups []struct {
						PendingBdevIO uint64 `json:"pending_bdev_io"`
					} `json:"poll_groups"`
				}
				p.ok(p.Call(ctx, "nvmf_get_stats", nil, &s))
				return s.PollGroups[0].PendingBdevIO > 0 || time.Since(begun) > latency/3 // SPDK counts others
			})
			if !single {
				c.Close()
			}
			again := p.connect(host.Config{Trsvcid: port})
			if took := time.Since(begun); p.kind == "vda" && took < latency {
				t.Errorf("single %v: the host is let in %v after its write began, which takes %v", single, took, latency)
			}
			if n := count(); p.kind == "vda" && n != 1 {
				t.Errorf("single %v: the host has %d associations", single, n)
			}
			c.Close()
			<-ended
			again.Close()
			eventually(t, "the host is gone", func() bool { return count() == 0 })
		}
	})
}
