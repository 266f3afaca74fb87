package nvmftgt

import (
	"encoding/binary"
	"slices"
	"sync"
	"time"

	"github.com/virtual-disk-array/vda/bdev"
	"github.com/virtual-disk-array/vda/nvme"
)

// logPage executes Get Log Page (base 2.0, section 5.16): it sends the part of
// the page that is asked for. Beyond the page come zeros.
func (conn *conn) logPage(c *cmd) {
	v := c.sqe.GetLogPage()
	refuse := func(s nvme.Status) { c.finish(s|nvme.DNR, &conn.batch) }
	if v.Offset%4 != 0 || v.IndexOT || v.Length > conn.maxLogPage() {
		refuse(nvme.InvalidField)
		return
	}
	if s := c.sink(v.Length); s != nvme.Success {
		c.finish(s, &conn.batch)
		return
	}
	l := conn.sub.logPage(v.LID)
	if l == nil {
		refuse(nvme.InvalidLogPage)
		return
	}
	// LPA bit 0 is clear: the health of a namespace is not told.
	if id := c.sqe.NSID(); l.lid == nvme.LogSMART && id != 0 && id != nvme.NSIDAll {
		refuse(nvme.InvalidField)
		return
	}
	out := make([]byte, v.Length)
	var total uint64
	if l.part != nil {
		s := nvme.Status(0)
		if total, s = l.part(conn, out, v.Offset); s != nvme.Success {
			c.finish(s, &conn.batch)
			return
		}
	} else {
		page := l.read(conn, v)
		total = uint64(len(page))
		copy(out, page[min(v.Offset, total):])
	}
	if v.Offset > total {
		refuse(nvme.InvalidField)
		return
	}
	if !v.RetainE {
		conn.ctrl.clearEvent(v.LID)
	}
	c.send(out)
}

// roomTemperature is 25 °C in Kelvin.
const roomTemperature = 298

// smart is the health of the subsystem: what its namespaces did since they got
// their devices, and what failed on a medium. There is no sensor: the
// temperature is a room's, at which nobody raises an alarm. Nor is there wear:
// all of the spare is there.
func (s *Subsystem) smart() nvme.SMART {
	var w bdev.Work
	for _, n := range *s.nss.Load() {
		if n == nil {
			continue
		}
		if h := n.handle.Load(); h != nil {
			x := h.Work()
			w.Reads += x.Reads
			w.Writes += x.Writes
			w.BytesRead += x.BytesRead
			w.BytesWritten += x.BytesWritten
		}
	}
	const unit = 1000 * 512
	return nvme.SMART{Temperature: roomTemperature, Spare: 100, HostReads: w.Reads, HostWrites: w.Writes,
		DataUnitsRead: (w.BytesRead + unit - 1) / unit, DataUnitsWrite: (w.BytesWritten + unit - 1) / unit,
		PowerOnHours: uint64(time.Since(epoch) / time.Hour), MediaErrors: s.mediaErrors.Load()}
}

// anaLog tells the state of the groups that have namespaces through conn's
// listener.
func (conn *conn) anaLog(onlyGroups bool) []byte {
	changes := conn.lis.anaCount.Load()
	groups := map[uint32]*nvme.ANAGroup{}
	for _, n := range *conn.sub.nss.Load() {
		if n == nil {
			continue
		}
		id := n.group.Load()
		g := groups[id]
		if g == nil {
			g = &nvme.ANAGroup{ID: id, Changes: changes, State: uint8(conn.lis.ana[id].Load())}
			groups[id] = g
		}
		if n.orphan.Load() {
			g.State = uint8(ANAInaccessible)
		}
		g.NSIDs = append(g.NSIDs, n.nsid)
	}
	var list []nvme.ANAGroup
	for _, g := range groups {
		list = append(list, *g)
	}
	slices.SortFunc(list, func(a, b nvme.ANAGroup) int { return int(a.ID) - int(b.ID) })
	return nvme.AppendANALog(nil, changes, list, onlyGroups)
}

// errorLog keeps the last failed commands of a controller.
type errorLog struct {
	mu    sync.Mutex
	total uint64
	ring  [errorEntries]nvme.ErrorEntry
}

// noteError adds a failed command to the error log. Path states are no
// errors, and neither is what a host may try in good faith.
func (conn *conn) noteError(c *cmd, s nvme.Status) {
	if conn.ctrl == nil || s.IsPath() {
		return
	}
	if s.Type() == 2 && s&^nvme.DNR != nvme.CompareFailure {
		conn.sub.mediaErrors.Add(1)
	}
	e := nvme.ErrorEntry{SQID: conn.q.id, CID: c.sqe.CID(), Status: s, Param: 0xffff, NSID: c.sqe.NSID()}
	if conn.q.id != 0 {
		e.LBA = c.sqe.SLBA()
	}
	l := &conn.ctrl.errors
	l.mu.Lock()
	l.total++
	e.Count = l.total
	l.ring[l.total%errorEntries] = e
	l.mu.Unlock()
}

func (l *errorLog) count() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.total
}

// page returns the entries, the newest first.
func (l *errorLog) page() []byte {
	p := make([]byte, errorEntries*nvme.ErrorEntryLen)
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := uint64(0); i < min(l.total, errorEntries); i++ {
		nvme.PutErrorEntry(p[i*nvme.ErrorEntryLen:], l.ring[(l.total-i)%errorEntries])
	}
	return p
}

// changedList returns the changed namespace list and forgets it unless it is
// to be retained.
func (c *controller) changedList(retain bool) []byte {
	p := make([]byte, nvme.ChangedNSLen)
	c.mu.Lock()
	defer c.mu.Unlock()
	var ids []uint32
	for id := range c.events.changed {
		ids = append(ids, id)
	}
	if !retain {
		clear(c.events.changed)
	}
	slices.Sort(ids)
	if len(ids) > nvme.ChangedNSLen/4 {
		ids = []uint32{nvme.NSIDAll}
	}
	for i, id := range ids {
		binary.LittleEndian.PutUint32(p[4*i:], id)
	}
	return p
}
