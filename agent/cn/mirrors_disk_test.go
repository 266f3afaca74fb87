package cn_test

import (
	"context"
	"os"
	"strings"
	"testing"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/agent/planetest"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/spdk"
)

// failing puts a bdev that fails on demand below the pd of dn i.
func failing(t *testing.T, g *tgt, i int) {
	t.Helper()
	for _, call := range []struct {
		method string
		params map[string]any
	}{
		{"bdev_malloc_create", map[string]any{"name": "M0", "num_blocks": 64 << 20 / 4096, "block_size": 4096}},
		{"bdev_error_create", map[string]any{"base_name": "M0"}},
		{"bdev_delay_create", map[string]any{"base_bdev_name": "EE_M0", "name": vda.PDPrefix + id("a0", i),
			"avg_read_latency": 0, "p99_read_latency": 0, "avg_write_latency": 0, "p99_write_latency": 0}},
	} {
		g.call(t, call.method, call.params)
	}
}

func (g *tgt) call(t *testing.T, method string, params map[string]any) {
	t.Helper()
	c, err := spdk.New(spdk.Config{Socket: g.socket})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.Call(context.Background(), method, params, nil); err != nil {
		t.Fatal(err)
	}
}

// TestRealMirrorsOnADiskThatFails: what the disk of one leg cannot read is read from
// the other and written again, and a write that it fails drops the leg at once, while
// the host goes on. The pd says how often its disk has failed.
func TestRealMirrorsOnADiskThatFails(t *testing.T) {
	for _, onSPDK := range []bool{false, true} {
		name := "vda_tgt"
		if onSPDK {
			if name = "spdk_tgt"; os.Getenv("SPDK_TGT") == "" {
				continue
			}
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dns := 0
			l, dnTgts, _ := realsOn(t, 1, false, func(node string) bool { return onSPDK && node == "dn1" }, unhurried, func(g *tgt, _ string) {
				if dns++; dns == 2 {
					failing(t, g, 1)
				}
			})
			m := newMirrorLab(l)
			m.pdConf = []string{mallocConf, mallocConf}
			m.fence(0)
			m.fence(1)
			m.leased()
			m.up(0)
			write(t, m.disk(0), 3)
			m.reports(0, quiet)
			work := startLoad(m.multipath())
			defer work.end()
			work.goesOn()

			inject := func(op string, num int) {
				dnTgts[1].call(t, "bdev_error_inject_error", map[string]any{"name": "EE_M0", "io_type": op, "error_type": "failure", "num": num})
			}
			inject("read", 1)
			m.ails(1, "has had 1 I/O errors")
			work.goesOn()
			m.reports(0, quiet)

			inject("write", 1<<30) // as long as no leg is dropped, the agent tries them again
			m.reports(0, m.legsOf(1, "lost", func(s *apiv1.LegState) bool { return s.Lost && !s.Connected }))
			m.role(1, apiv1.LegRole_LEG_ROLE_STALE)
			m.good(0, m.cntlr(0, 0))
			work.goesOn()
			m.reports(0, quiet)
			m.healthy(0)
		})
	}
}

const mallocConf = `{"type":"malloc","size":67108864}`

// legsOf is legs of any mirror.
func (m *mirrorLab) legsOf(d int, what string, f func(l *apiv1.LegState) bool) func([]*apiv1.MirrorState) string {
	return func(l []*apiv1.MirrorState) string {
		for _, s := range l {
			for _, leg := range s.Legs {
				for _, spec := range m.mirrors {
					if leg.VdId == spec.Legs[d].Vd.VdId && f(leg) {
						return ""
					}
				}
			}
		}
		return "no leg is " + what
	}
}

// ails waits until the pd of dn i is in error for that.
func (m *mirrorLab) ails(i int, why string) {
	m.Helper()
	planetest.Eventually(m, func() string {
		r, err := m.dns[i].a.Heartbeat(context.Background(), &apiv1.HeartbeatRequest{ClusterId: cluster, NodeId: m.dns[i].id})
		if err != nil {
			return err.Error()
		}
		for _, s := range r.States {
			if s.Id == id("a0", i) && strings.Contains(s.ErrorMsg, why) {
				return ""
			}
		}
		return "the pd does not say " + why
	})
}
