package client

import (
	"context"

	"google.golang.org/grpc"

	apiv1 "github.com/virtual-disk-array/vda/api/v1"
)

// CreateDn adds a disk node. The node exists even when its agent does not
// answer: Note says so then, and a monitor goes on trying. Errors: CodeInvalid,
// CodeNameTaken, CodeIdentical (it exists just as asked for), CodeAddressTaken
// (another node has the listener).
func (c *Client) CreateDn(ctx context.Context, req *apiv1.CreateDnRequest, opts ...grpc.CallOption) (*apiv1.CreateDnReply, error) {
	return c.stubs.CreateDn(ctx, req, opts...)
}

// DeleteDn removes a disk node without physical disks; with Force one that is
// lost for good, with its disks and with what waits for its confirmation.
// Errors: CodeNotFound, CodeInUse.
func (c *Client) DeleteDn(ctx context.Context, req *apiv1.DeleteDnRequest, opts ...grpc.CallOption) (*apiv1.DeleteDnReply, error) {
	return c.stubs.DeleteDn(ctx, req, opts...)
}

// ModifyDn changes the fields of a disk node that are set. Errors: CodeInvalid,
// CodeNotFound, CodeAddressTaken, CodeInUse (the listener cannot change while
// arrays use the node).
func (c *Client) ModifyDn(ctx context.Context, req *apiv1.ModifyDnRequest, opts ...grpc.CallOption) (*apiv1.ModifyDnReply, error) {
	return c.stubs.ModifyDn(ctx, req, opts...)
}

// ListDn returns one page of disk nodes, by name; Dns runs over all. Errors:
// CodeInvalid.
func (c *Client) ListDn(ctx context.Context, req *apiv1.ListDnRequest, opts ...grpc.CallOption) (*apiv1.ListDnReply, error) {
	return c.stubs.ListDn(ctx, req, opts...)
}

// GetDn returns a disk node with its physical disks. Errors: CodeNotFound.
func (c *Client) GetDn(ctx context.Context, req *apiv1.GetDnRequest, opts ...grpc.CallOption) (*apiv1.GetDnReply, error) {
	return c.stubs.GetDn(ctx, req, opts...)
}

// SyncupDn brings a disk node to its desired state now; Note says what did not
// work. With AllowEmpty the node may be left without any of the objects that it
// has. Errors: CodeNotFound.
func (c *Client) SyncupDn(ctx context.Context, req *apiv1.SyncupDnRequest, opts ...grpc.CallOption) (*apiv1.SyncupDnReply, error) {
	return c.stubs.SyncupDn(ctx, req, opts...)
}

// DrainDn takes a disk node out of placement and has all virtual disks on it move to
// others while their arrays serve. The monitors do it: GetDn shows DrainVdCnt falling to
// 0, and in StuckVdMsgList what cannot move, which they go on to try. Repeated, it
// changes nothing. Errors: CodeNotFound.
func (c *Client) DrainDn(ctx context.Context, req *apiv1.DrainDnRequest, opts ...grpc.CallOption) (*apiv1.DrainDnReply, error) {
	return c.stubs.DrainDn(ctx, req, opts...)
}

// UndrainDn ends a drain and takes the disk node back into placement. Moves under way
// from it are undone, unless they are as good as done. Errors: CodeNotFound.
func (c *Client) UndrainDn(ctx context.Context, req *apiv1.UndrainDnRequest, opts ...grpc.CallOption) (*apiv1.UndrainDnReply, error) {
	return c.stubs.UndrainDn(ctx, req, opts...)
}
