package monitor

import (
	"context"
	"net"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/virtual-disk-array/vda"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/member"
	"github.com/virtual-disk-array/vda/syncer"
)

// maxAsked bounds the monitors that are asked about one silent node.
const maxAsked = 3

// peerDialer is a Dialer that reaches other monitors.
type peerDialer interface {
	Monitor(addr string) (apiv1.MonitorClient, error)
}

// peerReport is what another monitor said of a node that is silent to this one.
type peerReport struct {
	asking bool
	by     string // "": nobody hears it
	at     time.Time
}

// heardBy is the monitor that hears the node, by an answer that is not older
// than the beat before.
func (n *node) heardBy() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	if t := &n.m.cfg.Timing; time.Since(n.heard.at) > t.Period+t.Timeout {
		return ""
	}
	return n.heard.by
}

// inquire asks other monitors about a silent node. The answers are there when
// the misses are complete, so it delays nothing.
func (n *node) inquire(ctx context.Context, running *sync.WaitGroup) {
	dial, ok := n.m.cfg.Dial.(peerDialer)
	n.m.mu.Lock()
	peers, cluster := n.m.peers, n.m.cluster
	n.m.mu.Unlock()
	if !ok || len(peers) == 0 {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.heard.asking {
		return
	}
	n.heard.asking = true
	running.Go(func() {
		by := ask(ctx, dial, peers[:min(len(peers), maxAsked)], &apiv1.HearRequest{ClusterId: cluster, NodeId: n.id}, n.m.cfg.Timing.Timeout)
		n.mu.Lock()
		defer n.mu.Unlock()
		n.heard = peerReport{by: by, at: time.Now()}
	})
}

// ask returns the first of the monitors that hears the node, "" for none.
func ask(ctx context.Context, dial peerDialer, peers []string, req *apiv1.HearRequest, limit time.Duration) string {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	answers := make(chan string, len(peers))
	for _, p := range peers {
		go func() {
			c, err := dial.Monitor(p)
			if err == nil {
				var r *apiv1.HearReply
				if r, err = c.Hear(ctx, req); err == nil && r.Well {
					answers <- p
					return
				}
			}
			answers <- ""
		}()
	}
	for range peers {
		if by := <-answers; by != "" {
			return by
		}
	}
	return ""
}

// hearing answers other monitors.
type hearing struct {
	apiv1.UnimplementedMonitorServer
	m *Monitor
}

// Hear implements apiv1.MonitorServer. Its heartbeat gives no lease: the
// monitor that asks must know when that ends.
func (h hearing) Hear(ctx context.Context, req *apiv1.HearRequest) (*apiv1.HearReply, error) {
	h.m.mu.Lock()
	at, known := h.m.all[req.NodeId]
	cluster := h.m.cluster
	h.m.mu.Unlock()
	if !known || cluster != req.ClusterId {
		return nil, status.Errorf(codes.NotFound, "node %s of cluster %s is not known here", req.NodeId, req.ClusterId)
	}
	ctx, cancel := context.WithTimeout(ctx, h.m.cfg.Timing.Timeout*8/10)
	defer cancel()
	r, err := h.m.heartbeat(ctx, at, &apiv1.HeartbeatRequest{ClusterId: cluster, NodeId: req.NodeId})
	switch {
	case err != nil:
		return &apiv1.HearReply{Problem: syncer.Reason(err)}, nil
	case !r.DataPlaneOk:
		return &apiv1.HearReply{Problem: "data plane: " + r.DataPlaneMsg}, nil
	}
	return &apiv1.HearReply{Well: true}, nil
}

func (m *Monitor) heartbeat(ctx context.Context, at vda.At, req *apiv1.HeartbeatRequest) (*apiv1.HeartbeatReply, error) {
	agent, err := m.told(at, req)
	if err != nil {
		return nil, err
	}
	return agent.Heartbeat(ctx, req)
}

// told is the agent that a heartbeat is for; the request says what it is to know of the cluster's security.
func (m *Monitor) told(at vda.At, req *apiv1.HeartbeatRequest) (syncer.Agent, error) {
	req.Security = member.Told(m.cfg.Identity)
	return syncer.DialAgent(m.cfg.Dial, at)
}

// isAddress reports that other machines can be given a monitor's name as an
// address.
func isAddress(name string) bool {
	host, _, err := net.SplitHostPort(name)
	if err != nil || host == "" {
		return false
	}
	ip := net.ParseIP(host)
	return ip == nil || !ip.IsUnspecified()
}
