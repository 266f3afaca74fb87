package agent

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/virtual-disk-array/vda/spdk"
)

// TestReachTarget: only an NVMe/TCP target counts as reached, so that an agent is of no use
// for finding other open ports.
func TestReachTarget(t *testing.T) {
	for name, c := range map[string]struct {
		answer string // "": the connection is closed, "-": nothing is said
		want   string // of the error
	}{
		"target":    {answer: "\x01" + strings.Repeat("\x00", icLen-1)},
		"other":     {answer: "SSH-2.0-OpenSSH_9.2" + strings.Repeat(" ", icLen), want: "not an NVMe/TCP target"},
		"closed":    {want: "EOF"},
		"says none": {answer: "-", want: "canceled"},
	} {
		t.Run(name, func(t *testing.T) {
			lis, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer lis.Close()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			asked := make(chan []byte, 1)
			go func() {
				conn, err := lis.Accept()
				if err != nil {
					return
				}
				defer conn.Close()
				req := make([]byte, icLen)
				_, _ = io.ReadFull(conn, req)
				asked <- req
				if c.answer != "-" {
					_, _ = conn.Write([]byte(c.answer))
					return
				}
				cancel()
				_, _ = conn.Read(make([]byte, 1)) // until the other side gives up
			}()
			host, port, _ := net.SplitHostPort(lis.Addr().String())
			err = reachTarget(ctx, spdk.TransportID{TrAddr: host, TrSvcID: port})
			if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
			if c.answer == "-" && !errors.Is(err, context.Canceled) {
				t.Errorf("%v", err)
			}
			if req := <-asked; req[0] != icReq || req[2] != icLen || req[4] != icLen {
				t.Errorf("asked by %x", req[:8])
			}
		})
	}
}
