package nvmftgt

import (
	"errors"
	"slices"
	"time"

	"github.com/virtual-disk-array/vda/nvme"
)

// errDisconnect ends the pass of a connection that was sent a Disconnect.
var errDisconnect = errors.New("the host disconnects the queue")

// disconnect executes Disconnect (base 2.0, section 6.4) on the reader, which
// takes nothing more: what is at the devices is waited for and answered, what
// waits for its data is dropped, the queue's id is free again, and only then
// does the host hear of success. The connection ends behind that.
func (k *conn) disconnect() {
	for k.outstanding() {
		if k.closing.Load() {
			return
		}
		time.Sleep(time.Millisecond)
	}
	k.ctrl.leave(k)
	k.farewell.finish(nvme.Success, &k.batch)
	k.batch.Flush()
	if !k.unblock() {
		return
	}
	k.mu.Lock()
	for k.sending && !k.closing.Load() {
		k.cond.Wait()
	}
	if k.why == "" {
		k.why = "disconnected by the host"
	}
	k.mu.Unlock()
	k.nc.HangUp(nil)
}

// outstanding reports whether a command is still to be answered. Those whose
// data has not come are not.
func (k *conn) outstanding() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.waiting = slices.DeleteFunc(k.waiting, (*cmd).fromHost)
	return k.inflight.Load() != 0 || len(k.waiting) > 0 || slices.ContainsFunc(k.slots, func(c *cmd) bool { return c.kept.Load() })
}
