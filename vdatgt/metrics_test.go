package vdatgt

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"github.com/virtual-disk-array/vda/spdk"
)

// web is a listener for Config.HTTP and what asks it.
func web(t *testing.T) (lis net.Listener, get func(path string) (status int, body string)) {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return lis, func(path string) (int, string) {
		t.Helper()
		r, err := http.Get("http://" + lis.Addr().String() + path)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Body.Close()
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Fatal(err)
		}
		return r.StatusCode, string(body)
	}
}

// has reports what is missing of lines in a body of metrics.
func has(t *testing.T, body string, lines ...string) {
	t.Helper()
	for _, l := range lines {
		if !strings.Contains(body, "\n"+l+"\n") {
			t.Errorf("%s is missing", l)
		}
	}
}

// total is the sum of all series of a metric.
func total(t *testing.T, body, metric string) (sum float64) {
	t.Helper()
	found := regexp.MustCompile(`(?m)^`+metric+`(?:\{.*\})? (\S+)$`).FindAllStringSubmatch(body, -1)
	if len(found) == 0 {
		t.Errorf("%s is missing", metric)
	}
	for _, m := range found {
		v, err := strconv.ParseFloat(m[1], 64)
		if err != nil {
			t.Fatal(err)
		}
		sum += v
	}
	return sum
}

// TestMetricsCountWhatHostsDid: to the operation and the byte, and the lint
// takes them.
func TestMetricsCountWhatHostsDid(t *testing.T) {
	ctx := t.Context()
	lis, get := web(t)
	p, port := start(t, Config{HTTP: lis, BufferMemory: 64 << 20}), freePort(t)
	must[string](t)(p.BdevMallocCreate(ctx, spdk.MallocCreate{Name: "M0", BlockSize: 4096, NumBlocks: 1024}))
	ok(t, p.Call(ctx, "bdev_error_create", map[string]string{"base_name": "M0"}, nil))
	p.export(exporter(0), exported("EE_M0"), port, userNQN)
	user := dial(t, port, exportNQN, userNQN)
	for range 3 {
		ok(t, user.WriteAt(ctx, make([]byte, 8192), 0))
	}
	_, before := get("/metrics")
	ok(t, user.ReadAt(ctx, make([]byte, 4096), 0))
	ok(t, p.Call(ctx, "bdev_error_inject_error", map[string]any{"name": "EE_M0", "io_type": "write", "error_type": "failure", "num": 1}, nil))
	if err := user.WriteAt(ctx, make([]byte, 4096), 0); err == nil {
		t.Error("an injected error did not fail the write")
	}
	code, body := get("/metrics")
	if code != http.StatusOK {
		t.Errorf("/metrics: %d", code)
	}
	has(t, before, `vda_bdev_operations_total{bdev="EE_M0",op="write"} 3`, `vda_bdev_errors_total{bdev="EE_M0",reason="medium"} 0`)
	has(t, body,
		"vda_bdevs 2",
		`vda_bdev_operations_total{bdev="EE_M0",op="write"} 3`, `vda_bdev_bytes_total{bdev="EE_M0",op="write"} 24576`,
		`vda_bdev_errors_total{bdev="EE_M0",reason="medium"} 1`, `vda_bdev_errors_total{bdev="EE_M0",reason="no_space"} 0`,
		`vda_bdev_errors_total{bdev="EE_M0",reason="other"} 0`,
		"vda_nvmf_subsystems 1", `vda_nvmf_qpairs{kind="admin"} 1`, "vda_nvmf_commands_pending 0", "vda_nvmf_panics_total 0",
		"vda_buffer_memory_limit_bytes 6.7108864e+07", "vda_log_lines_dropped_total 0")
	var stat struct {
		Bdevs []struct {
			ReadOps   uint64 `json:"num_read_ops"`
			BytesRead uint64 `json:"bytes_read"`
		} `json:"bdevs"`
	}
	ok(t, p.Call(ctx, "bdev_get_iostat", map[string]any{"names": []string{"EE_M0"}}, &stat))
	has(t, body, fmt.Sprintf(`vda_bdev_operations_total{bdev="EE_M0",op="read"} %d`, stat.Bdevs[0].ReadOps),
		fmt.Sprintf(`vda_bdev_bytes_total{bdev="EE_M0",op="read"} %d`, stat.Bdevs[0].BytesRead))
	problems, err := promlint.New(strings.NewReader(body)).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

// TestMetricsAreBounded: the bdevs listed are, and all are counted.
func TestMetricsAreBounded(t *testing.T) {
	lis, get := web(t)
	p := start(t, Config{HTTP: lis})
	for i := range maxListed + 5 {
		must[string](t)(p.BdevMallocCreate(t.Context(), spdk.MallocCreate{Name: fmt.Sprint("M", i), BlockSize: 512, NumBlocks: 8}))
	}
	_, body := get("/metrics")
	has(t, body, fmt.Sprintf("vda_bdevs %d", maxListed+5))
	if n := strings.Count(body, `",op="read"} `) / 3; n != maxListed {
		t.Errorf("%d bdevs are listed, want %d", n, maxListed)
	}
}

func TestHealthSaysThatItWaits(t *testing.T) {
	lis, get := web(t)
	p := start(t, Config{HTTP: lis, WaitForRPC: true})
	if code, body := get("/healthz"); code != http.StatusServiceUnavailable || !strings.Contains(body, "framework_start_init") {
		t.Errorf("before the run-time state: %d, %s", code, body)
	}
	ok(t, p.Call(t.Context(), "framework_start_init", nil, nil))
	if code, body := get("/healthz"); code != http.StatusOK || body != "ok\n" {
		t.Errorf("in the run-time state: %d, %s", code, body)
	}
	ok(t, p.stop())
	if _, err := net.Dial("tcp", lis.Addr().String()); err == nil {
		t.Error("HTTP outlives the target")
	}
}
