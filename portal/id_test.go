package portal_test

import (
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/portal/portaltest"
	"github.com/virtual-disk-array/vda/rpc"
)

// TestARequestHasOneIDEverywhere: the client's own, else a new one, is in the
// reply, in its header, in a refusal, and in what agents are asked.
func TestARequestHasOneIDEverywhere(t *testing.T) {
	c := portaltest.New(t)
	client := c.Client()
	c.Populate(client, 2, 2)
	agent := c.Agent("dn0:9720")
	var header metadata.MD
	for name, ask := range map[string]string{"da0": "", "da1": "csi-node.7"} {
		ctx := t.Context()
		if ask != "" {
			ctx = rpc.WithRequestID(ctx, ask)
		}
		r := must[*apiv1.CreateDaReply](t)(client.CreateDa(ctx, &apiv1.CreateDaRequest{DaName: name, CntlrCnt: 2, DaSize: 16 << 20,
			DaConf: `{"stripe_count":2, "stripe_size_kb":64}`}, grpc.Header(&header)))
		id := r.ReplyInfo.ReqId
		if ask != "" && id != ask || len(id) == 0 {
			t.Errorf("%s: the reply has the id %q, asked with %q", name, id, ask)
		}
		if got := header.Get("x-request-id"); len(got) != 1 || got[0] != id {
			t.Errorf("%s: the header has the ids %q, want %q", name, got, id)
		}
		syncs := agent.Syncs()
		if last := syncs[len(syncs)-1]; last.ReqID != id {
			t.Errorf("%s: the agent was asked under the id %q, want %q", name, last.ReqID, id)
		}
	}
	_, err := client.GetDa(rpc.WithRequestID(t.Context(), "bad-1"), &apiv1.GetDaRequest{DaName: "nix"})
	for _, d := range status.Convert(err).Details() {
		if info, ok := d.(*apiv1.ReplyInfo); !ok || info.ReqId != "bad-1" {
			t.Errorf("a refusal says %v", d)
		}
	}
}
