package dhchap

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// AUTH_TYPE and AUTH_ID in one: how messages are told apart (base 2.0, section
// 8.13.2).
type kind uint16

const (
	kindNegotiate kind = 0
	kindFailure2  kind = 0x00<<8 | 0xf0
	kindFailure1  kind = 0x00<<8 | 0xf1
	kindChallenge kind = 0x01<<8 | 0x01
	kindReply     kind = 0x01<<8 | 0x02
	kindSuccess1  kind = 0x01<<8 | 0x03
	kindSuccess2  kind = 0x01<<8 | 0x04
)

var kindNames = map[kind]string{kindNegotiate: "AUTH_Negotiate", kindFailure2: "AUTH_Failure2", kindFailure1: "AUTH_Failure1",
	kindChallenge: "DH-HMAC-CHAP_Challenge", kindReply: "DH-HMAC-CHAP_Reply", kindSuccess1: "DH-HMAC-CHAP_Success1",
	kindSuccess2: "DH-HMAC-CHAP_Success2"}

func (k kind) String() string {
	if s, ok := kindNames[k]; ok {
		return s
	}
	return fmt.Sprintf("message 0x%02x of type 0x%02x", uint8(k), uint8(k>>8))
}

// Lengths in bytes.
const (
	headerLen     = 16 // of all but Negotiate and Failure
	negotiateLen  = 8
	descriptorLen = 64
	failureLen    = 8
	idsMax        = 30 // of hashes or groups in a descriptor

	// MessageMax is the length of the longest message that is sent: a Reply
	// with SHA-512 and ffdhe8192. A Receive with this room gets any.
	MessageMax = headerLen + 2*64 + 1024
)

// Explanation says in a Failure message what was wrong (base 2.0, section
// 8.13.3.4).
type Explanation uint8

// The explanations.
const (
	Failed           Explanation = 0x01 // the response was wrong
	Unusable         Explanation = 0x02 // no common authentication protocol
	ChannelMismatch  Explanation = 0x03 // secure channel concatenation
	HashUnusable     Explanation = 0x04
	GroupUnusable    Explanation = 0x05
	IncorrectPayload Explanation = 0x06
	IncorrectMessage Explanation = 0x07
)

func (e Explanation) String() string {
	names := [...]string{"explanation 0x00", "authentication failed", "no authentication protocol in common",
		"secure channel concatenation mismatch",
		"no hash function in common", "no Diffie-Hellman group in common", "incorrect payload", "message out of order"}
	if int(e) < len(names) {
		return names[e]
	}
	return fmt.Sprintf("explanation 0x%02x", uint8(e))
}

var le = binary.LittleEndian

var errMessageLen = errors.New("the message's length is wrong")

// kindOf reads what a message is, and its transaction.
func kindOf(b []byte) (kind, uint16, error) {
	if len(b) < 6 {
		return 0, 0, errMessageLen
	}
	return kind(b[0])<<8 | kind(b[1]), le.Uint16(b[4:]), nil
}

func newMessage(k kind, tid uint16, length int) []byte {
	b := make([]byte, length)
	b[0], b[1] = byte(k>>8), byte(k)
	le.PutUint16(b[4:], tid)
	return b
}

// negotiate is AUTH_Negotiate's content; chap is false when no descriptor is
// DH-HMAC-CHAP's.
type negotiate struct {
	tid     uint16
	channel uint8 // SC_C
	chap    bool
	hashes  []byte
	groups  []byte
}

func encodeNegotiate(tid uint16, o Offer) []byte {
	b := newMessage(kindNegotiate, tid, negotiateLen+descriptorLen)
	b[7] = 1
	d := b[negotiateLen:]
	d[0], d[2], d[3] = 1, byte(len(o.Hashes)), byte(len(o.Groups))
	for i, h := range o.Hashes {
		d[4+i] = byte(h)
	}
	for i, g := range o.Groups {
		d[4+idsMax+i] = byte(g)
	}
	return b
}

func decodeNegotiate(b []byte) (m negotiate, err error) {
	if len(b) < negotiateLen || len(b) != negotiateLen+int(b[7])*descriptorLen {
		return m, errMessageLen
	}
	m.tid, m.channel = le.Uint16(b[4:]), b[6]
	for d := b[negotiateLen:]; len(d) > 0; d = d[descriptorLen:] {
		if d[0] != 1 {
			continue
		}
		if d[2] > idsMax || d[3] > idsMax {
			return m, fmt.Errorf("%d hashes and %d groups; a descriptor has room for %d each", d[2], d[3], idsMax)
		}
		m.chap, m.hashes, m.groups = true, d[4:4+d[2]], d[4+idsMax:4+idsMax+d[3]]
		break
	}
	return m, nil
}

// challenge is DH-HMAC-CHAP_Challenge's content.
type challenge struct {
	tid    uint16
	hash   Hash
	group  Group
	seq    uint32
	value  []byte
	public []byte
}

