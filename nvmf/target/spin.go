package target

import (
	"runtime"
	"sync/atomic"
	"syscall"
)

// spin keeps count of whether polling pays on this connection.
type spin struct {
	score int // rises with polls that found data
	skip  int // sleeps without polling left
}

// spinners is the number of readers that poll now; maxSpinners leaves one
// processor for others where there are several.
var spinners atomic.Int32

var maxSpinners = int32(max(1, runtime.GOMAXPROCS(0)-1))

// wait returns when something was received: it polls for a while if that has
// paid lately, then sleeps.
func (k *conn) wait() (int, syscall.Errno) {
	if k.qid > 0 && k.opts.spinTime > 0 {
		if n, e := k.poll(); e != syscall.EAGAIN {
			return n, e
		}
	}
	if err := k.rc.Read(k.parkFn); err != nil {
		return 0, syscall.ECONNABORTED
	}
	return k.parkN, k.parkErr
}

func (k *conn) poll() (int, syscall.Errno) {
	s := &k.spinning
	if s.skip > 0 {
		s.skip--
		return 0, syscall.EAGAIN
	}
	if spinners.Add(1) > maxSpinners {
		spinners.Add(-1)
		return 0, syscall.EAGAIN
	}
	end := nanotime() + int64(k.opts.spinTime)
	var n int
	e := syscall.EAGAIN
	for e == syscall.EAGAIN {
		runtime.Gosched()
		if k.closing.Load() {
			break
		}
		n, e = k.recv()
		if nanotime() > end {
			break
		}
	}
	spinners.Add(-1)
	if e == syscall.EAGAIN {
		if s.score--; s.score < -4 {
			s.score, s.skip = 0, 64
		}
		return n, e
	}
	s.score = min(s.score+1, 8)
	return n, e
}

// parkRecv receives for RawConn.Read, which sleeps while it returns false.
// Without data it keeps no buffer.
func (k *conn) parkRecv(uintptr) bool {
	k.parkN, k.parkErr = k.recv()
	if k.parkErr != syscall.EAGAIN {
		return true
	}
	if k.r == k.w {
		k.dropRecvBuffer()
	}
	k.parked.Add(1)
	return k.closing.Load()
}
