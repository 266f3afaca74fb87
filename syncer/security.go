package syncer

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/virtual-disk-array/vda/member"
	"github.com/virtual-disk-array/vda/pki"
	"github.com/virtual-disk-array/vda/store"
)

// followEvery is how often a portal and a monitor look whether the cluster has been
// secured, and who has been revoked.
const followEvery = 3 * time.Second

// ErrPlain is why a daemon without a certificate does not work for a secured cluster.
var ErrPlain = errors.New("the cluster is secured, and this daemon has no certificate of it: give it --tls-dir, and --enrol with a token " +
	"of vda_db --action token (or a portal --ca-dir)")

// Secure has an identity, nil for a plain daemon, know what the database says of the
// cluster's security. ErrPlain when it cannot.
func Secure(ctx context.Context, db store.Store, id *pki.Identity) error {
	var s store.Security
	var members []store.Member
	err := db.View(ctx, func(tx store.Reader) (err error) {
		if s, err = tx.Security(); err == nil && s.CA != "" {
			members, err = tx.Members()
		}
		return err
	})
	if err != nil {
		return err
	}
	if !id.Enrolled() {
		if s.Secured {
			return ErrPlain
		}
		return nil
	}
	var revoked []pki.Revoked
	var portals []string
	for _, m := range members {
		if m.Kind == pki.Portal && time.Now().Before(m.Expires) {
			portals = append(portals, m.Name)
		}
		if !m.Revoked.IsZero() {
			revoked = append(revoked, pki.Revoked{Kind: m.Kind, Name: m.Name, Before: m.Revoked})
		}
	}
	if err := errors.Join(id.Revoke(revoked), id.LearnPortals(portals)); err != nil {
		return err
	}
	if s.Secured {
		return id.Secure()
	}
	return nil
}

// Guard has a portal or monitor serve while its certificate is renewed, by its own CA or, when
// ca is nil, at a portal, and what the database says of the cluster's security is followed.
// It returns when serve does; ErrPlain when the cluster was secured and the daemon is plain.
func Guard(ctx context.Context, db store.Store, id *pki.Identity, ca *pki.CA, log *slog.Logger, serve func(context.Context) error) error {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	var plain error
	wg.Go(func() {
		if plain = follow(ctx, db, id, log); plain != nil {
			cancel()
		}
	})
	wg.Go(func() { member.Keep(ctx, id, ca, log) })
	err := serve(ctx)
	cancel()
	wg.Wait()
	return errors.Join(plain, err)
}

// follow calls Secure until ctx ends, or the daemon must not go on: ErrPlain.
func follow(ctx context.Context, db store.Store, id *pki.Identity, log *slog.Logger) error {
	for said := false; ; {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(followEvery):
		}
		was := id.Secured()
		switch err := Secure(ctx, db, id); {
		case errors.Is(err, ErrPlain):
			return err
		case err != nil && ctx.Err() == nil && !said:
			said = true
			log.Warn("it is not known whom the cluster has revoked since", "err", err)
		case err == nil:
			said = false
			if !was && id.Secured() {
				log.Info("the cluster is secured: calls in the clear are refused from now on")
			}
		}
	}
}
