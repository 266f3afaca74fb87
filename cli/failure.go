package cli

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/client"
	"github.com/virtual-disk-array/vda/reason"
)

// Exit statuses.
const (
	exitOK          = 0
	exitRefused     = 1 // by the portal
	exitUsage       = 2 // the command line is wrong; nothing was sent
	exitUnreachable = 3 // no portal answered
)

// failure is a command that failed: what is printed, and the exit status.
type failure struct {
	info  *apiv1.ReplyInfo
	exit  int
	shown bool // the reply is printed already
}

func (f *failure) Error() string { return f.info.ReplyMsg }

func usageFailure(err error) *failure {
	return &failure{info: &apiv1.ReplyInfo{ReplyCode: int32(apiv1.CodeInvalid), ReplyMsg: reason.Full(err)}, exit: exitUsage}
}

// hungUp is what is said of a portal that takes the connection and ends it, as one of an older
// version does with a call in the clear when the cluster is secured.
var hungUp = regexp.MustCompile(`the connection was closed|connection reset by peer|broken pipe`)

// callFailure is a call that ended with err, with what its flags may have to do
// with it.
func callFailure(err error) *failure {
	var e *client.Error
	if !errors.As(err, &e) {
		return usageFailure(err)
	}
	info := &apiv1.ReplyInfo{ReqId: e.ReqID, ReplyCode: int32(e.Code), ReplyMsg: e.Message()}
	if e.Code != apiv1.CodeUnreachable {
		return &failure{info: info, exit: exitRefused}
	}
	switch {
	case e.NotSent && strings.Contains(info.ReplyMsg, reason.InTheClear):
		info.ReplyMsg += "; give --token-file FILE with your token, which vda_db user makes"
	case e.NotSent && strings.Contains(info.ReplyMsg, reason.NoTLS):
		info.ReplyMsg += "; leave --token-file out for a cluster that is not secured, or mend --addr-port"
	case e.NotSent && hungUp.MatchString(info.ReplyMsg):
		info.ReplyMsg += "; a portal of a secured cluster does that to those who give no --token-file"
	case e.NotSent:
		info.ReplyMsg += "; is it running, and is --addr-port right?"
	case errors.Is(err, context.DeadlineExceeded):
		info.ReplyMsg += "; see --timeout"
	}
	return &failure{info: info, exit: exitUnreachable}
}

// print shows a failure.
func (s *session) print(f *failure) {
	fmt.Fprintln(s.stderr, "vda_cli:", strings.ReplaceAll(f.info.ReplyMsg, "\n", " "))
	if s.output.format != "json" && s.output.format != "yaml" || s.human || f.shown {
		return
	}
	b := append(appendReplyInfo(nil, f.info), '\n')
	if s.output.format == "yaml" {
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
			s.warned = true
		}
	}
	if f := fields.ByName(protoreflect.Name("warning_list")); f != nil {
		list := r.Get(f).List()
		for i := range list.Len() {
			fmt.Fprintln(s.stderr, "vda_cli: warning:", list.Get(i).String())
			s.warned = true
		}
	}
}
