package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"
	"google.golang.org/protobuf/proto"

	"github.com/virtual-disk-array/vda"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/client"
)

// Some commands begin what goes on by itself: the monitors do it. With
// --wait the command returns when it is done, and tells how far it is meanwhile.

// waiting is how a command waits for what it has begun.
type waiting struct {
	what  string // "the dn is empty"
	begin func() poll
	// before is in place of begin for what has to look before the request is made.
	before func(ctx context.Context, c *client.Client, req proto.Message) (poll, error)
}

// poll looks how far it is, in words, and brings the reply up to date.
type poll func(ctx context.Context, c *client.Client, req, reply proto.Message) (left string, done bool, err error)

var (
	// pollPeriod is the time between two looks.
	pollPeriod = time.Second
	// stuckTime is how long nothing has moved when the rest cannot move.
	stuckTime = 20 * time.Second
)

// waitTime is the value of --wait.
type waitTime struct {
	set bool
	d   time.Duration // 0: as long as it takes
}

func (w *waitTime) String() string { return "" }
func (w *waitTime) Type() string   { return "DURATION" }

func (w *waitTime) Set(text string) error {
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 {
		return errors.New("it must be a time, like 30m; without one, --wait waits as long as it takes")
	}
	w.set, w.d = true, d
	return nil
}

func (w *waiting) add(flags *pflag.FlagSet, to *waitTime) {
	if w == nil {
		return
	}
	flags.Var(to, "wait", "wait until "+w.what+", for `TIME` at most when one is given as in --wait=30m, and "+
		"tell how far it is; the command returns at once when not given")
	flags.Lookup("wait").NoOptDefVal = "0s"
}

// look is how a command waits for what it begins, nil when it does not.
func (s *session) look(ctx context.Context, c *client.Client, w *waiting, req proto.Message) (poll, error) {
	switch {
	case w == nil || !s.wait.set:
		return nil, nil
	case w.before == nil:
		return w.begin(), nil
	}
	look, err := w.before(ctx, c, req)
	if err != nil {
		return nil, callFailure(err)
	}
	return look, nil
}

// await waits for what a command has begun, if it is to.
func (s *session) await(ctx context.Context, c *client.Client, look poll, req, reply proto.Message) error {
	if look == nil {
		return nil
	}
	// The end comes between two looks: it cuts no call short, and there is always one look.
	var end <-chan time.Time
	if s.wait.d > 0 {
		end = time.After(s.wait.d)
	}
	said := ""
	for {
		left, done, err := look(ctx, c, req, reply)
		var stopped *failure
		switch {
		case errors.As(err, &stopped):
			return err
		case err != nil && ctx.Err() == nil:
			return callFailure(err)
		case done:
			return nil
		case err == nil && left != said:
			fmt.Fprintln(s.stderr, "vda_cli:", left)
			said = left
		}
		select {
		case <-ctx.Done():
		case <-end:
		case <-time.After(pollPeriod):
			continue
		}
		return notDone(apiv1.CodeDeadline, "it goes on, and was not waited for any longer: %s", said)
	}
}

// notDone is the end of a wait for something that is not done.
func notDone(code apiv1.ReplyCode, format string, args ...any) *failure {
	return &failure{info: &apiv1.ReplyInfo{ReplyCode: int32(code), ReplyMsg: fmt.Sprintf(format, args...)}, exit: exitRefused}
}

// drained is how far a drain is.
type drained struct {
	on    bool
	what  string // is left
	left  uint32
	lack  uint64   // bytes that are to be copied
	stuck []string // why some of them cannot leave
}

// ofVds is the drain of a dn or pd.
func ofVds(on bool, vds uint32, lack uint64, stuck []*apiv1.StuckVdMsg) drained {
	d := drained{on: on, what: "vds", left: vds, lack: lack}
	for _, v := range stuck {
		d.stuck = append(d.stuck, v.Reason)
	}
	return d
}

// standing is since when all that is left of a drain cannot move.
type standing struct{ since time.Time }

