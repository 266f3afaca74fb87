package client

import (
	"context"

	"google.golang.org/grpc"

	apiv1 "github.com/virtual-disk-array/vda/api/v1"
)

// CreateSnap takes a snapshot of a disk array, or of several at one instant: DaName has
// their names, with commas between, and all are taken or none. It is there whole when there is no
// error, and none is left when there is one, except CodeDatabase, CodeDeadline and
// CodeCancelled: GetSnap says then. Errors: CodeInvalid, CodeNotFound (the array),
// CodeNameTaken, CodeFailedPrecondition (why it cannot be taken), CodeNoRoom (the
// array has as many as it may have).
func (c *Client) CreateSnap(ctx context.Context, req *apiv1.CreateSnapRequest, opts ...grpc.CallOption) (*apiv1.CreateSnapReply, error) {
	return c.stubs.CreateSnap(ctx, req, opts...)
}

// DeleteSnap deletes a snapshot, in any order. Errors: CodeNotFound, CodeInUse (by
// exporters).
func (c *Client) DeleteSnap(ctx context.Context, req *apiv1.DeleteSnapRequest, opts ...grpc.CallOption) (*apiv1.DeleteSnapReply, error) {
	return c.stubs.DeleteSnap(ctx, req, opts...)
}

// RollbackSnap makes a disk array what a snapshot of it shows. It is carried out when
// there is no error. Errors: CodeNotFound, CodeInUse (exporters show the array),
// CodeFailedPrecondition (it is not carried out yet, and will be; GetSnap says when).
func (c *Client) RollbackSnap(ctx context.Context, req *apiv1.RollbackSnapRequest,
	opts ...grpc.CallOption) (*apiv1.RollbackSnapReply, error) {
	return c.stubs.RollbackSnap(ctx, req, opts...)
}

// ModifySnap renames a snapshot. Errors: CodeInvalid, CodeNotFound, CodeNameTaken,
// CodeInUse (by exporters, which know it by its name).
func (c *Client) ModifySnap(ctx context.Context, req *apiv1.ModifySnapRequest, opts ...grpc.CallOption) (*apiv1.ModifySnapReply, error) {
	return c.stubs.ModifySnap(ctx, req, opts...)
}

// ListSnap returns one page of snapshots, by name; Snaps runs over all. Errors:
// CodeInvalid, CodeNotFound (the array).
func (c *Client) ListSnap(ctx context.Context, req *apiv1.ListSnapRequest, opts ...grpc.CallOption) (*apiv1.ListSnapReply, error) {
	return c.stubs.ListSnap(ctx, req, opts...)
}

// GetSnap returns a snapshot: whether it is taken, and what it holds. Errors:
// CodeNotFound.
func (c *Client) GetSnap(ctx context.Context, req *apiv1.GetSnapRequest, opts ...grpc.CallOption) (*apiv1.GetSnapReply, error) {
	return c.stubs.GetSnap(ctx, req, opts...)
}
