package portal

import (
	"errors"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/rpc"
)

// maxRequest is the longest request, in bytes. The longest that makes sense has
// a few KiB.
const maxRequest = 256 << 10

// refusal is why a request was not read or not decoded, in our words.
func refusal(err error) error {
	var long *rpc.TooLong
	var undecodable *rpc.Undecodable
	switch {
	case errors.As(err, &long):
		return invalid("%s, and none that makes sense has more than a few KiB", long.Error())
	case errors.As(err, &undecodable) && strings.Contains(undecodable.Err.Error(), "UTF-8"): // reason: it is looked at, not shown
		return invalid("a text in the request is not valid UTF-8")
	case errors.As(err, &undecodable):
		return invalid("%s", undecodable.Error())
	}
	st := status.Convert(err)
	if st.Code() == codes.ResourceExhausted {
		return refuse(codeBusy, vda.Unavailable, "%s", st.Message())
	}
	return vda.Errorf(vda.InvalidArgument, "%s", st.Message())
}
