package cn

import (
	"context"
	"errors"
	"slices"
)

// rung is one layer of what a primary holds in its data plane. A pass climbs the
// rungs and makes what is missing. It goes down them when the controller is not
// primary any more, or when the array has to be brought up in another way.
type rung interface {
	// have reports that the data plane holds something of the rung.
	have() bool
	// want returns "" when what it holds is what is wanted, though some may be
	// missing, and else what is wrong: then the array is taken down and brought up
	// again.
	want() string
	// make makes what is missing. Everything below is there.
	make(context.Context) error
	// unmake takes away what the data plane holds, and deletes nothing from media.
	// Everything above is gone.
	unmake(context.Context) error
}

// array returns the rungs up to the volume, the lowest first.
func (p *pass) array() []rung {
	return []rung{
		connections{p}, // vda-vd-<vd>, one for each vd
		mirrors{p},     // vda-mir-<mirror>, one for each column, unless raids stand on vds
		raids{p},       // vda-grp-<grp>, one for each group
		concat{p},      // vda-da-<da>, of all groups; none of one group on vds
		source{p},      // vda-src-<da>, of a clone that is not without its source yet
		lvstore{p},     // vda-da-<da>
		volume{p},      // vda-vol-<da>
	}
}

// stack returns all rungs, the lowest first.
func (p *pass) stack() []rung { return append(p.array(), exporters{p}) }

// primary brings the array up and exports it.
func (p *pass) primary(ctx context.Context) {
	if err := p.climb(ctx); err != nil {
		if anaErr := p.closePaths(ctx, notUp); anaErr != nil {
			p.Log.Warn("paths stay as they are", "da", p.c.DaName, "err", anaErr)
		}
		p.failAll(err)
		return
	}
	snapshots{p}.keep(ctx)
	unlimited := p.limit(ctx)
	if err := (exporters{p}).make(ctx); err != nil {
		p.failAll(err)
	}
	p.limitAgain(ctx, unlimited)
	p.widen(ctx)
	p.grow(ctx)
	p.absorb(ctx)
}

// climb makes what is missing up to the volume.
func (p *pass) climb(ctx context.Context) error {
	if err := p.refit(ctx); err != nil {
		return err
	}
	if p.vol = p.inv.BdevName(p.volAlias()); p.vol != "" {
		if !p.keepMirrors(ctx) {
			return nil
		}
		if err := p.takeDown(ctx); err != nil {
			return err
		}
	}
	// A secondary that takes over: hosts have to wait from now on.
	if err := p.closePaths(ctx, takingOver); err != nil {
		return err
	}
	if err := p.dropProxies(ctx); err != nil {
		return err
	}
	err := p.raise(ctx)
	if errors.Is(err, errAgain) {
		p.Log.Warn("disk array is taken down and brought up again", "da", p.c.DaName, "term", p.c.Term, "why", err)
		if err = p.takeDown(ctx); err == nil {
			err = p.raise(ctx)
		}
	}
	if err != nil {
		return err
	}
	p.Log.Info("disk array is up", "da", p.c.DaName, "term", p.c.Term, "vds", len(connectedOf(p.c)))
	return nil
}

// raise makes what is missing of each rung up to the volume.
func (p *pass) raise(ctx context.Context) error {
	for _, r := range p.array() {
		if err := r.make(ctx); err != nil {
			return err
		}
	}
	return nil
}

// refit takes the array down when a rung holds what is not wanted, such as
// connections of another term or to other places, or a raid that has failed.
func (p *pass) refit(ctx context.Context) error {
	why := ""
	for _, r := range p.stack() {
		if wrong := r.want(); wrong != "" {
			why = wrong
		}
	}
	if why == "" {
		return nil
	}
	p.Log.Warn("disk array is taken down and brought up again", "da", p.c.DaName, "term", p.c.Term, "why", why)
	return p.takeDown(ctx)
}

// takeDown takes away what only a primary has, if there is any.
func (p *pass) takeDown(ctx context.Context) error {
	if !p.isUp() {
		return nil
	}
	if err := p.closePaths(ctx, takenDown); err != nil {
		return err
	}
	defer p.cutLost(ctx)()
	if err := descend(ctx, p.stack()); err != nil {
		return err
	}
	inv, err := p.look(ctx)
	if err == nil {
		p.inv, p.vol, p.seen, p.wired = inv, "", nil, nil
		p.choose()
	}
	return err
}

// isUp reports that the data plane holds something that only a primary has.
func (p *pass) isUp() bool { return slices.ContainsFunc(p.stack(), rung.have) }

// descend unmakes rungs, the highest first.
func descend(ctx context.Context, rungs []rung) error {
	for _, r := range slices.Backward(rungs) {
		if err := r.unmake(ctx); err != nil {
			return err
		}
	}
	return nil
}
