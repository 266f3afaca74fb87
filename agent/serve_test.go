package agent_test

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	reflectionv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/agent"
	"github.com/virtual-disk-array/vda/agent/dn"
	"github.com/virtual-disk-array/vda/agent/planetest"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/daemon"
	"github.com/virtual-disk-array/vda/rpc"
)

func config(t *testing.T, socket string) agent.Config {
	return agent.Config{Flags: daemon.Flags{Listener: "127.0.0.1"}, Socket: socket, StateDir: t.TempDir(), Log: planetest.Log(),
		Address: vda.Listener{TrType: "tcp", TrAddr: "127.0.0.1", AdrFam: "ipv4", TrSvcID: "4420"}}
}

// A monitor that watches an agent's health learns at once that the data plane
// is gone, not at the next look.
func TestLossOfTheDataPlaneIsToldAtOnce(t *testing.T) {
	plane := planetest.NewPlane(t, planetest.NewCluster(), false)
	ctx, stop := context.WithTimeout(context.Background(), 2*time.Minute)
	defer stop()
	cfg := config(t, plane.Socket)
	cfg.WatchInterval = 300 * time.Millisecond
	ready, done := make(chan string, 1), make(chan error, 1)
	go func() { done <- agent.Main{App: dn.App, Config: cfg, Ready: ready}.Run(ctx) }()
	var addr string
	select {
	case addr = <-ready:
	case err := <-done:
		t.Fatal(err)
	}
	conn, err := rpc.Dial(addr, rpc.DialConfig{})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	watch, err := healthv1.NewHealthClient(conn).Watch(ctx, &healthv1.HealthCheckRequest{Service: apiv1.DnAgent_ServiceDesc.ServiceName})
	if err != nil {
		t.Fatal(err)
	}
	await := func(want healthv1.HealthCheckResponse_ServingStatus) time.Time {
		for {
			r, err := watch.Recv()
			if err != nil {
				t.Fatalf("waiting for %v: %v", want, err)
			}
			if r.Status == want {
				return time.Now()
			}
		}
	}
	best := time.Hour // one of several must be fast: the machine may be busy
	for range 6 {
		await(healthv1.HealthCheckResponse_SERVING)
		killed := time.Now()
		plane.Stop()
		best = min(best, await(healthv1.HealthCheckResponse_NOT_SERVING).Sub(killed))
		plane.Start()
	}
	if best > 20*time.Millisecond {
		t.Errorf("told after %v at best", best)
	}
	stop()
	<-done
}

func TestServesHealthWithoutReflectionAndStops(t *testing.T) {
	plane := planetest.NewPlane(t, planetest.NewCluster(), false)
	ctx, stop := context.WithCancel(context.Background())
	ready, done := make(chan string, 1), make(chan error, 1)
	go func() { done <- agent.Main{App: dn.App, Config: config(t, plane.Socket), Ready: ready}.Run(ctx) }()
	var addr string
	select {
	case addr = <-ready:
	case err := <-done:
		t.Fatal(err)
	}
	conn, err := rpc.Dial(addr, rpc.DialConfig{})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	service := apiv1.DnAgent_ServiceDesc.ServiceName
	health := func(name string) healthv1.HealthCheckResponse_ServingStatus {
		r, err := healthv1.NewHealthClient(conn).Check(ctx, &healthv1.HealthCheckRequest{Service: name})
		if err != nil {
			t.Fatal(err)
		}
		return r.Status
	}
	planetest.Eventually(t, func() string { return unless(health(service) == healthv1.HealthCheckResponse_SERVING, "not serving") })
	stream, err := reflectionv1.NewServerReflectionClient(conn).ServerReflectionInfo(ctx)
	if err != nil {
		t.Fatal(err)
	}
	list := &reflectionv1.ServerReflectionRequest{MessageRequest: &reflectionv1.ServerReflectionRequest_ListServices{}}
	_ = stream.Send(list) // who has given no proof of anything is not told what an agent takes
	if r, err := stream.Recv(); status.Code(err) != codes.Unimplemented {
		t.Errorf("reflection: %v, %v", r, err)
	}
	_ = stream.CloseSend()

	scrape, err := http.Get("http://" + addr + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer scrape.Body.Close()
	metrics, err := io.ReadAll(scrape.Body)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"vda_server_healthy 1", "vda_agent_objects_in_error 0", `vda_build_info{component="vda_dn_agent"`} {
		if !strings.Contains(string(metrics), want) {
			t.Errorf("/metrics lacks %s", want)
		}
	}
	problems, err := promlint.New(bytes.NewReader(metrics)).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}

	plane.Stop()
	planetest.Eventually(t, func() string {
		return unless(health(service) == healthv1.HealthCheckResponse_NOT_SERVING, "serving without a data plane")
	})
	if health("") != healthv1.HealthCheckResponse_SERVING {
		t.Error("the agent itself is not healthy")
	}
	stop()
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(time.Minute):
		t.Error("does not stop")
	}
}

func unless(ok bool, why string) string {
	if ok {
		return ""
	}
	return why
}

