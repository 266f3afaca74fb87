package dhchap

import (
	"bytes"
	"crypto/hmac"
	"errors"
	"slices"
)

// State is how far an authentication has come.
type State uint8

// The states, by what comes next; the names are SPDK's.
const (
	Negotiating   State = iota // the host's AUTH_Negotiate
	Challenging                // our DH-HMAC-CHAP_Challenge
	AwaitingReply              // the host's DH-HMAC-CHAP_Reply
	Succeeding                 // our DH-HMAC-CHAP_Success1
	AwaitingProof              // the host's DH-HMAC-CHAP_Success2, or AUTH_Failure2
	Failing                    // our AUTH_Failure1
	Completed                  // nothing: the host is authenticated
	Refused                    // nothing: it is not, and the connection is to end
)

var stateNames = [...]string{"negotiate", "challenge", "reply", "success1", "success2", "failure1", "completed", "error"}

func (s State) String() string { return stateNames[s] }

// ControllerConfig says whom a controller authenticates, and by what.
type ControllerConfig struct {
	HostNQN string
	SubNQN  string
	Offer   Offer
	// Keys are those that are valid, asked for when the host's reply is here. A
	// host that proves to know the host's secret of one is answered with the
	// controller's secret of the same.
	Keys     func() []Keys
	Sequence *Sequence // of all the controller's target
}

// Controller is the controller's side of one authentication. It is not safe for
// concurrent use.
type Controller struct {
	cfg      ControllerConfig
	state    State
	begun    int // AUTH_Negotiates that were taken
	tid      uint16
	hash     Hash
	group    Group
	seq      uint32
	dh       *dhKey
	value    []byte // C1
	response []byte // R2
	err      *Error
}

// NewController begins an authentication.
func NewController(cfg ControllerConfig) *Controller { return &Controller{cfg: cfg} }

// State is how far the authentication has come.
func (c *Controller) State() State { return c.state }

// Chosen returns the hash and the group, once the host has negotiated.
func (c *Controller) Chosen() (h Hash, g Group, ok bool) { return c.hash, c.group, c.hash != 0 }

// Err says why the authentication has failed; nil unless it has.
func (c *Controller) Err() error {
	if c.err == nil {
		return nil
	}
	return c.err
}

// Heavy reports that the next call computes with the Diffie-Hellman group,
// which takes milliseconds.
func (c *Controller) Heavy() bool {
	return (c.state == Challenging || c.state == AwaitingReply) && c.group != Null
}

// Forget zeroes what the authentication has kept.
func (c *Controller) Forget() {
	if c.dh != nil {
		clear(c.dh.exponent)
		c.dh = nil
	}
	clear(c.response)
	c.value, c.response = nil, nil
}

func (c *Controller) refuse(err *Error) {
	c.Forget()
	c.err, c.state = err, Failing
}

// maxBegun is how often a host may begin, within one authentication: each time costs
// the controller a Diffie-Hellman value.
const maxBegun = 4

// Receive takes the message of an Authentication Send, which is completed with
// success whatever it is: the host learns of a failure by its next Receive.
func (c *Controller) Receive(msg []byte) {
	k, tid, err := kindOf(msg)
	if err != nil {
		c.refuse(fail(IncorrectPayload, "a message of %d bytes", len(msg)))
		return
	}
	want := map[State]kind{AwaitingReply: kindReply, AwaitingProof: kindSuccess2}
	switch expected, some := want[c.state]; {
	case c.state == Failing || c.state == Refused:
		return // stays as it is
	case k == kindNegotiate && c.state != Completed:
		c.begin(tid, msg)
		return
	case c.state == AwaitingProof && k == kindFailure2:
	case !some || k != expected:
		c.refuse(fail(IncorrectMessage, "%v where the state is %v", k, c.state))
		return
	}
	if tid != c.tid {
		c.refuse(fail(IncorrectPayload, "%v of transaction %d during transaction %d", k, tid, c.tid))
		return
	}
	switch k {
	case kindReply:
		c.reply(msg)
	case kindSuccess2:
		if len(msg) != headerLen {
			c.refuse(fail(IncorrectPayload, "%v of %d bytes", k, len(msg)))
			return
		}
		c.Forget()
		c.state = Completed
	case kindFailure2:
		e, err := decodeFailure(msg)
		if err != nil {
			c.refuse(fail(IncorrectPayload, "%v of %d bytes", k, len(msg)))
			return
		}
		c.Forget()
		c.state = Refused
		c.err = &Error{Explanation: e, ByPeer: true, Reason: "the host does not take the controller's proof: " + e.String() +
			"; the controller's key at the host is another than dhchap_ctrlr_key"}
	}
}

// begin takes an AUTH_Negotiate. A host whose time has run out half way, as for the answer to a
// Receive, begins again with another transaction (so does Linux's, and its target takes it). What
// it had sent before counts for nothing, not even a proof; one that was wrong has ended it all.
func (c *Controller) begin(tid uint16, msg []byte) {
	switch {
	case c.begun == maxBegun:
		c.refuse(fail(IncorrectMessage, "the host begins for the %dth time, and has not come to an end", c.begun+1))
		return
	case c.begun > 0 && tid == c.tid:
		c.refuse(fail(IncorrectPayload, "%v of transaction %d, which has begun already", kindNegotiate, tid))
		return
	}
	c.Forget()
	c.begun, c.tid, c.seq, c.hash, c.group = c.begun+1, tid, 0, 0, 0
	c.negotiate(msg)
}

