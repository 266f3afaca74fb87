package nvmftgt

import (
	"github.com/virtual-disk-array/vda/bdev"
	"github.com/virtual-disk-array/vda/nvme"
)

// features are the settings that a host can change; controller.mu guards
// them. They last as long as the controller is enabled.
type features struct {
	arbitration   uint32
	power         uint32
	hot, cold     uint16 // temperature thresholds, Kelvin
	errorRecovery uint32
	atomicity     uint32
	asyncEvents   uint32
	writeCache    bool
	hostBehavior  [512]byte
}

func defaultFeatures() features { return features{writeCache: true, hot: 0xffff} }

// getFeatures executes Get Features (base 2.0, section 5.15).
func (c *controller) getFeatures(m *cmd) {
	b := &m.conn.batch
	fid := m.sqe.FID()
	sel := m.sqe.Select()
	if sel > nvme.SelectSupported || !featureTable[fid].of(c.sub) {
		m.finish(nvme.InvalidField|nvme.DNR, b)
		return
	}
	c.mu.Lock()
	f := c.feat
	if sel == nvme.SelectDefault || sel == nvme.SelectSaved {
		f = defaultFeatures()
	}
	kato, queues := c.kato, uint32(c.maxIO-1)
	c.mu.Unlock()
	changeable, perNS := true, uint32(0)
	switch fid {
	case nvme.FeatureArbitration:
		m.dw0 = f.arbitration
	case nvme.FeaturePower:
		m.dw0 = f.power
	case nvme.FeatureTemperature:
		sensor, under, _, ok := nvme.Temperature(m.sqe.CDW(11))
		if sel != nvme.SelectSupported && (!ok || sensor != 0) { // there is none but the composite temperature
			m.finish(nvme.InvalidField|nvme.DNR, b)
			return
		}
		m.dw0 = uint32(f.hot)
		if under {
			m.dw0 = uint32(f.cold)
		}
	case nvme.FeatureErrorRecovery:
		m.dw0 = f.errorRecovery
	case nvme.FeatureWriteCache:
		if f.writeCache {
			m.dw0 = 1
		}
	case nvme.FeatureQueues:
		m.dw0 = queues | queues<<16
	case nvme.FeatureAtomicity:
		m.dw0 = f.atomicity
	case nvme.FeatureAsyncEvents:
		m.dw0 = f.asyncEvents
	case nvme.FeatureKeepAlive:
		m.dw0 = uint32(kato.Milliseconds())
	case nvme.FeatureHostID:
		if sel != nvme.SelectSupported {
			if m.sqe.CDW(11)&1 == 0 { // Fabrics hosts have 128-bit ids
				m.finish(nvme.InvalidField|nvme.DNR, b)
				return
			}
			m.send(append([]byte(nil), c.hostID[:]...))
			return
		}
		changeable = false
	case nvme.FeatureHostBehavior:
		if sel != nvme.SelectSupported {
			m.send(append([]byte(nil), f.hostBehavior[:]...))
			return
		}
	case nvme.FeatureResvMask, nvme.FeatureResvPersist:
		if s := c.resvFeature(m); s != nvme.Success {
			m.finish(s, b)
			return
		}
		if m.sqe.NSID() == nvme.NSIDAll && sel != nvme.SelectSupported { // each has its own
			m.finish(nvme.InvalidField|nvme.DNR, b)
			return
		}
		if fid == nvme.FeatureResvPersist {
			if n := c.sub.namespace(m.sqe.NSID()); n != nil {
				r := n.resv.Load()
				changeable = r.file != nil
				if sel == nvme.SelectCurrent && r.kept() {
					m.dw0 = 1
				}
			}
		} else if sel == nvme.SelectCurrent {
			c.mu.Lock()
			m.dw0 = c.events.resv.mask(m.sqe.NSID())
			c.mu.Unlock()
		}
		perNS = nvme.FeaturePerNS
	default:
		m.finish(nvme.InvalidField|nvme.DNR, b)
		return
	}
	if sel == nvme.SelectSupported {
		m.dw0 = perNS
		if changeable {
			m.dw0 |= nvme.FeatureChangeable
		}
	}
	m.finish(nvme.Success, b)
}

