package nvmftgt

import (
	"slices"

	"github.com/virtual-disk-array/vda/nvme"
)

// Kinds of events; an event of a kind is sent once until its log page is
// read.
const (
	eventNamespace = iota
	eventANA
	eventDiscovery
	eventResv
	eventHot
	eventKinds
)

var eventNotices = [eventKinds]nvme.AsyncEvent{nvme.NoticeNamespace, nvme.NoticeANA, nvme.NoticeDiscovery, nvme.NoticeResv, nvme.EventHot}

// eventEnables are the bits by which hosts switch events on; those of
// reservations have masks of their own, see resvNotices.
var eventEnables = [eventKinds]uint32{nvme.OAESNamespace, nvme.OAESANA, nvme.OAESDiscovery, 0, uint32(nvme.WarningTemperature)}

// events are a controller's asynchronous events; controller.mu guards them.
type events struct {
	requests []*cmd // Asynchronous Event Requests that wait
	pending  [eventKinds]bool
	masked   [eventKinds]bool // sent, log page not read yet
	changed  map[uint32]struct{}
	resv     resvNotices
}

// take empties the list of requests.
func (e *events) take() []*cmd {
	r := e.requests
	e.requests = nil
	e.pending, e.masked, e.resv = [eventKinds]bool{}, [eventKinds]bool{}, resvNotices{}
	return r
}

// remove takes out the request cid.
func (e *events) remove(cid uint16) *cmd {
	for i, c := range e.requests {
		if c.sqe.CID() == cid {
			e.requests = slices.Delete(e.requests, i, i+1)
			return c
		}
	}
	return nil
}

// match pairs pending events with requests; c.mu is held.
func (c *controller) match() (out []*cmd) {
	e := &c.events
	for kind := range eventKinds {
		if len(e.requests) == 0 {
			break
		}
		if !e.pending[kind] || e.masked[kind] {
			continue
		}
		m := e.requests[0]
		e.requests = slices.Delete(e.requests, 0, 1)
		m.dw0 = eventNotices[kind].Encode()
		e.pending[kind], e.masked[kind] = false, true
		out = append(out, m)
	}
	return out
}

// awaitEvent takes an Asynchronous Event Request.
func (c *controller) awaitEvent(m *cmd) {
	c.mu.Lock()
	if len(c.events.requests) >= asyncEvents {
		c.mu.Unlock()
		m.finish(nvme.AsyncEventLimit|nvme.DNR, &m.conn.batch)
		return
	}
	m.to(event)
	c.events.requests = append(c.events.requests, m)
	ready := c.match()
	c.mu.Unlock()
	for _, r := range ready {
		r.finish(nvme.Success, &m.conn.batch)
	}
}

// raise tells the host of an event of a kind that it has switched on.
func (c *controller) raise(kind int) {
	c.mu.Lock()
	if c.gone || eventEnables[kind] != 0 && c.feat.asyncEvents&eventEnables[kind] == 0 {
		c.mu.Unlock()
		return
	}
	c.events.pending[kind] = true
	ready := c.match()
	c.mu.Unlock()
	c.complete(ready...)
}

// clearEvent is called when the log page of an event has been read.
func (c *controller) clearEvent(lid nvme.LID) {
	c.mu.Lock()
	if lid == nvme.LogReservations {
		c.events.pending[eventResv] = c.events.resv.pop()
	}
	for kind, n := range eventNotices {
		if n.LID == lid {
			c.events.masked[kind] = false
		}
	}
	ready := c.match()
	c.mu.Unlock()
	c.complete(ready...)
}

// namespaceChanged tells all hosts that a namespace came, went or changed.
func (s *Subsystem) namespaceChanged(nsid uint32) {
	for _, c := range s.controllers(anyController) {
		c.mu.Lock()
		c.events.changed[nsid] = struct{}{}
		c.mu.Unlock()
		c.raise(eventNamespace)
	}
}

// anaChanged tells the hosts of controllers that match that ANA states have
// changed.
func (s *Subsystem) anaChanged(match func(*controller) bool) {
	if !s.cfg.ANAReporting {
		return
	}
	for _, c := range s.controllers(match) {
		c.raise(eventANA)
	}
}
