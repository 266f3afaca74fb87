package nvme

import (
	"bytes"
	"errors"
	"testing"
)

func TestHeaderRules(t *testing.T) {
	cases := []struct {
		name string
		h    Header
		err  error
		data uint32
	}{
		{"capsule without data", Header{PDUCapsuleCmd, 0, 72, 0, 72}, nil, 0},
		{"capsule with data", Header{PDUCapsuleCmd, 0, 72, 72, 72 + 4096}, nil, 4096},
		{"capsule with digests", Header{PDUCapsuleCmd, FlagHDGST | FlagDDGST, 72, 76, 76 + 512 + 4}, nil, 512},
		{"capsule with padding", Header{PDUCapsuleCmd, 0, 72, 128, 128 + 512}, nil, 512},
		{"data offset inside the header", Header{PDUCapsuleCmd, 0, 72, 71, 72 + 512}, ErrPDUOffset, 0},
		{"data offset inside the header digest", Header{PDUCapsuleCmd, FlagHDGST, 72, 72, 76 + 512}, ErrPDUOffset, 0},
		{"data offset behind the end", Header{PDUH2CData, 0, 24, 200, 60}, ErrPDUOffset, 0},
		{"no room for the data digest", Header{PDUH2CData, FlagDDGST, 24, 24, 26}, ErrPDULen, 0},
		{"data digest without data", Header{PDUCapsuleCmd, FlagDDGST, 72, 0, 72}, nil, 0},
		{"shorter than its header", Header{PDUCapsuleCmd, 0, 72, 0, 71}, ErrPDULen, 0},
		{"unknown type", Header{PDUType(8), 0, 24, 0, 24}, ErrPDUType, 0},
		{"type far away", Header{PDUType(0xff), 0, 24, 0, 24}, ErrPDUType, 0},
		{"wrong header length", Header{PDUR2T, 0, 23, 0, 24}, ErrPDUHeaderLen, 0},
		{"R2T with a tail", Header{PDUR2T, 0, 24, 0, 25}, ErrPDULen, 0},
		{"R2T with LAST", Header{PDUR2T, FlagLast, 24, 0, 24}, ErrPDUFlags, 0},
		{"H2CData with SUCCESS", Header{PDUH2CData, FlagSuccess, 24, 24, 28}, ErrPDUFlags, 0},
		{"C2HData with all", Header{PDUC2HData, 15, 24, 28, 28 + 8 + 4}, nil, 8},
		{"ICReq with digest", Header{PDUICReq, FlagHDGST, 128, 0, 132}, ErrPDUFlags, 0},
		{"long termination", Header{PDUH2CTermReq, 0, 24, 0, 153}, ErrPDULen, 0},
	}
	for _, c := range cases {
		var b [8]byte
		PutHeader(b[:], c.h)
		h, err := DecodeHeader(b[:])
		if !errors.Is(err, c.err) || h != c.h {
			t.Errorf("%s: got %+v, %v; want %v", c.name, h, err, c.err)
		}
		if err == nil && h.DataLen() != c.data {
			t.Errorf("%s: %d bytes of data, want %d", c.name, h.DataLen(), c.data)
		}
	}
}

func TestDigestIsCRC32C(t *testing.T) {
	// RFC 3720, B.4: the CRC of 32 bytes of zeros is aa 36 91 8a on the wire.
	var b [4]byte
	PutDigest(b[:], UpdateDigest(UpdateDigest(0, make([]byte, 10)), make([]byte, 22)))
	if want := []byte{0xaa, 0x36, 0x91, 0x8a}; !bytes.Equal(b[:], want) {
		t.Fatalf("digest % x, want % x", b, want)
	}
}

func TestTermReqIsCut(t *testing.T) {
	var b [TermReqMax]byte
	n := PutTermReq(b[:], PDUC2HTermReq, TermReq{Status: FatalHeaderDigest, Info: 7, Header: make([]byte, 500)})
	r, err := DecodeTermReq(b[:n])
	if err != nil || n != TermReqMax || len(r.Header) != 128 || r.Status != FatalHeaderDigest || r.Info != 7 {
		t.Fatalf("%d bytes, %+v, %v", n, r, err)
	}
}

