package csi

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"

	"github.com/virtual-disk-array/vda/csi/node"
)

// lines is a log that can be read while it is written to.
type lines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(b)
}

// count is how many lines have all of the words.
func (l *lines) count(words ...string) (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for line := range strings.Lines(l.buf.String()) {
		n++
		for _, w := range words {
			if !strings.Contains(line, w) {
				n--
				break
			}
		}
	}
	return n
}

// TestHealthIsFollowed: a file system that an error has made read-only shows in volume health, is
// counted, and is logged once when it has become so and once when it is over.
func TestHealthIsFollowed(t *testing.T) {
	c := newCluster(t, 2)
	ctl, m, log := c.controller(), newMachine(t, "node0"), &lines{}
	n := node.New(node.Config{Host: m, FileSystems: m, FollowEvery: 5 * time.Millisecond, Log: slog.New(slog.NewTextHandler(log, nil))})
	v := &csi.VolumeCapability{AccessType: &csi.VolumeCapability_Mount{Mount: &csi.VolumeCapability_MountVolume{}},
		AccessMode: rawBlock().AccessMode}
	var made *csi.CreateVolumeResponse
	try(t, func() (err error) {
		made, err = ctl.CreateVolume(t.Context(), &csi.CreateVolumeRequest{Name: "v", VolumeCapabilities: []*csi.VolumeCapability{v},
			CapacityRange: &csi.CapacityRange{RequiredBytes: 4 << 20}})
		return err
	})
	id, staging := made.Volume.VolumeId, t.TempDir()
	var pub *csi.ControllerPublishVolumeResponse
	try(t, func() (err error) {
		pub, err = ctl.ControllerPublishVolume(t.Context(), &csi.ControllerPublishVolumeRequest{VolumeId: id, NodeId: m.nqn, VolumeCapability: v})
		return err
	})
	try(t, func() error {
		_, err := n.NodeStageVolume(t.Context(), &csi.NodeStageVolumeRequest{VolumeId: id, StagingTargetPath: staging,
			PublishContext: pub.PublishContext, VolumeCapability: v})
		return err
	})
	var looks atomic.Int32
	m.step = func(string) { looks.Add(1) }
	c.run(func(ctx context.Context) error {
		n.Follow(ctx)
		return nil
	})
	freeze := func(frozen bool) {
		m.mu.Lock()
		defer m.mu.Unlock()
		mt := m.mounts[staging]
		mt.Frozen = frozen
		m.mounts[staging] = mt
	}
	const reason = "FileSystemReadOnly"
	until := func(what string, so func() bool) {
		t.Helper()
		for begin := time.Now(); !so(); time.Sleep(5 * time.Millisecond) {
			if time.Since(begin) > 2*time.Minute {
				t.Fatal(what)
			}
		}
	}
	has := func() bool {
		t.Helper()
		h, err := n.NodeGetVolumeHealth(t.Context(), &csi.NodeGetVolumeHealthRequest{VolumeId: id})
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range h.VolumeHealth.HealthStatuses {
			if e.Reason == reason && e.Status == csi.VolumeHealthErrorType_INACCESSIBLE && strings.Contains(e.Message, staging) {
				return true
			}
		}
		return false
	}
	if has() || n.Unwell(reason) != 0 {
		t.Error("a volume that is well is not")
	}
	for round := 1; round <= 2; round++ {
		freeze(true)
		until("it is not counted", func() bool { return n.Unwell(reason) == 1 })
		if !has() {
			t.Error("volume health does not say it")
		}
		before := looks.Load()
		until("nobody looks at it", func() bool { return looks.Load() > before+5 })
		freeze(false)
		until("it is not over", func() bool { return n.Unwell(reason) == 0 })
		if has() {
			t.Error("volume health says it still")
		}
		until("it is not logged", func() bool { return log.count("it is over", "reason="+reason) == round })
		if got := log.count("not well", "volume=v", "reason="+reason); got != round {
			t.Errorf("it is logged %d times in %d rounds", got, round)
		}
	}
	try(t, func() error {
		_, err := n.NodeUnstageVolume(t.Context(), &csi.NodeUnstageVolumeRequest{VolumeId: id, StagingTargetPath: staging})
		return err
	})
	for _, reason := range node.Ailments {
		until("a volume that was unstaged is counted with "+reason, func() bool { return n.Unwell(reason) == 0 })
	}
}
