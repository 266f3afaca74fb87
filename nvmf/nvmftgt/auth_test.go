package nvmftgt

import (
	"encoding/binary"
	"errors"
	"io"
	"os"
	"testing"
	"time"

	"github.com/virtual-disk-array/vda/nvmf/dhchap"
)

var (
	hostKey, otherKey = dhchap.NewSecret(dhchap.SHA256), dhchap.NewSecret(dhchap.SHA512)
	ctrlrKey          = dhchap.NewSecret(dhchap.SHA384)
	bothKeys          = HostKeys{Keys: dhchap.Keys{Host: hostKey, Controller: ctrlrKey}, Name: "host", ControllerName: "ctrlr"}
	authSequence      dhchap.Sequence
)

const (
	authRequired = 1 << 17 // in DW0 of Connect
	statusAuth   = 0x191
)

// cheap allows no group, so that a test costs nothing.
var cheap = dhchap.Offer{Hashes: []dhchap.Hash{dhchap.SHA256}, Groups: []dhchap.Group{dhchap.Null}}

// authRig is a rig whose one host has to authenticate.
func authRig(t testing.TB, keys HostKeys, opts ...rigOpt) *rig {
	t.Helper()
	r := newRig(t, append(opts, func(_ *Config, _ *TransportOpts, s *SubsystemConfig) { s.AllowAnyHost = false })...)
	must(t, r.sub.AddHost(testHost, keys))
	return r
}

// authSQE is Authentication Send (5) or Receive (6).
func (w *wire) authSQE(fctype, length uint32) []byte {
	s := w.sqe(0x7f, fctype)
	s[41], s[42], s[43] = 1, 1, 0xe9
	binary.LittleEndian.PutUint32(s[44:], length)
	return s
}

func (w *wire) authSend(msg []byte) cqe {
	w.t.Helper()
	c, _ := w.do(w.authSQE(5, uint32(len(msg))), msg)
	return c
}

func (w *wire) authReceive(n int) (cqe, []byte) {
	w.t.Helper()
	s := w.authSQE(6, uint32(n))
	sglOut(s, n)
	return w.do(s, nil)
}

func (w *wire) prover(keys dhchap.Keys, offer dhchap.Offer) *dhchap.Host {
	return dhchap.NewHost(dhchap.HostConfig{HostNQN: w.hostnqn, SubNQN: testNQN, Keys: keys, Offer: offer, TID: 77, Sequence: &authSequence})
}

// prove authenticates the queue; the commands themselves always succeed.
func (w *wire) prove(keys dhchap.Keys, offer dhchap.Offer) error {
	w.t.Helper()
	h := w.prover(keys, offer)
	send := func(msg []byte) {
		w.t.Helper()
		if c := w.authSend(msg); c.status != 0 {
			w.t.Fatalf("Authentication Send: %03x", c.status)
		}
	}
	receive := func() []byte {
		w.t.Helper()
		c, msg := w.authReceive(4096)
		if c.status != 0 {
			w.t.Fatalf("Authentication Receive: %03x", c.status)
		}
		return msg
	}
	send(h.Negotiate())
	r, err := h.Reply(receive())
	if err != nil {
		return err
	}
	send(r)
	end, err := h.Finish(receive())
	if end != nil {
		send(end)
	}
	return err
}

// demanded connects a queue that has to authenticate.
func (r *rig) demanded(qid, cntlid uint16, set ...func(*wire)) (*wire, uint16) {
	r.t.Helper()
	w := r.dial()
	for _, f := range set {
		f(w)
	}
	w.icreq()
	c := w.connect(qid, cntlid, testNQN)
	if c.status != 0 || c.dw0&^0xffff != authRequired {
		r.t.Fatalf("connect: %03x, DW0 %08x: no demand for authentication", c.status, c.dw0)
	}
	return w, uint16(c.dw0)
}

// proven makes an enabled controller whose host has authenticated.
func (r *rig) proven(keys dhchap.Keys, offer dhchap.Offer, set ...func(*wire)) (*wire, uint16) {
	r.t.Helper()
	w, id := r.demanded(0, 0xffff, set...)
	must(r.t, w.prove(keys, offer))
	if c := w.propSet(0x14, 0x00460001); c.status != 0 {
		r.t.Fatalf("enable: %03x", c.status)
	}
	return w, id
}

