package controller

import (
	"errors"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/client"
	"github.com/virtual-disk-array/vda/reason"
)

func refuse(code codes.Code, format string, args ...any) error {
	return status.Errorf(code, format, args...)
}

// codesOf are those of kinds of errors.
var codesOf = map[vda.Kind]codes.Code{
	vda.InvalidArgument:    codes.InvalidArgument,
	vda.NotFound:           codes.NotFound,
	vda.AlreadyExists:      codes.AlreadyExists,
	vda.FailedPrecondition: codes.FailedPrecondition,
	vda.ResourceExhausted:  codes.ResourceExhausted,
	vda.Unavailable:        codes.Unavailable,
	vda.Conflict:           codes.Aborted,
	vda.PermissionDenied:   codes.PermissionDenied,
	vda.Internal:           codes.Internal,
}

// statusOf is a portal's error, or one of this driver, as orchestrators get it. After
// Unavailable they repeat a call and take nothing for done or not done: what may have
// been carried out all the same.
func statusOf(err error) error {
	if err == nil {
		return nil
	}
	if _, is := status.FromError(err); is && !errors.As(err, new(*client.Error)) {
		return err
	}
	code, known := codesOf[vda.KindOf(err)]
	var e *client.Error
	if !known {
		code = codes.Internal
	}
	if errors.As(err, &e) && e.Undecided {
		code = codes.Unavailable
	}
	return status.Error(code, reason.Of(err))
}

func statusMessage(err error) string { return status.Convert(statusOf(err)).Message() }

func isNotFound(err error) bool { return status.Code(err) == codes.NotFound }
