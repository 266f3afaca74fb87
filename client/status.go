package client

import (
	"context"

	"google.golang.org/grpc"

	apiv1 "github.com/virtual-disk-array/vda/api/v1"
)

// GetStatus tells whether the cluster is well, why it is not, how full it is and what
// runs where. Programs that do not answer are waited for a few seconds at most.
// Errors: those that every call may have.
func (c *Client) GetStatus(ctx context.Context, req *apiv1.GetStatusRequest, opts ...grpc.CallOption) (*apiv1.GetStatusReply, error) {
	return c.stubs.GetStatus(ctx, req, opts...)
}

// SecureCluster turns a plain cluster into a secured one while it serves, for good: from
// then on calls show a token, over TLS, this client's too. Errors: CodeFailedPrecondition,
// which says what is missing.
func (c *Client) SecureCluster(
	ctx context.Context, req *apiv1.SecureClusterRequest, opts ...grpc.CallOption) (*apiv1.SecureClusterReply, error) {
	return c.stubs.SecureCluster(ctx, req, opts...)
}

// ListVersion tells which build each program of the cluster is: this portal, the
// monitors, the agents and the data planes. Errors: those that every call may have.
func (c *Client) ListVersion(ctx context.Context, req *apiv1.ListVersionRequest, opts ...grpc.CallOption) (*apiv1.ListVersionReply, error) {
	return c.stubs.ListVersion(ctx, req, opts...)
}
