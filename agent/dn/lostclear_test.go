package dn_test

import (
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/virtual-disk-array/vda/agent/planetest"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
)

// A vd that is being cleared on a disk that does not answer is let go of once
// the disk is given up as lost.
func TestClearingADeadDiskIsGivenUp(t *testing.T) { inBubble(t, clearingADeadDiskIsGivenUp) }

func clearingADeadDiskIsGivenUp(l *lab) {
	t := l.T
	l.good(full(1, []*apiv1.PdSpec{aioPD()}, vd(1)))
	release := l.c.Stall("/dev/null")
	defer release()
	v := proto.CloneOf(vd(1))
	v.Deleted = true
	delta := full(2, nil, v)
	delta.BaseVersion = 1
	if msg := l.errorOf(l.sync(delta), vdID); msg == "" {
		t.Fatal("the vd is gone, though its disk does not answer")
	}
	p := proto.CloneOf(aioPD())
	p.Deleted, p.ConfJson = true, `{"type":"aio","filename":"/dev/null","lost":true}`
	delta = full(3, []*apiv1.PdSpec{p}, v)
	delta.BaseVersion = 2
	planetest.Eventually(t, func() string {
		for _, s := range l.sync(delta).States {
			if !s.Gone {
				return s.Id + " is not gone: " + s.ErrorMsg
			}
		}
		return ""
	})
}
