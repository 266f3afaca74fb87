package perf

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/virtual-disk-array/vda/bdev"
	"github.com/virtual-disk-array/vda/nvme"
	"github.com/virtual-disk-array/vda/nvmf/host"
)

// spdkTarget is a running spdk_tgt, found through the environment variable
// SPDK_TGT.
type spdkTarget struct {
	testing.TB
	conn net.Conn
	dec  *json.Decoder
}

func startSPDK(t testing.TB) *spdkTarget {
	bin := os.Getenv("SPDK_TGT")
	if bin == "" {
		t.Skip("SPDK_TGT names no spdk_tgt: not tried against SPDK")
	}
	sock := filepath.Join(t.TempDir(), "rpc.sock")
	var log bytes.Buffer
	cmd := exec.Command(bin, "-m", "0x1", "--disable-cpumask-locks", "--no-pci", "--no-huge", "-s", "1024", "--iova-mode=va", "-r", sock)
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	s := &spdkTarget{TB: t}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if s.conn != nil {
			_ = s.conn.Close()
		}
		if t.Failed() {
			t.Log(log.String())
		}
	})
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		if c, err := net.Dial("unix", sock); err == nil {
			s.conn, s.dec = c, json.NewDecoder(c)
			break
		}
		if time.Now().After(end) {
			t.Fatal("spdk_tgt does not answer")
		}
	}
	s.call("framework_wait_init", nil)
	return s
}

func (s *spdkTarget) call(method string, params any) {
	s.Helper()
	req := map[string]any{"jsonrpc": "2.0", "id": 1, "method": method}
	if params != nil {
		req["params"] = params
	}
	b, _ := json.Marshal(req)
	if _, err := s.conn.Write(b); err != nil {
		s.Fatal(err)
	}
	var reply struct{ Error json.RawMessage }
	if err := s.dec.Decode(&reply); err != nil || reply.Error != nil {
		s.Fatalf("%s: %v %s", method, err, reply.Error)
	}
}

type obj = map[string]any

// export sets up a subsystem on a free port and returns the port.
func (s *spdkTarget) export() string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		s.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(ln.Addr().String())
	_ = ln.Close()
	s.call("nvmf_create_transport", obj{"trtype": "TCP"})
	s.call("bdev_malloc_create", obj{"name": "m0", "num_blocks": 16384, "block_size": 4096})
	s.call("bdev_malloc_create", obj{"name": "m1", "num_blocks": 1024, "block_size": 4096})
	s.call("nvmf_create_subsystem", obj{"nqn": nqn, "allow_any_host": true, "ana_reporting": true})
	s.call("nvmf_subsystem_add_ns", obj{"nqn": nqn, "namespace": obj{"bdev_name": "m0", "anagrpid": 1}})
	s.call("nvmf_subsystem_add_listener", obj{"nqn": nqn, "listen_address": obj{"trtype": "TCP", "adrfam": "IPv4",
		"traddr": "127.0.0.1", "trsvcid": port}})
	return port
}

// TestSPDK runs stamped data, all operations and events against spdk_tgt.
func TestSPDK(t *testing.T) {
	s := startSPDK(t)
	port := s.export()
	seen := make(chan string, 16)
	for _, digests := range []bool{false, true} {
		c := dial(t, local(port), func(c *host.Config) {
			c.HeaderDigest, c.DataDigest, c.Queues = digests, digests, 2
			c.OnNamespaces = func(*host.Controller) { seen <- "namespaces" }
			c.OnANA = func(*host.Controller) { seen <- "ana" }
		})
		ns := c.Namespace(1)
		for _, w := range []Workload{RandWrite, RandRead} {
			for _, bs := range []int{4096, 12288, 262144} {
				r, err := Run(t.Context(), ns, Config{Workload: w, BlockSize: bs, QueueDepth: 9, Duration: 300 * time.Millisecond,
					Verify: true, Length: 16 << 20})
				if err != nil || r.IOs == 0 {
					t.Errorf("%v of %d bytes, digests %t: %v, %v", w, bs, digests, r, err)
				}
			}
		}
		operations(t, ns)
		if digests {
			break
		}
		expect := func(want string) {
			t.Helper()
			for {
				select {
				case got := <-seen:
					if got == want {
						return
					}
				case <-time.After(5 * time.Second):
					t.Fatalf("no event about %s", want)
				}
			}
		}
		s.call("nvmf_subsystem_add_ns", obj{"nqn": nqn, "namespace": obj{"bdev_name": "m1", "nsid": 5, "anagrpid": 1}})
		expect("namespaces")
		if n := c.Namespace(5); n == nil || n.Size() != 4<<20 {
			t.Error("namespace 5 did not appear")
		}
		s.call("nvmf_subsystem_listener_set_ana_state", obj{"nqn": nqn, "ana_state": "inaccessible", "anagrpid": 1,
			"listen_address": obj{"trtype": "TCP", "adrfam": "IPv4", "traddr": "127.0.0.1", "trsvcid": port}})
		expect("ana")
		if ns.ANA() != host.ANAInaccessible {
			t.Errorf("ANA state %d", ns.ANA())
		}
		s.call("nvmf_subsystem_listener_set_ana_state", obj{"nqn": nqn, "ana_state": "optimized",
			"listen_address": obj{"trtype": "TCP", "adrfam": "IPv4", "traddr": "127.0.0.1", "trsvcid": port}})
		expect("ana")
		s.call("nvmf_subsystem_remove_ns", obj{"nqn": nqn, "nsid": 5})
		expect("namespaces")
		if c.Namespace(5) != nil {
			t.Error("namespace 5 is still there")
		}
	}
}

