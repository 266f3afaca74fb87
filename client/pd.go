package client

import (
	"context"

	"google.golang.org/grpc"

	apiv1 "github.com/virtual-disk-array/vda/api/v1"
)

// CreatePd adds a physical disk to a disk node, formats it and stamps it as the
// cluster's. A disk that is not blank is not touched: its message shows the
// error, with what was found. Errors: CodeInvalid, CodeNotFound (the disk node),
// CodeNameTaken, CodeIdentical, CodeAddressTaken (another pd has the disk).
func (c *Client) CreatePd(ctx context.Context, req *apiv1.CreatePdRequest, opts ...grpc.CallOption) (*apiv1.CreatePdReply, error) {
	return c.stubs.CreatePd(ctx, req, opts...)
}

// DeletePd removes a physical disk that no array uses and leaves it blank; with
// Force one that is lost, on which nothing is waited for. Errors: CodeNotFound,
// CodeInUse.
func (c *Client) DeletePd(ctx context.Context, req *apiv1.DeletePdRequest, opts ...grpc.CallOption) (*apiv1.DeletePdReply, error) {
	return c.stubs.DeletePd(ctx, req, opts...)
}

// ModifyPd changes the fields of a physical disk that are set. Errors:
// CodeInvalid (none is set), CodeNotFound.
func (c *Client) ModifyPd(ctx context.Context, req *apiv1.ModifyPdRequest, opts ...grpc.CallOption) (*apiv1.ModifyPdReply, error) {
	return c.stubs.ModifyPd(ctx, req, opts...)
}

// ListPd returns one page of physical disks, by name; Pds runs over all. Errors:
// CodeInvalid, CodeNotFound (the disk node).
func (c *Client) ListPd(ctx context.Context, req *apiv1.ListPdRequest, opts ...grpc.CallOption) (*apiv1.ListPdReply, error) {
	return c.stubs.ListPd(ctx, req, opts...)
}

// GetPd returns a physical disk. Errors: CodeNotFound.
func (c *Client) GetPd(ctx context.Context, req *apiv1.GetPdRequest, opts ...grpc.CallOption) (*apiv1.GetPdReply, error) {
	return c.stubs.GetPd(ctx, req, opts...)
}

// DiscoverPd looks at the disks of a disk node: which are free for CreatePd, and why the others
// are not. It writes nothing, and may take some ten seconds. Errors: CodeNotFound, CodeUnavailable
// (the node's agent).
func (c *Client) DiscoverPd(ctx context.Context, req *apiv1.DiscoverPdRequest, opts ...grpc.CallOption) (*apiv1.DiscoverPdReply, error) {
	return c.stubs.DiscoverPd(ctx, req, opts...)
}

// DrainPd is DrainDn for one physical disk. Errors: CodeNotFound.
func (c *Client) DrainPd(ctx context.Context, req *apiv1.DrainPdRequest, opts ...grpc.CallOption) (*apiv1.DrainPdReply, error) {
	return c.stubs.DrainPd(ctx, req, opts...)
}

// UndrainPd is UndrainDn for one physical disk. Errors: CodeNotFound.
func (c *Client) UndrainPd(ctx context.Context, req *apiv1.UndrainPdRequest, opts ...grpc.CallOption) (*apiv1.UndrainPdReply, error) {
	return c.stubs.UndrainPd(ctx, req, opts...)
}
