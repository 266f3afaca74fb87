package dn

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/virtual-disk-array/vda/agent"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/disk"
)

// lookAgain is how long a disk that was refused for what is on it is not read
// again: others may be at work on it.
const lookAgain = time.Minute

// maxNote is the longest name of a note that every file system takes, with what
// is put behind it while it is written.
const maxNote = 200

// refusal is what was said of a disk that was read.
type refusal struct {
	of    string // the disk and the pd's conf
	until time.Time
	err   error
}

// begunNote says that the making of an lvstore has begun on a disk, so that
// what is cut off may be begun again on that disk, and on no other.
type begunNote struct {
	Disk string `json:"disk"` // disk.ID's Lasting
}

// shownNote is what the user was told about a disk, before it can be wiped.
type shownNote struct {
	PD    string      `json:"pd"` // the id of the pd that was refused
	Name  string      `json:"name"`
	Found string      `json:"found"`
	Marks []disk.Mark `json:"marks"`
}

func begunName(pd string) string { return "begun-" + pd }

// shownName is made of where the disk is and not of what it is: the marks say
// that.
func shownName(where string) string {
	name := "shown-" + strings.ReplaceAll(where, "/", "%")
	if len(name) > maxNote {
		sum := sha256.Sum256([]byte(where))
		name = name[:maxNote-64] + hex.EncodeToString(sum[:])
	}
	return name
}

// mayFormat reports that a pd asks for its first and only format.
func (a *Agent) mayFormat(spec *apiv1.PdSpec) (bool, error) {
	made, err := a.State.Made(spec.Id)
	return spec.Format && !made, err
}

// admit decides what may be done with a disk that nobody else has: ours is
// true when it carries the pd's stamp, and false when it is blank and is to be
// formatted. Everything else is an error that says what was found.
func (a *Agent) admit(ctx context.Context, spec *apiv1.PdSpec, c conf, dev disk.Device) (ours bool, err error) {
	fresh, err := a.mayFormat(spec)
	if err != nil {
		return false, err
	}
	store, err := disk.Stamp(ctx, dev)
	if err != nil {
		return false, fmt.Errorf("%s cannot be read: %w", c.where(), err)
	}
	want := a.stamp(spec.Id)
	ours = store != nil && store.Name == want
	a.noteStamp(spec.Id, ours)
	if ours {
		return true, a.recognise(spec, c, dev.ID())
	}
	if by := dev.ID().Also; by != "" && fresh {
		return false, fmt.Errorf("%s %w and is not formatted: %s", c.where(), disk.ErrInUse, by)
	}
	if err := a.refusedLately(spec, dev.ID()); err != nil {
		return false, err
	}
	if fresh {
		if err := bigEnough(c, dev.Size()); err != nil {
			return false, fmt.Errorf("%s is not formatted: %w", c.where(), err)
		}
	}
	content, err := disk.Look(ctx, dev)
	if err != nil {
		return false, fmt.Errorf("%s is not formatted: %w", c.where(), err)
	}
	if !fresh {
		return false, a.refuse(spec, dev.ID(), a.lost(spec, c, content, want))
	}
	cutOff, err := a.cutOff(spec, dev.ID(), content)
	switch {
	case err != nil:
		return false, err
	case content.Blank() || cutOff:
		return false, a.setBegun(spec, dev.ID())
	}
	if err := a.servedHere(content); err != nil {
		return false, a.refuse(spec, dev.ID(), err)
	}
	if err := a.wipe(ctx, spec, c, dev, content); err != nil {
		return false, a.refuse(spec, dev.ID(), err)
	}
	return false, a.setBegun(spec, dev.ID())
}

// lost is the error of a pd that was formatted once and whose stamp is not on
// the disk.
func (a *Agent) lost(spec *apiv1.PdSpec, c conf, content *disk.Content, want string) error {
	if content.Store != nil && content.Store.Name != "" {
		return cmp.Or(a.copied(content.Store.Name), foreign(content.Store.Name, want))
	}
	return fmt.Errorf("the stamp of pd %s is not found on %s, which %v; it has been formatted before, and that is not done again; "+
		"if its disk is lost or was replaced, delete the arrays on it and then the pd (pd delete --force), and create it again",
		spec.Id, c.where(), content)
}

// cutOff reports that the disk holds nothing but the metadata of an lvstore
// that this agent began to make on this very disk.
func (a *Agent) cutOff(spec *apiv1.PdSpec, id disk.ID, content *disk.Content) (bool, error) {
	if !content.CutOff() || id.Lasting == "" {
		return false, nil
	}
	var note begunNote
	begun, err := a.State.Kept(begunName(spec.Id), &note)
	return begun && note.Disk == id.Lasting, err
}

func (a *Agent) setBegun(spec *apiv1.PdSpec, id disk.ID) error {
	return a.State.Keep(begunName(spec.Id), begunNote{Disk: id.Lasting})
}

// servedHere refuses a disk that carries the stamp of another pd of this node,
// whatever the user says of wiping: it is that pd's disk by another way, or a
// copy.
func (a *Agent) servedHere(content *disk.Content) error {
	if content.Store == nil {
		return nil
	}
	return a.copied(content.Store.Name)
}

