package plane

import "context"

// A host that is told not to retry gives its path up for good. So it is told
// only of a subsystem whose tombstone has been carried out, and not any more once
// the desired set has one of that name again. What is merely missing, after a
// restart, or because the database is an old one, is refused as what may come.
// SPDK never tells a host not to come back.

func (d *vdaTgt) Retire(ctx context.Context, nqn string, there bool) error {
	switch {
	case !there && (!d.retires || d.isRetired(nqn)):
		return nil
	case !d.retires:
		return deleteSubsystem(ctx, d.API, nqn)
	}
	if err := d.API.VdaNvmfRetireSubsystem(ctx, nqn, true); err != nil {
		return err
	}
	d.setRetired(nqn, true)
	return nil
}

func (d *vdaTgt) Expect(ctx context.Context, nqn string) error {
	d.mu.Lock()
	is, known := d.retired[nqn]
	may := is || !known && d.Served
	d.mu.Unlock()
	if !may || !d.retires {
		return nil
	}
	if err := d.API.VdaNvmfRetireSubsystem(ctx, nqn, false); err != nil {
		return err
	}
	d.setRetired(nqn, false)
	return nil
}

func (d *vdaTgt) Created(nqn string) { d.setRetired(nqn, false) }

func (d *vdaTgt) isRetired(nqn string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.retired[nqn]
}

func (d *vdaTgt) setRetired(nqn string, is bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.retired[nqn] = is
}
