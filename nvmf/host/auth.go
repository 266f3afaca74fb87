package host

import (
	"context"
	"errors"
	"fmt"

	"github.com/virtual-disk-array/vda/nvme"
	"github.com/virtual-disk-array/vda/nvmf/dhchap"
)

// authRoom is what an Authentication Receive offers, as Linux's does, bytes.
const authRoom = 4096

// afterConnect authenticates the queue when the controller demands it, or has
// to prove itself. dw0 is of the Connect's completion.
func (q *queue) afterConnect(ctx context.Context, dw0 uint32) error {
	keys := q.ses.ctl.keys.Load()
	switch {
	case dw0&nvme.ConnectSecureChannelRequired != 0:
		return errors.New("the subsystem demands a secure channel, which this host does not offer")
	case dw0&nvme.ConnectAuthRequired == 0 && keys.Controller == nil:
		return nil
	}
	return q.authenticate(ctx, keys)
}

// authenticate proves to the controller who this is, and has it prove itself if
// there is a key for that (base 2.0, section 8.13). A *dhchap.Error is a proof
// that failed, and ends the connection.
func (q *queue) authenticate(ctx context.Context, keys *dhchap.Keys) error {
	if keys.Host == nil {
		return dhchap.ErrNoKey
	}
	c := q.ses.ctl
	h := dhchap.NewHost(dhchap.HostConfig{HostNQN: c.cfg.HostNQN, SubNQN: c.cfg.SubNQN, Keys: *keys, Offer: c.cfg.AuthOffer,
		TID: uint16(c.tid.Add(1)), Sequence: &c.sequence})
	err := q.exchange(ctx, h)
	if err == nil {
		return nil
	}
	if f := h.Failure2(err); f != nil {
		_ = q.authSend(ctx, f) // so that the controller's log says why
	}
	return fmt.Errorf("queue %d: %w", q.id, err)
}

func (q *queue) exchange(ctx context.Context, h *dhchap.Host) error {
	if err := q.authSend(ctx, h.Negotiate()); err != nil {
		return err
	}
	msg, err := q.authReceive(ctx)
	if err != nil {
		return err
	}
	reply, err := h.Reply(msg)
	if err != nil {
		return err
	}
	if err := q.authSend(ctx, reply); err != nil {
		return err
	}
	if msg, err = q.authReceive(ctx); err != nil {
		return err
	}
	end, err := h.Finish(msg)
	if err != nil || end == nil {
		return err
	}
	return q.authSend(ctx, end)
}

func (q *queue) authSend(ctx context.Context, msg []byte) error {
	var cmd nvme.Command
	cmd.SetAuthSend(uint32(len(msg)))
	if _, err := q.sync(ctx, &cmd, msg, true); err != nil {
		return fmt.Errorf("authentication send: %w", err)
	}
	return nil
}

func (q *queue) authReceive(ctx context.Context) ([]byte, error) {
	var cmd nvme.Command
	msg := make([]byte, authRoom)
	cmd.SetAuthReceive(authRoom)
	if _, err := q.sync(ctx, &cmd, msg, false); err != nil {
		return nil, fmt.Errorf("authentication receive: %w", err)
	}
	return msg, nil
}

// SetKeys replaces what the host authenticates by, and does so by the new keys
// on every queue of the session that there is now. A session whose controller
// takes them no more, or cannot prove itself by them, ends, and others are tried
// as after any loss. Without a session they are for the next.
func (c *Controller) SetKeys(ctx context.Context, keys dhchap.Keys) error {
	c.keys.Store(&keys)
	s := c.session.Load()
	if s == nil || keys.Host == nil {
		return nil
	}
	ctx, cancel := context.WithTimeoutCause(ctx, c.cfg.AdminTimeout, fmt.Errorf("no answer within %v", c.cfg.AdminTimeout))
	defer cancel()
	for i := -1; i < len(s.io); i++ {
		q := s.admin
		if i >= 0 {
			q = s.io[i]
		}
		if err := q.authenticate(ctx, &keys); err != nil {
			if errors.As(err, new(*dhchap.Error)) {
				s.fail(err)
			}
			return err
		}
	}
	return nil
}
