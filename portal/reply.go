package portal

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/virtual-disk-array/vda"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/reason"
)

// replyCode is reply_info.reply_code.
type replyCode = apiv1.ReplyCode

const (
	codeSuccess       = apiv1.CodeSuccess
	codeInternal      = apiv1.CodeInternal
	codeInvalid       = apiv1.CodeInvalid
	codeNotFound      = apiv1.CodeNotFound
	codeNameTaken     = apiv1.CodeNameTaken
	codeIdentical     = apiv1.CodeIdentical
	codeNQNTaken      = apiv1.CodeNQNTaken
	codeAddressTaken  = apiv1.CodeAddressTaken
	codePrecondition  = apiv1.CodeFailedPrecondition
	codeInUse         = apiv1.CodeInUse
	codeNoRoom        = apiv1.CodeNoRoom
	codeDatabase      = apiv1.CodeDatabase
	codeBusy          = apiv1.CodeBusy
	codeDeadline      = apiv1.CodeDeadline
	codeCancelled     = apiv1.CodeCancelled
	codeUnimplemented = apiv1.CodeUnimplemented
	codeUnknownCaller = apiv1.CodeUnauthenticated
	codeForbidden     = apiv1.CodePermissionDenied
)

// codeOfKind is the code of an error that carries none of its own.
var codeOfKind = map[vda.Kind]replyCode{
	vda.Internal:           codeInternal,
	vda.InvalidArgument:    codeInvalid,
	vda.NotFound:           codeNotFound,
	vda.AlreadyExists:      codeNameTaken,
	vda.FailedPrecondition: codePrecondition,
	vda.ResourceExhausted:  codeNoRoom,
	vda.Unavailable:        codePrecondition, // a node; the database has words of its own
	vda.Conflict:           codeBusy,
	vda.PermissionDenied:   codeForbidden,
}

// grpcCodes translates, here and nowhere else.
var grpcCodes = map[replyCode]codes.Code{
	codeInternal:      codes.Internal,
	codeInvalid:       codes.InvalidArgument,
	codeNotFound:      codes.NotFound,
	codeNameTaken:     codes.AlreadyExists,
	codeIdentical:     codes.AlreadyExists,
	codeNQNTaken:      codes.AlreadyExists,
	codeAddressTaken:  codes.AlreadyExists,
	codePrecondition:  codes.FailedPrecondition,
	codeInUse:         codes.FailedPrecondition,
	codeNoRoom:        codes.ResourceExhausted,
	codeDatabase:      codes.Unavailable,
	codeBusy:          codes.Unavailable,
	codeDeadline:      codes.DeadlineExceeded,
	codeCancelled:     codes.Canceled,
	codeUnimplemented: codes.Unimplemented,
	codeUnknownCaller: codes.Unauthenticated,
	codeForbidden:     codes.PermissionDenied,
}

// coded is an error whose reply code says more than its kind.
type coded struct {
	code replyCode
	err  *vda.Error
}

func (c coded) Error() string { return c.err.Error() } // reason: it is an error still
func (c coded) Unwrap() error { return c.err }

// refuse makes an error with a reply code of its own.
func refuse(code replyCode, kind vda.Kind, format string, args ...any) error {
	return coded{code, vda.Errorf(kind, format, args...)}
}

// invalid is a refused field value.
func invalid(format string, args ...any) error {
	return vda.Errorf(vda.InvalidArgument, format, args...)
}

func isKind(err error, k vda.Kind) bool { return err != nil && vda.KindOf(err) == k }

// replyInfo is what the user is told about err. An internal error's text stays
// in the log: the user gets the request id to find it by.
func replyInfo(ctx context.Context, err error) *apiv1.ReplyInfo {
	code, msg := codeSuccess, "success"
	var own coded
	var typed *vda.Error
	database := reason.Database(err)
	switch {
	case err == nil:
	case errors.As(err, &own):
		code, msg = own.code, reason.Of(err)
	case status.Code(err) == codes.Unauthenticated:
		code, msg = codeUnknownCaller, status.Convert(err).Message()
	case status.Code(err) == codes.PermissionDenied:
		code, msg = codeForbidden, status.Convert(err).Message()
	case database != nil && database.Kind == vda.Conflict:
		code, msg = codeBusy, "too many requests for the same objects at once, try again: "+reason.Of(err)
	case database != nil && database.Kind != vda.Internal:
		code, msg = codeDatabase, reason.Of(err)+"; try again later"
	case ctx.Err() == context.DeadlineExceeded:
		code, msg = codeDeadline, "the request took too long; get or list the object to see how far it came"
	case ctx.Err() != nil:
		code, msg = codeCancelled, "the request was cancelled; get or list the object to see how far it came"
	case errors.As(err, &typed) && typed.Kind != vda.Internal:
		code, msg = codeOfKind[typed.Kind], reason.Of(err)
		if code == codeBusy {
			msg = "too many requests for the same objects at once, try again: " + msg
		}
	default:
		code, msg = codeInternal, "internal error; the portal's log has the details under this req_id"
	}
	return &apiv1.ReplyInfo{ReplyCode: int32(code), ReplyMsg: msg}
}

// statusOf is the gRPC status with the reply in its details.
func statusOf(reply *apiv1.ReplyInfo, cause error) error {
	st := status.New(grpcCodes[replyCode(reply.ReplyCode)], reply.ReplyMsg)
	detailed, err := st.WithDetails(reply)
	if err != nil { // cannot be marshalled: the plain status still says it
		return errors.Join(st.Err(), cause)
	}
	return detailed.Err()
}

func protoValue(m *apiv1.ReplyInfo) protoreflect.Value {
	return protoreflect.ValueOfMessage(m.ProtoReflect())
}

// parameter is one of an object's parameters, as it is and as it was asked for.
type parameter struct {
	name      string
	is, asked any
}

// exists is the answer to a create whose name is taken. A repeated identical
// request is told apart from a clash, so that a caller who lost the first
// reply can go on.
func exists(kind, name string, params ...parameter) error {
	var differ []string
	for _, p := range params {
		if p.is != p.asked {
			differ = append(differ, fmt.Sprintf("%s is %v, not %v", p.name, p.is, p.asked))
		}
	}
	if differ == nil {
		return refuse(codeIdentical, vda.AlreadyExists, "%s %s already exists exactly as asked for; nothing was changed", kind, name)
	}
	return refuse(codeNameTaken, vda.AlreadyExists, "%s %s already exists with other parameters: %s",
		kind, name, vda.Shorten(strings.Join(differ, "; "), 600))
}

// inUse refuses to delete what others hang on.
func inUse(kind, name, holders string, names []string) error {
	return refuse(codeInUse, vda.FailedPrecondition, "%s %s still has %s: %s; delete them first", kind, name, holders, firstNames(names))
}

// firstNames are the first of some names, and how many more there are.
func firstNames(names []string) string {
	const most = 10
	if len(names) <= most {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
}
