package monitor

import (
	"context"
	"errors"
	"net"

	"google.golang.org/grpc"

	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/pki"
	"github.com/virtual-disk-array/vda/rpc"
)

// limits of what clients can make a monitor hold: other monitors tell what they
// hear of nodes, some bytes per node.
var limits = rpc.Limits{Message: 4 << 20, Streams: 64, First: []string{"Hear"}}

var errNotReady = errors.New("the database does not answer")

// Serve answers on lis until ctx ends: gRPC (other monitors and
// health), and on the same port /metrics and /healthz over HTTP. The health
// is NOT_SERVING, and /healthz 503, while the database does not answer.
func (m *Monitor) Serve(ctx context.Context, lis net.Listener) error {
	return rpc.Serve(ctx, lis, rpc.Config{
		Services:    func(r grpc.ServiceRegistrar) { apiv1.RegisterMonitorServer(r, hearing{m: m}) },
		Limits:      limits,
		Identity:    m.cfg.Identity,
		ScrapeToken: m.cfg.ScrapeToken,
		// Portals ask for versions.
		Authorize: rpc.Members(m.cfg.Identity, pki.Portal, pki.Monitor),
		Refusals:  m.refusals,
		Registry:  m.metrics.registry,
		Log:       m.log,
		Quiet:     []string{"Hear"},
		Health: func(context.Context) error {
			if !m.Ready() {
				return errNotReady
			}
			return nil
		},
	})
}
