package portal

import (
	"context"
	"path"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/virtual-disk-array/vda"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/pki"
	"github.com/virtual-disk-array/vda/reason"
	"github.com/virtual-disk-array/vda/rpc"
	"github.com/virtual-disk-array/vda/store"
)

// Roles of users. An admin may do everything.
const (
	roleAdmin    = "admin"
	roleOperator = "operator" // arrays, their exporters and snapshots, and what keeps nodes going
	roleViewer   = "viewer"   // what changes nothing
	roleCSI      = "csi"      // arrays, exporters and snapshots, as a storage driver of an orchestrator
)

// Roles are those that a user may have.
var Roles = []string{roleAdmin, roleOperator, roleViewer, roleCSI}

var (
	all    = []string{roleOperator, roleViewer, roleCSI}
	people = []string{roleOperator, roleViewer}
	daily  = []string{roleOperator, roleCSI}
	keeper = []string{roleOperator}
	admins = []string{}
)

// roles says for each method of the Portal service which roles beside admin may call it.
var roles = map[string][]string{
	"CreateDn": admins, "DeleteDn": admins, "ModifyDn": keeper, "ListDn": all, "GetDn": all, "SyncupDn": keeper, "DrainDn": keeper,
	"UndrainDn": keeper,
	"CreatePd":  admins, "DeletePd": admins, "ModifyPd": keeper, "ListPd": all, "GetPd": all, "DrainPd": keeper, "UndrainPd": keeper,
	"DiscoverPd": keeper,
	"MoveVd":     keeper, "GetVd": people,
	"CreateCn": admins, "DeleteCn": admins, "ModifyCn": keeper, "ListCn": all, "GetCn": all, "SyncupCn": keeper, "DrainCn": keeper,
	"UndrainCn": keeper,
	"CreateDa":  daily, "DeleteDa": daily, "UndeleteDa": daily, "ModifyDa": daily, "ListDa": all, "GetDa": all, "SyncupDa": keeper,
	"FailoverDa": keeper, "RecoverDa": keeper, "ScrubDa": keeper,
	"CreateSnap": daily, "DeleteSnap": daily, "ModifySnap": daily, "RollbackSnap": keeper, "ListSnap": all, "GetSnap": all,
	"CreateExp": daily, "DeleteExp": daily, "ModifyExp": daily, "ListExp": all, "GetExp": all,
	"ListOrphan": people, "AdoptOrphan": admins, "DeleteOrphan": admins,
	"ListAlert": people, "ListEvent": people, "WatchEvent": people,
	"GetStatus": all, "ListVersion": people, "GetTop": people, "DumpSupport": keeper, "SecureCluster": admins,
	"CreateUser": admins, "DeleteUser": admins, "ModifyUser": admins, "ListUser": admins,
	"SetPassword": all, "ListSession": all, "DeleteSession": all, // of the caller
}

// portalPrefix is what the methods of the Portal service begin with.
const portalPrefix = "/vda.v1.Portal/"

// authorize is rpc.Config's. In a plain cluster nobody says who he is, and all may do all.
func (s *Server) authorize(ctx context.Context, call rpc.Call) error {
	auditOf(ctx).by(call.Caller)
	secured := s.cfg.Identity.Secured()
	who := call.Caller
	switch {
	case rpc.Health(call.Method) || call.Method == apiv1.Security_Enrol_FullMethodName, // the request has the token
		call.Method == apiv1.Security_Login_FullMethodName, // or the password, or a code
		call.Method == apiv1.Security_LoginOidc_FullMethodName,
		call.Method == apiv1.Security_GetLoginUrl_FullMethodName,
		call.Method == apiv1.Security_BeginDeviceLogin_FullMethodName,
		call.Method == apiv1.Security_PollDeviceLogin_FullMethodName:
		return nil
	case call.Method == apiv1.Security_Renew_FullMethodName:
		if who.Kind == "" || who.Kind == pki.User {
			return status.Error(codes.Unauthenticated, "a certificate is renewed by the member that it is for: the call shows none")
		}
		return nil
	case who.Kind == "" && !secured:
		return nil
	case who.Kind == "":
		return rpc.ErrNobody
	case call.Method == apiv1.Program_Support_FullMethodName && who.Kind == pki.User && who.Role != roleAdmin && who.Role != roleOperator:
		return status.Errorf(codes.PermissionDenied, "%s has the role %s, which may not see the portal's log", who, who.Role)
	case !strings.HasPrefix(call.Method, portalPrefix): // metrics, reflection, version
		return nil
	case who.Kind != pki.User:
		return status.Errorf(codes.PermissionDenied, "%s may not call %s: that is for users", who, path.Base(call.Method))
	case who.Role == roleAdmin || slices.Contains(roles[path.Base(call.Method)], who.Role):
		return nil
	}
	return status.Errorf(codes.PermissionDenied, "%s has the role %s, which may not call %s", who, who.Role, path.Base(call.Method))
}

// errUser is the one answer to all tokens that are not good.
var errUser = status.Error(codes.Unauthenticated, "the token is not good: it is not a user's, was revoked or has expired")

// isUser reports that a token is a user's.
func (s *Server) isUser(ctx context.Context, text string) (bool, error) {
	c, err := s.user(ctx, text)
	switch {
	case status.Code(err) == codes.Unauthenticated:
		return false, nil
	case err != nil: // anyone may cause it: the log alone names the database
		s.log.Warn("whose a token is cannot be told", "err", reason.Of(err))
		return false, statusOf(replyInfo(ctx, err), err)
	}
	return c.Kind == rpc.User, nil
}

// secretOf is the secret of a token, whether that is given alone or in the form in which it
// was handed out.
func secretOf(text string) string {
	if t, err := pki.ParseUserToken(text); err == nil {
		return t.Secret
	}
	return text
}

// bare is the token of an "authorization".
func bare(text string) string { return strings.TrimPrefix(text, "Bearer ") }

// user is rpc.Config's Users. Until the cluster is secured a token that is not a user's is of no
// account: that of REST comes here too.
func (s *Server) user(ctx context.Context, text string) (rpc.Caller, error) {
	if !s.cfg.Identity.Enrolled() {
		return rpc.Caller{}, nil
	}
	text = secretOf(text)
	var t *store.Token
	err := s.cfg.Store.View(ctx, func(tx store.Reader) (err error) {
		t, err = tx.Token(pki.HashSecret(text))
		return err
	})
	switch {
	case isKind(err, vda.NotFound) || err == nil && (!isUsers(t) || !time.Now().Before(t.Expires)):
		if !s.cfg.Identity.Secured() {
			return rpc.Caller{}, nil
		}
		return rpc.Caller{}, errUser
	case err != nil:
		return rpc.Caller{}, err
	}
	return rpc.Caller{Kind: rpc.User, Name: t.Name, Role: t.Role}, nil
}
