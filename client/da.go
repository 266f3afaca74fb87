package client

import (
	"context"

	"google.golang.org/grpc"

	apiv1 "github.com/virtual-disk-array/vda/api/v1"
)

// CreateDa makes a disk array. DaSize is what the host sees, in bytes, a multiple
// of 1 MiB and of 4 MiB from 64 GiB on; a smaller PhysicalSize makes it thin.
// Redundancy is "none", which "" is too, "mirror:2" or "mirror:3": then each block is
// on that many dns, and the array is not in error as long as one leg of each column
// is well: RedundancyState of DaMsg says how much of it is left. WarningList of the
// reply says where it could not be spread over locations.
// Errors: CodeInvalid, CodeNameTaken, CodeIdentical, CodeNoRoom (too little space,
// too few nodes, no nodes that can mirror, or too few locations with Strict).
func (c *Client) CreateDa(ctx context.Context, req *apiv1.CreateDaRequest, opts ...grpc.CallOption) (*apiv1.CreateDaReply, error) {
	return c.stubs.CreateDa(ctx, req, opts...)
}

// DeleteDa removes a disk array without exporters and snapshots, and all data on it;
// with Keep in the request when that time has passed. Errors: CodeInvalid,
// CodeNotFound, CodeInUse.
func (c *Client) DeleteDa(ctx context.Context, req *apiv1.DeleteDaRequest, opts ...grpc.CallOption) (*apiv1.DeleteDaReply, error) {
	return c.stubs.DeleteDa(ctx, req, opts...)
}

// UndeleteDa brings a disk array back that was deleted with Keep, with its data.
// Errors: CodeInvalid, CodeNotFound, CodeNameTaken, CodeFailedPrecondition (several had
// that name: give DaId).
func (c *Client) UndeleteDa(ctx context.Context, req *apiv1.UndeleteDaRequest, opts ...grpc.CallOption) (*apiv1.UndeleteDaReply, error) {
	return c.stubs.UndeleteDa(ctx, req, opts...)
}

// ModifyDa renames a disk array without exporters. Errors: CodeInvalid,
// CodeNotFound, CodeNameTaken, CodeInUse.
func (c *Client) ModifyDa(ctx context.Context, req *apiv1.ModifyDaRequest, opts ...grpc.CallOption) (*apiv1.ModifyDaReply, error) {
	return c.stubs.ModifyDa(ctx, req, opts...)
}

// ListDa returns one page of disk arrays, by name; Das runs over all. Errors:
// CodeInvalid.
func (c *Client) ListDa(ctx context.Context, req *apiv1.ListDaRequest, opts ...grpc.CallOption) (*apiv1.ListDaReply, error) {
	return c.stubs.ListDa(ctx, req, opts...)
}

// GetDa returns a disk array with its virtual disks, controllers and the names of
// its exporters. Errors: CodeNotFound.
func (c *Client) GetDa(ctx context.Context, req *apiv1.GetDaRequest, opts ...grpc.CallOption) (*apiv1.GetDaReply, error) {
	return c.stubs.GetDa(ctx, req, opts...)
}

// SyncupDa brings all nodes of a disk array to their desired state now; Note says
// what did not work. Errors: CodeNotFound.
func (c *Client) SyncupDa(ctx context.Context, req *apiv1.SyncupDaRequest, opts ...grpc.CallOption) (*apiv1.SyncupDaReply, error) {
	return c.stubs.SyncupDa(ctx, req, opts...)
}

// FailoverDa moves the primary of a disk array to ToCn, or to any healthy one of
// its controllers when that is empty. Errors: CodeInvalid, CodeNotFound,
// CodeFailedPrecondition (no controller can take over).
func (c *Client) FailoverDa(ctx context.Context, req *apiv1.FailoverDaRequest, opts ...grpc.CallOption) (*apiv1.FailoverDaReply, error) {
	return c.stubs.FailoverDa(ctx, req, opts...)
}

// RecoverDa makes VdId, a leg of a mirror that lacks writes, the only one of its
// column that counts: what was acknowledged and is not on it is lost, which
// AcceptDataLoss has to say. Errors: CodeInvalid, CodeNotFound,
// CodeFailedPrecondition (a leg with all data is well, or the vd is not).
func (c *Client) RecoverDa(ctx context.Context, req *apiv1.RecoverDaRequest, opts ...grpc.CallOption) (*apiv1.RecoverDaReply, error) {
	return c.stubs.RecoverDa(ctx, req, opts...)
}

// ScrubDa begins to compare the legs of a mirrored array while it serves, or ends that
// with Stop. GetDa shows how far it is and what it has found in ScrubMsgList. Errors:
// CodeInvalid, CodeNotFound, CodeFailedPrecondition (the array is not mirrored, or its
// primary cannot be asked).
func (c *Client) ScrubDa(ctx context.Context, req *apiv1.ScrubDaRequest, opts ...grpc.CallOption) (*apiv1.ScrubDaReply, error) {
	return c.stubs.ScrubDa(ctx, req, opts...)
}
