package csi

import (
	"bytes"
	"runtime"
	"strings"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"

	"github.com/virtual-disk-array/vda/agent/planetest"
	"github.com/virtual-disk-array/vda/csi/node"
	"github.com/virtual-disk-array/vda/csi/volume"
)

// TestNameOfAnotherDevice: a volume's connections end between the look at its device and
// mkfs, and another volume gets the device's name. It is not written to.
func TestNameOfAnotherDevice(t *testing.T) {
	c := newCluster(t, 1)
	ctl := c.controller()
	m := newMachine(t, "node0")
	n := node.New(node.Config{Host: m, FileSystems: m, Log: planetest.Log()})
	mode := &csi.VolumeCapability_AccessMode{Mode: csi.VolumeCapability_AccessMode_SINGLE_NODE_WRITER}
	block := rawBlock()
	mount := &csi.VolumeCapability{AccessType: &csi.VolumeCapability_Mount{Mount: &csi.VolumeCapability_MountVolume{}}, AccessMode: mode}
	nqns := map[string]string{}
	stage := func(name string, as *csi.VolumeCapability) error {
		t.Helper()
		var v *csi.CreateVolumeResponse
		try(t, func() (err error) {
			v, err = ctl.CreateVolume(t.Context(), &csi.CreateVolumeRequest{Name: name, VolumeCapabilities: []*csi.VolumeCapability{as},
				CapacityRange: &csi.CapacityRange{RequiredBytes: 4 << 20}, Parameters: map[string]string{"cntlrCnt": "1"}})
			return err
		})
		var p *csi.ControllerPublishVolumeResponse
		try(t, func() (err error) {
			p, err = ctl.ControllerPublishVolume(t.Context(), &csi.ControllerPublishVolumeRequest{VolumeId: v.Volume.VolumeId, NodeId: m.nqn,
				VolumeCapability: as})
			return err
		})
		pub, err := volume.ParsePublication(p.PublishContext)
		if err != nil {
			t.Fatal(err)
		}
		nqns[name] = pub.NQN
		_, err = n.NodeStageVolume(t.Context(), &csi.NodeStageVolumeRequest{VolumeId: v.Volume.VolumeId, StagingTargetPath: t.TempDir(),
			VolumeContext: v.Volume.VolumeContext, PublishContext: p.PublishContext, VolumeCapability: as})
		return err
	}
	if err := stage("other", block); err != nil {
		t.Fatal(err)
	}
	lost := false
	m.step = func(what string) {
		if !lost && strings.HasPrefix(what, "write "+underWay) {
			lost = true
			m.lose(nqns["lost"], nqns["other"])
		}
	}
	if err := stage("lost", mount); err == nil || !lost {
		t.Errorf("staged without a device: %v, %v", err, lost)
	}
	d, there, err := m.Find(nqns["other"], "")
	if err != nil || !there {
		t.Fatalf("%v, %v", there, err)
	}
	if b, err := m.first(d.Path); err != nil || !bytes.Equal(b, make([]byte, len(b))) {
		t.Errorf("the other volume has %.60q, %v", b, err)
	}
}

// TestKilledAfterMount: a plugin dies between mount and growth; the repeated call grows
// the file system, which was made smaller than its device.
func TestKilledAfterMount(t *testing.T) {
	c := newCluster(t, 1)
	ctl := c.controller()
	m := newMachine(t, "node0")
	mount := &csi.VolumeCapability{AccessType: &csi.VolumeCapability_Mount{Mount: &csi.VolumeCapability_MountVolume{}},
		AccessMode: &csi.VolumeCapability_AccessMode{Mode: csi.VolumeCapability_AccessMode_SINGLE_NODE_WRITER}}
	req := &csi.NodeStageVolumeRequest{VolumeId: "pvc-1", StagingTargetPath: t.TempDir(), VolumeCapability: mount}
	try(t, func() error {
		_, err := ctl.CreateVolume(t.Context(), &csi.CreateVolumeRequest{Name: "pvc-1", VolumeCapabilities: []*csi.VolumeCapability{mount},
			CapacityRange: &csi.CapacityRange{RequiredBytes: 4 << 20}, Parameters: map[string]string{"cntlrCnt": "1"}})
		return err
	})
	try(t, func() error {
		p, err := ctl.ControllerPublishVolume(t.Context(), &csi.ControllerPublishVolumeRequest{VolumeId: "pvc-1", NodeId: m.nqn,
			VolumeCapability: mount})
		req.PublishContext = p.GetPublishContext()
		return err
	})
	grown := 0
	m.step = func(what string) {
		if what == "mounted" {
			runtime.Goexit()
		}
		if what == "grow" {
			grown++
		}
	}
	dead := make(chan struct{})
	go func() {
		defer close(dead)
		_, err := node.New(node.Config{Host: m, FileSystems: m, Log: planetest.Log()}).NodeStageVolume(t.Context(), req)
		t.Errorf("it has not died: %v", err)
	}()
	<-dead
	_, err := node.New(node.Config{Host: m, FileSystems: m, Log: planetest.Log()}).NodeStageVolume(t.Context(), req)
	if err != nil || grown != 1 {
		t.Errorf("%v, grown %d times", err, grown)
	}
}
