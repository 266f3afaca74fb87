package nvmftgt

import (
	"errors"
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
	for k.q.outstanding() {
		if k.closing.Load() {
			return
		}
		time.Sleep(time.Millisecond)
	}
	k.ctrl.leave(k)
	k.q.farewell.finish(nvme.Success, &k.batch)
	k.batch.Flush()
	if !k.tx.unblock() {
		return
	}
	k.mu.Lock()
	for k.tx.sending && !k.closing.Load() {
		k.tx.cond.Wait()
	}
	if k.why == "" {
		k.why = "disconnected by the host"
	}
	k.mu.Unlock()
	k.nc.HangUp(nil)
}
