package nvmftgt

import (
	"errors"
	"os"
	"syscall"

	"github.com/virtual-disk-array/vda/bdev"
	"github.com/virtual-disk-array/vda/nvmf/tcp"
)

// wait returns when something was received: it polls for a while if that has
// paid lately, then sleeps. It also returns, with rx.left set, when one that
// polled in the reader's place met what it must leave to the reader.
func (rx *receiver) wait() (int, syscall.Errno) {
	k := rx.k
	if k.q.id > 0 && k.opts.spinTime > 0 {
		limit := k.opts.spinTime
		if k.q.asked.Load() > 0 {
			limit *= askedSpin // it takes a host a while to send much data, but it does so now
		}
		if rx.input.Spin(limit, rx.try) {
			return rx.n, rx.err
		}
		rx.input.Warm(bdev.Clock())
	}
	for {
		err := rx.input.Sleep()
		switch {
		case err == nil && rx.left == nil:
			return rx.n, rx.err
		case k.closing.Load() || err != nil && !errors.Is(err, os.ErrDeadlineExceeded):
			return 0, syscall.ECONNABORTED
		case rx.left != nil:
			return 0, 0
		}
	}
}

// askedSpin is how many times longer it pays to poll while the host sends
// what it was asked for.
const askedSpin = 5

// try receives without waiting.
func (rx *receiver) try() bool {
	rx.n, rx.err = rx.recv()
	return rx.err != syscall.EAGAIN || rx.k.closing.Load()
}

// tryPark is try for a reader that is about to sleep; it does not when a
// poller has left something to it.
func (rx *receiver) tryPark() bool { return rx.left != nil || rx.try() }

// rest is called before the reader sleeps: without data it keeps no buffer.
func (rx *receiver) rest() {
	if rx.r == rx.w {
		rx.dropBuffer()
	}
	rx.parked.Add(1)
}

// errResume leaves a PDU to the reader because handling it may take waiting.
var errResume = errors.New("to be handled by the reader")

// PollSource serves the sleeping reader's connection (bdev.Source).
func (k *conn) PollSource() bool { return k.rx.input.Poll(k.look) }

// look receives in the reader's place. What may take waiting (a full socket,
// the end of the connection, memory) is left to the reader.
func (k *conn) look() (found bool, next tcp.Next) {
	k.mu.Lock()
	blocked := k.tx.blocked
	k.mu.Unlock()
	if blocked || k.closing.Load() {
		return false, tcp.Later
	}
	n, e := k.rx.recv()
	switch {
	case e == syscall.EAGAIN:
		if k.rx.r == k.rx.w {
			k.rx.dropBuffer()
		}
		return false, tcp.Done
	case e != 0 || n == 0:
		return false, tcp.Wake // the reader finds the same
	}
	k.rx.polled = true
	k.rx.left = k.pass(n)
	k.rx.polled = false
	k.tx.handOff()
	if k.rx.left != nil {
		return true, tcp.Wake
	}
	return true, tcp.Done
}

// handOff has a goroutine of its own send what the socket did not take from
// a pass that was not the reader's.
func (tx *sender) handOff() {
	tx.k.mu.Lock()
	if tx.blocked && !tx.draining {
		tx.draining = true
		go tx.drain()
	}
	tx.k.mu.Unlock()
}
