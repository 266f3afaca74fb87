package rpc

import (
	"context"

	"google.golang.org/grpc"

	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/program"
)

// RegisterVersion has a server tell which build it is; Serve does it for every
// daemon.
func RegisterVersion(r grpc.ServiceRegistrar) { apiv1.RegisterProgramServer(r, version{}) }

// version is the service Program.
type version struct {
	apiv1.UnimplementedProgramServer
}

// Version implements apiv1.ProgramServer.
func (version) Version(context.Context, *apiv1.VersionRequest) (*apiv1.VersionReply, error) {
	return &apiv1.VersionReply{Version: program.Version()}, nil
}
