package agent

import (
	"context"
	"net"
)

// Serve answers on lis until ctx ends, for a service that was started on n by
// someone other than Main.Run.
func (a App) Serve(ctx context.Context, lis net.Listener, n *Node, svc Service) error {
	return serve(ctx, lis, svc, n.Plane, a.Services, n.Log)
}
