package nvmftgt

import (
	"github.com/virtual-disk-array/vda/nvme"
)

// specVersion is the version of the base specification that controllers tell.
var specVersion = nvme.Version(2, 0, 0)

// capabilities is the CAP property.
func (conn *conn) capabilities() uint64 {
	d := conn.told()
	return d.caps.Encode()
}

// propertyGet answers Property Get (base 2.0, section 6.6).
func (c *controller) propertyGet(m *cmd) nvme.Status {
	p, err := m.sqe.Property()
	if err != nil {
		return nvme.InvalidField | nvme.DNR
	}
	if p.Eight != (p.Offset == nvme.PropCAP) {
		return nvme.InvalidField | nvme.DNR
	}
	var v uint64
	c.mu.Lock()
	switch p.Offset {
	case nvme.PropCAP:
		v = c.admin.capabilities()
	case nvme.PropCRTO:
		v = uint64(c.admin.told().crto)
	case nvme.PropVS:
		v = uint64(specVersion)
	case nvme.PropCC:
		v = uint64(c.cc)
	case nvme.PropCSTS:
		v = uint64(c.csts)
	default:
		c.mu.Unlock()
		return nvme.InvalidField | nvme.DNR
	}
	c.mu.Unlock()
	m.dw0, m.dw1 = uint32(v), uint32(v>>32)
	return nvme.Success
}

// propertySet executes Property Set: only the controller configuration can be
// written.
func (c *controller) propertySet(m *cmd) nvme.Status {
	p, err := m.sqe.Property()
	if err != nil || p.Eight || p.Offset != nvme.PropCC {
		return nvme.InvalidField | nvme.DNR
	}
	cc := uint32(p.Value)
	if !c.takes(cc) {
		return nvme.InvalidField | nvme.DNR
	}
	if cc&nvme.CCEnable != 0 && !c.enabled() {
		if s := c.awaitFormer(); s != nvme.Success {
			return s
		}
	}
	c.mu.Lock()
	was := c.cc
	reset := false
	c.cc = cc
	switch {
	case was&nvme.CCEnable == 0 && cc&nvme.CCEnable != 0:
		c.csts = nvme.CSTSReady
	case was&nvme.CCEnable != 0 && cc&nvme.CCEnable == 0:
		c.csts = 0
		c.cc = 0
		c.feat = defaultFeatures()
		c.writeThrough.Store(false)
		reset = true
	}
	if shn := cc & nvme.CCShutdownMask; shn != 0 && shn != was&nvme.CCShutdownMask {
		c.csts = c.csts&^nvme.CSTSShutdownMask | nvme.CSTSShutdownDone
		reset = true
	}
	c.watch()
	var drop []*cmd
	if reset {
		drop = c.events.take()
	}
	c.mu.Unlock()
	if reset {
		c.settleIO("controller reset")
		for _, e := range drop { // no completion after a reset: the slots come back unanswered
			e.conn.mu.Lock()
			e.conn.q.freeSlot(e)
			e.conn.mu.Unlock()
		}
	}
	return nvme.Success
}

// takes reports whether the controller can be configured like that: CAP knows
// one command set, one page size, round robin and readiness with media, and
// Identify one size of queue entries.
func (c *controller) takes(cc uint32) bool {
	if cc&(nvme.CCCommandSetMask|nvme.CCPageMask|nvme.CCArbitrationMask|nvme.CCReadyNoMedia) != 0 {
		return false
	}
	return cc&nvme.CCEnable == 0 || c.sub.discovery || cc&nvme.CCEntrySizesMask == nvme.CCEntrySizes
}

// settleIO gives up the I/O connections and waits until they have settled.
func (c *controller) settleIO(why string) {
	c.mu.Lock()
	var ks []*conn
	for _, conn := range c.io {
		ks = append(ks, conn)
	}
	c.mu.Unlock()
	settle(ks, why)
}
