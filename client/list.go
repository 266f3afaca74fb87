package client

import (
	"context"
	"fmt"
	"iter"

	"google.golang.org/protobuf/proto"

	apiv1 "github.com/virtual-disk-array/vda/api/v1"
)

// Dns runs over the disk nodes that req selects, by name, through all pages:
// Limit is the size of one, Token where to begin. req may be nil for all. An
// error, which is one of ListDn's, ends it. A node that is created or deleted
// meanwhile may be in it or not; no node is in it twice.
func (c *Client) Dns(ctx context.Context, req *apiv1.ListDnRequest) iter.Seq2[*apiv1.DnMsg, error] {
	r := orEmpty(req)
	return pages(&r.Token, func() ([]*apiv1.DnMsg, string, error) {
		reply, err := c.ListDn(ctx, r)
		return reply.GetDnMsgList(), reply.GetNextToken(), err
	})
}

// Pds runs over physical disks, as Dns does over disk nodes.
func (c *Client) Pds(ctx context.Context, req *apiv1.ListPdRequest) iter.Seq2[*apiv1.PdMsg, error] {
	r := orEmpty(req)
	return pages(&r.Token, func() ([]*apiv1.PdMsg, string, error) {
		reply, err := c.ListPd(ctx, r)
		return reply.GetPdMsgList(), reply.GetNextToken(), err
	})
}

// Cns runs over controller nodes, as Dns does over disk nodes.
func (c *Client) Cns(ctx context.Context, req *apiv1.ListCnRequest) iter.Seq2[*apiv1.CnMsg, error] {
	r := orEmpty(req)
	return pages(&r.Token, func() ([]*apiv1.CnMsg, string, error) {
		reply, err := c.ListCn(ctx, r)
		return reply.GetCnMsgList(), reply.GetNextToken(), err
	})
}

// Das runs over disk arrays, as Dns does over disk nodes.
func (c *Client) Das(ctx context.Context, req *apiv1.ListDaRequest) iter.Seq2[*apiv1.DaMsg, error] {
	r := orEmpty(req)
	return pages(&r.Token, func() ([]*apiv1.DaMsg, string, error) {
		reply, err := c.ListDa(ctx, r)
		return reply.GetDaMsgList(), reply.GetNextToken(), err
	})
}

// Snaps runs over snapshots, as Dns does over disk nodes.
func (c *Client) Snaps(ctx context.Context, req *apiv1.ListSnapRequest) iter.Seq2[*apiv1.SnapMsg, error] {
	r := orEmpty(req)
	return pages(&r.Token, func() ([]*apiv1.SnapMsg, string, error) {
		reply, err := c.ListSnap(ctx, r)
		return reply.GetSnapMsgList(), reply.GetNextToken(), err
	})
}

// Exps runs over exporters, as Dns does over disk nodes.
func (c *Client) Exps(ctx context.Context, req *apiv1.ListExpRequest) iter.Seq2[*apiv1.ExpMsg, error] {
	r := orEmpty(req)
	return pages(&r.Token, func() ([]*apiv1.ExpMsg, string, error) {
		reply, err := c.ListExp(ctx, r)
		return reply.GetExpMsgList(), reply.GetNextToken(), err
	})
}

// orEmpty is a copy of a request, an empty one for nil.
func orEmpty[M proto.Message](req M) M {
	if !req.ProtoReflect().IsValid() {
		return req.ProtoReflect().New().Interface().(M)
	}
	return proto.CloneOf(req)
}

// pages runs over the rows of pages that follow each other; token is that of
// the request for the next one. It may be run over again, from the beginning.
func pages[M any](token *string, next func() ([]M, string, error)) iter.Seq2[M, error] {
	first := *token
	return func(yield func(M, error) bool) {
		*token = first
		for {
			rows, more, err := next()
			if err != nil {
				var none M
				yield(none, err)
				return
			}
			for _, row := range rows {
				if !yield(row, nil) {
					return
				}
			}
			if more == "" {
				return
			}
			if more == *token {
				var none M
				yield(none, fmt.Errorf("the portal's list goes round in circles: its page after %q ends with %q", *token, more))
				return
			}
			*token = more
		}
	}
}
