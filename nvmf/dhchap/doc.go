// Package dhchap is DH-HMAC-CHAP, by which NVMe hosts and controllers prove to
// each other that they know a secret (base 2.0, section 8.13): secrets and what
// is made of them, the messages, and the two sides of an authentication as
// machines that take messages and make messages. It does no I/O: nvmf/nvmftgt
// and nvmf/host carry the messages in Authentication Send and Receive.
//
// # An authentication
//
//	host                                   controller
//	AUTH_Negotiate         ─ Send ──>      hashes and groups that the host takes
//	                       <─ Receive ─    DH-HMAC-CHAP_Challenge  C1, S1, g^x
//	DH-HMAC-CHAP_Reply     ─ Send ──>      R1, and C2, S2 of a host that wants the controller to prove itself, g^y
//	                       <─ Receive ─    DH-HMAC-CHAP_Success1   R2
//	DH-HMAC-CHAP_Success2  ─ Send ──>      only after R2
//
// A controller that refuses a message says so by AUTH_Failure1, which the next
// Receive gets; a host by AUTH_Failure2. The connection ends then. A host whose
// time runs out half way may begin again with another T_ID, four times in all and
// in the time that the controller gives for one authentication: a proof that it
// has not finished counts for nothing then, and a wrong one has ended it all.
//
//	R1 = HMAC(Kh, Ca1 || S1 || T_ID || SC_C || "HostHost"   || host NQN      || 0 || subsystem NQN)
//	R2 = HMAC(Kc, Ca2 || S2 || T_ID || SC_C || "Controller" || subsystem NQN || 0 || host NQN)
//	Ca = C, or HMAC(H(g^xy), C) with a Diffie-Hellman group
//
// Kh is the host's secret, bound to the host NQN, and Kc the controller's, bound
// to the subsystem NQN (Secret).
//
// # Messages
//
// All begin with AUTH_TYPE (0: common, 1: DH-HMAC-CHAP), AUTH_ID, two reserved
// bytes and T_ID, which the host chooses; numbers are little-endian.
//
//	          0         1         2..3  4..5  6     7         8        9       10..11  12..15  16..
//	Negotiate 0         0x00            T_ID  SC_C  NAPD      descriptors of 64 bytes: 1, 0, HALEN, DHLEN, 30 hash ids, 30 group ids
//	Challenge 1         0x01            T_ID  HL    -         HashID   DHgID   DHVLEN  S1      C1, g^x
//	Reply     1         0x02            T_ID  HL    -         CVALID   -       DHVLEN  S2      R1, C2 (or zeros), g^y
//	Success1  1         0x03            T_ID  HL    -         RVALID   -                       R2, if RVALID
//	Success2  1         0x04            T_ID  -
//	Failure2  0         0xf0            T_ID  1     explanation
//	Failure1  0         0xf1            T_ID  1     explanation
//
// # What it protects from, and what not
//
// One that has only seen the names, or a whole authentication, cannot make one:
// the challenges are random, and what is answered is bound to names, direction,
// sequence number and transaction. That a host's own challenge comes back to it
// is refused. The choice of hash and group is not signed by the protocol, so
// that each side insists on what it allows (Offer), and nothing weaker can be
// talked into it. After the authentication the connection is as open to one
// who can change packets as before; that takes TLS or a protected network.
//
// # Cost
//
// A group costs each side two exponentiations per queue, half a millisecond each
// at 2048 bits, three at 3072 and some thirty at 8192; the null group costs
// nothing. A controller prefers ffdhe2048: what a group adds is that a secret
// which a person has made up cannot be guessed from what was seen on the wire,
// and hosts come back all at once after a failover.
//
// Exponents and secrets are used in constant time, by filippo.io/bigmod, the
// standard library's arithmetic of crypto/rsa. A Secret is zeroed by Wipe, and
// what is made of it when it has been used; copies that the runtime may have
// made of stacks are out of reach.
package dhchap
