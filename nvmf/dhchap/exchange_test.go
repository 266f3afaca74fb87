package dhchap

import (
	"bytes"
	"errors"
	"strings"
	"testing"
)

var (
	keyA, keyB = NewSecret(SHA256), NewSecret(SHA512)
	keyC, keyD = NewSecret(SHA384), NewSecret(SHA256)
	sequence   Sequence
)

// sides makes both sides of an authentication.
func sides(host, ctrlr Offer, keys Keys, valid ...Keys) (*Host, *Controller) {
	return NewHost(HostConfig{HostNQN: testHost, SubNQN: testSub, Keys: keys, Offer: host, TID: 0x1234, Sequence: &sequence}),
		NewController(ControllerConfig{HostNQN: testHost, SubNQN: testSub, Offer: ctrlr,
			Keys: func() []Keys { return valid }, Sequence: &sequence})
}

// run has the sides talk to each other to the end, each message behind room of
// zeros, as Receives may be answered.
func run(t *testing.T, h *Host, c *Controller) error {
	t.Helper()
	receive := func() []byte {
		msg, err := c.Answer(MessageMax)
		if err != nil {
			t.Fatal(err)
		}
		return append(bytes.Clone(msg), make([]byte, 100)...)
	}
	c.Receive(h.Negotiate())
	r, err := h.Reply(receive())
	if err == nil {
		c.Receive(r)
		var end []byte
		if end, err = h.Finish(receive()); end != nil {
			c.Receive(end)
		}
	}
	if f := h.Failure2(err); f != nil {
		c.Receive(f)
	}
	return err
}

func TestAuthenticate(t *testing.T) {
	for h := SHA256; h <= SHA512; h++ {
		for g := Null; g <= FFDHE8192; g++ {
			if testing.Short() && g > FFDHE3072 {
				continue
			}
			only := Offer{Hashes: []Hash{h}, Groups: []Group{g}}
			for _, keys := range []Keys{{Host: keyA}, {Host: keyA, Controller: keyC}} {
				host, ctrlr := sides(only, Defaults(), keys, Keys{Host: keyA, Controller: keyC})
				if err := run(t, host, ctrlr); err != nil || ctrlr.State() != Completed || ctrlr.Err() != nil {
					t.Errorf("%v, %v: %v; %v, %v", h, g, err, ctrlr.State(), ctrlr.Err())
				}
				if ch, cg, ok := ctrlr.Chosen(); ch != h || cg != g || !ok {
					t.Errorf("chosen are %v and %v instead of %v and %v", ch, cg, h, g)
				}
			}
		}
	}
}

var quick = Offer{Hashes: []Hash{SHA256}, Groups: []Group{Null}}

// TestTwoValidKeys: while keys are changed hosts with either get in, and each
// gets the proof that belongs to its own.
func TestTwoValidKeys(t *testing.T) {
	valid := []Keys{{Host: keyB, Controller: keyD}, {Host: keyA, Controller: keyC}}
	for _, keys := range []Keys{valid[0], valid[1], {Host: keyA}, {Host: keyB}} {
		host, ctrlr := sides(quick, quick, keys, valid...)
		if err := run(t, host, ctrlr); err != nil || ctrlr.State() != Completed {
			t.Errorf("%v, %v", err, ctrlr.State())
		}
	}
	host, ctrlr := sides(quick, quick, Keys{Host: keyA, Controller: keyD}, valid...)
	if err := run(t, host, ctrlr); err == nil || ctrlr.State() != Refused {
		t.Errorf("the old key with the new key of the controller: %v, %v", err, ctrlr.State())
	}
}

