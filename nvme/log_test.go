package nvme

import (
	"reflect"
	"testing"
)

func TestIdentifyRoundTrip(t *testing.T) {
	c := ControllerData{Serial: "S1", Model: "M", Firmware: "1.0", CMIC: 11, MDTS: 5, CNTLID: 77, Version: Version(2, 0, 0), OAES: OAESANA,
		CNTRLTYPE: ControllerIO, ANACAP: 7, ANAGRPMAX: 32, NANAGRPID: 32, SQES: 0x66, CQES: 0x44, MAXCMD: 128, NN: 32, ONCS: ONCSDSM, VWC: 1,
		SGLS: SGLSSupported, MNAN: 32, SubNQN: "nqn.x", IOCCSZ: 516, IORCSZ: 1, MSDBD: 1, KAS: 10, OUI: [3]byte{1, 2, 3}}
	b := make([]byte, IdentifyLen)
	PutControllerData(b, &c)
	if got, err := DecodeControllerData(b); err != nil || got != c {
		t.Errorf("controller: %+v, %v", got, err)
	}
	n := NamespaceData{Size: 1 << 40, Capacity: 1 << 39, Used: 5, NMIC: 1, RESCAP: RESCAPAll, DLFEAT: 9, NOIOB: 16, ANAGroup: 3,
		NGUID: [16]byte{1, 15: 2}, EUI64: [8]byte{3}, BlockShift: 12}
	PutNamespaceData(b, &n)
	if got, err := DecodeNamespaceData(b); err != nil || got != n {
		t.Errorf("namespace: %+v, %v", got, err)
	}
	ids := NamespaceIDs{NGUID: [16]byte{1}, UUID: [16]byte{2}, EUI64: [8]byte{3}, HasCSI: true}
	PutNamespaceIDs(b, ids)
	if got, err := DecodeNamespaceIDs(b); err != nil || got != ids {
		t.Errorf("descriptors: %+v, %v", got, err)
	}
}

func TestLogRoundTrip(t *testing.T) {
	groups := []ANAGroup{{ID: 1, Changes: 4, State: 1, NSIDs: []uint32{1, 5}}, {ID: 2, State: 3, NSIDs: []uint32{2}}}
	n, got, err := DecodeANALog(AppendANALog(nil, 9, groups, false))
	if err != nil || n != 9 || !reflect.DeepEqual(got, groups) {
		t.Errorf("ANA: %d %+v %v", n, got, err)
	}
	if _, got, err = DecodeANALog(AppendANALog(nil, 9, groups, true)); err != nil || len(got) != 2 || got[0].NSIDs != nil {
		t.Errorf("ANA groups only: %+v %v", got, err)
	}
	es := []DiscoveryEntry{{Trtype: TrtypeTCP, Adrfam: AdrfamIPv4, Subtype: SubtypeNVM, TREQ: TREQNone, PortID: 1, CNTLID: 0xffff,
		ASQSZ: 32, Trsvcid: "4420", SubNQN: "nqn.a", Traddr: "10.0.0.1"}}
	gen, total, got2, err := DecodeDiscoveryLog(AppendDiscoveryLog(nil, 3, es))
	if err != nil || gen != 3 || total != 1 || !reflect.DeepEqual(got2, es) {
		t.Errorf("discovery: %d %d %+v %v", gen, total, got2, err)
	}
	rs := ReservationStatus{Generation: 5, Type: WriteExclusive, Registrants: []Registrant{{CNTLID: 1, Holder: true,
		HostID: [16]byte{9}, Key: 7}}}
	if got, err := DecodeReservationStatus(AppendReservationStatus(nil, rs)); err != nil || !reflect.DeepEqual(got, rs) {
		t.Errorf("reservations: %+v %v", got, err)
	}
	var c Command
	c.Init(IOResvAcquire, 1)
	data := make([]byte, 16)
	want := Reservation{Action: ResvPreempt, Type: ExclusiveAccess, Key: 1, NewKey: 2}
	c.SetReservation(want, data)
	if got, err := c.Reservation(data); err != nil || got != want {
		t.Errorf("reservation: %+v %v", got, err)
	}
	v := GetLogPage{LID: LogANA, LSP: 1, RetainE: true, Length: 1 << 20, Offset: 1 << 33}
	c.Init(AdminGetLogPage, NSIDAll)
	c.SetGetLogPage(v)
	if got := c.GetLogPage(); got != v {
		t.Errorf("get log page: %+v", got)
	}
	if e := DecodeAsyncEvent(NoticeANA.Encode()); e != NoticeANA {
		t.Errorf("event: %+v", e)
	}
}

// FuzzLogs: pages of a hostile target are refused or read, never a panic.
func FuzzLogs(f *testing.F) {
	f.Add(AppendANALog(nil, 9, []ANAGroup{{ID: 1, State: 1, NSIDs: []uint32{1, 5}}}, false))
	f.Add(AppendDiscoveryLog(nil, 3, []DiscoveryEntry{{SubNQN: "nqn.a"}}))
	f.Add(AppendReservationStatus(nil, ReservationStatus{Registrants: []Registrant{{Key: 7}}}))
	b := make([]byte, IdentifyLen)
	PutNamespaceIDs(b, NamespaceIDs{NGUID: [16]byte{1}, UUID: [16]byte{2}})
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		_, groups, _ := DecodeANALog(b)
		n := 0
		for _, g := range groups {
			n += len(g.NSIDs)
		}
		if 4*n+32*len(groups) > len(b) {
			t.Fatalf("%d namespaces in %d bytes", n, len(b))
		}
		if _, _, es, _ := DecodeDiscoveryLog(b); len(es)*DiscoveryEntryLen > len(b) {
			t.Fatalf("%d entries in %d bytes", len(es), len(b))
		}
		if s, _ := DecodeReservationStatus(b); len(s.Registrants)*64 > len(b) {
			t.Fatalf("%d registrants in %d bytes", len(s.Registrants), len(b))
		}
		if n, err := DecodeReservationNotice(b); err == nil {
			var p [ReservationNoticeLen]byte
			PutReservationNotice(p[:], n)
			if again, _ := DecodeReservationNotice(p[:]); again != n {
				t.Fatalf("%+v came back as %+v", n, again)
			}
		}
		_, _ = DecodeNamespaceIDs(b)
		_, _ = DecodeControllerData(b)
		_, _ = DecodeControllerNVMData(b)
		_, _ = DecodeNamespaceData(b)
		_, _ = DecodeNamespaceIndepData(b)
		if ids := DecodeNSList(b); len(ids) > 1024 {
			t.Fatal("more than a list holds")
		}
	})
}
