package cli

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/client"
)

// A create returns when what is made is in the database and the nodes that answer have been
// told. With --wait it returns when it can be used. An error that stays for stuckTime ends the
// wait; what was made is not taken back.

// making is what is known of something that was made: the error that it has shown last, and
// since when.
type making struct {
	name  string
	ill   string
	since time.Time
}

// look judges one reply: ill is the object's error, lack what it lacks still, "" for nothing.
func (m *making) look(ill, lack string) (left string, done bool, err error) {
	switch {
	case ill == "":
		m.ill = ""
		return m.name + " " + lack, lack == "", nil
	case ill != m.ill:
		m.ill, m.since = ill, time.Now()
	case time.Since(m.since) >= stuckTime:
		return "", false, notDone(apiv1.CodeFailedPrecondition, "%s is made, and is not well: %s", m.name, ill)
	}
	return m.name + " is not well: " + ill, false, nil
}

// made is a wait for something that was made; see looks at it, and brings the reply up to date.
func made[Req, Reply proto.Message](what string, see func(ctx context.Context, c *client.Client, m *making, req Req,
	reply Reply) (ill, lack string, err error)) waiting {
	return waiting{what: what, begin: func() poll {
		m := &making{}
		return func(ctx context.Context, c *client.Client, req, reply proto.Message) (string, bool, error) {
			ill, lack, err := see(ctx, c, m, req.(Req), reply.(Reply))
			if gone(err) {
				return "", false, notDone(apiv1.CodeCancelled, "%s is gone: somebody has deleted it, or it could not be made", m.name)
			}
			if err != nil {
				return "", false, err
			}
			return m.look(ill, lack)
		}
	}}
}

// illOf is an error as users are told.
func illOf(ill bool, msg string) string {
	if ill && msg == "" {
		return "it is in error"
	}
	if ill {
		return msg
	}
	return ""
}

// unheard is what a node lacks that no monitor has heard.
func unheard(dataPlane string) string {
	if dataPlane == "" {
		return "has not been heard by a monitor"
	}
	return ""
}

var (
	createdDn = made("the node answers and is well",
		func(ctx context.Context, c *client.Client, of *making, req *apiv1.CreateDnRequest, reply *apiv1.CreateDnReply) (string, string, error) {
			of.name = "dn " + req.DnName
			now, err := c.GetDn(ctx, &apiv1.GetDnRequest{DnName: req.DnName})
			if err != nil {
				return "", "", err
			}
			reply.DnMsg = now.DnMsg
			return illOf(now.DnMsg.Error, now.DnMsg.ErrorMsg), unheard(now.DnMsg.DataPlaneVersion), nil
		})

	createdCn = made("the node answers and is well",
		func(ctx context.Context, c *client.Client, of *making, req *apiv1.CreateCnRequest, reply *apiv1.CreateCnReply) (string, string, error) {
			of.name = "cn " + req.CnName
			now, err := c.GetCn(ctx, &apiv1.GetCnRequest{CnName: req.CnName})
			if err != nil {
				return "", "", err
			}
			reply.CnMsg = now.CnMsg
			return illOf(now.CnMsg.Error, now.CnMsg.ErrorMsg), unheard(now.CnMsg.DataPlaneVersion), nil
		})

	createdPd = made("the disk is formatted and well",
		func(ctx context.Context, c *client.Client, of *making, req *apiv1.CreatePdRequest, reply *apiv1.CreatePdReply) (string, string, error) {
			of.name = "pd " + req.PdName + " of dn " + req.DnName
			now, err := c.GetPd(ctx, &apiv1.GetPdRequest{DnName: req.DnName, PdName: req.PdName})
			if err != nil {
				return "", "", err
			}
			reply.PdMsg = now.PdMsg
			lack := ""
			if now.PdMsg.TotalSize == 0 {
				lack = "is not formatted yet"
			}
			return illOf(now.PdMsg.Error, now.PdMsg.ErrorMsg), lack, nil
		})

	createdDa = made("the array is well, with all its paths and legs",
		func(ctx context.Context, c *client.Client, of *making, req *apiv1.CreateDaRequest, reply *apiv1.CreateDaReply) (string, string, error) {
			of.name = "da " + req.DaName
			now, err := c.GetDa(ctx, &apiv1.GetDaRequest{DaName: req.DaName})
			if err != nil {
				return "", "", err
			}
			m := now.DaMsg
			reply.DaMsg = m
			lack := ""
			switch {
			case m.WellPathCnt < m.CntlrCnt:
				lack = fmt.Sprintf("has %d well paths of %d", m.WellPathCnt, m.CntlrCnt)
			case m.RedundancyState != "full":
				lack = "is " + m.RedundancyState
			}
			return illOf(m.Error, m.ErrorMsg), lack, nil
		})

	createdExp = made("hosts can connect to it by all its paths",
		func(ctx context.Context, c *client.Client, of *making, req *apiv1.CreateExpRequest,
			reply *apiv1.CreateExpReply) (string, string, error) {
			of.name = "exp " + req.ExpName + " of da " + req.DaName
			now, err := c.GetExp(ctx, &apiv1.GetExpRequest{DaName: req.DaName, ExpName: req.ExpName})
			if err != nil {
				return "", "", err
			}
			reply.ExpMsg = now.ExpMsg
			lack := ""
			if len(now.ExpMsg.EsMsgList) == 0 {
				lack = "has no path yet"
			}
			for _, es := range now.ExpMsg.EsMsgList {
				if es.Error {
					return illOf(true, "its path by cn "+es.CnName+": "+es.ErrorMsg), lack, nil
				}
			}
			return "", lack, nil
		})
)