func TestRunSaysWhyItCannot(t *testing.T) {
	plane := planetest.NewPlane(t, planetest.NewCluster(), false)
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer lis.Close()
	_, port, _ := net.SplitHostPort(lis.Addr().String())
	for name, c := range map[string]struct {
		change func(*agent.Config)
		says   string
	}{
		"port in use":      {func(c *agent.Config) { c.Port, _ = strconv.Atoi(port) }, "--port " + port + " is in use"},
		"no socket":        {func(c *agent.Config) { c.Socket = filepath.Join(t.TempDir(), "none") }, "no such file"},
		"not a socket":     {func(c *agent.Config) { c.Socket = "/dev/null" }, "is not a socket"},
		"no such address":  {func(c *agent.Config) { c.Listener = "192.0.2.1" }, "--listener 192.0.2.1"},
		"bad listener":     {func(c *agent.Config) { c.Address.TrType = "rdma" }, "rdma"},
		"state dir a file": {func(c *agent.Config) { c.StateDir = "/dev/null" }, "--state-dir"},
	} {
		cfg := config(t, plane.Socket)
		c.change(&cfg)
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		err := agent.Main{App: dn.App, Config: cfg}.Run(ctx)
		cancel()
		if err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want %q", name, err, c.says)
		}
	}
}

func TestWaitsForADataPlaneThatStartsLater(t *testing.T) {
	plane := planetest.NewPlane(t, planetest.NewCluster(), false)
	plane.Stop()
	cfg := config(t, plane.Socket)
	cfg.SocketWait = 5 * time.Second
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	ready, done := make(chan string, 1), make(chan error, 1)
	go func() { done <- agent.Main{App: dn.App, Config: cfg, Ready: ready}.Run(ctx) }()
	time.Sleep(200 * time.Millisecond)
	plane.Start()
	select {
	case <-ready:
	case err := <-done:
		t.Fatal(err)
	}
	stop()
	<-done
}

// encoded is gRPC's codec for messages that are bytes already.
type encoded struct{}

func (encoded) Name() string                       { return "proto" }
func (encoded) Marshal(v any) ([]byte, error)      { return v.([]byte), nil }
func (encoded) Unmarshal(data []byte, v any) error { return proto.Unmarshal(data, v.(proto.Message)) }

// The longest sync that makes sense is taken, whatever it is decoded to; what
// is only made to be large is not.
func TestTheLongestSyncIsTaken(t *testing.T) {
	plane := planetest.NewPlane(t, planetest.NewCluster(), false)
	ctx, stop := context.WithTimeout(t.Context(), 10*time.Minute)
	defer stop()
	ready, done := make(chan string, 1), make(chan error, 1)
	go func() { done <- (agent.Main{App: dn.App, Config: config(t, plane.Socket), Ready: ready}).Run(ctx) }()
	var addr string
	select {
	case addr = <-ready:
	case err := <-done:
		t.Fatal(err)
	}
	conn, err := rpc.Dial(addr, rpc.DialConfig{MaxMessage: 32 << 20})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	id := strings.Repeat("a", 32)
	long := &apiv1.SyncDnRequest{ClusterId: "-"} // refused by the agent itself
	for len := 0; len < rpc.MaxAgentMessage-1000; {
		v := &apiv1.VdSpec{Id: id, PdId: id, DaId: id, Uuid: id, Size: 1 << 40, Term: 1, Version: 1 << 40,
			Nqn: "nqn.2016-06.io.spdk:vda-vd-" + id, HostNqn: "nqn.2016-06.io.spdk:vda-cntlr-" + id}
		long.Vds = append(long.Vds, v)
		len += proto.Size(v) + 3
	}
	// sync sends a message that has been encoded before: the agent gives one 30 s to arrive.
	sync := func(message []byte) error {
		return conn.Invoke(ctx, apiv1.DnAgent_Sync_FullMethodName, message, &apiv1.SyncReply{}, grpc.ForceCodec(encoded{}))
	}
	encode := func() []byte {
		b, err := proto.Marshal(long)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	fits := encode()
	if err := sync(fits); status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), "cluster_id") {
		t.Errorf("a sync of %d bytes: %v, want the agent's own refusal", len(fits), err)
	}
	long.Vds = append(long.Vds, long.Vds[:10]...)
	over := encode()
	if err := sync(over); status.Code(err) != codes.ResourceExhausted || !strings.Contains(err.Error(), "8388608") {
		t.Errorf("a sync of %d bytes: %v, want the limit named", len(over), err)
	}
	vds := (&apiv1.SyncDnRequest{}).ProtoReflect().Descriptor().Fields().ByName("vds").Number()
	empty := protowire.AppendBytes(protowire.AppendTag(nil, vds, protowire.BytesType), nil)
	if err := sync(bytes.Repeat(empty, 600_000)); status.Code(err) != codes.ResourceExhausted ||
		!strings.Contains(err.Error(), "when decoded") {
		t.Errorf("a sync of 600,000 empty vds: %v, want it refused", err)
	}
	conn.Close()
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
