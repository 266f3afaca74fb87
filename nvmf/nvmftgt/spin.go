package nvmftgt

import (
	"errors"
	"os"
	"syscall"

	"github.com/virtual-disk-array/vda/bdev"
	"github.com/virtual-disk-array/vda/nvmf/tcp"
)

// wait returns when something was received: it polls for a while if that has
// paid lately, then sleeps. It also returns, with k.left set, when one that
// polled in the reader's place met what it must leave to the reader.
func (k *conn) wait() (int, syscall.Errno) {
	if k.qid > 0 && k.opts.spinTime > 0 {
		limit := k.opts.spinTime
		if k.asked.Load() > 0 {
			limit *= askedSpin // it takes a host a while to send much data, but it does so now
		}
		if k.input.Spin(limit, k.tryRecv) {
			return k.parkN, k.parkErr
		}
		k.input.Warm(bdev.Clock())
	}
	for {
		err := k.input.Sleep()
		switch {
		case err == nil && k.left == nil:
			return k.parkN, k.parkErr
		case k.closing.Load() || err != nil && !errors.Is(err, os.ErrDeadlineExceeded):
			return 0, syscall.ECONNABORTED
		case k.left != nil:
			return 0, 0
		}
	}
}

// askedSpin is how many times longer it pays to poll while the host sends
// what it was asked for.
const askedSpin = 5

// tryRecv receives without waiting.
func (k *conn) tryRecv() bool {
	k.parkN, k.parkErr = k.recv()
	return k.parkErr != syscall.EAGAIN || k.closing.Load()
}

// tryPark is tryRecv for a reader that is about to sleep; it does not when a
// poller has left something to it.
func (k *conn) tryPark() bool { return k.left != nil || k.tryRecv() }

// rest is called before the reader sleeps: without data it keeps no buffer.
func (k *conn) rest() {
	if k.r == k.w {
		k.dropRecvBuffer()
	}
	k.parked.Add(1)
}

// errResume leaves a PDU to the reader because handling it may take waiting.
var errResume = errors.New("to be handled by the reader")

// PollSource serves the sleeping reader's connection (bdev.Source).
func (k *conn) PollSource() bool { return k.input.Poll(k.look) }

// look receives in the reader's place. What may take waiting (a full socket,
// the end of the connection, memory) is left to the reader.
func (k *conn) look() (found bool, next tcp.Next) {
	k.mu.Lock()
	blocked := k.blocked
	k.mu.Unlock()
	if blocked || k.closing.Load() {
		return false, tcp.Later
	}
	n, e := k.recv()
	switch {
	case e == syscall.EAGAIN:
		if k.r == k.w {
			k.dropRecvBuffer()
		}
		return false, tcp.Done
	case e != 0 || n == 0:
		return false, tcp.Wake // the reader finds the same
	}
	k.polled = true
	k.left = k.pass(n)
	k.polled = false
	k.sendRest()
	if k.left != nil {
		return true, tcp.Wake
	}
	return true, tcp.Done
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
