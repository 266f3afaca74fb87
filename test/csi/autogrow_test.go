package csi

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/virtual-disk-array/vda/agent/planetest"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/nvme"
	"github.com/virtual-disk-array/vda/nvmf/host"
)

// TestGrowsByItself: a host fills a thin array with --auto-grow to more than twice of what it
// was made with. The array gets that before it is full, or soon after, from disks that it
// did not have; what the host has written is there; and at the limit it ends.
func TestGrowsByItself(t *testing.T) {
	t.Parallel()
	const (
		mib   = 1 << 20
		limit = 40 * mib
		hostN = "nqn.2016-06.io.spdk:grower"
	)
	c := newCluster(t, 2)
	physical := uint64(16 * mib)
	c.must(c.portal.CreateDa(t.Context(), &apiv1.CreateDaRequest{DaName: "thin", DaSize: 64 * mib, PhysicalSize: &physical, CntlrCnt: 2,
		AutoGrow: limit, AutoGrowBelow: 50, DaConf: `{"stripe_count":2,"stripe_size_kb":64}`}))
	made, err := c.portal.CreateExp(t.Context(), &apiv1.CreateExpRequest{DaName: "thin", ExpName: "exp0", InitiatorNqn: hostN})
	if err != nil {
		t.Fatal(err)
	}
	show := func() *apiv1.DaMsg {
		t.Helper()
		r, err := c.portal.GetDa(t.Context(), &apiv1.GetDaRequest{DaName: "thin"})
		if err != nil {
			t.Fatal(err)
		}
		return r.DaMsg
	}
	var paths []*host.Namespace
	for _, n := range c.cns { // each has a controller; one is primary
		planetest.Eventually(t, func() string {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			k, err := host.Connect(ctx, host.Config{Traddr: "127.0.0.1", Trsvcid: n.port, SubNQN: made.ExpMsg.ExpNqn, HostNQN: hostN, Queues: 1,
				KeepAlive: unhurried, Resilience: asLinux})
			if err != nil {
				return err.Error()
			}
			ns := k.Namespace(1)
			if ns == nil || !ns.Usable() {
				k.Close()
				return "it shows nothing"
			}
			t.Cleanup(k.Close)
			paths = append(paths, ns)
			return ""
		})
	}

	block := func(at int) []byte { return bytes.Repeat([]byte(fmt.Sprintf("%015d\n", at)), mib/16) }
	// write is patient with an array that is full, as software is that is told to try again.
	write := func(at int) (err error) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		err = paths[at%2].WriteAt(ctx, block(at), int64(at)*mib)
		var st nvme.Status
		if errors.As(err, &st) && st&^nvme.DNR == nvme.CapacityExceeded {
			return errFull
		}
		return err
	}
	const fill = 34 // MiB: more than twice what it was made with
	for at := range fill {
		planetest.Eventually(t, func() string {
			switch err := write(at); {
			case errors.Is(err, errFull):
				return fmt.Sprintf("it is full at %d MiB, and does not grow: physical_size %d", at, show().PhysicalSize)
			case err != nil:
				t.Fatalf("a write at %d MiB: %v", at, err)
			}
			return ""
		})
	}
	planetest.Eventually(t, func() string {
		da := show()
		if da.PhysicalSize == limit && !da.Error {
			return ""
		}
		return fmt.Sprintf("physical_size %d of %d, %v %s", da.PhysicalSize, uint64(limit), da.Error, da.ErrorMsg)
	})
	if da := show(); len(da.GrpMsgList) < 2 || !da.Thin {
		t.Errorf("%v", da)
	}
	for at := fill; ; at++ { // at the limit it is full
		err := write(at)
		if errors.Is(err, errFull) {
			break
		}
		if err != nil || at > limit/mib {
			t.Fatalf("a write at %d MiB of an array that has %d: %v", at, show().PhysicalSize, err)
		}
	}
	for at := range fill {
		got := make([]byte, mib)
		if err := paths[(at+1)%2].ReadAt(t.Context(), got, int64(at)*mib); err != nil || !bytes.Equal(got, block(at)) {
			t.Fatalf("at %d MiB: %v, %.16q", at, err, got)
		}
	}
	events, err := c.portal.ListEvent(t.Context(), &apiv1.ListEventRequest{})
	if err != nil {
		t.Fatal(err)
	}
	grown := 0
	for _, e := range events.EventMsgList {
		if strings.Contains(e.String(), "da_grows") {
			grown++
		}
	}
	if da := show(); grown != len(da.GrpMsgList)-1 {
		t.Errorf("%d events of growth, %d groups", grown, len(da.GrpMsgList))
	}
}

var errFull = errors.New("capacity exceeded")