func (m *challenge) encode() []byte {
	b := newMessage(kindChallenge, m.tid, headerLen+len(m.value)+len(m.public))
	b[6], b[8], b[9] = byte(len(m.value)), byte(m.hash), byte(m.group)
	le.PutUint16(b[10:], uint16(len(m.public)))
	le.PutUint32(b[12:], m.seq)
	copy(b[headerLen:], m.value)
	copy(b[headerLen+len(m.value):], m.public)
	return b
}

// decodeChallenge reads a message that may have zeros behind it: what fills the
// room of a Receive.
func decodeChallenge(b []byte) (m challenge, err error) {
	if len(b) < headerLen {
		return m, errMessageLen
	}
	m = challenge{tid: le.Uint16(b[4:]), hash: Hash(b[8]), group: Group(b[9]), seq: le.Uint32(b[12:])}
	hl, dh := int(b[6]), int(le.Uint16(b[10:]))
	switch {
	case !m.hash.valid() || !m.group.valid():
		return m, fmt.Errorf("%v with %v", m.hash, m.group)
	case hl != m.hash.Size():
		return m, fmt.Errorf("a challenge of %d bytes for %v", hl, m.hash)
	case dh > m.group.Size() || (dh == 0) != (m.group == Null):
		return m, fmt.Errorf("a Diffie-Hellman value of %d bytes for %v", dh, m.group)
	case m.seq == 0:
		return m, errors.New("sequence number 0")
	case len(b) < headerLen+hl+dh:
		return m, errMessageLen
	}
	b = b[headerLen:]
	m.value, m.public = b[:hl:hl], b[hl:hl+dh:hl+dh]
	return m, nil
}

// reply is DH-HMAC-CHAP_Reply's content.
type reply struct {
	tid       uint16
	response  []byte
	challenge []byte // nil: the controller need not prove itself
	seq       uint32
	public    []byte
}

func (m *reply) encode() []byte {
	hl := len(m.response)
	b := newMessage(kindReply, m.tid, headerLen+2*hl+len(m.public))
	b[6] = byte(hl)
	if m.challenge != nil {
		b[8] = 1
	}
	le.PutUint16(b[10:], uint16(len(m.public)))
	le.PutUint32(b[12:], m.seq)
	copy(b[headerLen:], m.response)
	copy(b[headerLen+hl:], m.challenge)
	copy(b[headerLen+2*hl:], m.public)
	return b
}

// decodeReply reads the answer to a challenge with this hash and group.
func decodeReply(b []byte, h Hash, g Group) (m reply, err error) {
	if len(b) < headerLen {
		return m, errMessageLen
	}
	m = reply{tid: le.Uint16(b[4:]), seq: le.Uint32(b[12:])}
	hl, dh := int(b[6]), int(le.Uint16(b[10:]))
	switch {
	case hl != h.Size():
		return m, fmt.Errorf("a response of %d bytes for %v", hl, h)
	case dh > g.Size() || (dh == 0) != (g == Null):
		return m, fmt.Errorf("a Diffie-Hellman value of %d bytes for %v", dh, g)
	case len(b) != headerLen+2*hl+dh:
		return m, errMessageLen
	case b[8] > 1:
		return m, fmt.Errorf("CVALID %d", b[8])
	case b[8] == 1 && m.seq == 0:
		return m, errors.New("sequence number 0")
	}
	valid := b[8] == 1
	b = b[headerLen:]
	m.response, m.public = b[:hl:hl], b[2*hl:]
	if valid {
		m.challenge = b[hl : 2*hl : 2*hl]
	}
	return m, nil
}

// encodeSuccess1 makes DH-HMAC-CHAP_Success1. HL is set without a response,
// too: Linux's host insists on it.
func encodeSuccess1(tid uint16, h Hash, response []byte) []byte {
	b := newMessage(kindSuccess1, tid, headerLen+len(response))
	b[6] = byte(h.Size())
	if response != nil {
		b[8] = 1
		copy(b[headerLen:], response)
	}
	return b
}

// decodeSuccess1 returns the response, nil when there is none.
func decodeSuccess1(b []byte, h Hash) (tid uint16, response []byte, err error) {
	if len(b) < headerLen {
		return 0, nil, errMessageLen
	}
	tid = le.Uint16(b[4:])
	switch {
	case b[8] == 0:
		return tid, nil, nil
	case b[8] != 1 || int(b[6]) != h.Size():
		return tid, nil, fmt.Errorf("RVALID %d with a response of %d bytes for %v", b[8], b[6], h)
	case len(b) < headerLen+h.Size():
		return tid, nil, errMessageLen
	}
	return tid, b[headerLen : headerLen+h.Size()], nil
}

func encodeSuccess2(tid uint16) []byte { return newMessage(kindSuccess2, tid, headerLen) }

func encodeFailure(k kind, tid uint16, e Explanation) []byte {
	b := newMessage(k, tid, failureLen)
	b[6], b[7] = 1, byte(e)
	return b
}

func decodeFailure(b []byte) (Explanation, error) {
	if len(b) < failureLen {
		return 0, errMessageLen
	}
	return Explanation(b[7]), nil
}
