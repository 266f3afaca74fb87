package host

import (
	"context"
	"errors"
	"time"

	"github.com/virtual-disk-array/vda/nvme"
	"github.com/virtual-disk-array/vda/nvmf/dhchap"
)

// recover makes a new session after one was lost at the time given. It
// returns nil when life ends, the loss time-out has passed, or a target says not
// to retry.
//
//	lost ── attempt ── Delay ── attempt ── Delay ── … ── LossTimeout: Deleting
//	  └──────── FastIOFail: waiting I/O is failed ───────┘
//
// Each attempt goes to one address; the others follow without delay. Without
// retries each is tried once, and again for each Reset.
//
// A subsystem that does not admit this host has been taken from it on purpose:
// waiting I/O is failed at once, for it is better off on another path.
//
// A refusal with Do Not Retry while queues are connected or the controller is
// enabled ends everything, unless Config.Patient says otherwise: Linux looks at
// the same commands.
func (c *Controller) recover(life context.Context, lost time.Time) *session {
	r := c.cfg.Resilience
	fast := timer(lost, r.FastIOFail)
	defer fast.Stop()
	loss := timer(lost, r.LossTimeout)
	defer loss.Stop()
	for tried := 0; ; {
		c.setState(Resetting)
		attempt := make(chan *session, 1)
		var refused error // valid once attempt has been received
		ctx, cancel := context.WithCancel(life)
		go func() {
			var s *session
			s, refused = c.attempt(ctx)
			attempt <- s
		}()
		var s *session
		for waiting := true; waiting; {
			select {
			case s = <-attempt:
				waiting = false
			case <-fast.C:
				c.expireFast()
			case <-loss.C:
				cancel()
				if s := <-attempt; s != nil {
					s.close(ErrClosed)
				}
				return nil
			}
		}
		cancel()
		switch {
		case life.Err() != nil:
			if s != nil {
				s.close(ErrClosed)
			}
			return nil
		case s != nil:
			c.fastFail.Store(false)
			c.session.Store(s)
			c.cfg.Log.Info("nvme session restored", "subnqn", c.cfg.SubNQN, "addr", c.cfg.Traddr, "port", c.cfg.Trsvcid, "after", time.Since(lost))
			c.setState(Enabled)
			if life.Err() != nil { // Disable has not seen it
				s.fail(ErrDisabled)
			}
			c.attempted(nil)
			if c.cfg.OnNamespaces != nil {
				c.cfg.OnNamespaces(c)
			}
			return s
		case forGood(refused) && !c.cfg.Patient:
			c.cfg.Log.Warn("nvme controller is given up: the target says not to retry", "subnqn", c.cfg.SubNQN, "addr", c.cfg.Traddr, "port",
				c.cfg.Trsvcid, "err", refused)
			c.attempted(refused)
			return nil
		case shutOut(refused) && !c.fastFail.Load():
			c.expireFast()
		}
		c.rotate()
		tried++
		if tried%len(c.Addresses()) != 0 {
			continue // the next address at once
		}
		var again <-chan time.Time
		if r.Delay > 0 {
			c.setState(ReconnectDelayed)
			again = time.After(r.Delay)
		} else {
			c.setState(Failed)
		}
		c.attempted(refused)
		for waiting := true; waiting; {
			select {
			case <-again:
				waiting = false
			case <-c.resets:
				waiting = false
			case <-fast.C:
				c.expireFast()
			case <-loss.C:
				return nil
			case <-life.Done():
				return nil
			}
		}
	}
}

func (c *Controller) expireFast() {
	c.fastFail.Store(true)
	c.announce()
}

// attempt makes one session, or says why not.
func (c *Controller) attempt(ctx context.Context) (*session, error) {
	s, err := connect(ctx, c)
	if err == nil {
		err = c.adopt(ctx, s)
	}
	if err != nil {
		c.cfg.Log.Debug("nvme reconnect failed", "subnqn", c.cfg.SubNQN, "addr", c.cfg.Traddr, "port", c.cfg.Trsvcid, "err", err)
		return nil, err
	}
	return s, nil
}

// shutOut reports that a subsystem does not admit this host.
func shutOut(err error) bool {
	var status nvme.Status
	return errors.As(err, &status) && status&^nvme.DNR == nvme.ConnectInvalidHost
}

// forGood reports that the target has refused a session and said not to retry,
// or does not take this host's key.
func forGood(err error) bool {
	var status nvme.Status
	var auth *dhchap.Error
	if errors.As(err, &auth) {
		return auth.Rejected()
	}
	if !errors.As(err, new(*ConnectError)) && !errors.As(err, new(*enableError)) {
		return false
	}
	return errors.As(err, &status) && status&nvme.DNR != 0
}

// timer fires d after the start; never when d is zero or negative.
func timer(start time.Time, d time.Duration) *time.Timer {
	if d <= 0 {
		return time.NewTimer(1<<63 - 1)
	}
	return time.NewTimer(time.Until(start.Add(d)))
}