func FuzzHeader(f *testing.F) {
	f.Add([]byte{4, 3, 72, 76, 0, 2, 0, 0})
	f.Add([]byte{7, 15, 24, 24, 28, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := DecodeHeader(b)
		if err != nil {
			return
		}
		used := uint64(h.HLen) + uint64(h.DataLen())
		if h.Flags&FlagHDGST != 0 {
			used += DigestLen
		}
		if h.DataLen() > 0 && h.Flags&FlagDDGST != 0 {
			used += DigestLen
		}
		if h.Type != PDUH2CTermReq && h.Type != PDUC2HTermReq && used > uint64(h.PLen) {
			t.Fatalf("%+v uses %d bytes", h, used)
		}
		if h.DataLen() > 0 && uint64(h.PDO)+uint64(h.DataLen()) > uint64(h.PLen) {
			t.Fatalf("%+v: data leaves the PDU", h)
		}
	})
}

func FuzzPDUBodies(f *testing.F) {
	var b [TermReqMax]byte
	PutICReq(b[:], ICReq{HPDA: 3, HeaderDigest: true, MaxR2T: 4})
	f.Add(append([]byte(nil), b[:ICLen]...))
	PutICResp(b[:], ICResp{CPDA: 3, DataDigest: true, MaxH2CData: 131072})
	f.Add(append([]byte(nil), b[:ICLen]...))
	n := PutTermReq(b[:], PDUH2CTermReq, TermReq{Status: 1, Header: []byte{1, 2, 3}})
	f.Add(append([]byte(nil), b[:n]...))
	f.Fuzz(func(t *testing.T, in []byte) {
		var out [TermReqMax]byte
		if r, err := DecodeICReq(in); err == nil {
			PutICReq(out[:], r)
			if again, err := DecodeICReq(out[:]); err != nil || again != r {
				t.Fatalf("ICReq %+v became %+v, %v", r, again, err)
			}
		}
		if r, err := DecodeICResp(in); err == nil {
			PutICResp(out[:], r)
			if again, err := DecodeICResp(out[:]); err != nil || again != r {
				t.Fatalf("ICResp %+v became %+v, %v", r, again, err)
			}
		}
		if r, err := DecodeTermReq(in); err == nil {
			n := PutTermReq(out[:], PDUType(in[0]), r)
			if again, err := DecodeTermReq(out[:n]); err != nil || !bytes.Equal(again.Header, r.Header) || again.Info != r.Info {
				t.Fatalf("TermReq %+v became %+v, %v", r, again, err)
			}
		}
		if d, err := DecodeData(in); err == nil {
			PutData(out[:], d)
			if again, _ := DecodeData(out[:]); again != d {
				t.Fatalf("data %+v became %+v", d, again)
			}
		}
		if r, err := DecodeR2T(in); err == nil {
			PutR2T(out[:], r)
			if again, _ := DecodeR2T(out[:]); again != r {
				t.Fatalf("R2T %+v became %+v", r, again)
			}
		}
	})
}

func TestEncodersDoNotAllocate(t *testing.T) {
	b := make([]byte, 1024)
	n := testing.AllocsPerRun(100, func() {
		PutHeader(b, Header{Type: PDUR2T, HLen: R2TLen, PLen: R2TLen})
		PutR2T(b, R2T{CID: 1})
		_, _ = DecodeHeader(b)
		_, _ = DecodeR2T(b)
		c := (*Command)(b[8:])
		c.Init(IORead, 1)
		c.SetLBA(5, 8)
		c.SetSGL(SGL{Length: 4096, ID: SGLTransport})
		_ = c.SGL()
		PutCompletion(b, Completion{CID: 2})
		_, _ = DecodeCompletion(b)
		PutDigest(b, UpdateDigest(0, b))
	})
	if n != 0 {
		t.Fatalf("%v allocations", n)
	}
}
