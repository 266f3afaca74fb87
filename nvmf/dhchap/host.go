package dhchap

import (
	"bytes"
	"crypto/hmac"
	"errors"
	"slices"
)

// HostConfig says to whom a host proves itself, and by what.
type HostConfig struct {
	HostNQN  string
	SubNQN   string
	Keys     Keys // Controller: the controller has to prove itself as well
	Offer    Offer
	TID      uint16    // of this transaction
	Sequence *Sequence // of all the host's authentications
}

// Host is the host's side of one authentication: Negotiate, Reply, Finish, in
// that order. An error of Reply or Finish that is not ByPeer is told to the
// controller by Failure2. It is not safe for concurrent use.
type Host struct {
	cfg      HostConfig
	hash     Hash
	response []byte // R2 as it has to be
}

// NewHost begins an authentication; cfg.Keys.Host is not nil.
func NewHost(cfg HostConfig) *Host { return &Host{cfg: cfg} }

// ErrNoKey is a controller that demands an authentication of a host without a
// key.
var ErrNoKey = errors.New("the subsystem demands authentication, and this host has no key for it (dhchap_key)")

// Negotiate makes AUTH_Negotiate.
func (h *Host) Negotiate() []byte { return encodeNegotiate(h.cfg.TID, h.cfg.Offer) }

// Reply answers a challenge, the message that a Receive has got.
func (h *Host) Reply(msg []byte) ([]byte, error) {
	if err := h.expect(msg, kindChallenge); err != nil {
		return nil, err
	}
	m, err := decodeChallenge(msg)
	switch {
	case err != nil:
		return nil, fail(IncorrectPayload, "%v: %v", kindChallenge, err)
	case !slices.Contains(h.cfg.Offer.Hashes, m.hash):
		return nil, fail(HashUnusable, "the controller chooses %v, of which this host allows none but %v", m.hash, h.cfg.Offer.Hashes)
	case !slices.Contains(h.cfg.Offer.Groups, m.group):
		return nil, fail(GroupUnusable, "the controller chooses %v, of which this host allows none but %v", m.group, h.cfg.Offer.Groups)
	}
	if !h.cfg.Keys.Host.usable() || h.cfg.Keys.Controller != nil && !h.cfg.Keys.Controller.usable() {
		return nil, fail(Failed, "dhchap_key or dhchap_ctrlr_key has been removed from the keyring")
	}
	h.hash = m.hash
	r := reply{tid: h.cfg.TID}
	var shared []byte
	if k := newDHKey(m.group); k != nil {
		if shared, err = k.shared(m.public); err != nil {
			return nil, fail(IncorrectPayload, "%v: %v", kindChallenge, err)
		}
		defer clear(shared)
		r.public = k.public
	}
	p := proof{hash: m.hash, challenge: m.value, shared: shared, seq: m.seq, tid: h.cfg.TID, role: byHost,
		owner: h.cfg.HostNQN, peer: h.cfg.SubNQN}
	r.response = p.response(h.cfg.Keys.Host)
	if ctrlr := h.cfg.Keys.Controller; ctrlr != nil {
		r.challenge, r.seq = newChallenge(m.hash), h.cfg.Sequence.next()
		for bytes.Equal(r.challenge, m.value) {
			r.challenge = newChallenge(m.hash)
		}
		p.challenge, p.seq, p.role, p.owner, p.peer = r.challenge, r.seq, byController, h.cfg.SubNQN, h.cfg.HostNQN
		h.response = p.response(ctrlr)
	}
	return r.encode(), nil
}

// Finish takes DH-HMAC-CHAP_Success1, and returns the DH-HMAC-CHAP_Success2
// that is to be sent, nil where the controller was not asked to prove itself.
func (h *Host) Finish(msg []byte) ([]byte, error) {
	if err := h.expect(msg, kindSuccess1); err != nil {
		return nil, err
	}
	_, response, err := decodeSuccess1(msg, h.hash)
	switch {
	case err != nil:
		return nil, fail(IncorrectPayload, "%v: %v", kindSuccess1, err)
	case h.response == nil:
		return nil, nil
	case response == nil:
		return nil, fail(IncorrectPayload, "the controller does not prove itself, though it was asked to")
	case !hmac.Equal(response, h.response):
		return nil, fail(Failed, "the controller's response is wrong: its key is not this host's dhchap_ctrlr_key")
	}
	return encodeSuccess2(h.cfg.TID), nil
}

// Failure2 makes the message that tells the controller of an error; nil when
// the controller has found it.
func (h *Host) Failure2(err error) []byte {
	e, ok := err.(*Error)
	if !ok || e.ByPeer {
		return nil
	}
	return encodeFailure(kindFailure2, h.cfg.TID, e.Explanation)
}

// expect checks which message this is.
func (h *Host) expect(msg []byte, want kind) error {
	k, tid, err := kindOf(msg)
	switch {
	case err != nil:
		return fail(IncorrectPayload, "a message of %d bytes", len(msg))
	case k == kindFailure1:
		e, err := decodeFailure(msg)
		if err != nil {
			return fail(IncorrectPayload, "%v of %d bytes", k, len(msg))
		}
		why := "the controller refuses: " + e.String()
		if e == Failed {
			why += "; its key for this host is another than dhchap_key, or it has no key to prove itself by"
		}
		return &Error{Explanation: e, ByPeer: true, Reason: why}
	case k != want:
		return fail(IncorrectMessage, "%v where %v was expected", k, want)
	case tid != h.cfg.TID:
		return fail(IncorrectPayload, "%v of transaction %d during transaction %d", k, tid, h.cfg.TID)
	}
	return nil
}
