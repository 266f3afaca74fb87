package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/client"
)

// slower is what the time between two polls grows by when it is too short, or nobody answers:
// RFC 8628, section 3.5.
const slower = 5 * time.Second

// loginDevice begins a session at the portals' issuer: a browser on any machine logs in there, with a
// code that is shown here. The portal asks the issuer how that went.
func loginDevice(ctx context.Context, portal apiv1.SecurityClient, say io.Writer) (*apiv1.LoginReply, error) {
	begun, err := portal.BeginDeviceLogin(ctx, &apiv1.BeginDeviceLoginRequest{})
	if err != nil {
		return nil, callFailure(err)
	}
	life := time.Duration(begun.ExpiresS) * time.Second
	fmt.Fprintf(say, "Open with a browser, on any machine:\n%s\nand enter the code %s there within %v. "+
		"Enter no code that somebody has sent you.\n",
		begun.VerificationUri, begun.UserCode, life)
	if begun.VerificationUriComplete != "" {
		fmt.Fprintf(say, "This has the code in it:\n%s\n", begun.VerificationUriComplete)
	}
	ended := time.NewTimer(life)
	defer ended.Stop()
	for pause := time.Duration(begun.IntervalS) * time.Second; ; {
		select {
		case <-time.After(pause):
		case <-ended.C:
			return nil, fmt.Errorf("nobody has confirmed the login at the issuer within %v, and the code has expired; log in again", life)
		case <-ctx.Done():
			return nil, errors.New("interrupted before anybody had logged in at the issuer")
		}
		reply, err := portal.PollDeviceLogin(ctx, &apiv1.PollDeviceLoginRequest{DeviceCode: begun.DeviceCode})
		switch code := client.CodeOf(err); {
		case err == nil && reply.Session != nil:
			return reply.Session, nil
		case err == nil && !reply.SlowDown:
		case err == nil || code == apiv1.CodeBusy || code == apiv1.CodeUnreachable:
			pause += slower
		case ctx.Err() == nil:
			return nil, callFailure(err)
		}
	}
}