func TestRefusals(t *testing.T) {
	sha512 := Offer{Hashes: []Hash{SHA512}, Groups: []Group{Null}}
	dh := Offer{Hashes: []Hash{SHA256}, Groups: []Group{FFDHE2048}}
	for _, c := range []struct {
		name        string
		host, ctrlr Offer
		keys        Keys
		valid       []Keys
		says        Explanation
		byHost      bool
	}{
		{"another key", quick, quick, Keys{Host: keyB}, []Keys{{Host: keyA}}, Failed, false},
		{"another key, with a group", dh, dh, Keys{Host: keyB}, []Keys{{Host: keyA}}, Failed, false},
		{"the controller's key for the host's", quick, quick, Keys{Host: keyC}, []Keys{{Host: keyA, Controller: keyC}}, Failed, false},
		{"no key any more", quick, quick, Keys{Host: keyA}, nil, Failed, false},
		{"an entry without a key", quick, quick, Keys{Host: keyA}, []Keys{{}}, Failed, false},
		{"no key of the controller", quick, quick, Keys{Host: keyA, Controller: keyC}, []Keys{{Host: keyA}}, Failed, false},
		{"another key of the controller", quick, quick, Keys{Host: keyA, Controller: keyC}, []Keys{{Host: keyA, Controller: keyD}}, Failed, true},
		{"no common hash", quick, sha512, Keys{Host: keyA}, []Keys{{Host: keyA}}, HashUnusable, false},
		{"no common group", quick, dh, Keys{Host: keyA}, []Keys{{Host: keyA}}, GroupUnusable, false},
	} {
		host, ctrlr := sides(c.host, c.ctrlr, c.keys, c.valid...)
		err := run(t, host, ctrlr)
		var e *Error
		if !errors.As(err, &e) || e.Explanation != c.says || e.ByPeer == c.byHost || ctrlr.State() != Refused {
			t.Errorf("%s: the host has %v; the controller is %v", c.name, err, ctrlr.State())
		}
		if !errors.As(ctrlr.Err(), &e) || e.Explanation != c.says || e.ByPeer != c.byHost {
			t.Errorf("%s: the controller has %v", c.name, ctrlr.Err())
		}
	}
}

// TestWipedKeys: a key that is removed lets nobody in from then on, and proves
// nothing.
func TestWipedKeys(t *testing.T) {
	gone, kept := NewSecret(SHA256), NewSecret(SHA256)
	gone.Wipe()
	for name, keys := range map[string]struct{ host, ctrlr Keys }{
		"the host's at the controller":       {Keys{Host: kept}, Keys{Host: gone}},
		"the host's at both":                 {Keys{Host: gone}, Keys{Host: gone}},
		"the controller's at the controller": {Keys{Host: kept, Controller: keyC}, Keys{Host: kept, Controller: gone}},
		"the controller's at the host":       {Keys{Host: kept, Controller: gone}, Keys{Host: kept, Controller: keyC}},
	} {
		host, ctrlr := sides(quick, quick, keys.host, keys.ctrlr)
		if err := run(t, host, ctrlr); err == nil || ctrlr.State() == Completed {
			t.Errorf("%s: %v, %v", name, err, ctrlr.State())
		}
	}
}