// wipe makes a disk blank whose user has been shown what is on it, and asked
// for that. Otherwise it is the place where that is shown.
func (a *Agent) wipe(ctx context.Context, spec *apiv1.PdSpec, c conf, dev disk.Device, content *disk.Content) error {
	name := shownName(c.where())
	var note shownNote
	known, err := a.State.Kept(name, &note)
	if err != nil {
		return err
	}
	shown := known && note.PD != spec.Id && content.Covered(note.Marks)
	if c.Wipe && shown && dev.ID().System == "" {
		a.Log.Warn("wiping a disk, as its user wants", "pd", spec.Name, "disk", c.where(),
			"id", dev.ID().Lasting, "found", note.Found, "shown_for", note.Name)
		if err := dev.Wipe(ctx); err != nil {
			return fmt.Errorf("%s could not be wiped: %w", c.where(), err)
		}
		after, err := disk.Look(ctx, dev)
		if err == nil && !after.Blank() {
			err = fmt.Errorf("it still %v", after)
		}
		if err != nil {
			return fmt.Errorf("%s was wiped and is not formatted: %w", c.where(), err)
		}
		return a.State.Forget(name)
	}
	found := fmt.Sprint(content)
	if note.PD == spec.Id && known && content.Covered(note.Marks) {
		found = note.Found // a wipe that was cut off is not shown as all there is
	} else if err := a.State.Keep(name, shownNote{PD: spec.Id, Name: spec.Name, Found: found, Marks: content.Marks}); err != nil {
		return err
	}
	if content.Store != nil && content.Store.Name != "" {
		found += " (" + foreign(content.Store.Name, a.stamp(spec.Id)).Error() + ")"
	}
	how := `delete this pd and create it again with "wipe":true in its conf`
	switch {
	case dev.ID().System != "":
		return fmt.Errorf("%s is not blank and is not formatted: it %s; it is on the disk that the machine runs from (%s), where nothing is "+
			"wiped: delete this pd, and give it another disk", c.where(), found, dev.ID().System)
	case c.Wipe:
		how = "delete this pd and create it again as it is: wipe holds for what has been shown before, and this had not been"
	}
	return fmt.Errorf("%s is not blank and is not formatted: it %s; if nothing of that is needed, %s", c.where(), found, how)
}

// otherName refuses a path that leads to the disk of another pd.
func (a *Agent) otherName(spec *apiv1.PdSpec, c conf, id disk.ID) error {
	if fresh, err := a.mayFormat(spec); err != nil || !fresh {
		return err // the stamp decides
	}
	a.mu.Lock()
	others := make([]*apiv1.PdSpec, 0, len(a.set.pds))
	for _, p := range a.set.pds {
		if p.Id != spec.Id && !p.Deleted && (p.Version < spec.Version || !p.Format) {
			others = append(others, p)
		}
	}
	a.mu.Unlock()
	for _, p := range others {
		oc, err := parseConf(p.ConfJson)
		if err != nil || oc.Type != "aio" {
			continue
		}
		other, err := a.Disks.Identify(oc.Filename)
		if err != nil {
			continue
		}
		switch {
		case other.Now == id.Now:
			return fmt.Errorf("%s is another name of %s, the disk of pd %s; a disk is one pd: delete this one, which changes nothing "+
				"on the disk",
				c.Filename, oc.Filename, p.Name)
		case contains(id.Over, other.Now) || contains(other.Over, id.Now):
			return fmt.Errorf("%s shares its blocks with %s, the disk of pd %s; a disk is one pd: delete this one, which changes "+
				"nothing on the disk",
				c.Filename, oc.Filename, p.Name)
		}
	}
	return nil
}

func contains(list []string, s string) bool {
	for _, v := range list {
		if v == s {
			return true
		}
	}
	return false
}

// refuse remembers an error that took much reading to find.
func (a *Agent) refuse(spec *apiv1.PdSpec, id disk.ID, err error) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.refused[spec.Id] = refusal{of: refusedFor(spec, id), until: time.Now().Add(lookAgain), err: err}
	return err
}

func (a *Agent) refusedLately(spec *apiv1.PdSpec, id disk.ID) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	r, known := a.refused[spec.Id]
	if known && r.of == refusedFor(spec, id) && time.Now().Before(r.until) {
		return r.err
	}
	delete(a.refused, spec.Id)
	return nil
}

func refusedFor(spec *apiv1.PdSpec, id disk.ID) string {
	return fmt.Sprint(id.Now, " ", id.Lasting, " ", spec.ConfJson, " ", spec.Format)
}

// noteStamp notes whether the disk at a pd's place carries its stamp, as far
// as that could be read.
func (a *Agent) noteStamp(pd string, carries bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.unstamped[pd] = !carries
}

// attached is a disk.Device of a bdev of the data plane that is not in use.
type attached struct {
	agent.RawDisk
	where string
	id    disk.ID
}

func (d *attached) Path() string { return d.where }
func (d *attached) ID() disk.ID  { return d.id }

func (d *attached) Wipe(ctx context.Context) error {
	return errors.Join(disk.WipePlaces(ctx, zeroer{d.RawDisk}), d.Flush(ctx))
}

type zeroer struct{ agent.RawDisk }

func (z zeroer) Zero(ctx context.Context, off, n uint64) error { return z.ZeroAt(ctx, off, n) }
