package cli

import (
	"fmt"
	"net"
	"strconv"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/reason"
)

// Exit statuses.
const (
	exitOK          = 0
	exitRefused     = 1 // by the portal
	exitUsage       = 2 // the command line is wrong; nothing was sent
	exitUnreachable = 3 // no portal answered
)

// Reply codes that no portal sent; the others are the portal's.
const (
	codeUsage       = 2  // as the portal's invalid argument
	codeUnreachable = 16 // no portal answered

	codeRefusedUnread = 10 // as the portal's want of room
)

// failure is a command that failed: what is printed, and the exit status.
type failure struct {
	info *apiv1.ReplyInfo
	exit int
}

func (f *failure) Error() string { return f.info.ReplyMsg }

func usageFailure(err error) *failure {
	return &failure{&apiv1.ReplyInfo{ReplyCode: codeUsage, ReplyMsg: reason.Full(err)}, exitUsage}
}

// callFailure is a call that ended with err: the portal's own words when it
// sent some.
func (s *session) callFailure(err error) *failure {
	st := status.Convert(err)
	for _, d := range st.Details() {
		if info, ok := d.(*apiv1.ReplyInfo); ok {
			return &failure{info, exitRefused}
		}
	}
	info := &apiv1.ReplyInfo{ReplyCode: codeUnreachable}
	why := reason.Of(err)
	switch st.Code() {
	case codes.Unavailable:
		info.ReplyMsg = fmt.Sprintf("cannot reach the portal at %s: %s; is it running, and is --addr-port right?", s.portal, why)
		if !neverSent(err) {
			info.ReplyMsg = fmt.Sprintf("the portal at %s was lost before it replied: %s; get or list the object to see how far it came", s.portal, why)
		}
	case codes.DeadlineExceeded:
		info.ReplyMsg = fmt.Sprintf("no reply from the portal at %s within %v; see --timeout, and get or list the object to see how far it came", s.portal, s.timeout)
	case codes.ResourceExhausted:
		// Before it was read: it is too long, or too many are under way.
		return &failure{&apiv1.ReplyInfo{ReplyCode: codeRefusedUnread, ReplyMsg: fmt.Sprintf("the portal at %s does not take the request: %s", s.portal, why)}, exitRefused}
	case codes.Canceled:
		info.ReplyMsg = "interrupted; get or list the object to see how far it came"
	default:
		info.ReplyMsg = fmt.Sprintf("%s answers, but not as a VDA portal does: %s", s.portal, why)
	}
	return &failure{info, exitUnreachable}
}

// print shows a failure.
func (s *session) print(f *failure) {
	fmt.Fprintln(s.stderr, "vda_cli:", strings.ReplaceAll(f.info.ReplyMsg, "\n", " "))
	if s.output == "table" {
		return
	}
	b := append(appendReplyInfo(nil, f.info), '\n')
	if s.output == "yaml" {
		y, err := toYAML(b)
		if err != nil {
			fmt.Fprintln(s.stderr, "vda_cli:", reason.Full(err))
			return
		}
		b = y
	}
	s.stdout.Write(b)
}

// warn says on standard error what a successful reply warns of.
func (s *session) warn(reply proto.Message) {
	r := reply.ProtoReflect()
	fields := r.Descriptor().Fields()
	if f := fields.ByName("reply_info"); f != nil {
		if info, ok := r.Get(f).Message().Interface().(*apiv1.ReplyInfo); ok && info.GetReplyMsg() != "success" {
			fmt.Fprintln(s.stderr, "vda_cli: note:", info.GetReplyMsg())
		}
	}
	if f := fields.ByName(protoreflect.Name("warning_list")); f != nil {
		list := r.Get(f).List()
		for i := range list.Len() {
			fmt.Fprintln(s.stderr, "vda_cli: warning:", list.Get(i).String())
		}
	}
}

// checkPortal refuses an address that cannot be dialled.
func checkPortal(addr string) error {
	host, port, err := net.SplitHostPort(addr)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err != nil || host == "" {
		return fmt.Errorf("--addr-port %q: it must be HOST:PORT, like 192.168.0.11:9520", addr)
	}
	return nil
}
