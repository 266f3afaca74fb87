package rpc

import (
	"math/rand/v2"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
)

// comeAgain is after how long, on average, a client that was refused is to try again. Not
// all are told the same, so that they do not come back at once.
const comeAgain = time.Second

// busy is the error of a call that would be taken if fewer were under way:
// RESOURCE_EXHAUSTED, with when to come again.
func busy(format string, args ...any) error {
	s := status.Newf(codes.ResourceExhausted, format+"; try again in a second", args...)
	with, err := s.WithDetails(&errdetails.RetryInfo{RetryDelay: durationpb.New(comeAgain/2 + rand.N(comeAgain))})
	if err != nil {
		return s.Err()
	}
	return with.Err()
}

// RetryAfter is when a call may be made again that a server refused, before it looked at
// it, because it had too much to do; false: err is something else.
func RetryAfter(err error) (time.Duration, bool) {
	if status.Code(err) != codes.ResourceExhausted {
		return 0, false
	}
	for _, d := range status.Convert(err).Details() {
		if info, is := d.(*errdetails.RetryInfo); is {
			return max(info.GetRetryDelay().AsDuration(), 0), true
		}
	}
	return 0, false
}
