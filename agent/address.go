package agent

import (
	"context"
	"net"

	"github.com/virtual-disk-array/vda/spdk"
)

// reachTCP connects to an address and closes the connection again.
func reachTCP(ctx context.Context, at spdk.TransportID) error {
	c, err := (&net.Dialer{}).DialContext(ctx, "tcp", net.JoinHostPort(at.TrAddr, at.TrSvcID))
	if err != nil {
		return err
	}
	return c.Close()
}