// setFeatures executes Set Features (base 2.0, section 5.27).
func (c *controller) setFeatures(m *cmd) nvme.Status {
	fid, v := m.sqe.FID(), m.sqe.CDW(11)
	if m.sqe.Save() {
		return nvme.FeatureNotSaveable | nvme.DNR
	}
	if !featureTable[fid].of(c.sub) {
		return nvme.InvalidField | nvme.DNR
	}
	if fid == nvme.FeatureKeepAlive {
		if v == 0 && !c.sub.discovery {
			return nvme.KeepAliveInvalid | nvme.DNR
		}
		c.setKeepAlive(v)
		return nvme.Success
	}
	if fid == nvme.FeatureTemperature {
		return c.setTemperature(v)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	f := &c.feat
	switch fid {
	case nvme.FeatureArbitration:
		f.arbitration = v
	case nvme.FeaturePower:
		if v&0x1f != 0 {
			return nvme.InvalidField | nvme.DNR
		}
		f.power = v
	case nvme.FeatureErrorRecovery:
		if v>>16&1 != 0 {
			return nvme.InvalidField | nvme.DNR
		}
		f.errorRecovery = v
	case nvme.FeatureWriteCache:
		f.writeCache = v&1 != 0
		c.writeThrough.Store(!f.writeCache)
	case nvme.FeatureQueues:
		return c.setQueues(m, v)
	case nvme.FeatureAtomicity:
		f.atomicity = v & 1
	case nvme.FeatureAsyncEvents:
		f.asyncEvents = v
	case nvme.FeatureHostBehavior:
		if m.n < 512 {
			return nvme.DataSGLLengthInvalid | nvme.DNR
		}
		v := bdev.IovAt(m.iov, 0)
		v.Gather(f.hostBehavior[:])
	case nvme.FeatureResvMask:
		if s := c.resvFeature(m); s != nvme.Success {
			return s
		}
		c.events.resv.setMask(m.sqe.NSID(), v&nvme.ResvMaskBits)
	case nvme.FeatureResvPersist:
		if s := c.resvFeature(m); s != nvme.Success {
			return s
		}
		return c.sub.persist(m.sqe.NSID(), v&1 != 0)
	case nvme.FeatureHostID: // comes with Connect
		return nvme.CommandSequenceError | nvme.DNR
	default:
		return nvme.InvalidField | nvme.DNR
	}
	return nvme.Success
}

// setTemperature sets a threshold; one that is passed already is an event.
func (c *controller) setTemperature(v uint32) nvme.Status {
	sensor, under, kelvin, ok := nvme.Temperature(v)
	if !ok || sensor != 0 && sensor != 15 {
		return nvme.InvalidField | nvme.DNR
	}
	c.mu.Lock()
	if under {
		c.feat.cold = kelvin
	} else {
		c.feat.hot = kelvin
	}
	c.mu.Unlock()
	if c.warning() != 0 {
		c.raise(eventHot)
	}
	return nvme.Success
}

// warning is SMART's critical warning for the controller's host.
func (c *controller) warning() uint8 {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.feat.hot <= roomTemperature || c.feat.cold >= roomTemperature {
		return nvme.WarningTemperature
	}
	return 0
}

// resvFeature checks a feature of a namespace's reservation.
func (c *controller) resvFeature(m *cmd) nvme.Status {
	if !c.sub.reserves() {
		return nvme.InvalidField | nvme.DNR
	}
	if nsid := m.sqe.NSID(); nsid != nvme.NSIDAll && c.sub.namespace(nsid) == nil {
		return nvme.InvalidNamespace | nvme.DNR
	}
	return nvme.Success
}

// setQueues grants I/O queues; c.mu is held.
func (c *controller) setQueues(m *cmd, v uint32) nvme.Status {
	subs, comps := v&0xffff, v>>16
	if subs == 0xffff || comps == 0xffff {
		return nvme.InvalidField | nvme.DNR
	}
	if len(c.io) > 0 {
		return nvme.CommandSequenceError | nvme.DNR
	}
	granted := uint32(c.admin.opts.MaxIOQpairsPerCtrlr) - 1
	m.dw0 = min(subs, granted) | min(comps, granted)<<16
	return nvme.Success
}