// isClosed waits for the target to close the connection.
func (w *wire) isClosed() {
	w.t.Helper()
	if _, err := io.Copy(io.Discard, w.c); errors.Is(err, os.ErrDeadlineExceeded) {
		w.t.Fatal("the connection is not closed")
	}
}

// TestAuthentication: with digests and without, one- and two-way, with each
// group, the admin queue and the I/O queues of a host authenticate, and then
// work.
func TestAuthentication(t *testing.T) {
	r := authRig(t, bothKeys)
	forms(t, func(t *testing.T, set func(*wire)) {
		for i, offer := range []dhchap.Offer{cheap, dhchap.Defaults(),
			{Hashes: []dhchap.Hash{dhchap.SHA512}, Groups: []dhchap.Group{dhchap.FFDHE8192}}} {
			if i > 1 && testing.Short() {
				continue
			}
			for _, keys := range []dhchap.Keys{{Host: hostKey}, bothKeys.Keys} {
				a, id := r.proven(keys, offer, set)
				q, _ := r.demanded(1, id, set)
				if n := len(r.sub.Qpairs()); n != 1 {
					t.Errorf("%d queues of the controller before the second has authenticated", n)
				}
				must(t, q.prove(keys, offer))
				data := pattern(8192, byte(i))
				if c := q.writeBlocks(8, data); c.status != 0 {
					t.Errorf("write: %03x", c.status)
				}
				if string(q.read(8, 2)) != string(data) {
					t.Error("other data comes back")
				}
				for _, p := range r.sub.Qpairs() {
					if p.State != "enabled" {
						t.Errorf("queue %d is %s", p.QID, p.State)
					}
				}
				_ = q.c.Close()
				_ = a.c.Close()
			}
		}
	})
}

// TestAuthenticationByR2T: what does not come in the capsule is asked for.
func TestAuthenticationByR2T(t *testing.T) {
	r := authRig(t, bothKeys)
	w, _ := r.demanded(0, 0xffff)
	msg := w.prover(bothKeys.Keys, cheap).Negotiate()
	s := w.authSQE(5, uint32(len(msg)))
	sglOut(s, len(msg))
	w.capsule(s, nil)
	if c, _ := w.await(binary.LittleEndian.Uint16(s[2:]), msg); c.status != 0 {
		t.Fatalf("%03x", c.status)
	}
	if c, msg := w.authReceive(4096); c.status != 0 || len(msg) != 48 || msg[1] != 1 {
		t.Errorf("the challenge: %03x, % x", c.status, msg)
	}
}

// TestPolledAuthentication: another that polls in the reader's place leaves the
// computing to the reader.
func TestPolledAuthentication(t *testing.T) {
	r := authRig(t, bothKeys)
	r.pollAll()
	offer := dhchap.Offer{Hashes: []dhchap.Hash{dhchap.SHA256}, Groups: []dhchap.Group{dhchap.FFDHE2048}}
	_, id := r.proven(bothKeys.Keys, offer)
	q, _ := r.demanded(1, id)
	must(t, q.prove(bothKeys.Keys, offer))
	must(t, q.prove(bothKeys.Keys, offer)) // again, on a queue that works
	q.read(0, 1)
}

