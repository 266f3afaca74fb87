package dhchap

import (
	"bytes"
	"testing"
)

// FuzzController hands a controller two messages and a Receive in each of its
// states: it never panics, never lets in a host that has not proven itself, and
// answers with no more than there is room for.
func FuzzController(f *testing.F) {
	h, _ := sides(Defaults(), Defaults(), Keys{Host: keyA})
	f.Add(uint8(0), h.Negotiate(), []byte{}, uint16(4096))
	f.Add(uint8(1), []byte{}, make([]byte, 80), uint16(16))
	f.Add(uint8(2), encodeSuccess2(0x1234), encodeFailure(kindFailure2, 0x1234, Failed), uint16(64))
	f.Add(uint8(2), (&reply{tid: 0x1234, response: make([]byte, 32), challenge: make([]byte, 32), seq: 1}).encode(), []byte{1, 4}, uint16(0))
	f.Add(uint8(4), encodeSuccess2(0x1234), []byte{1, 4}, uint16(8))
	again := NewHost(HostConfig{TID: 0x1235, Offer: Defaults()})
	for stage := range uint8(5) { // it begins again
		f.Add(stage, again.Negotiate(), encodeSuccess2(0x1234), uint16(4096))
		f.Add(stage|0x80, again.Negotiate(), again.Negotiate(), uint16(4096))
	}
	f.Add(uint8(4), again.Negotiate(), encodeSuccess2(0x1235), uint16(0))
	f.Fuzz(func(t *testing.T, stage uint8, first, second []byte, room uint16) {
		offer := quick
		if stage&0x80 != 0 {
			offer = Offer{Hashes: []Hash{SHA256}, Groups: []Group{FFDHE2048, Null}}
		}
		_, c := sides(offer, offer, Keys{Host: keyA}, Keys{Host: keyA, Controller: keyC})
		at := State(stage & 7 % 5)
		if at > Negotiating {
			_, c, _ = upTo(t, at)
		}
		for _, msg := range [][]byte{first, second} {
			c.Receive(msg)
			out, err := c.Answer(int(room))
			if err == nil && len(out) > int(room) {
				t.Fatalf("%d bytes for a room of %d", len(out), room)
			}
		}
		if c.State() == Completed && at < Succeeding {
			t.Fatalf("let in from state %v by %x and %x", at, first, second)
		}
		if k, _, err := kindOf(first); c.State() == Completed && at == AwaitingProof && err == nil && k == kindNegotiate {
			t.Fatalf("let in by a proof of before it began again, by %x and %x", first, second)
		}
	})
}

// FuzzHost hands a host two messages: it never panics, and takes no controller
// that has not proven itself.
func FuzzHost(f *testing.F) {
	_, c, _ := upTo(f, Challenging)
	msg, err := c.Answer(MessageMax)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(msg, encodeSuccess1(0x1234, SHA256, make([]byte, 32)))
	f.Add(encodeFailure(kindFailure1, 0x1234, Failed), []byte{0, 0xf1})
	f.Add((&challenge{tid: 0x1234, hash: SHA256, group: FFDHE2048, seq: 1, value: make([]byte, 32),
		public: bytes.Repeat([]byte{7}, 256)}).encode(),
		encodeSuccess1(0x1234, SHA256, nil))
	f.Fuzz(func(t *testing.T, first, second []byte) {
		h, _ := sides(Offer{Hashes: []Hash{SHA256, SHA512}, Groups: []Group{FFDHE2048, Null}}, quick, Keys{Host: keyA, Controller: keyC})
		r, err := h.Reply(first)
		if (r == nil) != (err != nil) || len(r) > MessageMax {
			t.Fatalf("a reply of %d bytes, %v", len(r), err)
		}
		if err != nil {
			h.Failure2(err)
			return
		}
		if end, err := h.Finish(second); err == nil || end != nil {
			t.Fatalf("%x is taken for the controller's proof", second)
		}
	})
}

// FuzzSecret: what is read comes back as it was, and errors show nothing of it.
func FuzzSecret(f *testing.F) {
	for _, k := range known {
		f.Add(k.secret)
	}
	f.Add("DHHC-1:00::")
	f.Fuzz(func(t *testing.T, text string) {
		s, err := ParseSecret(text)
		if err != nil {
			return
		}
		again, err := ParseSecret(s.Reveal())
		if err != nil || !again.Equal(s) {
			t.Fatalf("%q: %v", text, err)
		}
	})
}
