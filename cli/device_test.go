package cli

import (
	"context"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"

	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/client"
)

// issuing is a portal whose issuer says one thing after another of a login.
type issuing struct {
	apiv1.SecurityClient
	begun   time.Time
	answers []any           // *apiv1.PollDeviceLoginReply or error; when there are no more: nothing new
	asked   []time.Duration // since the login began
}

func (p *issuing) BeginDeviceLogin(context.Context, *apiv1.BeginDeviceLoginRequest,
	...grpc.CallOption) (*apiv1.BeginDeviceLoginReply, error) {
	p.begun = time.Now()
	return &apiv1.BeginDeviceLoginReply{DeviceCode: "d", UserCode: "U-1", VerificationUri: "https://login.test/", IntervalS: 5,
		ExpiresS: 58}, nil
}

func (p *issuing) PollDeviceLogin(context.Context, *apiv1.PollDeviceLoginRequest,
	...grpc.CallOption) (*apiv1.PollDeviceLoginReply, error) {
	p.asked = append(p.asked, time.Since(p.begun))
	if len(p.answers) == 0 {
		return &apiv1.PollDeviceLoginReply{}, nil
	}
	answer := p.answers[0]
	p.answers = p.answers[1:]
	if err, failed := answer.(error); failed {
		return nil, err
	}
	return answer.(*apiv1.PollDeviceLoginReply), nil
}

// TestDeviceLoginSlowsDown: an issuer that is asked too often is asked 5 s later each time that it says so, and as it is
// for good (RFC 8628, section 3.5); so is a portal that does not answer. When the code has expired, it is not asked.
func TestDeviceLoginSlowsDown(t *testing.T) {
	wait, slow := &apiv1.PollDeviceLoginReply{}, &apiv1.PollDeviceLoginReply{SlowDown: true}
	session := &apiv1.PollDeviceLoginReply{Session: &apiv1.LoginReply{}}
	for _, c := range []struct {
		name    string
		answers []any
		asked   []int // seconds
		err     string
	}{
		{"confirmed", []any{wait, wait, session}, []int{5, 10, 15}, ""},
		{"slower twice", []any{wait, slow, slow, wait, session}, []int{5, 10, 20, 35, 50}, ""},
		{"the portal is away once", []any{&client.Error{Code: apiv1.CodeUnreachable}, wait, session}, []int{5, 15, 25}, ""},
		{"never confirmed", []any{slow, slow}, []int{5, 15, 30, 45}, "nobody has confirmed the login at the issuer within 58s"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := &issuing{answers: c.answers}
				_, err := loginDevice(t.Context(), p, io.Discard)
				if (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
					t.Errorf("error %v, want %q", err, c.err)
				}
				var asked []int
				for _, at := range p.asked {
					asked = append(asked, int(at.Seconds()))
				}
				if !slices.Equal(asked, c.asked) {
					t.Errorf("asked after %v s, want %v", asked, c.asked)
				}
			})
		})
	}
}
