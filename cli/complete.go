package cli

import (
	"bytes"
	"context"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/proto"

	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/client"
	"github.com/virtual-disk-array/vda/program"
)

// A shell completes names by asking the portal: it has as long as somebody waits who
// has pressed a key.
const completionTimeout = 2 * time.Second

// lister asks for what a value may be; of is a flag's value, "" when it has none.
type lister func(ctx context.Context, c *client.Client, of func(flag string) string) (proto.Message, error)

// most is how many names a completion offers.
const most = 1000

func listDn(ctx context.Context, c *client.Client, _ func(string) string) (proto.Message, error) {
	return c.ListDn(ctx, &apiv1.ListDnRequest{Limit: most})
}

func listCn(ctx context.Context, c *client.Client, _ func(string) string) (proto.Message, error) {
	return c.ListCn(ctx, &apiv1.ListCnRequest{Limit: most})
}

func listDa(ctx context.Context, c *client.Client, _ func(string) string) (proto.Message, error) {
	return c.ListDa(ctx, &apiv1.ListDaRequest{Limit: most})
}

func listPd(ctx context.Context, c *client.Client, of func(string) string) (proto.Message, error) {
	req := &apiv1.ListPdRequest{Limit: most}
	if dn := of("dn-name") + of("to-dn"); dn != "" {
		req.DnName = &dn
	}
	return c.ListPd(ctx, req)
}

func listExp(ctx context.Context, c *client.Client, of func(string) string) (proto.Message, error) {
	req := &apiv1.ListExpRequest{Limit: most}
	if da := of("da-name"); da != "" {
		req.DaName = &da
	}
	return c.ListExp(ctx, req)
}

func listSnap(ctx context.Context, c *client.Client, of func(string) string) (proto.Message, error) {
	req := &apiv1.ListSnapRequest{Limit: most}
	if da := of("da-name"); da != "" {
		req.DaName = &da
	}
	return c.ListSnap(ctx, req)
}

func listOrphan(ctx context.Context, c *client.Client, _ func(string) string) (proto.Message, error) {
	return c.ListOrphan(ctx, &apiv1.ListOrphanRequest{})
}

func listUser(ctx context.Context, c *client.Client, _ func(string) string) (proto.Message, error) {
	return c.ListUser(ctx, &apiv1.ListUserRequest{})
}

func listSession(ctx context.Context, c *client.Client, _ func(string) string) (proto.Message, error) {
	return c.ListSession(ctx, &apiv1.ListSessionRequest{})
}

// listers are those of flags that name what there is.
var listers = map[string]lister{
	"dn-name": listDn, "to-dn": listDn, "cn-name": listCn, "to-cn": listCn, "da-name": listDa,
	"pd-name": listPd, "to-pd": listPd, "exp-name": listExp, "snap-name": listSnap, "orphan-id": listOrphan,
	"user-name": listUser, "session-id": listSession,
}

// makes reports that a flag's value is the name of what the command makes, which nobody
// can know before.
func (c *command) makes(flag string) bool {
	flags := own[c.noun]
	return c.verb == "create" && len(flags) > 0 && flags[len(flags)-1] == flag
}

// completable has shells complete the names that a command takes.
func (s *session) completable(cmd *cobra.Command, c *command) {
	for _, f := range c.flags {
		if list := listers[f.name]; list != nil && !c.makes(f.name) {
			program.Values(cmd, f.name, func(cmd *cobra.Command, begun string) []string { return s.offer(cmd, list, begun, false) })
		}
	}
	flags := c.named()
	if flags == nil || c.verb == "create" {
		return
	}
	list := listers[flags[len(flags)-1]]
	if list == nil {
		return
	}
	program.Arguments(cmd, func(cmd *cobra.Command, args []string, begun string) []string {
		if len(args) > 0 {
			return nil
		}
		return s.offer(cmd, list, begun, len(flags) > 1)
	})
}

// offer is what there is and begins as what is typed already. A shell that completes has
// no place for an error: it gets nothing.
func (s *session) offer(cmd *cobra.Command, list lister, begun string, whole bool) []string {
	if s.timeout <= 0 {
		return nil
	}
	if s.useContext(cmd) != nil {
		return nil
	}
	c, err := s.client(min(s.timeout, completionTimeout))
	if err != nil {
		return nil
	}
	defer c.Close()
	reply, err := list(cmd.Context(), c, func(name string) string {
		if f := cmd.Flags().Lookup(name); f != nil {
			return f.Value.String()
		}
		return ""
	})
	if err != nil {
		return nil
	}
	var some []string
	for name := range bytes.Lines(names(nil, reply.ProtoReflect())) {
		n := strings.TrimSuffix(string(name), "\n")
		if i := strings.LastIndexByte(n, '/'); !whole && i >= 0 {
			n = n[i+1:] // what is before it is another flag's
		}
		if strings.HasPrefix(n, begun) && !slices.Contains(some, n) {
			some = append(some, n)
		}
	}
	return some
}