// upTo brings a controller to a state; it returns the reply that is due there.
func upTo(t testing.TB, s State, valid ...Keys) (*Host, *Controller, []byte) {
	t.Helper()
	keys := Keys{Host: keyA, Controller: keyC}
	if len(valid) == 0 {
		valid = []Keys{keys}
	}
	h, c := sides(quick, quick, keys, valid...)
	var r []byte
	for c.State() != s {
		switch c.State() {
		case Negotiating:
			c.Receive(h.Negotiate())
		case AwaitingReply:
			c.Receive(r)
		case AwaitingProof:
			c.Receive(encodeSuccess2(0x1234))
		case Failing, Completed, Refused:
			t.Fatalf("%v on the way to %v: %v", c.State(), s, c.Err())
		default:
			msg, err := c.Answer(MessageMax)
			if err != nil {
				t.Fatal(err)
			}
			if c.State() == AwaitingReply {
				if r, err = h.Reply(msg); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	return h, c, r
}

// TestSkippedSteps: no message out of order gets a host in, in any state, and
// the refusal is what the next Receive is answered with.
func TestSkippedSteps(t *testing.T) {
	h, _, r := upTo(t, AwaitingReply)
	messages := map[string][]byte{"Negotiate": h.Negotiate(), "a replayed Reply": r, "Success1": encodeSuccess1(0x1234, SHA256, nil),
		"Success2": encodeSuccess2(0x1234), "Failure1": encodeFailure(kindFailure1, 0x1234, Failed),
		"Failure2": encodeFailure(kindFailure2, 0x1234, Failed), "nothing": nil, "noise": bytes.Repeat([]byte{0xa5}, 64)}
	right := map[State]string{Negotiating: "Negotiate", AwaitingProof: "Success2"}
	for _, s := range []State{Negotiating, Challenging, AwaitingReply, Succeeding, AwaitingProof, Completed} {
		for name, msg := range messages {
			_, c, _ := upTo(t, s)
			if right[s] == name {
				continue
			}
			c.Receive(msg)
			if st := c.State(); st != Failing && !(st == Refused && s == AwaitingProof && name == "Failure2") {
				t.Errorf("%s in state %v: %v", name, s, st)
				continue
			}
			if c.State() == Failing {
				answer, err := c.Answer(64)
				if k, _, _ := kindOf(answer); err != nil || k != kindFailure1 {
					t.Errorf("%s in state %v is answered with %v, %v", name, s, k, err)
				}
			}
			c.Receive(encodeSuccess2(0x1234)) // there is no way back
			c.Receive(h.Negotiate())
			if c.State() != Refused || c.Err() == nil {
				t.Errorf("%s in state %v, and on: %v", name, s, c.State())
			}
		}
	}
	for _, s := range []State{Negotiating, AwaitingReply, AwaitingProof, Completed} { // a Receive where nothing is due
		_, c, _ := upTo(t, s)
		msg, err := c.Answer(64)
		if k, _, _ := kindOf(msg); err != nil || k != kindFailure1 || c.State() != Refused {
			t.Errorf("a Receive in state %v: %v, %v, %v", s, k, err, c.State())
		}
	}
}

// TestBeginAgain: a host whose time has run out begins again, wherever it is, and gets in;
// nothing of before helps or harms.
func TestBeginAgain(t *testing.T) {
	keys := Keys{Host: keyA, Controller: keyC}
	for _, s := range []State{Challenging, AwaitingReply, Succeeding, AwaitingProof} {
		_, c, reply := upTo(t, s)
		value, seq := bytes.Clone(c.value), c.seq
		again := NewHost(HostConfig{HostNQN: testHost, SubNQN: testSub, Keys: keys, Offer: quick, TID: 0x1235, Sequence: &sequence})
		if err := run(t, again, c); err != nil || c.State() != Completed {
			t.Errorf("again in state %v: %v, %v, %v", s, err, c.State(), c.Err())
		}
		if s == AwaitingReply && (bytes.Equal(c.value, value) || c.seq == seq) {
			t.Error("the challenge is the one of before")
		}
		// A message of the transaction before, late.
		for name, msg := range map[string][]byte{"Reply": reply, "Success2": encodeSuccess2(0x1234),
			"Failure2": encodeFailure(kindFailure2, 0x1234, Failed)} {
			_, c, _ := upTo(t, s)
			c.Receive(NewHost(HostConfig{TID: 0x1235, Offer: quick}).Negotiate())
			if c.State() != Challenging {
				t.Fatalf("another Negotiate in state %v: %v", s, c.State())
			}
			if name == "Reply" && reply == nil {
				continue
			}
			if c.Receive(msg); c.State() != Failing {
				t.Errorf("a late %s before the challenge, begun again in state %v: %v", name, s, c.State())
			}
			_, c, _ = upTo(t, s)
			c.Receive(NewHost(HostConfig{TID: 0x1235, Offer: quick}).Negotiate())
			if _, err := c.Answer(MessageMax); err != nil {
				t.Fatal(err)
			}
			if c.Receive(msg); c.State() != Failing {
				t.Errorf("a late %s after the challenge, begun again in state %v: %v", name, s, c.State())
			}
		}
	}
	// The transaction is another one, the times are counted, and a wrong proof is the last.
	h, c, _ := upTo(t, AwaitingReply)
	if c.Receive(h.Negotiate()); c.State() != Failing {
		t.Errorf("the same transaction: %v", c.State())
	}
	_, c, _ = upTo(t, AwaitingReply)
	for tid := uint16(1); c.State() != Failing; tid++ {
		if tid > maxBegun {
			t.Fatalf("it may begin %d times", tid)
		}
		c.Receive(NewHost(HostConfig{TID: tid, Offer: quick}).Negotiate())
		if c.State() == Challenging {
			if _, err := c.Answer(MessageMax); err != nil {
				t.Fatal(err)
			}
		} else if tid != maxBegun {
			t.Errorf("it may begin %d times, which is to be %d", tid, maxBegun)
		}
	}
	_, c, r := upTo(t, AwaitingReply)
	r[headerLen]++
	c.Receive(r)
	if c.Receive(NewHost(HostConfig{TID: 1, Offer: quick}).Negotiate()); c.State() != Failing {
		t.Errorf("after a wrong proof: %v", c.State())
	}
	// What it offers now counts.
	_, c, _ = upTo(t, AwaitingReply)
	c.Receive(NewHost(HostConfig{TID: 1, Offer: Offer{Hashes: []Hash{SHA512}, Groups: []Group{Null}}}).Negotiate())
	var e *Error
	if _, _, ok := c.Chosen(); ok || !errors.As(c.Err(), &e) || e.Explanation != HashUnusable {
		t.Errorf("it offers no hash that is allowed: %v, %v", c.State(), c.Err())
	}
}

// TestReplay: what a host has answered once is not taken in another
// authentication, nor with another transaction.
func TestReplay(t *testing.T) {
	_, _, old := upTo(t, AwaitingReply)
	_, c, _ := upTo(t, AwaitingReply)
	if c.Receive(old); c.State() != Failing {
		t.Errorf("a reply to another challenge: %v", c.State())
	}
	_, c, r := upTo(t, AwaitingReply)
	r = bytes.Clone(r)
	r[4]++
	if c.Receive(r); c.State() != Failing {
		t.Errorf("a reply of another transaction: %v", c.State())
	}
}

// TestReflection: a controller's challenge and its Diffie-Hellman value do not
// come back to it, and what it proves does not pass for the host's proof, even
// with one secret for both.
func TestReflection(t *testing.T) {
	_, c, r := upTo(t, AwaitingReply)
	r = bytes.Clone(r)
	copy(r[headerLen+32:], c.value)
	if c.Receive(r); c.State() != Failing || !strings.Contains(c.Err().Error(), "own challenge") {
		t.Errorf("the controller's own challenge: %v, %v", c.State(), c.Err())
	}
	// The attacker has another controller with the same keys answer the
	// challenge of the first, and sends that as its own response.
	same := Keys{Host: keyA, Controller: keyA}
	_, victim, r := upTo(t, AwaitingReply, same)
	p := proof{hash: SHA256, challenge: victim.value, seq: victim.seq, tid: victim.tid, role: byController, owner: testSub, peer: testHost}
	r = bytes.Clone(r)
	copy(r[headerLen:], p.response(keyA))
	if victim.Receive(r); victim.State() != Failing {
		t.Errorf("a controller's proof for a host's: %v", victim.State())
	}
	h, c := sides(Offer{Hashes: []Hash{SHA256}, Groups: []Group{FFDHE2048}}, Defaults(), Keys{Host: keyA}, Keys{Host: keyA})
	c.Receive(h.Negotiate())
	msg, err := c.Answer(MessageMax)
	if err != nil {
		t.Fatal(err)
	}
	if r, err = h.Reply(msg); err != nil {
		t.Fatal(err)
	}
	copy(r[headerLen+64:], c.dh.public)
	if c.Receive(r); c.State() != Failing || !strings.Contains(c.Err().Error(), "own Diffie-Hellman") {
		t.Errorf("the controller's own public value: %v, %v", c.State(), c.Err())
	}
}

// TestDowngrade: a controller that chooses what the host did not offer is not
// proven to, and one that leaves its own proof out is not believed.
func TestDowngrade(t *testing.T) {
	strong := Offer{Hashes: []Hash{SHA512}, Groups: []Group{FFDHE3072}}
	for _, weak := range []Offer{{Hashes: []Hash{SHA256}, Groups: strong.Groups}, {Hashes: strong.Hashes, Groups: []Group{Null}}} {
		h, _ := sides(strong, strong, Keys{Host: keyA})
		forged, c := sides(weak, weak, Keys{Host: keyA}, Keys{Host: keyA})
		c.Receive(forged.Negotiate()) // on its way to the controller it was changed
		msg, err := c.Answer(MessageMax)
		if err != nil {
			t.Fatal(err)
		}
		r, err := h.Reply(msg)
		var e *Error
		if r != nil || !errors.As(err, &e) || e.ByPeer || e.Explanation != HashUnusable && e.Explanation != GroupUnusable {
			t.Errorf("%v instead of %v: %v", weak, strong, err)
		}
	}
	h, c := sides(quick, quick, Keys{Host: keyA, Controller: keyC}, Keys{Host: keyA, Controller: keyC})
	c.Receive(h.Negotiate())
	msg, err := c.Answer(MessageMax)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.Reply(msg); err != nil {
		t.Fatal(err)
	}
	for name, msg := range map[string][]byte{"no proof": encodeSuccess1(0x1234, SHA256, nil),
		"a wrong proof":  encodeSuccess1(0x1234, SHA256, make([]byte, 32)),
		"a short proof":  encodeSuccess1(0x1234, SHA256, make([]byte, 32))[:headerLen+31],
		"another hash":   encodeSuccess1(0x1234, SHA384, make([]byte, 48)),
		"another T_ID":   encodeSuccess1(0x1235, SHA256, h.response),
		"the challenge":  msg,
		"a short header": encodeSuccess1(0x1234, SHA256, nil)[:headerLen-1]} {
		if end, err := h.Finish(msg); err == nil || end != nil {
			t.Errorf("%s is taken", name)
		}
	}
}

// TestRoom: a Receive without room is refused, changes nothing, and may come
// again.
func TestRoom(t *testing.T) {
	for _, s := range []State{Challenging, Succeeding, Failing} {
		valid := []Keys{{Host: keyA, Controller: keyC}}
		if s == Failing {
			valid = []Keys{{Host: keyB}}
		}
		_, c, _ := upTo(t, s, valid...)
		if _, err := c.Answer(7); !errors.Is(err, ErrRoom) || c.State() != s {
			t.Errorf("7 bytes in state %v: %v, %v", s, err, c.State())
		}
		if msg, err := c.Answer(MessageMax); err != nil || len(msg) == 0 {
			t.Errorf("in state %v: %v", s, err)
		}
	}
}

// TestGiantLengths: lengths in a message that do not fit what came are refused.
func TestGiantLengths(t *testing.T) {
	n := encodeNegotiate(1, Defaults())
	for name, msg := range map[string][]byte{
		"255 descriptors": append(append(bytes.Clone(n[:7]), 255), n[8:]...),
		"no descriptor":   append(append(bytes.Clone(n[:7]), 0), n[8:]...),
		"255 hashes":      func() []byte { b := bytes.Clone(n); b[10] = 255; return b }(),
		"31 groups":       func() []byte { b := bytes.Clone(n); b[11] = 31; return b }(),
		"cut":             n[:len(n)-1],
		"one too many":    append(bytes.Clone(n), 0),
	} {
		_, c := sides(quick, quick, Keys{Host: keyA}, Keys{Host: keyA})
		c.Receive(msg)
		if c.State() != Failing || c.err.Explanation != IncorrectPayload {
			t.Errorf("%s: %v, %v", name, c.State(), c.Err())
		}
	}
	for name, change := range map[string]func(r []byte){"HL": func(r []byte) { r[6] = 255 },
		"DHVLEN": func(r []byte) { r[10], r[11] = 0xff, 0xff },
		"CVALID": func(r []byte) { r[8] = 2 }, "sequence number 0": func(r []byte) { clear(r[12:16]) }} {
		_, c, r := upTo(t, AwaitingReply)
		r = bytes.Clone(r)
		change(r)
		if c.Receive(r); c.State() != Failing || c.err.Explanation != IncorrectPayload {
			t.Errorf("%s: %v, %v", name, c.State(), c.Err())
		}
	}
}

func TestOffer(t *testing.T) {
	o, err := Defaults().Only([]string{"sha256", "sha384"}, []string{"null", "ffdhe4096"})
	if err != nil {
		t.Fatal(err)
	}
	if h, g := o.Names(); strings.Join(h, " ") != "sha384 sha256" || strings.Join(g, " ") != "ffdhe4096 null" {
		t.Errorf("%v, %v", h, g)
	}
	for _, c := range [][2][]string{{{"md5"}, nil}, {nil, {"ffdhe1024"}}, {{}, nil}, {nil, {}}} {
		if _, err := Defaults().Only(c[0], c[1]); err == nil || !strings.Contains(err.Error(), "dhchap_d") {
			t.Errorf("%v: %v", c, err)
		}
	}
}

func TestSequence(t *testing.T) {
	var s Sequence
	if s.next(); s.last == 0 {
		t.Error("0 at first")
	}
	s.last = 0xffffffff
	if n := s.next(); n != 1 {
		t.Errorf("%d after the highest", n)
	}
}
