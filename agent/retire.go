package agent

import (
	"context"
	"fmt"
)

// A host that is told not to retry gives its path up for good. So it is told
// only of a subsystem whose tombstone has been carried out, and not any more once
// the desired set has one of that name again. What is merely missing, after a
// restart, or because the database is an old one, is refused as what may come.

// RetireSubsystem deletes a subsystem that is not to come back, if it is there,
// and has its hosts told so, where the data plane can do that: they would
// otherwise go on trying. Once is enough in a run of the data plane.
func (p *Plane) RetireSubsystem(ctx context.Context, nqn string, there bool) error {
	able := p.Able().Retires
	switch {
	case !there && (!able || p.isRetired(nqn)):
		return nil
	case !able:
		return p.DropSubsystem(ctx, nqn)
	}
	p.forgetANA(nqn)
	if err := p.VdaNvmfRetireSubsystem(ctx, nqn, true); err != nil {
		return fmt.Errorf("subsystem %s: %w", nqn, err)
	}
	p.setRetired(nqn, true)
	return nil
}

// Expect has hosts of a subsystem come back that is not there and is to be made,
// which may take long.
func (p *Plane) Expect(ctx context.Context, nqn string) error {
	p.mu.Lock()
	is, known := p.retired[nqn]
	may := is || !known && p.succeeds
	p.mu.Unlock()
	if !may || !p.Able().Retires {
		return nil
	}
	if err := p.VdaNvmfRetireSubsystem(ctx, nqn, false); err != nil {
		return fmt.Errorf("subsystem %s: %w", nqn, err)
	}
	p.setRetired(nqn, false)
	return nil
}

func (p *Plane) isRetired(nqn string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.retired[nqn]
}

func (p *Plane) setRetired(nqn string, is bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.retired[nqn] = is
}
