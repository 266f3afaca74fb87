package nvmftgt

import (
	"errors"
	"runtime"
	"syscall"
	"time"

	"github.com/virtual-disk-array/vda/bdev"
)

// wait returns when something was received: it polls for a while if that has
// paid lately, then sleeps. It also returns, with k.left set, when somebody
// who polled in the reader's place met what he must leave to the reader.
func (k *conn) wait() (int, syscall.Errno) {
	if k.qid > 0 && k.opts.spinTime > 0 {
		limit := k.opts.spinTime
		if k.asked.Load() > 0 {
			limit *= askedSpin // it takes a host a while to send much data, but it does so now
		}
		if k.spinner.Spin(limit, k.tryFn) {
			return k.parkN, k.parkErr
		}
		k.warm()
	}
	for {
		err := k.rc.Read(k.parkFn)
		for !k.mine { // a poller has it, who does not take long
			if k.mine = k.turn.Take(); !k.mine {
				runtime.Gosched()
			}
		}
		switch {
		case err == nil && k.left == nil:
			return k.parkN, k.parkErr
		case k.closing.Load() || err != nil && !isTimeout(err):
			return 0, syscall.ECONNABORTED
		}
		_ = k.nc.SetReadDeadline(time.Time{}) // it has served to wake us
		if k.left != nil {
			return 0, 0
		}
	}
}

// askedSpin is how many times longer it pays to poll while the host sends
// what it was asked for.
const askedSpin = 5

// warm has others poll this connection for a while, where nobody else would
// look at it while they do.
func (k *conn) warm() {
	if bdev.Alone() {
		k.hot.Warm(bdev.Clock())
	}
}

// tryRecv receives without waiting.
func (k *conn) tryRecv() bool {
	k.parkN, k.parkErr = k.recv()
	return k.parkErr != syscall.EAGAIN || k.closing.Load()
}

// parkRecv receives for RawConn.Read, which sleeps while it returns false.
// Without data it keeps no buffer, nor the turn.
func (k *conn) parkRecv(uintptr) bool {
	if !k.mine {
		if !k.turn.Take() {
			return false // whoever has it looks again
		}
		k.mine = true
	}
	for k.left == nil {
		if k.tryRecv() {
			return true
		}
		if k.r == k.w {
			k.dropRecvBuffer()
		}
		k.parked.Add(1)
		k.mine = false
		if k.turn.Give() {
			return false
		}
		k.mine = true
	}
	return true
}

// errResume leaves a PDU to the reader because handling it may take waiting.
var errResume = errors.New("to be handled by the reader")

// PollSource serves the sleeping reader's connection (bdev.Source). What may
// take waiting (a full socket, the end of the connection, memory) is left to
// the reader.
func (k *conn) PollSource() bool {
	if !k.turn.Try() {
		return false
	}
	found := false
	for {
		wake := false
		k.mu.Lock()
		blocked := k.blocked
		k.mu.Unlock()
		if !blocked && !k.closing.Load() {
			n, e := k.recv()
			switch {
			case e == syscall.EAGAIN:
				if k.r == k.w {
					k.dropRecvBuffer()
				}
			case e != 0 || n == 0:
				wake = true // the reader finds the same
			default:
				found = true
				k.polled = true
				k.left = k.pass(n)
				k.polled = false
				wake = k.left != nil
				k.sendRest()
			}
		}
		if found {
			k.warm()
		}
		if given := k.turn.Give(); given && !wake {
			return found
		} else if !given && (wake || blocked || k.closing.Load()) {
			// The reader was here and has gone to sleep again.
			wake = true
			k.turn.Drop()
		} else if !given {
			continue
		}
		_ = k.nc.SetReadDeadline(time.Unix(1, 0))
		return true
	}
}

// sendRest has a goroutine of its own send what the socket did not take from
// a pass that was not the reader's.
func (k *conn) sendRest() {
	k.mu.Lock()
	if k.blocked && !k.draining {
		k.draining = true
		go k.drain()
	}
	k.mu.Unlock()
}