// negotiate chooses a hash and a group: the first of ours that the host has.
func (c *Controller) negotiate(msg []byte) {
	m, err := decodeNegotiate(msg)
	switch {
	case err != nil:
		c.refuse(fail(IncorrectPayload, "%v: %v", kindNegotiate, err))
		return
	case m.channel != 0:
		c.refuse(fail(ChannelMismatch, "the host asks for secure channel concatenation (SC_C %d), which there is not", m.channel))
		return
	case !m.chap:
		c.refuse(fail(Unusable, "the host does not offer DH-HMAC-CHAP"))
		return
	}
	h := slices.IndexFunc(c.cfg.Offer.Hashes, func(h Hash) bool { return bytes.IndexByte(m.hashes, byte(h)) >= 0 })
	if h < 0 {
		c.refuse(fail(HashUnusable, "the host offers none of the allowed hashes %v", c.cfg.Offer.Hashes))
		return
	}
	g := slices.IndexFunc(c.cfg.Offer.Groups, func(g Group) bool { return bytes.IndexByte(m.groups, byte(g)) >= 0 })
	if g < 0 {
		c.refuse(fail(GroupUnusable, "the host offers none of the allowed Diffie-Hellman groups %v", c.cfg.Offer.Groups))
		return
	}
	c.hash, c.group, c.state = c.cfg.Offer.Hashes[h], c.cfg.Offer.Groups[g], Challenging
}

// reply checks R1 against each of the valid keys, and makes R2.
func (c *Controller) reply(msg []byte) {
	m, err := decodeReply(msg, c.hash, c.group)
	switch {
	case err != nil:
		c.refuse(fail(IncorrectPayload, "%v: %v", kindReply, err))
		return
	case m.challenge != nil && hmac.Equal(m.challenge, c.value):
		c.refuse(fail(Failed, "the host sends the controller's own challenge back"))
		return
	case c.dh != nil && bytes.Equal(m.public, c.dh.public):
		c.refuse(fail(Failed, "the host sends the controller's own Diffie-Hellman value back"))
		return
	}
	var shared []byte
	if c.dh != nil {
		if shared, err = c.dh.shared(m.public); err != nil {
			c.refuse(fail(IncorrectPayload, "%v: %v", kindReply, err))
			return
		}
		defer clear(shared)
	}
	keys := c.cfg.Keys()
	p := proof{hash: c.hash, challenge: c.value, shared: shared, seq: c.seq, tid: c.tid, role: byHost,
		owner: c.cfg.HostNQN, peer: c.cfg.SubNQN}
	proven := -1
	for i, k := range keys {
		if !k.Host.usable() {
			continue
		}
		want := p.response(k.Host)
		if hmac.Equal(want, m.response) && proven < 0 {
			proven = i
		}
		clear(want)
	}
	switch {
	case proven < 0:
		c.refuse(fail(Failed, "the host's response is wrong: its key is not the one that the subsystem has for it"))
		return
	case m.challenge != nil && !keys[proven].Controller.usable():
		c.refuse(fail(Failed, "the host wants the controller to prove itself, and there is no dhchap_ctrlr_key for it"))
		return
	case m.challenge != nil:
		p.challenge, p.seq, p.role, p.owner, p.peer = m.challenge, m.seq, byController, c.cfg.SubNQN, c.cfg.HostNQN
		if c.response = p.response(keys[proven].Controller); c.response == nil { // wiped a moment ago
			c.refuse(fail(Failed, "dhchap_ctrlr_key has been removed"))
			return
		}
	}
	c.dh, c.state = nil, Succeeding
}

// ErrRoom is a Receive whose buffer is too small for the message that is due.
var ErrRoom = errors.New("the message does not fit the Receive")

// Answer makes the message that an Authentication Receive with room for so many
// bytes gets. When the error is ErrRoom nothing has changed.
func (c *Controller) Answer(room int) ([]byte, error) {
	switch c.state {
	case Challenging:
		if room < headerLen+c.hash.Size()+c.group.Size() {
			return nil, ErrRoom
		}
		c.dh = newDHKey(c.group)
		m := challenge{tid: c.tid, hash: c.hash, group: c.group, seq: c.cfg.Sequence.next(), value: newChallenge(c.hash)}
		if c.dh != nil {
			m.public = c.dh.public
		}
		c.value, c.seq, c.state = m.value, m.seq, AwaitingReply
		return m.encode(), nil
	case Succeeding:
		if room < headerLen+len(c.response) {
			return nil, ErrRoom
		}
		msg := encodeSuccess1(c.tid, c.hash, c.response)
		if c.state = Completed; c.response != nil {
			c.state = AwaitingProof
		}
		c.Forget()
		return msg, nil
	case Failing:
	default:
		c.refuse(fail(IncorrectMessage, "an Authentication Receive where the state is %v", c.state))
	}
	if room < failureLen {
		return nil, ErrRoom
	}
	c.state = Refused
	return encodeFailure(kindFailure1, c.tid, c.err.Explanation), nil
}