// TestNothingBeforeAuthentication: until a host has authenticated its queue
// takes nothing else, and what it asks for is not done.
func TestNothingBeforeAuthentication(t *testing.T) {
	r := authRig(t, bothKeys)
	a, id := r.proven(bothKeys.Keys, cheap)
	before := a.read0(r, id, 1)
	w, _ := r.demanded(0, 0xffff)
	for fctype := range uint32(9) {
		s := w.sqe(0x7f, fctype)
		if fctype == 5 || fctype == 6 {
			continue
		}
		if c, _ := w.do(s, nil); c.status != statusAuth {
			t.Errorf("Fabrics command %d before authentication: %03x", fctype, c.status)
		}
	}
	for _, op := range []byte{2, 6, 8, 9, 10, 12, 0x18, 0x80} {
		if c, _ := w.do(w.sqe(op, 1), nil); c.status != statusAuth {
			t.Errorf("admin command 0x%x before authentication: %03x", op, c.status)
		}
	}
	q, _ := r.demanded(2, id)
	for _, op := range []byte{0, 1, 2, 5, 8, 9, 0xc, 0xd} {
		s := q.rw(op, 0, 1)
		data := pattern(1024, op)
		if c, _ := q.do(s, data); c.status != statusAuth {
			t.Errorf("I/O command 0x%x before authentication: %03x", op, c.status)
		}
	}
	if after := a.read0(r, id, 3); string(after) != string(before) {
		t.Error("a write before authentication was executed")
	}
	if n := len(r.sub.Controllers()); n != 1 {
		t.Errorf("%d hosts are connected; one has authenticated", n)
	}
	must(t, q.prove(bothKeys.Keys, cheap)) // nothing was spoilt
	q.read(0, 1)
}

// read0 reads block 0 by a queue of its own.
func (w *wire) read0(r *rig, cntlid, qid uint16) []byte {
	q, _ := r.demanded(qid, cntlid)
	must(r.t, q.prove(bothKeys.Keys, cheap))
	return q.read(0, 1)
}

// TestWrongKeys: a host with a wrong key is told so, and the connection ends.
func TestWrongKeys(t *testing.T) {
	r := authRig(t, bothKeys)
	for name, keys := range map[string]dhchap.Keys{"another key": {Host: otherKey}, "the controller's key": {Host: ctrlrKey},
		"another key, two-way": {Host: otherKey, Controller: ctrlrKey}} {
		w, _ := r.demanded(0, 0xffff)
		var e *dhchap.Error
		if err := w.prove(keys, cheap); !errors.As(err, &e) || !e.Rejected() {
			t.Errorf("%s: %v", name, err)
		}
		w.isClosed()
	}
	if n := r.tgt.Stats().Unauthentic; n != 3 {
		t.Errorf("%d failures are counted", n)
	}
	w, _ := r.demanded(0, 0xffff)
	if err := w.prove(dhchap.Keys{Host: hostKey, Controller: otherKey}, cheap); err == nil {
		t.Error("the host takes a controller with another key")
	}
	if w := r.dial(); true { // another host's name
		w.icreq()
		w.hostnqn = otherHost
		if c := w.connect(0, 0xffff, testNQN); c.status != 0x184 {
			t.Errorf("a host that is not on the list: %03x", c.status)
		}
	}
}

// TestUnfinishedAuthentication: a host that does not finish is cut off, at each
// step, also one that authenticates again; nothing of it is left.
func TestUnfinishedAuthentication(t *testing.T) {
	r := authRig(t, bothKeys, func(c *Config, _ *TransportOpts, _ *SubsystemConfig) { c.AuthTime = 3 * time.Second })
	var all []*wire
	for steps := range 4 {
		w, _ := r.demanded(0, 0xffff)
		h := w.prover(bothKeys.Keys, cheap)
		if steps > 0 {
			w.authSend(h.Negotiate())
		}
		if steps > 1 {
			_, msg := w.authReceive(4096)
			if steps > 2 {
				reply, err := h.Reply(msg)
				must(t, err)
				w.authSend(reply)
			}
		}
		all = append(all, w)
	}
	a, id := r.proven(bothKeys.Keys, cheap)
	q, _ := r.demanded(1, id)
	must(t, q.prove(bothKeys.Keys, cheap))
	q.authSend(q.prover(bothKeys.Keys, cheap).Negotiate())
	for _, w := range append(all, q, a) {
		w.isClosed()
	}
	r.clean(t, 0)
}