// look tells how far a drain is.
func (s *standing) look(d drained) (left string, done bool, err error) {
	switch {
	case d.left == 0 && d.on:
		return "", true, nil
	case !d.on:
		return "", false, notDone(apiv1.CodeCancelled, "somebody has ended the drain; %d %s were left", d.left, d.what)
	case int(d.left) != len(d.stuck):
		s.since = time.Time{}
	case s.since.IsZero():
		s.since = time.Now()
	case time.Since(s.since) >= stuckTime:
		return "", false, notDone(apiv1.CodeFailedPrecondition, "%d %s cannot leave now, and are tried again: %s", d.left, d.what,
			reasons(d.stuck))
	}
	left = fmt.Sprintf("%d %s are left", d.left, d.what)
	if d.what == "vds" {
		left += fmt.Sprintf(", %s to be copied", roughly(d.lack))
	}
	if len(d.stuck) > 0 {
		left += fmt.Sprintf("; %d cannot leave now: %s", len(d.stuck), reasons(d.stuck))
	}
	return left, false, nil
}

// reasons are the first few.
func reasons(stuck []string) string {
	const most = 3
	all := slices.Clone(stuck[:min(len(stuck), most)])
	if len(stuck) > most {
		all = append(all, "and so on")
	}
	return strings.Join(all, "; ")
}

// pace says how fast something is copied, and for how long still; "" while that is not
// known.
func pace(bytesPerSec, leftSec uint64) string {
	if bytesPerSec == 0 {
		return ""
	}
	return fmt.Sprintf(" at %s/s, for about %v", roughly(bytesPerSec), time.Duration(leftSec)*time.Second)
}

// roughly is a number of bytes that changes all the time.
func roughly(n uint64) string {
	unit := 0
	for v := n; v >= 10<<10; v >>= 10 {
		unit++
	}
	return fmt.Sprintf("%d %s", n>>(10*unit), []string{"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"}[unit])
}

var (
	drainedDn = waiting{what: "all virtual disks have left", begin: func() poll {
		var s standing
		return func(ctx context.Context, c *client.Client, req, reply proto.Message) (string, bool, error) {
			now, err := c.GetDn(ctx, &apiv1.GetDnRequest{DnName: req.(*apiv1.DrainDnRequest).DnName})
			if err != nil {
				return "", false, err
			}
			m := now.DnMsg
			reply.(*apiv1.DrainDnReply).DnMsg = m
			return s.look(ofVds(m.Drain, m.DrainVdCnt, m.DrainLackBytes, m.StuckVdMsgList))
		}
	}}

	drainedPd = waiting{what: "all virtual disks have left", begin: func() poll {
		var s standing
		return func(ctx context.Context, c *client.Client, req, reply proto.Message) (string, bool, error) {
			r := req.(*apiv1.DrainPdRequest)
			now, err := c.GetPd(ctx, &apiv1.GetPdRequest{DnName: r.DnName, PdName: r.PdName})
			if err != nil {
				return "", false, err
			}
			m := now.PdMsg
			reply.(*apiv1.DrainPdReply).PdMsg = m
			return s.look(ofVds(m.Drain, m.DrainVdCnt, m.DrainLackBytes, m.StuckVdMsgList))
		}
	}}

	drainedCn = waiting{what: "hosts need none of its controllers, or with --cntlrs all have left", begin: func() poll {
		var s standing
		return func(ctx context.Context, c *client.Client, req, reply proto.Message) (string, bool, error) {
			now, err := c.GetCn(ctx, &apiv1.GetCnRequest{CnName: req.(*apiv1.DrainCnRequest).CnName})
			if err != nil {
				return "", false, err
			}
			m := now.CnMsg
			reply.(*apiv1.DrainCnReply).CnMsg = m
			d := drained{on: m.Drain, what: "controllers", left: m.DrainLeftCnt}
			for _, c := range m.StuckCntlrMsgList {
				d.stuck = append(d.stuck, "da "+c.DaName+": "+c.Reason)
			}
			return s.look(d)
		}
	}}

	movedVd    = waiting{what: "the virtual disk has moved and the old one is gone", begin: func() poll { return pollMove }}
	changedDa  = waiting{what: "the array has the legs that it is to have", begin: func() poll { return pollRedundancy }}
	scrubbedDa = waiting{what: "the scrub has ended", begin: func() poll { return pollScrub }}
)

