package client

import (
	"context"

	"google.golang.org/grpc"

	apiv1 "github.com/virtual-disk-array/vda/api/v1"
)

// MoveVd has a virtual disk move to another disk node while its array serves: to ToPd,
// to any physical disk of ToDn, or, without either, wherever there is room. The reply
// has the virtual disk that takes its place; GetVd answers CodeNotFound for the old one
// when the move is done. With Cancel a move ends, and what of it is under way is
// undone. Errors: CodeInvalid, CodeNotFound, CodeFailedPrecondition (why it cannot
// move), CodeNoRoom, CodeBusy.
func (c *Client) MoveVd(ctx context.Context, req *apiv1.MoveVdRequest, opts ...grpc.CallOption) (*apiv1.MoveVdReply, error) {
	return c.stubs.MoveVd(ctx, req, opts...)
}

// GetVd returns a virtual disk, also one that is being deleted (Role "leaving").
// Errors: CodeNotFound.
func (c *Client) GetVd(ctx context.Context, req *apiv1.GetVdRequest, opts ...grpc.CallOption) (*apiv1.GetVdReply, error) {
	return c.stubs.GetVd(ctx, req, opts...)
}
