package cn_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/virtual-disk-array/vda"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/module/mirror/core"
	"github.com/virtual-disk-array/vda/module/mirror/label"
	"github.com/virtual-disk-array/vda/nvmf/host"
	"github.com/virtual-disk-array/vda/spdk/jsonrpc"
)

// TestRealLeftAlone: an array was narrowed to a leg that caught up, which its primary did not
// take, and the primary dies. The next one does not serve, says what the matter is and that the leg
// lacks something, so that a user may recover the array from it, and then serves.
func TestRealLeftAlone(t *testing.T) {
	t.Parallel()
	l, _, cnTgts := reals(t, 1, true, false, false)
	m := made(l)
	write(t, m.disk(0), 3)
	for _, spec := range m.mirrors {
		spec.Recovered = proto.Uint64(0)
	}
	m.good(0, m.cntlr(0, 0))
	cnTgts[0].stop()
	m.term++
	m.role(0, apiv1.LegRole_LEG_ROLE_STALE)
	m.fence(1)
	for _, spec := range m.mirrors {
		m.catchesUp(spec, 1)
	}
	m.sync(0, m.cntlr(0, 0))
	cnTgts[0].start()
	m.reports(0, m.legs(1, "left alone", func(s *apiv1.LegState) bool {
		return s.Lost && !s.Connected && s.LackBytes > 0 && s.Why == core.LeftAlone
	}))
	said := ""
	for _, s := range m.settled(0, m.cntlr(0, 0)) {
		said += s.ErrorMsg
	}
	if !strings.Contains(said, core.LeftAlone) {
		t.Errorf("the array's states: %s", said)
	}

	for _, spec := range m.mirrors { // array.Recover
		spec.Gen++
		spec.Recovered = proto.Uint64(spec.Gen)
		spec.Legs[1].Vd.Epoch++
	}
	m.fence(1)
	m.good(0, m.cntlr(0, 0))
	m.healthy(0)
	verify(t, m.disk(0), 3)
}

// catchesUp has the label of a leg say that the leg catches up, as it stands when the primary
// dies then.
func (m *mirrorLab) catchesUp(spec *apiv1.MirrorSpec, d int) {
	m.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	v := spec.Legs[d].Vd
	c, err := host.Connect(ctx, host.Config{Traddr: "127.0.0.1", Trsvcid: m.dns[d].port, SubNQN: v.Nqn,
		HostNQN: vda.LegHostNQN(m.hostNQN(), v.Epoch), Queues: 1, KeepAlive: unhurried})
	if err != nil {
		m.Fatal(err)
	}
	defer c.Close()
	slots := make([]byte, 2*label.SlotSize)
	if err := c.Namespace(1).ReadAt(ctx, slots, legData); err != nil {
		m.Fatal(err)
	}
	l, err := label.Decode(slots)
	if err != nil {
		m.Fatal(err)
	}
	l.Seq++
	l.Clean, l.Source, l.CatchingUp = false, l.Members[0], []label.ID{l.VD}
	b, err := l.Encode()
	if err == nil {
		err = c.Namespace(1).WriteAt(ctx, b, legData+int64(label.Slot(l.Seq)))
	}
	if err != nil {
		m.Fatal(err)
	}
}

// TestRecoveredIsSaid: a data plane is told what a user has said of a mirror, one of before is not,
// and nothing is said for a control plane that does not.
func TestRecoveredIsSaid(t *testing.T) {
	for _, c := range []struct {
		name   string
		says   *uint64
		before bool
		want   string
	}{
		{"a data plane of now", proto.Uint64(7), false, "create 7, set 7"},
		{"a data plane of before", proto.Uint64(7), true, "create nothing, set nothing"},
		{"a control plane of before", nil, false, "create nothing, set nothing"},
	} {
		t.Run(c.name, func(t *testing.T) {
			inBubble(t, 1, true, func(l *lab) {
				m := newMirrorLab(l)
				m.pdConf = []string{mallocConf, mallocConf}
				for _, spec := range m.mirrors {
					spec.Recovered = c.says
				}
				var mu sync.Mutex
				said := map[string]string{}
				m.cns[0].plane.SetHook(func(method string, params map[string]any) error {
					v, has := params["recovered"]
					if has && c.before {
						return &jsonrpc.Error{Code: jsonrpc.CodeInternalError, Message: "spdk_json_decode_object failed",
							Data: "recovered is not a parameter"}
					}
					mu.Lock()
					defer mu.Unlock()
					if said[method] = "nothing"; has {
						said[method] = fmt.Sprint(v)
					}
					return nil
				})
				m.fence(0)
				m.fence(1)
				m.up(0)
				m.role(1, apiv1.LegRole_LEG_ROLE_STALE)
				m.good(0, m.cntlr(0, 0))
				mu.Lock()
				defer mu.Unlock()
				if got := fmt.Sprintf("create %s, set %s", said["vda_mirror_create"], said["vda_mirror_set"]); got != c.want {
					t.Errorf("said: %s; want %s", got, c.want)
				}
			})
		})
	}
}
