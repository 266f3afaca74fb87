package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"google.golang.org/protobuf/proto"

	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/client"
)

// A delete returns when what is deleted is marked in the database and the nodes that answer have
// been told. With --wait it returns when they have let go of it: the space is free, hosts are
// disconnected, a disk is blank. What to look for has to be known beforehand, as names are free at once.

var (
	deletedDa = waiting{what: "its space is free on all disks", before: func(ctx context.Context, c *client.Client,
		req proto.Message) (poll, error) {
		r := req.(*apiv1.DeleteDaRequest)
		if r.Keep != "" {
			return nil, errors.New("--wait and --keep exclude each other: the array keeps its space until it is gone")
		}
		now, err := c.GetDa(ctx, &apiv1.GetDaRequest{DaName: r.DaName})
		if err != nil {
			return nil, err
		}
		var vds []string
		for _, g := range now.DaMsg.GrpMsgList {
			for _, v := range g.VdMsgList {
				vds = append(vds, v.VdId)
			}
		}
		return func(ctx context.Context, c *client.Client, _, _ proto.Message) (string, bool, error) {
			return leftVds(ctx, c, &vds)
		}, nil
	}}

	// The exp's name may be another's by the next look: that all are gone is asked, and none is named.
	deletedExp = waiting{what: "its hosts are disconnected, and none of their writes can land any more",
		before: func(_ context.Context, _ *client.Client, req proto.Message) (poll, error) {
			r := req.(*apiv1.DeleteExpRequest)
			return func(ctx context.Context, c *client.Client, _, _ proto.Message) (string, bool, error) {
				_, err := c.DeleteExp(ctx, &apiv1.DeleteExpRequest{DaName: r.DaName, Fence: true})
				switch {
				case err == nil || gone(err): // or the array with it
					return "", true, nil
				case client.CodeOf(err) == apiv1.CodeFailedPrecondition:
					return callFailure(err).info.ReplyMsg, false, nil
				}
				return "", false, err
			}, nil
		}}

	deletedSnap = waiting{what: "its space is free, or its neighbor's that needs it", before: func(ctx context.Context, c *client.Client,
		req proto.Message) (poll, error) {
		r := req.(*apiv1.DeleteSnapRequest)
		get := &apiv1.GetSnapRequest{DaName: r.DaName, SnapName: r.SnapName}
		was, err := c.GetSnap(ctx, get)
		if err != nil {
			return nil, err
		}
		get.SnapId = was.SnapMsg.SnapId
		return func(ctx context.Context, c *client.Client, _, _ proto.Message) (string, bool, error) {
			now, err := c.GetSnap(ctx, get)
			switch {
			case gone(err):
				return "", true, nil
			case err != nil:
				return "", false, err
			}
			m := now.SnapMsg
			return "snap " + r.SnapName + " of da " + r.DaName + " is " + m.State + and(illOf(m.Error, m.ErrorMsg)), false, nil
		}, nil
	}}

	deletedPd = waiting{what: "its disk node has let go of the disk", before: func(ctx context.Context, c *client.Client,
		req proto.Message) (poll, error) {
		r := req.(*apiv1.DeletePdRequest)
		get := &apiv1.GetPdRequest{DnName: r.DnName, PdName: r.PdName}
		was, err := c.GetPd(ctx, get)
		switch {
		case gone(err) && r.Force: // it may be one that was deleted before, and nothing of that is waited for
			return func(context.Context, *client.Client, proto.Message, proto.Message) (string, bool, error) {
				return "", true, nil
			}, nil
		case err != nil:
			return nil, err
		}
		get.PdId = was.PdMsg.PdId
		return func(ctx context.Context, c *client.Client, _, _ proto.Message) (string, bool, error) {
			now, err := c.GetPd(ctx, get)
			switch {
			case gone(err):
				return "", true, nil
			case err != nil:
				return "", false, err
			}
			return "dn " + r.DnName + " has pd " + r.PdName + " still" + and(illOf(now.PdMsg.Error, now.PdMsg.ErrorMsg)), false, nil
		}, nil
	}}
)

// and is an error behind what is said.
func and(ill string) string {
	if ill == "" {
		return ""
	}
	return ": " + ill
}

// leftVds looks for those that are not gone yet, and forgets the others.
func leftVds(ctx context.Context, c *client.Client, vds *[]string) (left string, done bool, err error) {
	why := ""
	*vds = slices.DeleteFunc(*vds, func(id string) bool {
		if err != nil {
			return false
		}
		var now *apiv1.GetVdReply
		now, err = c.GetVd(ctx, &apiv1.GetVdRequest{VdId: id})
		switch {
		case gone(err):
			err = nil
			return true
		case err == nil && why == "":
			why = "vd " + id + " is on pd " + now.VdMsg.PdName + " of dn " + now.VdMsg.DnName
			if ill := illOf(now.VdMsg.Error, now.VdMsg.ErrorMsg); ill != "" {
				why += ": " + ill
			}
		}
		return false
	})
	if err != nil {
		return "", false, err
	}
	return fmt.Sprintf("%s left: %s", count(uint32(len(*vds)), "vd"), why), len(*vds) == 0, nil
}
