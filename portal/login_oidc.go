package portal

import (
	"context"
	"errors"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/virtual-disk-array/vda"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/portal/guess"
	"github.com/virtual-disk-array/vda/portal/oidc"
	"github.com/virtual-disk-array/vda/rpc"
	"github.com/virtual-disk-array/vda/store"
)

// issuer is where users log in who have no password here.
func (i issuer) oidc(ctx context.Context) (*oidc.Issuer, error) {
	switch {
	case !i.s.cfg.Identity.Enrolled():
		return nil, vda.Errorf(vda.FailedPrecondition, "the cluster is plain, and knows no users: see docs/security.md")
	case i.s.cfg.OIDC == nil:
		return nil, vda.Errorf(vda.FailedPrecondition, "this portal knows no issuer of OpenID Connect (--oidc-issuer): log in with a password")
	case !rpc.Encrypted(ctx):
		return nil, vda.Errorf(vda.FailedPrecondition, "logins are taken over TLS alone")
	}
	return i.s.cfg.OIDC, nil
}

// GetLoginUrl implements apiv1.SecurityServer.
func (i issuer) GetLoginUrl(ctx context.Context, req *apiv1.GetLoginUrlRequest) (*apiv1.GetLoginUrlReply, error) {
	o, err := i.oidc(ctx)
	if err != nil {
		return nil, err
	}
	url, err := o.URL(ctx, oidc.Asked{RedirectURI: req.RedirectUri, State: req.State, Nonce: req.Nonce, Challenge: req.CodeChallenge})
	return &apiv1.GetLoginUrlReply{Url: url}, loginError(err)
}

// LoginOidc implements apiv1.SecurityServer. Codes that the issuer does not take count as wrong
// passwords do: each has the portal ask the issuer.
func (i issuer) LoginOidc(ctx context.Context, req *apiv1.LoginOidcRequest) (*apiv1.LoginReply, error) {
	o, err := i.oidc(ctx)
	if err != nil {
		return nil, err
	}
	from := guess.Origin(rpc.CallOf(ctx).Peer)
	if !i.s.logins.origins.Try(from) {
		return nil, errGuesses
	}
	u, err := o.Login(ctx, oidc.Answer{Code: req.Code, Verifier: req.CodeVerifier, Nonce: req.Nonce, RedirectURI: req.RedirectUri})
	if bad := (*oidc.RefusedError)(nil); errors.As(err, &bad) {
		i.s.log.Warn("a login at the issuer was refused", "err", bad, "peer", rpc.CallOf(ctx).Peer)
		return nil, loginError(err)
	}
	i.s.logins.origins.Right(from)
	if err != nil {
		return nil, loginError(err)
	}
	auditOf(ctx).by(rpc.Caller{Kind: rpc.User, Name: u.Name})
	return i.s.begin(ctx, u.Name, func(store.Tx) (string, error) { return u.Role, nil })
}

// BeginDeviceLogin implements apiv1.SecurityServer. Each has the portal ask the issuer, so that they count as guesses do.
func (i issuer) BeginDeviceLogin(ctx context.Context, _ *apiv1.BeginDeviceLoginRequest) (*apiv1.BeginDeviceLoginReply, error) {
	o, err := i.oidc(ctx)
	if err != nil {
		return nil, err
	}
	if !i.s.logins.devices.Try(guess.Origin(rpc.CallOf(ctx).Peer)) {
		return nil, errGuesses
	}
	d, err := o.BeginDevice(ctx)
	if err != nil {
		return nil, loginError(err)
	}
	return &apiv1.BeginDeviceLoginReply{UserCode: d.UserCode, VerificationUri: d.URI, VerificationUriComplete: d.Complete,
		IntervalS: uint32(d.Interval.Seconds()), ExpiresS: uint32(d.Life.Seconds()), DeviceCode: d.Code}, nil
}

// PollDeviceLogin implements apiv1.SecurityServer. Codes that the issuer does not take, and polls that it finds too
// many, count as wrong passwords do.
func (i issuer) PollDeviceLogin(ctx context.Context, req *apiv1.PollDeviceLoginRequest) (*apiv1.PollDeviceLoginReply, error) {
	o, err := i.oidc(ctx)
	if err != nil {
		return nil, err
	}
	from := guess.Origin(rpc.CallOf(ctx).Peer)
	if !i.s.logins.origins.Try(from) {
		return nil, errGuesses
	}
	u, err := o.PollDevice(ctx, req.DeviceCode)
	var wait *oidc.Pending
	if bad := (*oidc.RefusedError)(nil); errors.As(err, &bad) {
		i.s.log.Warn("a login at the issuer was refused", "err", bad, "peer", rpc.CallOf(ctx).Peer)
		return nil, loginError(err)
	}
	if errors.As(err, &wait) && wait.Slow {
		return &apiv1.PollDeviceLoginReply{SlowDown: true}, nil
	}
	i.s.logins.origins.Right(from)
	switch {
	case wait != nil:
		return &apiv1.PollDeviceLoginReply{}, nil
	case err != nil:
		return nil, loginError(err)
	}
	auditOf(ctx).by(rpc.Caller{Kind: rpc.User, Name: u.Name})
	session, err := i.s.begin(ctx, u.Name, func(store.Tx) (string, error) { return u.Role, nil })
	return &apiv1.PollDeviceLoginReply{Session: session}, err
}

// loginError gives what package oidc says the code that clients go by.
func loginError(err error) error {
	bad := (*oidc.RefusedError)(nil)
	var said *vda.Error
	switch {
	case errors.As(err, &bad):
		return status.Error(codes.Unauthenticated, bad.Error()) // reason: words of ours
	case isKind(err, vda.ResourceExhausted) && errors.As(err, &said):
		return refuse(codeBusy, vda.Unavailable, "%s", said.Msg)
	}
	return err
}
