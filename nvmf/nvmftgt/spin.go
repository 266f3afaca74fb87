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
	conn := rx.conn
	if conn.q.id > 0 && conn.opts.spinTime > 0 {
		limit := conn.opts.spinTime
		if conn.q.asked.Load() > 0 {
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
		case conn.closing.Load() || err != nil && !errors.Is(err, os.ErrDeadlineExceeded):
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
	return rx.err != syscall.EAGAIN || rx.conn.closing.Load()
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
func (conn *conn) PollSource() bool { return conn.rx.input.Poll(conn.look) }

// look receives in the reader's place. What may take waiting (a full socket,
// the end of the connection, memory) is left to the reader.
func (conn *conn) look() (found bool, next tcp.Next) {
	conn.mu.Lock()
	blocked := conn.tx.blocked
	conn.mu.Unlock()
	if blocked || conn.closing.Load() {
		return false, tcp.Later
	}
	n, e := conn.rx.recv()
	switch {
	case e == syscall.EAGAIN:
		if conn.rx.r == conn.rx.w {
			conn.rx.dropBuffer()
		}
		return false, tcp.Done
	case e != 0 || n == 0:
		return false, tcp.Wake // the reader finds the same
	}
	conn.rx.polled = true
	conn.rx.left = conn.pass(n)
	conn.rx.polled = false
	conn.tx.handOff()
	if conn.rx.left != nil {
		return true, tcp.Wake
	}
	return true, tcp.Done
}

// handOff has a goroutine of its own send what the socket did not take from
// a pass that was not the reader's.
func (tx *sender) handOff() {
	tx.conn.mu.Lock()
	if tx.blocked && !tx.draining {
		tx.draining = true
		go tx.drain()
	}
	tx.conn.mu.Unlock()
}
