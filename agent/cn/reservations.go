package cn

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"

	apiv1 "github.com/virtual-disk-array/vda/api/v1"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/spdk"
)

// Hosts' reservations are the exporter's: its namespace's, by whatever controller a host sees
// that. The primary has them, beside the data, and judges all commands by them; the others
// pass on commands with the id of the host that sent them. So a data plane that cannot do its
// part must not serve the array at all: as primary it would let a host write that has lost its
// reservation, and as a secondary it would let hosts reserve where nobody else hears of it.

// keepOut closes the paths of an array whose reservations would not hold here.
func (p *pass) keepOut(ctx context.Context) {
	err := fmt.Errorf("hosts may have made reservations of disk array %s, which do not hold by this node's data plane, so that it does not "+
		"serve the array: run vda_tgt of this release on this node, or end them (da modify --reservations=false)", p.c.DaName)
	if closed := p.closePaths(ctx, unreserved); closed != nil {
		err = errors.Join(err, closed)
	}
	p.fail(p.c.Id, err)
	for _, s := range p.c.Snaps {
		p.fail(s.Id, err)
	}
	p.exps(ctx, func(context.Context, *apiv1.ExpSpec) error { return err })
}

// reservations are what an exporter's subsystem has to do with them. Snapshots take no part:
// they are read, or one host's to look at.
func (p *pass) reservations(e *apiv1.ExpSpec) spdk.NvmfReservations {
	if !p.c.Reservations || e.SnapName != "" || ofClone(e) {
		return spdk.NvmfReservations{}
	}
	id, err := uuid.Parse(p.shownBy(e).NsUuid)
	if err != nil {
		return spdk.NvmfReservations{} // its namespace has the error
	}
	return spdk.NvmfReservations{ID: id.String(), Offered: true}
}

// shownBy is the exporter that hosts connect to: of a hop, the one that it is beside.
func (p *pass) shownBy(e *apiv1.ExpSpec) *apiv1.ExpSpec {
	if !ofHop(e) {
		return e
	}
	for _, o := range p.c.Exps {
		if !ofHop(o) && vda.HopNQN(o.Id) == e.Nqn {
			return o
		}
	}
	return e
}

// forgetReservation has the array forget what was reserved by an exporter that is gone. What a
// primary that is not up leaves there is in nobody's way: no other exporter gets its UUID.
func (p *pass) forgetReservation(ctx context.Context, e *apiv1.ExpSpec) error {
	if !p.c.Primary || p.vol == "" || e.SnapName != "" || ofClone(e) || ofHop(e) {
		return nil
	}
	id, err := uuid.Parse(e.NsUuid)
	if err != nil {
		return nil // it never had a namespace
	}
	return p.Plane.Driver().ForgetReservation(ctx, p.vol, id.String())
}
