//go:build rounds

package csi

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/virtual-disk-array/vda/agent/planetest"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/nvmf/host"
)

// TestCloneOfAGiB tells how long it takes from the order to the first write to a clone of 1 GiB that
// is on media, and how fast it is copied. It holds no time against the machine, but every block
// is what it was.
func TestCloneOfAGiB(t *testing.T) {
	const (
		mib   = 1 << 20
		size  = 1024 * mib
		times = 5
		hostN = "nqn.2016-06.io.spdk:cloner"
	)
	c := newClusterOf(t, 2, 5*size)
	connect := func(da string) (*host.Namespace, func()) {
		t.Helper()
		e, err := c.portal.CreateExp(t.Context(), &apiv1.CreateExpRequest{DaName: da, ExpName: "exp0", InitiatorNqn: hostN})
		if err != nil {
			t.Fatal(err)
		}
		var ns *host.Namespace
		var end func()
		for late := time.Now().Add(2 * time.Minute); ns == nil; {
			for _, n := range c.cns {
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				k, err := host.Connect(ctx, host.Config{Traddr: "127.0.0.1", Trsvcid: n.port, SubNQN: e.ExpMsg.ExpNqn, HostNQN: hostN, Queues: 1,
					KeepAlive: unhurried, Resilience: asLinux})
				cancel()
				if err != nil {
					continue
				}
				if ns = k.Namespace(1); ns != nil && ns.Usable() && ns.ReadAt(t.Context(), make([]byte, 4096), 0) == nil {
					end = k.Close
					break
				}
				ns = nil
				k.Close()
			}
			if time.Now().After(late) {
				t.Fatalf("no path to %s", da)
			}
		}
		return ns, end
	}
	random := rand.NewChaCha8([32]byte{1})
	want := make([]byte, size)
	_, _ = random.Read(want)
	physical := uint64(2*size + 64*mib)
	c.must(c.portal.CreateDa(t.Context(), &apiv1.CreateDaRequest{DaName: "source", DaSize: size, PhysicalSize: &physical, CntlrCnt: 2}))
	src, end := connect("source")
	for at := 0; at < size; at += mib {
		if err := src.WriteAt(t.Context(), want[at:at+mib], int64(at)); err != nil {
			t.Fatal(err)
		}
	}
	c.must(c.portal.CreateSnap(t.Context(), &apiv1.CreateSnapRequest{DaName: "source", SnapName: "whole"}))
	end()

	var took []time.Duration
	for i := range times {
		name := fmt.Sprint("clone", i)
		begin := time.Now()
		c.must(c.portal.CreateDa(t.Context(), &apiv1.CreateDaRequest{DaName: name, CntlrCnt: 2, FromSnap: "source/whole"}))
		ns, end := connect(name)
		at := int64(random.Uint64() % (size / 4096) * 4096)
		got := make([]byte, 4096)
		if err := ns.ReadAt(t.Context(), got, at); err != nil || !bytes.Equal(got, want[at:at+4096]) {
			t.Fatalf("%s at %d: %v", name, at, err)
		}
		if err := ns.WriteAt(t.Context(), make([]byte, 4096), at); err != nil {
			t.Fatal(err)
		}
		took = append(took, time.Since(begin))
		if i < times-1 { // it is not copied beside the next
			end()
			c.must(c.portal.DeleteExp(t.Context(), &apiv1.DeleteExpRequest{DaName: name, ExpName: "exp0", Fence: true}))
			c.must(c.portal.DeleteDa(t.Context(), &apiv1.DeleteDaRequest{DaName: name}))
			continue
		}
		clear(want[at : at+4096])
		planetest.Eventually(t, func() string {
			r, err := c.portal.GetDa(t.Context(), &apiv1.GetDaRequest{DaName: name})
			if err != nil || r.DaMsg.CloneOf != "" {
				return fmt.Sprintf("%v, %v", r, err)
			}
			return ""
		})
		whole := time.Since(begin)
		t.Logf("1 GiB was copied in %v: %.0f MiB/s", whole.Round(time.Millisecond), 1024/whole.Seconds())
		for at := 0; at < size; at += mib {
			got := make([]byte, mib)
			if err := ns.ReadAt(t.Context(), got, int64(at)); err != nil || !bytes.Equal(got, want[at:at+mib]) {
				t.Fatalf("%s, copied, at %d MiB: %v", name, at/mib, err)
			}
		}
		end()
	}
	slices.Sort(took)
	t.Logf("a clone of 1 GiB was read from and written to %v after the order, %v to %v in %d", took[len(took)/2].Round(time.Millisecond),
		took[0].Round(time.Millisecond), took[len(took)-1].Round(time.Millisecond), len(took))
}
