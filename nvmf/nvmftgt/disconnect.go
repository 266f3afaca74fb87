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
func (conn *conn) disconnect() {
	for conn.q.outstanding() {
		if conn.closing.Load() {
			return
		}
		time.Sleep(time.Millisecond)
	}
	conn.ctrl.leave(conn)
	conn.q.farewell.finish(nvme.Success, &conn.batch)
	conn.batch.Flush()
	if !conn.tx.unblock() {
		return
	}
	conn.mu.Lock()
	for conn.tx.sending && !conn.closing.Load() {
		conn.tx.cond.Wait()
	}
	if conn.why == "" {
		conn.why = "disconnected by the host"
	}
	conn.mu.Unlock()
	conn.nc.HangUp(nil)
}
