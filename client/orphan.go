package client

import (
	"context"

	"google.golang.org/grpc"

	apiv1 "github.com/virtual-disk-array/vda/api/v1"
)

// ListOrphan asks all nodes for what they have and the database does not know, as
// after a restored backup. WarningList of the reply names nodes that could not be
// asked.
func (c *Client) ListOrphan(ctx context.Context, req *apiv1.ListOrphanRequest, opts ...grpc.CallOption) (*apiv1.ListOrphanReply, error) {
	return c.stubs.ListOrphan(ctx, req, opts...)
}

// AdoptOrphan takes an orphaned array or physical disk into the database, with its
// data. Errors: CodeNotFound, CodeNameTaken (give NewName),
// CodeFailedPrecondition (its Problem).
func (c *Client) AdoptOrphan(ctx context.Context, req *apiv1.AdoptOrphanRequest, opts ...grpc.CallOption) (*apiv1.AdoptOrphanReply, error) {
	return c.stubs.AdoptOrphan(ctx, req, opts...)
}

// DeleteOrphan deletes an orphan with its data. Errors: CodeNotFound,
// CodeFailedPrecondition (a node did not do its part).
func (c *Client) DeleteOrphan(
	ctx context.Context, req *apiv1.DeleteOrphanRequest, opts ...grpc.CallOption) (*apiv1.DeleteOrphanReply, error) {
	return c.stubs.DeleteOrphan(ctx, req, opts...)
}
