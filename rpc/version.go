package rpc

import (
	"context"
	"runtime"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"

	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/daemon"
	"github.com/virtual-disk-array/vda/daemon/httpd"
	"github.com/virtual-disk-array/vda/program"
	"github.com/virtual-disk-array/vda/support"
)

// RegisterVersion has a server tell which build it is; Serve does it for every
// daemon, with what is in a support bundle.
func RegisterVersion(r grpc.ServiceRegistrar) { apiv1.RegisterProgramServer(r, about{}) }

// RegisterCounters is RegisterVersion for what also tells what it has counted.
func RegisterCounters(r grpc.ServiceRegistrar, counters func(context.Context) *apiv1.CountersReply) {
	apiv1.RegisterProgramServer(r, about{counters: counters})
}

// about is the service Program.
type about struct {
	apiv1.UnimplementedProgramServer
	own      func(context.Context) []support.File
	counters func(context.Context) *apiv1.CountersReply
}

// Version implements apiv1.ProgramServer.
func (about) Version(context.Context, *apiv1.VersionRequest) (*apiv1.VersionReply, error) {
	return &apiv1.VersionReply{Version: program.Version()}, nil
}

// Support implements apiv1.ProgramServer.
func (a about) Support(ctx context.Context, _ *apiv1.SupportRequest) (*apiv1.SupportReply, error) {
	reply, total := &apiv1.SupportReply{}, 0
	if a.own == nil {
		return reply, nil
	}
	for _, f := range a.own(ctx) {
		if total += len(f.Content); total > maxSupport {
			f.Content = []byte("it is left out: the bundle of this program has grown too long\n")
		}
		reply.FileList = append(reply.FileList, &apiv1.SupportFile{Name: f.Name, Content: f.Content})
	}
	return reply, nil
}

// Counters implements apiv1.ProgramServer.
func (a about) Counters(ctx context.Context, req *apiv1.CountersRequest) (*apiv1.CountersReply, error) {
	if a.counters == nil {
		return a.UnimplementedProgramServer.Counters(ctx, req)
	}
	return a.counters(ctx), nil
}

// maxSupport bounds what a program says of itself in a bundle, in bytes: it is one message.
const maxSupport = MaxAgentMessage / 2

// support is what every daemon has for a support bundle: its version, log, goroutines and metrics;
// and what cfg's Support adds.
func (c *Config) support(ctx context.Context) []support.File {
	files := []support.File{
		support.Clean("version.txt", []byte(program.Version()+"\n"+runtime.GOOS+"/"+runtime.GOARCH+"\n")),
		support.Clean("log.txt", daemon.RecentLog()), support.Goroutines(), support.Clean("metrics.txt", httpd.Metrics(c.Registry)),
	}
	if c.Support != nil {
		files = append(files, c.Support(ctx)...)
	}
	return files
}

// OwnSupport is what a daemon of this process, whose metrics registry has, says of itself.
func OwnSupport(ctx context.Context, registry *prometheus.Registry) []support.File {
	return (&Config{Registry: registry}).support(ctx)
}
