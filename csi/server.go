package csi

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path"
	"runtime/debug"
	"strings"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/virtual-disk-array/vda/reason"
)

// Config of a Server.
type Config struct {
	// Controller, Groups and Node are the services that it offers; nil for none.
	Controller csi.ControllerServer
	Groups     csi.GroupControllerServer
	Node       csi.NodeServer
	// Ready, when not nil, answers Probe.
	Ready   func(context.Context) bool
	Metrics *Metrics // default: of its own
	Log     *slog.Logger
}

// Server serves the driver on a socket.
type Server struct {
	cfg Config
	srv *grpc.Server
}

// NewServer makes a Server.
func NewServer(cfg Config) *Server {
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	if cfg.Metrics == nil {
		cfg.Metrics = NewMetrics()
	}
	s := &Server{cfg: cfg}
	s.srv = grpc.NewServer(grpc.UnaryInterceptor(s.call), grpc.MaxRecvMsgSize(4<<20))
	csi.RegisterIdentityServer(s.srv, identity{controller: cfg.Controller != nil, groups: cfg.Groups != nil, ready: cfg.Ready})
	if cfg.Controller != nil {
		csi.RegisterControllerServer(s.srv, cfg.Controller)
	}
	if cfg.Groups != nil {
		csi.RegisterGroupControllerServer(s.srv, cfg.Groups)
	}
	if cfg.Node != nil {
		csi.RegisterNodeServer(s.srv, cfg.Node)
	}
	return s
}

// Listen takes the socket of an endpoint, unix:///PATH or a path. One that a plugin of
// before has left is replaced.
func Listen(ctx context.Context, endpoint string) (net.Listener, error) {
	name, ok := strings.CutPrefix(endpoint, "unix://")
	if !ok {
		name = strings.TrimPrefix(endpoint, "unix:")
	}
	if !path.IsAbs(name) {
		return nil, fmt.Errorf("--endpoint %q must be unix:// and an absolute path, like unix:///csi/csi.sock", endpoint)
	}
	if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("--endpoint %s: %s", endpoint, reason.Of(err))
	}
	lis, err := new(net.ListenConfig).Listen(ctx, "unix", name)
	if err != nil {
		return nil, fmt.Errorf("--endpoint %s: %s", endpoint, reason.Of(err))
	}
	return lis, nil
}

// Serve answers on lis until ctx ends, and lets calls under way end for a while.
func (s *Server) Serve(ctx context.Context, lis net.Listener) error {
	stop := context.AfterFunc(ctx, func() {
		patience := time.AfterFunc(20*time.Second, s.srv.Stop)
		defer patience.Stop()
		s.srv.GracefulStop()
	})
	defer stop()
	if err := s.srv.Serve(lis); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
		return err
	}
	return nil
}

// call logs and counts a call. Requests may have secrets, and are not logged.
func (s *Server) call(ctx context.Context, req any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (reply any, err error) {
	begin := time.Now()
	method := path.Base(info.FullMethod)
	defer func() {
		if p := recover(); p != nil {
			s.cfg.Log.Error("a fault of the driver", "method", method, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			reply, err = nil, status.Error(codes.Internal, "a fault of the driver; see its log")
		}
		took := time.Since(begin)
		s.cfg.Metrics.count(info.FullMethod, status.Code(err), took)
		of := subject(req)
		switch {
		case err != nil:
			s.cfg.Log.Warn("failed", "method", method, "of", of, "code", status.Code(err).String(), "err", status.Convert(err).Message(), "took",
				took)
		case strings.HasPrefix(info.FullMethod, "/csi.v1.Identity/") || strings.HasSuffix(method, "GetCapabilities"):
			s.cfg.Log.Debug("done", "method", method, "took", took)
		default:
			s.cfg.Log.Info("done", "method", method, "of", of, "took", took)
		}
	}()
	return handle(ctx, req)
}

// subject is what a request is about.
func subject(req any) string {
	switch r := req.(type) {
	case interface{ GetVolumeId() string }:
		return r.GetVolumeId()
	case interface{ GetSnapshotId() string }:
		return r.GetSnapshotId()
	case interface{ GetGroupSnapshotId() string }:
		return r.GetGroupSnapshotId()
	case interface{ GetName() string }:
		return r.GetName()
	}
	return ""
}
