package agent

import (
	"context"
	"net"
	"strings"

	"github.com/virtual-disk-array/vda/nvme"
	"github.com/virtual-disk-array/vda/spdk"
)

// TransportID is an address in the spelling that SPDK prints.
func TransportID(traddr, adrfam, trsvcid string) spdk.TransportID {
	family := "IPv4"
	if strings.EqualFold(adrfam, "ipv6") {
		family = "IPv6"
	}
	return spdk.TransportID{TrType: "TCP", AdrFam: family, TrAddr: traddr, TrSvcID: trsvcid}
}

// reachTCP connects to an address and closes the connection again.
func reachTCP(ctx context.Context, at spdk.TransportID) error {
	c, err := (&net.Dialer{}).DialContext(ctx, "tcp", net.JoinHostPort(at.TrAddr, at.TrSvcID))
	if err != nil {
		return err
	}
	return c.Close()
}

// SameAddress compares what is reached, not how it is spelt.
func SameAddress(a, b spdk.TransportID) bool {
	return strings.EqualFold(a.TrType, b.TrType) && nvme.SameTraddr(a.TrAddr, b.TrAddr) && a.TrSvcID == b.TrSvcID
}
