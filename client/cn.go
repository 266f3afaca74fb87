package client

import (
	"context"

	"google.golang.org/grpc"

	apiv1 "github.com/virtual-disk-array/vda/api/v1"
)

// CreateCn adds a controller node, as CreateDn does a disk node, with the same
// errors.
func (c *Client) CreateCn(ctx context.Context, req *apiv1.CreateCnRequest, opts ...grpc.CallOption) (*apiv1.CreateCnReply, error) {
	return c.stubs.CreateCn(ctx, req, opts...)
}

// DeleteCn removes a controller node that runs no controllers; with Force one
// that is lost for good, with what waits for its confirmation. Errors:
// CodeNotFound, CodeInUse.
func (c *Client) DeleteCn(ctx context.Context, req *apiv1.DeleteCnRequest, opts ...grpc.CallOption) (*apiv1.DeleteCnReply, error) {
	return c.stubs.DeleteCn(ctx, req, opts...)
}

// ModifyCn changes the fields of a controller node that are set. Errors:
// CodeInvalid, CodeNotFound, CodeAddressTaken, CodeInUse (the listener cannot
// change while arrays use the node).
func (c *Client) ModifyCn(ctx context.Context, req *apiv1.ModifyCnRequest, opts ...grpc.CallOption) (*apiv1.ModifyCnReply, error) {
	return c.stubs.ModifyCn(ctx, req, opts...)
}

// ListCn returns one page of controller nodes, by name; Cns runs over all.
// Errors: CodeInvalid.
func (c *Client) ListCn(ctx context.Context, req *apiv1.ListCnRequest, opts ...grpc.CallOption) (*apiv1.ListCnReply, error) {
	return c.stubs.ListCn(ctx, req, opts...)
}

// GetCn returns a controller node. Errors: CodeNotFound.
func (c *Client) GetCn(ctx context.Context, req *apiv1.GetCnRequest, opts ...grpc.CallOption) (*apiv1.GetCnReply, error) {
	return c.stubs.GetCn(ctx, req, opts...)
}

// SyncupCn brings a controller node to its desired state now, as SyncupDn does a
// disk node.
func (c *Client) SyncupCn(ctx context.Context, req *apiv1.SyncupCnRequest, opts ...grpc.CallOption) (*apiv1.SyncupCnReply, error) {
	return c.stubs.SyncupCn(ctx, req, opts...)
}

// DrainCn takes a controller node out of placement and has the primaries on it move to other
// controllers of their arrays, with Cntlrs also its other controllers to other nodes. The
// monitors do it: GetCn shows DrainLeftCnt falling to 0, and what cannot go. Errors:
// CodeNotFound.
func (c *Client) DrainCn(ctx context.Context, req *apiv1.DrainCnRequest, opts ...grpc.CallOption) (*apiv1.DrainCnReply, error) {
	return c.stubs.DrainCn(ctx, req, opts...)
}

// UndrainCn ends a drain and takes the controller node back into placement. Errors:
// CodeNotFound.
func (c *Client) UndrainCn(ctx context.Context, req *apiv1.UndrainCnRequest, opts ...grpc.CallOption) (*apiv1.UndrainCnReply, error) {
	return c.stubs.UndrainCn(ctx, req, opts...)
}
