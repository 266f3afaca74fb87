package vdatgt

import (
	"context"
	"fmt"
	"math"
	"syscall"
	"time"

	"github.com/google/uuid"

	"github.com/virtual-disk-array/vda/module/mirror"
	"github.com/virtual-disk-array/vda/module/mirror/label"
	"github.com/virtual-disk-array/vda/spdk/jsonrpc"
)

func mirrorMethods() []*Method {
	return []*Method{
		method("vda_mirror_create", "Assembles a mirror from the legs that are there; its I/O waits until members that are not there are back "+
			"or dropped.", mirrorCreate, slow, returns(mirror.Status{})),
		method("vda_mirror_set", "Says which legs a mirror has now, and connects to those whose bdevs are there.", mirrorSet, slow,
			returns(mirror.Status{})),
		method("vda_mirror_get_bdevs", "Returns an array of mirrors and how their legs are.", mirrorList, optional,
			returns(mirror.Status{})),
		method("vda_mirror_wait", "Waits until the state of a mirror's legs is another, and returns it.", mirrorWait, slow,
			returns(mirror.Status{})),
		method("vda_mirror_watch", "Waits until the state of any mirror is another, and returns those that have changed.", mirrorWatch, slow,
			optional, returns(mirror.News{})),
		method("vda_mirror_set_options", "Changes how much is copied, repaired and scrubbed per second; hosts' I/O goes first in any case.",
			mirrorOptions),
		method("vda_mirror_scrub", "Begins to compare all members of a mirror, or ends that. Of three members, one that differs from "+
			"two is repaired; of two, none is, unless repair_from says which is right. It waits for a repair or a copy to end.", mirrorScrub,
			returns(mirror.Status{})),
		method("vda_mirror_delete", "Takes a mirror apart; its legs keep their data, and labels that say whether they are equal.",
			mirrorDelete, slow),
	}
}

type mirrorLeg struct {
	VD    uuid.UUID  `rpc:"vd_id" doc:"id of the vd"`
	Bdev  string     `rpc:"bdev_name" doc:"name of its bdev, which may be missing"`
	Role  string     `rpc:"role" doc:"member, target (is written and copied to) or absent"`
	Epoch *uuid.UUID `rpc:"epoch,optional" doc:"another once the disk node may have lost what it had acknowledged and not flushed; not given: what the bdev's target says of the connection in use"`
	Bare  bool       `rpc:"bare,optional" doc:"it may have no label"`
}

func mirrorLegs(name string, legs []mirrorLeg) (out []mirror.LegConfig, err error) {
	for _, l := range legs {
		role, ok := mirror.RoleOf(l.Role)
		if !ok {
			return nil, jsonrpc.Errno(syscall.EINVAL, fmt.Sprintf("mirror %q: role %q of vd %v must be member, target or absent", name, l.Role,
				l.VD))
		}
		out = append(out, mirror.LegConfig{VD: label.ID(l.VD), Bdev: l.Bdev, Role: role, Epoch: label.ID(orNil(l.Epoch)), Bare: l.Bare})
	}
	return out, nil
}

type mirrorCreateParams struct {
	Name   string      `rpc:"name" doc:"name of the mirror"`
	UUID   *uuid.UUID  `rpc:"uuid,optional" doc:"default: a random one"`
	DA     uuid.UUID   `rpc:"da_id" doc:"id of the array"`
	Mirror uuid.UUID   `rpc:"mirror_id" doc:"id of the mirror"`
	Size   uint64      `rpc:"size" doc:"bytes of data, a multiple of 4096; legs have 1 MiB more, but for a bare one"`
	Term   uint64      `rpc:"term" doc:"term of the array"`
	Gen    uint64      `rpc:"gen" doc:"counts the sets of members"`
	Legs   []mirrorLeg `rpc:"legs" doc:"all legs, present or not: vd_id, bdev_name, role (member; target, which is written and copied to; or absent), epoch (uuid, optional: another once the disk node may have lost what it had acknowledged and not flushed; not given: what the bdev's target says of the connection in use), and bare (boolean, optional: the leg may have no label, as its bdev is no larger than size or was until lately; it must be the one member)"`
	Fresh  bool        `rpc:"fresh,optional" doc:"the mirror may never have been up: its legs are zeroed and may have no labels"`
	CopyMB uint32      `rpc:"copy_mb_per_sec,optional" doc:"MiB that are copied per second at most; 0: no bound"`

	Recovered *uint64 `rpc:"recovered,optional" doc:"gen of the last set by which a user has had the mirror go on with members that may lack writes, 0 for none: when labels of a later gen have all members catching up, I/O waits; not given: it never does for that"`
}

// recovered is the parameter of that name; an agent of before does not give it.
func recovered(p *uint64) uint64 {
	if p == nil {
		return math.MaxUint64
	}
	return *p
}

func mirrorCreate(ctx context.Context, t *Target, p mirrorCreateParams) (any, error) {
	legs, err := mirrorLegs(p.Name, p.Legs)
	if err != nil {
		return nil, err
	}
	m, err := t.mirrors.Create(ctx, mirror.Config{Name: p.Name, UUID: orNil(p.UUID), DA: label.ID(p.DA), Mirror: label.ID(p.Mirror),
		DataSize: p.Size, Term: p.Term, Gen: p.Gen, Legs: legs, Fresh: p.Fresh, CopyRate: uint64(p.CopyMB) << 20,
		Recovered: recovered(p.Recovered)})
	if err != nil {
		return nil, err
	}
	if err := t.examines.waitAppeared(ctx); err != nil {
		return nil, err
	}
	return m.Status(), nil
}