// TestAuthenticateAgain: a host may authenticate again at any time; one that
// fails then loses its association, not one queue alone.
func TestAuthenticateAgain(t *testing.T) {
	r := authRig(t, bothKeys)
	a, id := r.proven(bothKeys.Keys, cheap)
	q, _ := r.demanded(1, id)
	must(t, q.prove(bothKeys.Keys, cheap))
	for range 3 {
		must(t, a.prove(bothKeys.Keys, cheap))
		must(t, q.prove(dhchap.Keys{Host: hostKey}, cheap))
		q.read(0, 1)
	}
	if err := q.prove(dhchap.Keys{Host: otherKey}, cheap); err == nil {
		t.Error("a wrong key is taken")
	}
	q.isClosed()
	a.isClosed()
}

// TestBeginsAgainHalfWay: a host whose time runs out at any step of an authentication, the first
// or one more, begins again on the same queue, which stays; not for ever, and one that has not
// been let in yet gets nothing by it.
func TestBeginsAgainHalfWay(t *testing.T) {
	r := authRig(t, bothKeys)
	// leaves stops after so many steps; its late answers have been read.
	leaves := func(w *wire, steps int, tid uint16) {
		t.Helper()
		h := dhchap.NewHost(dhchap.HostConfig{HostNQN: w.hostnqn, SubNQN: testNQN, Keys: bothKeys.Keys, Offer: cheap, TID: tid,
			Sequence: &authSequence})
		w.authSend(h.Negotiate())
		if steps == 1 {
			return
		}
		_, msg := w.authReceive(4096)
		if steps == 2 {
			return
		}
		reply, err := h.Reply(msg)
		must(t, err)
		w.authSend(reply)
		if steps == 3 {
			return
		}
		_, msg = w.authReceive(4096)
		if _, err := h.Finish(msg); err != nil {
			t.Fatalf("the controller's proof: %v", err)
		}
	}
	a, id := r.proven(bothKeys.Keys, cheap)
	q, _ := r.demanded(1, id)
	must(t, q.prove(bothKeys.Keys, cheap))
	for steps := 1; steps <= 4; steps++ {
		w, _ := r.demanded(0, 0xffff)
		leaves(w, steps, 1)
		leaves(w, steps, 2)
		if c := w.propSet(0x14, 0x00460001); c.status == 0 {
			t.Errorf("after %d steps, twice, the queue takes other commands", steps)
		}
		must(t, w.prove(bothKeys.Keys, cheap))
		if c := w.propSet(0x14, 0x00460001); c.status != 0 {
			t.Errorf("begun again after %d steps: enable: %03x", steps, c.status)
		}
		w.c.Close()
		leaves(q, steps, 1) // of a queue that is in use
		q.read(0, 1)
		must(t, q.prove(bothKeys.Keys, cheap))
		q.read(0, 1)
	}
	for tid := range uint16(5) {
		leaves(q, 1, 100+tid)
	}
	if _, msg := q.authReceive(4096); msg[1] != 0xf1 {
		t.Errorf("the host begins for the fifth time, and is answered with message %02x", msg[1])
	}
	q.isClosed()
	a.isClosed()
}

// TestKeysChange: keys that are kept stay valid until the next change; what is
// connected stays; without keys nothing is demanded.
func TestKeysChange(t *testing.T) {
	r := authRig(t, bothKeys)
	old, _ := r.proven(bothKeys.Keys, cheap)
	fresh := HostKeys{Keys: dhchap.Keys{Host: otherKey, Controller: dhchap.NewSecret(dhchap.SHA256)}}
	must(t, r.sub.SetHostKeys(testHost, fresh, true))
	must(t, r.sub.SetHostKeys(testHost, fresh, false))
	must(t, r.sub.SetHostKeys(testHost, bothKeys, true))
	must(t, r.sub.SetHostKeys(testHost, fresh, true))
	for _, keys := range []dhchap.Keys{bothKeys.Keys, fresh.Keys} {
		r.proven(keys, cheap)
	}
	must(t, r.sub.SetHostKeys(testHost, fresh, false))
	r.proven(fresh.Keys, cheap)
	w, _ := r.demanded(0, 0xffff)
	if err := w.prove(bothKeys.Keys, cheap); err == nil {
		t.Error("the old key is taken when it is valid no more")
	}
	if c := old.propGet(0x1c, false); c.status != 0 {
		t.Errorf("what was connected: %03x", c.status)
	}
	must(t, r.sub.SetHostKeys(testHost, HostKeys{}, false))
	a, _ := r.admin()
	s := a.authSQE(5, 8)
	if c, _ := a.do(s, make([]byte, 8)); c.status != 0x4001 {
		t.Errorf("an authentication of a host without keys: %03x", c.status)
	}
	if err := r.sub.SetHostKeys(otherHost, fresh, false); err == nil {
		t.Error("keys for a host that is not on the list")
	}
	must(t, r.sub.RemoveHost(testHost))
	if k := r.sub.HostKeys(testHost); k != nil {
		t.Errorf("%d keys of a host that was removed", len(k))
	}
}

