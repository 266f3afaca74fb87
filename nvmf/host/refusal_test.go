package host

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/virtual-disk-array/vda/nvme"
)

// TestDoNotRetry: a host that comes back and is refused with Do Not Retry gives
// the controller up for good, as Linux does; refused without, or when it is
// patient, it goes on. Linux looks at Connect of every queue and at the
// properties; what comes after does not end a controller.
func TestDoNotRetry(t *testing.T) {
	t.Parallel()
	const no = nvme.ConnectInvalidParam
	for name, f := range map[string]struct {
		qid     int // of the Connect that is refused, -1: a property, -2: Identify
		status  nvme.Status
		patient bool
		ends    bool
	}{
		"admin queue":                    {0, no | nvme.DNR, false, true},
		"admin queue, host":              {0, nvme.ConnectInvalidHost | nvme.DNR, false, true},
		"I/O queue":                      {2, no | nvme.DNR, false, true},
		"property":                       {-1, nvme.CommandSequenceError | nvme.DNR, false, true},
		"admin queue, to be retried":     {0, no, false, false},
		"host, to be retried":            {0, nvme.ConnectInvalidHost, false, false},
		"busy":                           {0, nvme.ConnectControllerBusy, false, false},
		"I/O queue, to be retried":       {2, no, false, false},
		"property, to be retried":        {-1, nvme.CommandSequenceError, false, false},
		"Identify":                       {-2, nvme.InternalError | nvme.DNR, false, false},
		"patient, admin queue":           {0, no | nvme.DNR, true, false},
		"patient, I/O queue of one gone": {1, no | nvme.DNR, true, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var refusing atomic.Bool
			var refused atomic.Int64
			p := newPeer(t, func(p *peer) {
				p.hook = func(c *peerConn, cmd *nvme.Command, _ []byte) bool {
					property := cmd.Opcode() == nvme.OpFabrics
					if !refusing.Load() || !(f.qid == -1 && property || f.qid == -2 && c.qid == 0 && cmd.Opcode() == nvme.AdminIdentify && !property) {
						return false
					}
					refused.Add(1)
					c.complete(nvme.Completion{CID: cmd.CID(), Status: f.status})
					return true
				}
			})
			connect := func(qid uint16) nvme.Status {
				if !refusing.Load() || int(qid) != f.qid {
					return nvme.Success
				}
				refused.Add(1)
				return f.status
			}
			p.refuse.Store(&connect)
			c := dialPeer(t, p, func(c *Config) {
				c.Resilience = Resilience{LossTimeout: -1, Delay: 5 * time.Millisecond}
				c.Patient = f.patient
			})
			refusing.Store(true)
			p.cut()
			if f.ends {
				eventually(t, "given up", func() bool { return c.State() == Deleting })
				if n := p.connects.Load(); n > 8 { // two sessions of three queues at most
					t.Errorf("%d connections: it was refused and has come back", n)
				}
				return
			}
			eventually(t, "refused three times", func() bool { return refused.Load() >= 3 })
			refusing.Store(false)
			eventually(t, "back", func() bool { return c.State() == Enabled })
		})
	}
}

// TestKeepAliveWhileConnecting: Keep Alive is sent while queues are being
// connected, which may take longer than KATO when they authenticate.
func TestKeepAliveWhileConnecting(t *testing.T) {
	t.Parallel()
	p := newPeer(t, nil)
	slow := func(qid uint16) nvme.Status {
		for end := time.Now().Add(20 * time.Second); qid == 1 && p.keepAlives.Load() == 0 && time.Now().Before(end); {
			time.Sleep(time.Millisecond)
		}
		return nvme.Success
	}
	p.refuse.Store(&slow)
	dialPeer(t, p, func(c *Config) { c.KeepAlive, c.ConnectTimeout = 4*time.Second, time.Minute })
	if p.keepAlives.Load() == 0 {
		t.Error("no Keep Alive came while the I/O queue was being connected")
	}
}
