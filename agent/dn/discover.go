package dn

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/agent"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/disk"
	"github.com/virtual-disk-array/vda/reason"
)

const (
	lookTime     = 15 * time.Second // for one disk
	lookParallel = 8                // disks that are read at once
)

// States of a Disk.
const (
	diskFree    = "free"
	diskPD      = "pd"
	diskUsed    = "used"
	diskData    = "data"
	diskSmall   = "small"
	diskArray   = "array"
	diskSystem  = "system"
	diskCache   = "cache"
	diskUnknown = "unknown"
)

// glance is a look at one disk that is under way.
type glance struct {
	id   disk.ID
	done chan struct{}
	d    *apiv1.Disk // once done is closed
}

// ListDisks looks at all disks of the machine as admit would, and writes to none. A disk that is not
// read within some seconds is unknown, and is not read again before that has ended.
func (a *Agent) ListDisks(ctx context.Context, req *apiv1.ListDisksRequest) (*apiv1.ListDisksReply, error) {
	if err := a.OwnRequest(req); err != nil {
		return nil, err
	}
	all, err := a.Disks.List()
	if err != nil {
		return nil, agent.Status(vda.Errorf(vda.Internal, "%s", reason.Of(err)))
	}
	ctx, cancel := context.WithTimeout(ctx, lookTime)
	defer cancel()
	found := make([]*apiv1.Disk, len(all))
	var wg sync.WaitGroup
	turns := make(chan struct{}, lookParallel)
	for i, c := range all {
		wg.Go(func() {
			select {
			case turns <- struct{}{}:
				defer func() { <-turns }()
				found[i] = a.glance(ctx, c)
			case <-ctx.Done():
				found[i] = notRead(c)
			}
		})
	}
	wg.Wait()
	reply := &apiv1.ListDisksReply{}
	for _, d := range found {
		if d != nil {
			reply.Disks = append(reply.Disks, d)
		}
	}
	return reply, nil
}

func asDisk(c disk.Candidate, state, why string) *apiv1.Disk {
	return &apiv1.Disk{Path: c.Path, Device: c.Device, Kind: string(c.Kind), Size: c.Size, Model: c.Model, Serial: c.Serial,
		State: state, Why: why}
}

func notRead(c disk.Candidate) *apiv1.Disk {
	return asDisk(c, diskUnknown, fmt.Sprintf("it was not read within %v: it may be at fault, or busy; ask again", lookTime))
}

// glance looks at one disk; nil when it is none. What hangs is left behind and ends by itself: until
// then another call waits for the same look.
func (a *Agent) glance(ctx context.Context, c disk.Candidate) *apiv1.Disk {
	id, err := a.Disks.Identify(c.Device)
	if errors.Is(err, disk.ErrNotFound) {
		return nil
	}
	if err != nil {
		return asDisk(c, diskUnknown, reason.Of(err))
	}
	// Of what the set names nothing is opened: its passes may be about to do so, and wait for looks
	// that were noted before the set named it (settleGlances).
	a.mu.Lock()
	g := a.glances[id.Now]
	if g == nil {
		g = &glance{id: id, done: make(chan struct{})}
		before := a.glancesAt(id)
		a.glances[id.Now] = g
		go func() {
			d := a.lookAfter(ctx, before, c, id)
			a.mu.Lock()
			defer a.mu.Unlock()
			g.d = d
			delete(a.glances, id.Now)
			close(g.done)
		}()
	}
	a.mu.Unlock()
	select {
	case <-g.done:
		return g.d
	case <-ctx.Done():
		return notRead(c)
	}
}

// settleGlances waits for looks at the disk that a pass is about to open, or at one that shares its
// blocks. They take lookTime at most, but for a disk that hangs.
func (a *Agent) settleGlances(ctx context.Context, id disk.ID) {
	ctx, cancel := context.WithTimeout(ctx, 2*lookTime)
	defer cancel()
	for {
		a.mu.Lock()
		under := a.glancesAt(id)
		a.mu.Unlock()
		if len(under) == 0 {
			return
		}
		select {
		case <-under[0].done:
		case <-ctx.Done():
			return // opening says what the matter is
		}
	}
}

// glancesAt are the looks under way at a disk, or at one that shares its blocks. The caller holds a.mu.
func (a *Agent) glancesAt(id disk.ID) []*glance {
	var under []*glance
	for _, g := range a.glances {
		if sameBlocks(id, g.id) {
			under = append(under, g)
		}
	}
	return under
}

