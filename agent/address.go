package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/virtual-disk-array/vda/spdk"
)

// Initialize Connection Request and Response (NVMe/TCP transport 1.0, section 3.6.2).
const (
	icReq  = 0x00
	icResp = 0x01
	icLen  = 128 // bytes, of either
)

// reachTarget connects to an address, greets what is there as an NVMe/TCP host does, and
// closes the connection again. Only a target that answers counts: one who has this node
// look learns nothing of other ports.
func reachTarget(ctx context.Context, at spdk.TransportID) error {
	c, err := (&net.Dialer{}).DialContext(ctx, "tcp", net.JoinHostPort(at.TrAddr, at.TrSvcID))
	if err != nil {
		return err
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })()
	pdu := make([]byte, icLen)
	pdu[0], pdu[2], pdu[4] = icReq, icLen, icLen // type, header length, PDU length
	if _, err := c.Write(pdu); err != nil {
		return err
	}
	if _, err := io.ReadFull(c, pdu); err != nil {
		return errors.Join(err, context.Cause(ctx))
	}
	if pdu[0] != icResp {
		return fmt.Errorf("what answers is not an NVMe/TCP target: it sends a PDU of type %#x", pdu[0])
	}
	return nil
}
