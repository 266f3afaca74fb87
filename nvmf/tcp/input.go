package tcp

import (
	"os"
	"runtime"
	"time"

	"github.com/virtual-disk-array/vda/bdev"
)

// Input is when a connection is received from. One goroutine, the reader, does
// that for as long as the connection lives; while it sleeps, others that poll
// may do it in its place (bdev.Source). What only one may do at a time belongs
// to the one that has the turn: the reader has it except in Sleep, others have
// it in Poll.
type Input struct {
	conn    *Conn
	turn    bdev.Turn
	hot     bdev.Hot
	spinner bdev.Spinner
	mine    bool // the reader has the turn; the reader's alone
	wakeFn  func(uintptr) bool
	try     func() bool
	rest    func()
}

// Init is called once, before the reader starts, and gives it the turn. s is
// what others poll; its PollSource calls Poll. try receives without waiting and
// reports whether the reader is to return from Sleep. rest is called before the
// reader gives the turn away to sleep. Both are called with the turn.
func (in *Input) Init(c *Conn, s bdev.Source, try func() bool, rest func()) {
	in.conn, in.try, in.rest = c, try, rest
	in.wakeFn = in.woken
	in.hot.Init(s)
	in.mine = in.turn.Take()
}

// Spin calls found, which receives without waiting, again and again for up to
// limit, if that has paid lately, and reports whether found did. Only the reader
// calls it.
func (in *Input) Spin(limit time.Duration, found func() bool) bool {
	return in.spinner.Spin(limit, found)
}

// Sleep calls try until it reports true, and sleeps in between until there is
// something to receive. The error is the socket's; os.ErrDeadlineExceeded
// means that Wake was called. Only the reader calls it, and has the turn when
// it returns.
func (in *Input) Sleep() error {
	err := in.conn.raw.Read(in.wakeFn)
	for !in.mine { // a poller has it, which does not take long
		if in.mine = in.turn.Take(); !in.mine {
			runtime.Gosched()
		}
	}
	if isTimeout(err) {
		_ = in.conn.stream.SetReadDeadline(time.Time{}) // it has served to wake the reader
		return os.ErrDeadlineExceeded
	}
	return err
}

// woken runs inside RawConn.Read, which sleeps while it returns false.
func (in *Input) woken(uintptr) bool {
	if !in.mine {
		if !in.turn.Take() {
			return false // the one that has it looks again
		}
		in.mine = true
	}
	for !in.try() {
		in.rest()
		in.mine = false
		if in.turn.Give() {
			return false
		}
		in.mine = true
	}
	return true
}

// Warm has others poll the connection for a while from now on (bdev.Clock),
// where nobody else would look at it while they do.
func (in *Input) Warm(now int64) {
	if bdev.Alone() {
		in.hot.Warm(now)
	}
}

// Cool ends that, for a connection that ends.
func (in *Input) Cool() { in.hot.Cool() }

// Next is what a poller that has looked at a connection leaves behind.
type Next uint8

// What is left to do.
const (
	Done  Next = iota // nothing
	Later             // something only the reader may do, which it does when it wakes by itself
	Wake              // something only the reader may do, which has to wake for it
)

// Poll serves the connection while the reader sleeps: it calls look with the
// turn, and once more as long as the reader came meanwhile and was turned away.
// look does not wait. Poll reports whether there was something to do.
func (in *Input) Poll(look func() (found bool, next Next)) bool {
	if !in.turn.Try() {
		return false
	}
	for any, away := false, false; ; {
		found, next := look()
		if any = any || found; any {
			in.Warm(bdev.Clock())
		}
		given := in.turn.Give()
		away = away || !given // the reader was here, and sleeps again on our account
		switch {
		case next == Done && given, next == Later && !away:
			return any
		case next == Done:
			continue
		case !given:
			in.turn.Drop()
		}
		in.conn.Wake()
		return true
	}
}
