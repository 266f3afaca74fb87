package cn_test

import (
	"testing"
	"time"

	"github.com/virtual-disk-array/vda/agent/planetest"
)

// TestRealLostConnectionGetsItsKey: a vd whose connection is lost while its dn begins to demand
// a key comes back in the same term, when the primary has learnt the key.
func TestRealLostConnectionGetsItsKey(t *testing.T) {
	t.Parallel()
	l, dns, _ := reals(t, 1, true, false, false)
	l.leased()
	l.up(0)
	l.spec.Create = false
	write(t, l.disk(0), 1)
	l.secret = "of the cluster"
	l.fence(false) // what is connected stays
	dns[0].stop()
	dns[0].start()
	planetest.Eventually(t, func() string {
		for _, s := range l.syncDN(0, false) {
			if s.Error {
				return s.ErrorMsg
			}
		}
		return ""
	})
	time.Sleep(3 * time.Second)
	planetest.Eventually(t, func() string {
		for _, s := range l.settled(0, l.cntlr(0, 0)) {
			if s.Error {
				return s.ErrorMsg
			}
		}
		return ""
	})
	write(t, l.disk(0), 1)
}