func pollMove(ctx context.Context, c *client.Client, req, reply proto.Message) (left string, done bool, err error) {
	r, to := req.(*apiv1.MoveVdRequest), reply.(*apiv1.MoveVdReply)
	if r.Cancel {
		return "", true, nil
	}
	if v := to.NewVdMsg; v != nil {
		now, err := c.GetVd(ctx, &apiv1.GetVdRequest{VdId: v.VdId})
		switch {
		case gone(err):
			return "", false, notDone(apiv1.CodeCancelled, "the move has ended: vd %s, which was to take the place of vd %s, is gone", v.VdId,
				r.VdId)
		case err != nil:
			return "", false, err
		}
		to.NewVdMsg = now.VdMsg
	}
	old, err := c.GetVd(ctx, &apiv1.GetVdRequest{VdId: r.VdId})
	switch {
	case gone(err):
		return "", true, nil
	case err != nil:
		return "", false, err
	}
	to.VdMsg = old.VdMsg
	v := to.NewVdMsg
	switch {
	case !old.VdMsg.Leaving:
		return "", false, notDone(apiv1.CodeCancelled, "somebody has ended the move; vd %s stays", r.VdId)
	case v == nil || old.VdMsg.Role == "leaving":
		return "the old vd is being deleted", false, nil
	case v.Role == "target" && v.LackBytes > 0:
		return fmt.Sprintf("%s of %s are to be copied to vd %s%s", roughly(v.LackBytes), roughly(v.Size), v.VdId,
			pace(v.RebuildBytesPerSec, v.RebuildLeftSec)), false, nil
	}
	return fmt.Sprintf("vd %s is %s on dn %s", v.VdId, v.Role, v.DnName), false, nil
}

func pollRedundancy(ctx context.Context, c *client.Client, req, reply proto.Message) (left string, done bool, err error) {
	r := req.(*apiv1.ModifyDaRequest)
	name := r.DaName
	if r.NewDaName != nil {
		name = *r.NewDaName
	}
	now, err := c.GetDa(ctx, &apiv1.GetDaRequest{DaName: name})
	if err != nil {
		return "", false, err
	}
	m := now.DaMsg
	reply.(*apiv1.ModifyDaReply).DaMsg = m
	if r.Redundancy == nil {
		return "", true, nil
	}
	if m.Redundancy != *r.Redundancy {
		return "", false, notDone(apiv1.CodeCancelled, "somebody has changed the redundancy to %s meanwhile", m.Redundancy)
	}
	going, copying := 0, 0
	for _, g := range m.GrpMsgList {
		for _, v := range g.VdMsgList {
			switch {
			case v.Leaving:
				going++
			case v.Role != "" && v.Role != "member":
				copying++
			}
		}
	}
	switch {
	case copying > 0:
		return fmt.Sprintf("%d legs lack data still, %s to be copied%s", copying, roughly(m.LackBytes),
			pace(m.RebuildBytesPerSec, m.RebuildLeftSec)), false, nil
	case going > 0:
		return fmt.Sprintf("%d legs are to be deleted still", going), false, nil
	}
	return "", m.RedundancyState == "" || m.RedundancyState == string(vda.RedundancyFull), nil
}

func pollScrub(ctx context.Context, c *client.Client, req, reply proto.Message) (left string, done bool, err error) {
	r := req.(*apiv1.ScrubDaRequest)
	now, err := c.GetDa(ctx, &apiv1.GetDaRequest{DaName: r.DaName})
	if err != nil {
		return "", false, err
	}
	reply.(*apiv1.ScrubDaReply).DaMsg = now.DaMsg
	var m *apiv1.ScrubMsg
	if l := now.DaMsg.ScrubMsgList; len(l) > 0 {
		m = l[0]
	}
	switch {
	case m.GetState() == "done" || r.Stop && m.GetState() != "running":
		return "", true, nil
	case m.GetState() != "running":
		return "", false, notDone(apiv1.CodeCancelled, "the scrub has stopped before its end")
	default:
		return fmt.Sprintf("%s of %s are compared, and %d blocks differed", roughly(m.DoneBytes), roughly(m.TotalBytes), m.Mismatches), false, nil
	}
}

// gone reports that an object is not there.
func gone(err error) bool { return err != nil && client.CodeOf(err) == apiv1.CodeNotFound }