// TestUnprovenEndsNobody: a stranger who knows the host's name, and connects
// where a host has one association at most, does not end the host's; the host
// that has authenticated does.
func TestUnprovenEndsNobody(t *testing.T) {
	r := authRig(t, bothKeys)
	r.sub.SetSingleAssociation(true)
	a, id := r.proven(bothKeys.Keys, cheap)
	q, _ := r.demanded(1, id)
	must(t, q.prove(bothKeys.Keys, cheap))
	stranger, _ := r.demanded(0, 0xffff)
	thief, _ := r.demanded(2, id) // nor does it take an id of an I/O queue
	if err := stranger.prove(dhchap.Keys{Host: otherKey}, cheap); err == nil {
		t.Fatal("the stranger is let in")
	}
	own, _ := r.demanded(2, id)
	must(t, own.prove(bothKeys.Keys, cheap))
	q.read(0, 1)
	own.read(0, 1)
	_ = thief.c.Close()
	r.proven(bothKeys.Keys, cheap)
	q.isClosed()
	a.isClosed()
}

// TestUnprovenLeaveRoom: strangers who hold all controller ids do not keep the
// host out for long.
func TestUnprovenLeaveRoom(t *testing.T) {
	r := authRig(t, bothKeys, func(_ *Config, _ *TransportOpts, s *SubsystemConfig) { s.MinCntlid, s.MaxCntlid = 1, 3 })
	for range 3 {
		r.demanded(0, 0xffff)
	}
	deadline := time.Now().Add(2 * time.Minute)
	for {
		w := r.dial()
		w.icreq()
		c := w.connect(0, 0xffff, testNQN)
		if c.status == 0 {
			must(t, w.prove(bothKeys.Keys, cheap))
			return
		}
		if c.status != 0x181 || time.Now().After(deadline) {
			t.Fatalf("the host: %03x", c.status)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// TestAuthCommands: fields of Authentication Send and Receive that are wrong,
// and lengths beyond what there is.
func TestAuthCommands(t *testing.T) {
	r := authRig(t, bothKeys)
	w, _ := r.demanded(0, 0xffff)
	msg := w.prover(bothKeys.Keys, cheap).Negotiate()
	for name, change := range map[string]func(s []byte){"SECP": func(s []byte) { s[43] = 0 }, "SPSP0": func(s []byte) { s[41] = 2 },
		"SPSP1": func(s []byte) { s[42] = 0 }, "TL": func(s []byte) { s[47] = 0xff }} {
		s := w.authSQE(5, uint32(len(msg)))
		change(s)
		if c, _ := w.do(s, msg); c.status != 0x4002 {
			t.Errorf("%s: %03x", name, c.status)
		}
	}
	s := w.authSQE(5, 1<<31)
	sglOut(s, 1<<31)
	if c, _ := w.do(s, nil); c.status != 0x400f {
		t.Errorf("2 GiB to send: %03x", c.status)
	}
	w.authSend(msg)
	if c, _ := w.authReceive(15); c.status != 0x4002 {
		t.Errorf("no room for the challenge: %03x", c.status)
	}
	s = w.authSQE(6, 1<<31)
	sglOut(s, 1<<31)
	if c, in := w.do(s, nil); c.status != 0 || len(in) != 48 {
		t.Errorf("2 GiB of room: %03x, %d bytes", c.status, len(in))
	}
	if c := w.authSend(nil); c.status != 0 {
		t.Errorf("nothing sent: %03x", c.status)
	}
	if c, in := w.authReceive(64); c.status != 0 || len(in) != 8 || in[1] != 0xf1 || in[7] != 6 {
		t.Errorf("what follows: %03x, % x", c.status, in)
	}
	w.isClosed()
}

// TestDiscoveryAuthenticates: the discovery controller demands it of hosts that
// have keys there.
func TestDiscoveryAuthenticates(t *testing.T) {
	r := newRig(t)
	disc := r.tgt.discovery
	must(t, disc.AddHost(testHost, bothKeys))
	w := r.dial()
	w.icreq()
	c := w.connect(0, 0xffff, disc.NQN())
	if c.status != 0 || c.dw0>>16 != 2 {
		t.Fatalf("%03x, DW0 %08x", c.status, c.dw0)
	}
	if c, _ := w.do(w.sqe(2, 0), nil); c.status != statusAuth {
		t.Errorf("Get Log Page before authentication: %03x", c.status)
	}
	h := dhchap.NewHost(dhchap.HostConfig{HostNQN: testHost, SubNQN: disc.NQN(), Keys: bothKeys.Keys, Offer: cheap, Sequence: &authSequence})
	w.authSend(h.Negotiate())
	_, msg := w.authReceive(4096)
	reply, err := h.Reply(msg)
	must(t, err)
	w.authSend(reply)
	_, msg = w.authReceive(4096)
	end, err := h.Finish(msg)
	must(t, err)
	w.authSend(end)
	w.propSet(0x14, 0x00460001)
	if c, _ := w.logPage(0x70, 0, 1024, false); c.status != 0 {
		t.Errorf("Get Log Page afterwards: %03x", c.status)
	}
	other := r.dial()
	other.icreq()
	other.hostnqn = otherHost
	if c := other.connect(0, 0xffff, disc.NQN()); c.status != 0 || c.dw0>>16 != 0 {
		t.Errorf("a host without keys: %03x, DW0 %08x", c.status, c.dw0)
	}
}

// FuzzAuthentication feeds a byte stream to a queue that has to authenticate, at
// each step of it: nothing of ours panics, and nobody gets in.
func FuzzAuthentication(f *testing.F) {
	r := authRig(f, bothKeys, func(c *Config, _ *TransportOpts, _ *SubsystemConfig) { c.SendTime = time.Second })
	w := &wire{t: f, hostnqn: testHost, hostid: testHostID}
	msg := w.prover(bothKeys.Keys, cheap).Negotiate()
	s := w.authSQE(5, uint32(len(msg)))
	sglIn(s, len(msg))
	receive := w.authSQE(6, 4096)
	sglOut(receive, 4096)
	f.Add(uint8(0), append(w.capsulePDU(s, msg), w.capsulePDU(receive, nil)...))
	f.Add(uint8(1), w.capsulePDU(receive, nil))
	f.Add(uint8(2), w.capsulePDU(s, msg))
	for fctype := range uint32(9) {
		f.Add(uint8(0), w.fabricsByR2T(fctype))
		f.Add(uint8(1), append(w.usedSlot(), w.fabricsByR2T(fctype)...))
	}
	f.Fuzz(func(t *testing.T, steps uint8, in []byte) {
		panics := r.tgt.Stats().Panics
		w := dialFor(t, r)
		w.icreq()
		if c := w.connect(0, 0xffff, testNQN); c.status != 0 {
			t.Fatalf("connect: %03x", c.status)
		}
		h := w.prover(bothKeys.Keys, cheap)
		if steps%3 > 0 {
			w.authSend(h.Negotiate())
		}
		if steps%3 > 1 {
			w.authReceive(4096)
		}
		_, _ = w.c.Write(in)
		_ = w.c.(interface{ CloseWrite() error }).CloseWrite()
		if _, err := io.Copy(io.Discard, w.c); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal("the connection does not end")
		}
		w.c.Close()
		if p := r.tgt.Stats().Panics; p != panics {
			t.Fatal("a panic")
		}
		if n := len(r.sub.Controllers()); n != 0 {
			t.Fatal("let in")
		}
	})
}