// lookAfter is lookAt once the looks before it have ended: they hold the blocks that they share with
// this disk, which would seem to be another program's.
func (a *Agent) lookAfter(ctx context.Context, before []*glance, c disk.Candidate, id disk.ID) *apiv1.Disk {
	for _, g := range before {
		select {
		case <-g.done:
		case <-ctx.Done():
			return notRead(c)
		}
	}
	return a.lookAt(ctx, c, id)
}

func sameBlocks(a, b disk.ID) bool {
	return a.Now == b.Now || contains(a.Over, b.Now) || contains(b.Over, a.Now)
}

// lookAt says whether a pd could be made on a disk, and why not.
func (a *Agent) lookAt(ctx context.Context, c disk.Candidate, id disk.ID) *apiv1.Disk {
	if d := a.ofPD(c, id); d != nil {
		return d
	}
	if c.Model == vda.ControllerModel {
		return asDisk(c, diskArray, "it is a disk array of VDA, to which this machine is connected as a host")
	}
	dev, err := a.Disks.Open(c.Path)
	switch {
	case errors.Is(err, disk.ErrNotFound):
		return nil
	case errors.Is(err, disk.ErrInUse):
		return asDisk(c, diskUsed, reason.Of(err))
	case err != nil:
		return asDisk(c, diskUnknown, reason.Of(err))
	}
	d := a.lookInto(ctx, c, dev)
	if err := dev.Close(); err != nil {
		a.Log.Warn("a disk that was looked at does not close", "disk", c.Path, "err", err)
	}
	return d
}

// lookInto is lookAt for a disk that nobody else has.
func (a *Agent) lookInto(ctx context.Context, c disk.Candidate, dev disk.Device) *apiv1.Disk {
	as := conf{vda.PDConf{Type: "aio", Filename: c.Path}}
	if err := bigEnough(as, dev.Size()); err != nil {
		if c.Kind == disk.KindFile {
			return nil // whatever it is
		}
		return asDisk(c, diskSmall, reason.Of(err))
	}
	content, err := disk.Look(ctx, dev)
	if err != nil {
		if ctx.Err() != nil {
			return notRead(c)
		}
		return asDisk(c, diskUnknown, reason.Of(err))
	}
	id := dev.ID()
	if id.Also != "" {
		return asDisk(c, diskUsed, fmt.Sprintf("%s %v: %s", c.Path, disk.ErrInUse, id.Also))
	}
	if !content.Blank() {
		why := fmt.Sprintf("it %v", content)
		switch {
		case content.Store != nil && content.Store.Name != "":
			why += ", " + whose(content.Store.Name, a.stamp(""))
		case id.System != "":
			why += "; it is on the disk that the machine runs from (" + id.System + ")"
		default:
			why += "; pd create shows that too, and after it --wipe takes the disk if nothing of it is needed"
		}
		return asDisk(c, diskData, why)
	}
	if id.System != "" {
		return asDisk(c, diskSystem, "it is blank, and on the disk that the machine runs from: "+id.System)
	}
	if why := a.losesWrites(ctx, as, ""); why != nil {
		return asDisk(c, diskCache, why.Error())
	}
	return asDisk(c, diskFree, "")
}

// ofPD says which pd a disk is of, or shares its blocks with; nil for none.
func (a *Agent) ofPD(c disk.Candidate, id disk.ID) *apiv1.Disk {
	a.mu.Lock()
	pds := make([]*apiv1.PdSpec, 0, len(a.set.pds))
	for _, p := range a.set.pds {
		pds = append(pds, p)
	}
	a.mu.Unlock()
	for _, p := range pds {
		pc, err := parseConf(p.ConfJson)
		if err != nil || pc.Type != "aio" {
			continue
		}
		other, err := a.Disks.Identify(pc.Filename)
		if err != nil || !sameBlocks(id, other) {
			continue
		}
		why := "it is the disk of pd " + p.Name
		switch {
		case other.Now != id.Now:
			why = fmt.Sprintf("it shares its blocks with %s, the disk of pd %s", pc.Filename, p.Name)
		case p.Deleted:
			why += ", which is being deleted"
		}
		d := asDisk(c, diskPD, why)
		d.PdId = p.Id
		return d
	}
	return nil
}

// whose says of an lvstore's name, to somebody of the cluster of own, who made it.
func whose(have, own string) string {
	parts := strings.SplitN(have, "-", 3)
	switch {
	case len(parts) != 3 || parts[0] != "vda" || len(parts[1]) != 16:
		return "which VDA has not made"
	case strings.HasPrefix(own, "vda-"+parts[1]+"-"):
		return fmt.Sprintf("that of pd %s of this cluster, which is not this node's", parts[2])
	}
	return fmt.Sprintf("that of pd %s of cluster %s", parts[2], parts[1])
}
