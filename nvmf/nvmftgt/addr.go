package nvmftgt

import (
	"fmt"
	"net"
	"strconv"
	"syscall"

	"github.com/virtual-disk-array/vda"
)

// Addr is a transport address in SPDK's words.
type Addr struct {
	Trtype  string // "TCP"
	Adrfam  string // "IPv4" or "IPv6"
	Traddr  string // IP address without brackets
	Trsvcid string // port; "0" lets the system choose
}

func (a Addr) String() string { return net.JoinHostPort(a.Traddr, a.Trsvcid) }

// Normalize checks a and returns its canonical form: an empty Trtype becomes
// TCP and an empty Adrfam the one of the address. EINVAL names the bad field.
func (a Addr) Normalize() (Addr, error) {
	if a.Trtype == "" || equalFold(a.Trtype, "tcp") {
		a.Trtype = "TCP"
	}
	if a.Trtype != "TCP" {
		return a, fmt.Errorf("trtype %q: only TCP is supported: %w", a.Trtype, syscall.EINVAL)
	}
	fam, ip, err := vda.ParseTraddr(a.Adrfam, a.Traddr)
	if err != nil {
		return a, fmt.Errorf("%w: %w", err, syscall.EINVAL)
	}
	a.Adrfam, a.Traddr = fam, ip
	port, err := strconv.ParseUint(a.Trsvcid, 10, 16)
	if err != nil {
		return a, fmt.Errorf("trsvcid %q is not a port from 0 to 65535: %w", a.Trsvcid, syscall.EINVAL)
	}
	a.Trsvcid = strconv.FormatUint(port, 10)
	return a, nil
}

func equalFold(a, b string) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range len(a) {
		if a[i]|0x20 != b[i]|0x20 {
			return false
		}
	}
	return true
}
