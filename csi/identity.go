package csi

import (
	"context"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/virtual-disk-array/vda/csi/volume"
	"github.com/virtual-disk-array/vda/program"
)

// identity implements the Identity service.
type identity struct {
	csi.UnimplementedIdentityServer
	controller bool // the Controller service is there
	groups     bool // and that of groups
	ready      func(context.Context) bool
}

// GetPluginInfo says which driver it is.
func (identity) GetPluginInfo(context.Context, *csi.GetPluginInfoRequest) (*csi.GetPluginInfoResponse, error) {
	return &csi.GetPluginInfoResponse{Name: volume.Driver, VendorVersion: program.Version()}, nil
}

// GetPluginCapabilities says what the driver can do. Volumes can be used from every node, so
// that it has no constraints of accessibility: with them orchestrators would refuse nodes
// that have no location.
func (i identity) GetPluginCapabilities(context.Context, *csi.GetPluginCapabilitiesRequest) (*csi.GetPluginCapabilitiesResponse, error) {
	reply := &csi.GetPluginCapabilitiesResponse{Capabilities: []*csi.PluginCapability{
		{Type: &csi.PluginCapability_VolumeExpansion_{VolumeExpansion: &csi.PluginCapability_VolumeExpansion{
			Type: csi.PluginCapability_VolumeExpansion_ONLINE}}},
	}}
	for service, there := range map[csi.PluginCapability_Service_Type]bool{
		csi.PluginCapability_Service_CONTROLLER_SERVICE:       i.controller,
		csi.PluginCapability_Service_GROUP_CONTROLLER_SERVICE: i.groups,
	} {
		if there {
			reply.Capabilities = append(reply.Capabilities, &csi.PluginCapability{Type: &csi.PluginCapability_Service_{
				Service: &csi.PluginCapability_Service{Type: service}}})
		}
	}
	return reply, nil
}

// Probe says whether the driver can be used. Portals that are away are no reason to
// restart it.
func (i identity) Probe(ctx context.Context, _ *csi.ProbeRequest) (*csi.ProbeResponse, error) {
	return &csi.ProbeResponse{Ready: wrapperspb.Bool(i.ready == nil || i.ready(ctx))}, nil
}
