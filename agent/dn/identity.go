package dn

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strings"

	"github.com/virtual-disk-array/vda/agent"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/disk"
	"github.com/virtual-disk-array/vda/spdk"
)

// An lvstore that carries a pd's stamp is the pd's only when it is on the pd's
// own bdev, and when that is the disk which the stamp was found on before. The
// same name elsewhere is a copy of the disk, whichever of the two came first.

// diskNote is what a pd's disk was when it was accepted.
type diskNote struct {
	Where  string            `json:"where"`
	Traits map[string]string `json:"traits"` // disk.ID's
}

func diskName(pd string) string { return "disk-" + pd }

// recognise refuses a disk with the pd's stamp that is another one than the
// disk which was accepted.
func (a *Agent) recognise(spec *apiv1.PdSpec, c conf, id disk.ID) error {
	var note diskNote
	known, err := a.State.Kept(diskName(spec.Id), &note)
	if err != nil {
		return err
	}
	name := disk.Differs(note.Traits, id.Traits)
	if name == "" {
		if len(id.Traits) == 0 || known && note.Where == c.where() && maps.Equal(note.Traits, id.Traits) {
			return nil
		}
		return a.State.Keep(diskName(spec.Id), diskNote{Where: c.where(), Traits: id.Traits})
	}
	return fmt.Errorf("%s carries the stamp of pd %s and is not its disk but a copy, or the disk put back from one: its %s is %q, the "+
		"disk's at %s was %q; "+
		"nothing is served from it; bring the disk back, or, if this one is to take its place and nothing newer is lost by that, remove %s "+
		"on the node",
		c.where(), spec.Name, name, id.Traits[name], note.Where, note.Traits[name], a.State.NoteFile(diskName(spec.Id)))
}

// remember notes what the disk is on which a pd's lvstore has just been
// made, or was loaded before that was remembered. Later the path may lead
// elsewhere than the data plane's open file: recognise looks at the disk
// itself.
func (a *Agent) remember(spec *apiv1.PdSpec, c conf) error {
	if c.Type != "aio" {
		return nil
	}
	known, err := a.State.Kept(diskName(spec.Id), &diskNote{})
	if err != nil || known {
		return err
	}
	id, err := a.Disks.Identify(c.Filename)
	if err != nil || len(id.Traits) == 0 {
		return nil // the next pass asks again
	}
	return a.State.Keep(diskName(spec.Id), diskNote{Where: c.where(), Traits: id.Traits})
}

// ownStore returns the lvstore of a pd's own disk, nil when that has none
// loaded. It is an error when the data plane has one of that name from
// elsewhere, or has had to give it up.
func (a *Agent) ownStore(inv *agent.Inventory, spec *apiv1.PdSpec) (*spdk.Lvstore, error) {
	c, err := parseConf(spec.ConfJson)
	if err != nil {
		return nil, err
	}
	base, want := baseName(c, spec.Id), a.stamp(spec.Id)
	lvs := inv.LvstoreOn[base]
	switch {
	case lvs == nil || lvs.Name != want:
		return nil, elsewhere(inv.Lvstores[want], base)
	case lvs.Failed != "":
		return nil, givenUp(c, lvs)
	}
	return lvs, nil
}

func givenUp(c conf, lvs *spdk.Lvstore) error {
	return fmt.Errorf("lvstore %s was given up: %s; make sure that only this node's data plane uses the disk %s, then restart it",
		lvs.Name, lvs.Failed, c.where())
}

// inTheWay is an error when the lvstore of a pd could not be loaded because
// that of a copy is. A copy that another pd has attached is let go of by that
// pd's next pass.
func (a *Agent) inTheWay(ctx context.Context, spec *apiv1.PdSpec, base string) error {
	want := a.stamp(spec.Id)
	l, err := a.Plane.BdevLvolGetLvstores(ctx)
	if err != nil {
		return err
	}
	for i := range l {
		if l[i].Name == want {
			return elsewhere(&l[i], base)
		}
	}
	return nil
}

// elsewhere is an error that says where an lvstore was loaded from instead of
// base; nil when it was not loaded.
func elsewhere(lvs *spdk.Lvstore, base string) error {
	if lvs == nil || lvs.BaseBdev == base {
		return nil
	}
	return fmt.Errorf("its lvstore %s is loaded from bdev %s, which is not its disk but a copy of it; nothing is served from there",
		lvs.Name, lvs.BaseBdev)
}

// release detaches a disk with the stamp of another, so that the lvstore on it
// does not stand in that one's way, and returns what to say.
func (a *Agent) release(ctx context.Context, c conf, spec *apiv1.PdSpec, have, want string) error {
	err := a.copied(have)
	if err == nil {
		err = foreign(have, want)
	}
	a.Log.Warn("a disk that is not the pd's is let go of", "pd", spec.Name, "disk", c.where(), "lvstore", have)
	err = errors.Join(err, a.detachBase(ctx, c.Type, spec.Id))
	if of := a.stampedFor(have); of != nil {
		a.Loop.Kick(pdKey+of.Id, false)
	}
	return err
}

// stampedFor returns the live pd of this node whose stamp it is, nil when
// there is none.
func (a *Agent) stampedFor(name string) *apiv1.PdSpec {
	a.mu.Lock()
	defer a.mu.Unlock()
	for id, p := range a.set.pds {
		if !p.Deleted && stamp(a.set.cluster, id) == name {
			return p
		}
	}
	return nil
}

// copied is an error when a stamp is that of another pd of this node.
func (a *Agent) copied(stamp string) error {
	of := a.stampedFor(stamp)
	if of == nil {
		return nil
	}
	where := of.ConfJson
	if c, err := parseConf(of.ConfJson); err == nil {
		where = c.where()
	}
	return fmt.Errorf("the disk is a copy of the disk of pd %s (%s), or that disk by another name; it is left alone: delete this pd",
		of.Name, where)
}

// nvmeTraits reads what an NVMe disk is recognised by from its bdev's
// driver_specific, nil when that says nothing. A UUID is not among it: SPDK
// makes one up for namespaces without.
func nvmeTraits(driver json.RawMessage) map[string]string {
	var d struct {
		NVMe []struct {
			Ctrlr struct {
				Serial string `json:"serial_number"`
				Model  string `json:"model_number"`
			} `json:"ctrlr_data"`
		} `json:"nvme"`
	}
	if json.Unmarshal(driver, &d) != nil || len(d.NVMe) == 0 {
		return nil
	}
	traits := map[string]string{}
	for name, v := range map[string]string{"serial": d.NVMe[0].Ctrlr.Serial, "model": d.NVMe[0].Ctrlr.Model} {
		if v = strings.TrimSpace(v); v != "" {
			traits[name] = v
		}
	}
	return traits
}