type mirrorSetParams struct {
	Name string      `rpc:"name" doc:"name of the mirror"`
	Term uint64      `rpc:"term" doc:"term of the array: that of vda_mirror_create"`
	Gen  uint64      `rpc:"gen" doc:"not less than the last one; greater when the members are others"`
	Legs []mirrorLeg `rpc:"legs" doc:"all legs, present or not, as of vda_mirror_create"`

	Recovered *uint64 `rpc:"recovered,optional" doc:"as of vda_mirror_create; it counts for a mirror that is not assembled yet"`
}

func mirrorSet(ctx context.Context, t *Target, p mirrorSetParams) (any, error) {
	m, err := t.mirrors.Find(p.Name)
	if err != nil {
		return nil, err
	}
	legs, err := mirrorLegs(p.Name, p.Legs)
	if err != nil {
		return nil, err
	}
	m.SetRecovered(recovered(p.Recovered))
	if err := m.Set(ctx, p.Term, p.Gen, legs); err != nil {
		return nil, err
	}
	return m.Status(), nil
}

type mirrorListParams struct {
	Name string `rpc:"name,optional" doc:"one mirror; default all"`
}

func mirrorList(_ context.Context, t *Target, p mirrorListParams) (any, error) {
	if p.Name != "" {
		m, err := t.mirrors.Find(p.Name)
		if err != nil {
			return nil, err
		}
		return []mirror.Status{m.Status()}, nil
	}
	out := []mirror.Status{}
	for _, m := range t.mirrors.List() {
		out = append(out, m.Status())
	}
	return out, nil
}

type mirrorWaitParams struct {
	Name    string `rpc:"name" doc:"name of the mirror"`
	Changes uint64 `rpc:"changes" doc:"changes of the state that is known"`
	Timeout uint32 `rpc:"timeout_ms,optional" doc:"milliseconds until the state is returned as it is; default 30000, at most 60000"`
}

// mirrorWaitLimit bounds how long a call waits.
const mirrorWaitLimit = time.Minute

func mirrorWait(ctx context.Context, t *Target, p mirrorWaitParams) (any, error) {
	m, err := t.mirrors.Find(p.Name)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, mirrorWaitTime(p.Timeout))
	defer cancel()
	return m.Wait(ctx, p.Changes), nil
}

// mirrorWaitTime is how long a call waits that says so many milliseconds.
func mirrorWaitTime(ms uint32) time.Duration {
	if ms == 0 {
		return 30 * time.Second
	}
	return min(time.Duration(ms)*time.Millisecond, mirrorWaitLimit)
}

type mirrorWatchParams struct {
	Changes uint64 `rpc:"changes,optional" doc:"changes of the last reply; 0, or those of another process: all mirrors are returned at once"`
	Timeout uint32 `rpc:"timeout_ms,optional" doc:"milliseconds until a reply though nothing has changed; default 30000, at most 60000"`
}

func mirrorWatch(ctx context.Context, t *Target, p mirrorWatchParams) (any, error) {
	ctx, cancel := context.WithTimeout(ctx, mirrorWaitTime(p.Timeout))
	defer cancel()
	return t.mirrors.Wait(ctx, p.Changes), nil
}

type mirrorOptionsParams struct {
	Name   string `rpc:"name,optional" doc:"name of the mirror; default: all of the node together, beside the bound of each"`
	CopyMB uint32 `rpc:"copy_mb_per_sec" doc:"MiB that are copied per second at most; 0: no bound"`
}

func mirrorOptions(_ context.Context, t *Target, p mirrorOptionsParams) (any, error) {
	rate := uint64(p.CopyMB) << 20
	if p.Name == "" {
		t.mirrors.SetCopyRate(rate)
		return true, nil
	}
	m, err := t.mirrors.Find(p.Name)
	if err != nil {
		return nil, err
	}
	m.SetCopyRate(rate)
	return true, nil
}

type mirrorScrubParams struct {
	Name string     `rpc:"name" doc:"name of the mirror"`
	Stop bool       `rpc:"stop,optional" doc:"end the scrub that is running"`
	From *uuid.UUID `rpc:"repair_from,optional" doc:"vd_id of the member that others are repaired from wherever they differ"`
}

func mirrorScrub(_ context.Context, t *Target, p mirrorScrubParams) (any, error) {
	m, err := t.mirrors.Find(p.Name)
	switch {
	case err != nil:
		return nil, err
	case p.Stop && p.From != nil:
		return nil, jsonrpc.Errno(syscall.EINVAL, fmt.Sprintf("mirror %q: stop ends a scrub, and takes no repair_from", p.Name))
	case p.Stop:
		m.StopScrub()
	default:
		err = m.Scrub(label.ID(orNil(p.From)))
	}
	if err != nil {
		return nil, err
	}
	return m.Status(), nil
}

type mirrorDeleteParams struct {
	Name string `rpc:"name" doc:"name of the mirror"`
}

func mirrorDelete(_ context.Context, t *Target, p mirrorDeleteParams) (any, error) {
	if err := t.mirrors.Delete(p.Name); err != nil {
		return nil, err
	}
	return true, nil
}