// operations checks what changes data in other ways than writing.
func operations(t *testing.T, ns *host.Namespace) {
	ctx := t.Context()
	full := bytes.Repeat([]byte{7}, 65536)
	for what, f := range map[string]func() error{
		"write zeroes": func() error { return ns.WriteZeroes(ctx, 0, ns.Size()) },
		"deallocate":   func() error { return ns.Deallocate(ctx, 0, ns.Size()) },
	} {
		if err := ns.WriteAt(ctx, full, 1<<20); err != nil {
			t.Fatal(err)
		}
		if err := f(); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		got := make([]byte, len(full))
		if err := ns.ReadAt(ctx, got, 1<<20); err != nil || !bytes.Equal(got, make([]byte, len(full))) {
			t.Errorf("%s left data, or %v", what, err)
		}
	}
	if err := ns.Flush(ctx); err != nil {
		t.Errorf("flush: %v", err)
	}
	zero, one := make([]byte, 4096), full[:4096]
	for _, v := range []struct {
		op    bdev.Op
		iov   [][]byte
		equal bool
	}{{bdev.OpCompare, [][]byte{zero}, true}, {bdev.OpCompare, [][]byte{one}, false},
		{bdev.OpCompareAndWrite, [][]byte{one, one}, false}, {bdev.OpCompareAndWrite, [][]byte{zero, one}, true}, {bdev.OpCompare, [][]byte{one},
			true}} {
		done := make(chan nvme.Status, 1)
		r := &bdev.Request{Op: v.op, Offset: 3, Blocks: 1, Iov: v.iov, Done: func(r *bdev.Request, _ *bdev.Batch) { done <- r.Status }}
		var b bdev.Batch
		ns.Submit(r, nil, &b)
		b.Flush()
		s := <-done
		if v.equal != (s == nvme.Success) || !v.equal && s&^nvme.DNR != nvme.CompareFailure {
			t.Errorf("%v, equal %t: %v", v.op, v.equal, s)
		}
	}
}

// TestOperations is the same against our own target.
func TestOperations(t *testing.T) {
	c := dial(t, serve(t, -1), nil)
	operations(t, c.Namespace(1))
}

// BenchmarkAgainstSPDK prints what this initiator reaches on our target and on
// spdk_tgt, in turns, and the ratio.
func BenchmarkAgainstSPDK(b *testing.B) {
	s := startSPDK(b)
	theirs := dial(b, local(s.export()), func(c *host.Config) { c.Queues = 1 })
	ours := dial(b, serve(b, 0), func(c *host.Config) { c.Queues = 1 })
	for _, qd := range []int{1, 32, 128} {
		for _, w := range []Workload{RandRead, RandWrite} {
			b.Run(fmt.Sprintf("%v/%d", w, qd), func(b *testing.B) {
				var sum [2]float64
				for b.Loop() {
					for i, c := range []*host.Controller{ours, theirs} {
						r, err := Run(context.Background(), c.Namespace(1), Config{Workload: w, QueueDepth: qd, Duration: 500 * time.Millisecond})
						if err != nil {
							b.Fatal(err)
						}
						sum[i] += r.IOPS
					}
				}
				b.ReportMetric(sum[0]/float64(b.N), "ours-iops")
				b.ReportMetric(sum[1]/float64(b.N), "spdk-iops")
				b.ReportMetric(sum[0]/sum[1], "ratio")
				b.ReportMetric(0, "ns/op")
			})
		}
	}
}
