package portal

import (
	"context"
	"errors"

	"github.com/virtual-disk-array/vda"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/array"
	"github.com/virtual-disk-array/vda/store"
)

// DrainCn has all primaries, or all controllers, leave a cn, which takes no more of them:
// monitor/drain_cn.go.
func (s *Server) DrainCn(ctx context.Context, req *apiv1.DrainCnRequest) (*apiv1.DrainCnReply, error) {
	what := vda.DrainPrimaries
	if req.Cntlrs {
		what = vda.DrainCntlrs
	}
	if err := s.drainCN(ctx, req.CnName, what); err != nil {
		return nil, err
	}
	msg, err := s.cnMsg(ctx, req.CnName, false)
	if err != nil {
		return nil, err
	}
	var remarks []string
	if len(msg.StuckCntlrMsgList) > 0 {
		remarks = []string{"some controllers cannot leave now, and are tried again; stuck_cntlr_msg_list says which and why"}
	}
	return &apiv1.DrainCnReply{ReplyInfo: done("the cn is being drained", nil, remarks...), CnMsg: msg}, nil
}

// UndrainCn ends a drain.
func (s *Server) UndrainCn(ctx context.Context, req *apiv1.UndrainCnRequest) (*apiv1.UndrainCnReply, error) {
	if err := s.drainCN(ctx, req.CnName, vda.NoDrain); err != nil {
		return nil, err
	}
	msg, err := s.cnMsg(ctx, req.CnName, false)
	if err != nil {
		return nil, err
	}
	return &apiv1.UndrainCnReply{ReplyInfo: done("the cn is not drained any more", nil), CnMsg: msg}, nil
}

// drainCN sets or clears the mark of a cn.
func (s *Server) drainCN(ctx context.Context, name string, drain vda.CNDrain) error {
	return s.update(ctx, func(tx store.Tx) error {
		cn, err := findNode(tx, vda.ControllerNode, name)
		if err != nil {
			return err
		}
		cn.Online = drain == vda.NoDrain
		return errors.Join(array.UpdateNode(tx, vda.ControllerNode, cn, false), tx.SetCNDrain(cn.ID, drain))
	})
}

// showDrain shows how far the drain of a cn is.
func showDrain(tx store.Reader, msg *apiv1.CnMsg, cn *vda.CN) error {
	left, err := array.LeftOnCN(tx, cn.ID, cn.Drain)
	if err != nil {
		return err
	}
	msg.DrainLeftCnt = uint32(len(left))
	for i := range left {
		l := &left[i]
		if len(msg.StuckCntlrMsgList) == maxStuck {
			break
		}
		why := l.Why
		if why == "" && l.Replace {
			if why, err = noPlace(tx, l); err != nil {
				return err
			}
		}
		if why != "" {
			msg.StuckCntlrMsgList = append(msg.StuckCntlrMsgList,
				&apiv1.StuckCntlrMsg{CntlrId: l.ID, DaName: l.DAName, Primary: l.Primary, Reason: why})
		}
	}
	return nil
}

// noPlace is why a controller has no successor on another cn; "" when it can have one.
func noPlace(tx store.Reader, l *array.Left) (string, error) {
	r, err := array.PlanReplacement(tx, l.DAID, l.ID, func(string) bool { return true })
	if err != nil || r != nil {
		return "", err
	}
	return "no other cn is online and well, without a controller of the array, and able to run one", nil
}
