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

// CreateUser makes a user who logs in with a password. Errors: CodeAlreadyExists,
// CodeInvalid, and CodePermissionDenied for who is not an admin.
func (c *Client) CreateUser(ctx context.Context, req *apiv1.CreateUserRequest, opts ...grpc.CallOption) (*apiv1.CreateUserReply, error) {
	return c.stubs.CreateUser(ctx, req, opts...)
}

// DeleteUser takes away a user's password, sessions and tokens. Errors: CodeNotFound.
func (c *Client) DeleteUser(ctx context.Context, req *apiv1.DeleteUserRequest, opts ...grpc.CallOption) (*apiv1.DeleteUserReply, error) {
	return c.stubs.DeleteUser(ctx, req, opts...)
}

// ModifyUser changes a user's role or password, and ends the user's sessions. Errors:
// CodeNotFound for one without a password, CodeInvalid.
func (c *Client) ModifyUser(ctx context.Context, req *apiv1.ModifyUserRequest, opts ...grpc.CallOption) (*apiv1.ModifyUserReply, error) {
	return c.stubs.ModifyUser(ctx, req, opts...)
}

// SetPassword gives the user who calls another password, and ends all of the user's sessions, that of
// the call too. Errors: invalid, Unauthenticated when the present password is not right.
func (c *Client) SetPassword(ctx context.Context, req *apiv1.SetPasswordRequest, opts ...grpc.CallOption) (*apiv1.SetPasswordReply, error) {
	return c.stubs.SetPassword(ctx, req, opts...)
}

// ListSession lists the sessions of the user who calls, of an admin's call those of all users.
// Errors: those that every call may have.
func (c *Client) ListSession(ctx context.Context, req *apiv1.ListSessionRequest, opts ...grpc.CallOption) (*apiv1.ListSessionReply, error) {
	return c.stubs.ListSession(ctx, req, opts...)
}

// DeleteSession ends a session of the user who calls, of an admin's call anybody's. Errors: not
// found, also where it is another user's.
func (c *Client) DeleteSession(
	ctx context.Context, req *apiv1.DeleteSessionRequest, opts ...grpc.CallOption,
) (*apiv1.DeleteSessionReply, error) {
	return c.stubs.DeleteSession(ctx, req, opts...)
}

// ListUser tells who may log in, and who has tokens. Errors: those that every call may have.
func (c *Client) ListUser(ctx context.Context, req *apiv1.ListUserRequest, opts ...grpc.CallOption) (*apiv1.ListUserReply, error) {
	return c.stubs.ListUser(ctx, req, opts...)
}

// ListVersion tells which build each program of the cluster is: this portal, the
// monitors, the agents and the data planes. Errors: those that every call may have.
func (c *Client) ListVersion(ctx context.Context, req *apiv1.ListVersionRequest, opts ...grpc.CallOption) (*apiv1.ListVersionReply, error) {
	return c.stubs.ListVersion(ctx, req, opts...)
}

// GetTop measures what is read and written per second, by array, node and disk. It takes the time
// that the request says, and some seconds more when nodes do not answer. Errors: CodeInvalid.
func (c *Client) GetTop(ctx context.Context, req *apiv1.GetTopRequest, opts ...grpc.CallOption) (*apiv1.GetTopReply, error) {
	return c.stubs.GetTop(ctx, req, opts...)
}
