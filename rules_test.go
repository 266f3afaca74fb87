package vda_test

import (
	"strings"
	"testing"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/nvme"
)

// TestLimitsOfNVMe: rows and the wire mean the same limits.
func TestLimitsOfNVMe(t *testing.T) {
	last := vda.Cntlr{Idx: vda.MaxCntlrIdx}
	if _, top := last.CNTLIDs(); top > nvme.MaxCNTLID || top+1000 <= nvme.MaxCNTLID {
		t.Errorf("the last controller's ids go up to %d, NVMe's to %d", top, nvme.MaxCNTLID)
	}
	if vda.MaxNQN != nvme.NQNMax {
		t.Errorf("an NQN may have %d bytes, and %d on the wire", vda.MaxNQN, nvme.NQNMax)
	}
}

// TestHostNQNsOfLinux: what a Linux host may be called is taken, and the data
// plane takes it too.
func TestHostNQNsOfLinux(t *testing.T) {
	for _, nqn := range []string{
		"nqn.2016-06.io.spdk:host0",
		"nqn.2014-08.org.nvmexpress:uuid:01234567-89ab-cdef-0123-456789ABCDEF",
		"nqn.2014-08.org.nvmexpress:uuid:0123456789abcdef0123456789ABCDEF", // without dashes
		"nqn.2019-08.com.example",             // no colon behind the domain
		"nqn.2019-08.com.my_company:host_0",   // an underscore
		"nqn.2019-08.com.exämple:höst",        // UTF-8
		"nqn.2014-08.com.vendor:nvme:SN12345", // of a card
		"nqn." + strings.Repeat("2", 4) + "-12.a" + strings.Repeat("b", 210),
	} {
		if err := vda.CheckInitiator("initiator_nqn", nqn); err != nil {
			t.Errorf("%s: %v", nqn, err)
		}
		if err := nvme.CheckNQN(nqn); err != nil {
			t.Errorf("%s: %v", nqn, err)
		}
	}
	for _, nqn := range []string{
		"", "host0", "nqn.", "nqn.bad", "nqn.2016-06.", "nqn.2016-06..a", "nqn.2016-13.io.spdk:a", "nqn.2016-06.io.spdk:a b",
		"nqn.2014-08.org.nvmexpress:uuid:1234", "nqn.2014-08.org.nvmexpress:uuid:0123456789abcdef-0123456789abcdef",
		"nqn.2016-06.io.spdk:vda-cntlr-1-1", "NQN.2016-06.io.spdk:a", "nqn.2016-06.io.spdk:" + strings.Repeat("a", 204),
	} {
		if err := vda.CheckInitiator("initiator_nqn", nqn); err == nil || !strings.Contains(err.Error(), "initiator_nqn") {
			t.Errorf("%q: %v", nqn, err)
		}
	}
}

// TestListenerIsCanonical: the spelling that is registered is the one that
// agents come to from any other.
func TestListenerIsCanonical(t *testing.T) {
	for spelt, want := range map[string]string{"FD00::A": "fd00::a", "0:0:0:0:0:0:0:1": "::1"} {
		l, err := vda.ParseListener("cn_listener_conf", `{"trtype":"tcp","traddr":"`+spelt+`","adrfam":"IPv6","trsvcid":"4430"}`)
		if err != nil || l.TrAddr != want || l.AdrFam != "ipv6" {
			t.Errorf("%s: %+v, %v", spelt, l, err)
		}
	}
}
