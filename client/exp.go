package client

import (
	"context"

	"google.golang.org/grpc"

	apiv1 "github.com/virtual-disk-array/vda/api/v1"
)

// CreateExp lets a host use a disk array: EsMsgList of the reply says where it
// connects. Errors: CodeInvalid, CodeNotFound (the array), CodeNameTaken,
// CodeIdentical, CodeNQNTaken (another exporter has the NQN that it would have).
func (c *Client) CreateExp(ctx context.Context, req *apiv1.CreateExpRequest, opts ...grpc.CallOption) (*apiv1.CreateExpReply, error) {
	return c.stubs.CreateExp(ctx, req, opts...)
}

// DeleteExp ends a host's use of a disk array and disconnects the host. Errors:
// CodeNotFound.
func (c *Client) DeleteExp(ctx context.Context, req *apiv1.DeleteExpRequest, opts ...grpc.CallOption) (*apiv1.DeleteExpReply, error) {
	return c.stubs.DeleteExp(ctx, req, opts...)
}

// ModifyExp lets another host in and disconnects the one before. Errors:
// CodeInvalid, CodeNotFound.
func (c *Client) ModifyExp(ctx context.Context, req *apiv1.ModifyExpRequest, opts ...grpc.CallOption) (*apiv1.ModifyExpReply, error) {
	return c.stubs.ModifyExp(ctx, req, opts...)
}

// ListExp returns one page of exporters, by name; Exps runs over all. Errors:
// CodeInvalid, CodeNotFound (the array).
func (c *Client) ListExp(ctx context.Context, req *apiv1.ListExpRequest, opts ...grpc.CallOption) (*apiv1.ListExpReply, error) {
	return c.stubs.ListExp(ctx, req, opts...)
}

// GetExp returns an exporter: where its host connects, and how each path is.
// Errors: CodeNotFound.
func (c *Client) GetExp(ctx context.Context, req *apiv1.GetExpRequest, opts ...grpc.CallOption) (*apiv1.GetExpReply, error) {
	return c.stubs.GetExp(ctx, req, opts...)
}
