package nvmftgt

import (
	"github.com/google/uuid"

	"github.com/virtual-disk-array/vda/nvme"
)

// resvNotices are the reservation notifications of a controller that its host
// has not read yet (base 2.0, section 8.19); controller.mu guards them.
type resvNotices struct {
	count  uint64
	unread []nvme.ReservationNotice // the oldest first
	common uint32                   // mask of namespaces that have none of their own
	masks  map[uint32]uint32        // by namespace id
}

// maxNotices bounds what is kept for a host that does not read: further ones
// only count.
const maxNotices = 256

func (r *resvNotices) mask(nsid uint32) uint32 {
	if m, ok := r.masks[nsid]; ok {
		return m
	}
	return r.common
}

// setMask sets the mask of one namespace, or of all.
func (r *resvNotices) setMask(nsid, mask uint32) {
	if nsid == nvme.NSIDAll {
		r.common, r.masks = mask, nil
		return
	}
	if r.masks == nil {
		r.masks = map[uint32]uint32{}
	}
	r.masks[nsid] = mask
}

// add keeps a notification and reports whether the host wants to know.
func (r *resvNotices) add(nsid uint32, e nvme.ReservationEvent) bool {
	if r.mask(nsid)>>e&1 != 0 {
		return false
	}
	if r.count++; r.count == 0 { // 0 means none
		r.count = 1
	}
	if len(r.unread) < maxNotices {
		r.unread = append(r.unread, nvme.ReservationNotice{Count: r.count, Event: e, NSID: nsid})
	}
	return true
}

// pop forgets the notification that was read and reports whether there are
// more.
func (r *resvNotices) pop() bool {
	if len(r.unread) > 0 {
		r.unread = r.unread[1:]
	}
	return len(r.unread) > 0
}

// resvNotice is the log page: the oldest notification, or none.
func (c *controller) resvNotice() []byte {
	p := make([]byte, nvme.ReservationNoticeLen)
	c.mu.Lock()
	defer c.mu.Unlock()
	if l := c.events.resv.unread; len(l) > 0 {
		n := l[0]
		n.More = uint8(min(len(l)-1, 255))
		nvme.PutReservationNotice(p, n)
	}
	return p
}

// resvNote is a notification that a host is due.
type resvNote struct {
	host  uuid.UUID
	event nvme.ReservationEvent
}

// tell notes an event for all registrants but one, who caused it.
func (s *resvState) tell(e nvme.ReservationEvent, but uuid.UUID) {
	for _, r := range s.regs {
		if r.host != but {
			s.notes = append(s.notes, resvNote{r.host, e})
		}
	}
}

// notify hands notifications to all controllers of the hosts that are connected to a
// namespace that has the reservation.
func (r *reservation) notify(notes []resvNote) {
	for _, note := range notes {
		for _, n := range *r.members.Load() {
			n.notify(note)
		}
	}
}

func (n *namespace) notify(note resvNote) {
	for _, c := range n.sub.controllers(func(c *controller) bool { return c.hostID == note.host && !c.forwards.Load() }) {
		c.mu.Lock()
		told := c.events.resv.add(n.nsid, note.event)
		c.mu.Unlock()
		if told {
			c.raise(eventResv)
		}
	}
}
