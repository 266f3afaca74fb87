package nvme

import (
	"errors"
	"strings"
	"testing"
)

func TestCommandFields(t *testing.T) {
	var c Command
	c.Init(IOWrite, 7)
	c.SetCID(0x1234)
	c.SetFused(SecondFused)
	c.SetLBA(0x1122334455667788, 65536)
	c.SetSGL(SGL{Address: 64, Length: 512, ID: SGLInCapsule})
	if c.Opcode() != IOWrite || c.NSID() != 7 || c.CID() != 0x1234 || c.Fused() != SecondFused || c.PSDT() != 1 {
		t.Fatalf("% x", c)
	}
	if c.SLBA() != 0x1122334455667788 || c.Blocks() != 65536 || c.CDW(10) != 0x55667788 {
		t.Fatalf("slba %x blocks %d", c.SLBA(), c.Blocks())
	}
	if got := c.SGL(); got != (SGL{Address: 64, Length: 512, ID: SGLInCapsule}) {
		t.Fatalf("SGL %+v", got)
	}
}

func TestPropertySizes(t *testing.T) {
	var c Command
	c.SetPropertySet(Property{Offset: PropCC, Value: 1 << 40})
	if p, err := c.Property(); err != nil || p.Value != 0 || p.Offset != PropCC {
		t.Fatalf("a 4 byte property kept high bits: %+v, %v", p, err)
	}
	c[40] = 2
	if _, err := c.Property(); err == nil {
		t.Fatal("size code 2 was accepted")
	}
}

func TestCapabilitiesRoundTrip(t *testing.T) {
	c := Capabilities{MaxQueueEntries: 128, Contiguous: true, ReadyTimeout: 30, NVMCommandSet: true, MaxPage: 4}
	if got := DecodeCapabilities(c.Encode()); got != c {
		t.Fatalf("%+v became %+v", c, got)
	}
	if Version(2, 0, 0) != 0x20000 || Version(1, 4, 2) != 0x10402 {
		t.Fatal("version layout")
	}
}

func TestConnectDataNames(t *testing.T) {
	b := make([]byte, ConnectDataLen)
	good := ConnectData{HostID: [16]byte{1, 2}, CNTLID: CNTLIDDynamic, SubNQN: DiscoveryNQN, HostNQN: "nqn.2016-06.io.spdk:h"}
	PutConnectData(b, good)
	if d, err := DecodeConnectData(b); err != nil || d != good {
		t.Fatalf("%+v, %v", d, err)
	}
	for name, fill := range map[string]func(){
		"empty subsystem": func() { b[ConnectOffSubNQN] = 0 },
		"unterminated": func() {
			for i := range 256 {
				b[ConnectOffHostNQN+i] = 'x'
			}
		},
		"control character": func() { b[ConnectOffHostNQN+4] = '\n' },
	} {
		PutConnectData(b, good)
		fill()
		if _, err := DecodeConnectData(b); !errors.Is(err, ErrNQN) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if CheckNQN(strings.Repeat("n", 224)) == nil || CheckNQN("") == nil || CheckNQN("iqn.x") == nil || CheckNQN(DiscoveryNQN) != nil {
		t.Error("CheckNQN")
	}
}

func FuzzConnectData(f *testing.F) {
	b := make([]byte, ConnectDataLen)
	PutConnectData(b, ConnectData{SubNQN: "nqn.a", HostNQN: "nqn.b"})
	f.Add(b)
	f.Fuzz(func(t *testing.T, in []byte) {
		d, err := DecodeConnectData(in)
		if err != nil {
			return
		}
		var out [ConnectDataLen]byte
		PutConnectData(out[:], d)
		if again, err := DecodeConnectData(out[:]); err != nil || again != d {
			t.Fatalf("%+v became %+v, %v", d, again, err)
		}
	})
}

func FuzzCommand(f *testing.F) {
	var c Command
	c.SetConnect(Connect{QID: 1, SQSize: 31, KeepAlive: 10000})
	f.Add(c[:])
	c.SetPropertyGet(PropCAP, true)
	f.Add(c[:])
	f.Fuzz(func(t *testing.T, in []byte) {
		if v, err := DecodeCompletion(in); err == nil {
			var out [CompletionLen]byte
			PutCompletion(out[:], v)
			if again, _ := DecodeCompletion(out[:]); again != v {
				t.Fatalf("completion %+v became %+v", v, again)
			}
		}
		if r, err := DecodeDSMRange(in); err == nil {
			var out [DSMRangeLen]byte
			PutDSMRange(out[:], r)
			if again, _ := DecodeDSMRange(out[:]); again != r {
				t.Fatalf("range %+v became %+v", r, again)
			}
		}
		if len(in) < CommandLen {
			return
		}
		c := (*Command)(in)
		v := c.Connect()
		var d Command
		d.SetConnect(v)
		if d.Connect() != v {
			t.Fatalf("connect %+v became %+v", v, d.Connect())
		}
		if p, err := c.Property(); err == nil {
			d.SetPropertySet(p)
			if again, err := d.Property(); err != nil || again != p {
				t.Fatalf("property %+v became %+v, %v", p, again, err)
			}
		}
		if b := c.Blocks(); b == 0 || b > 65536 {
			t.Fatalf("%d blocks", b)
		}
		_ = c.SGL()
	})
}
