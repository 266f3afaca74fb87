package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/google/uuid"

	"github.com/virtual-disk-array/vda/program/child"
	"github.com/virtual-disk-array/vda/spdk"
)

// kind is a data plane in one of its settings.
type kind struct {
	name string
	argv []string // without the socket
	legs int      // of the mirror that each column of an array stands on; 0: there is none
	cols int      // columns of an array; 0: one per process that has disks
}

// plane is a running data plane with its setup.
type plane struct {
	kind kind
	cmd  *exec.Cmd
	rpc  spdk.API
	c    *spdk.Client
	port int
	log  *os.File

	backs []*plane // other processes whose disks this one uses
}

const (
	frontNQN = "nqn.2016-06.io.spdk:bench-front"
	backNQN  = "nqn.2016-06.io.spdk:bench-back"
	diskMiB  = 256
)

// startPlane starts a data plane on core 0 with a TCP transport.
func startPlane(ctx context.Context, dir string, k kind, port int) (*plane, error) {
	p := &plane{kind: k, port: port}
	socket := filepath.Join(dir, strings.ReplaceAll(k.name, " ", "-")+".sock")
	log, err := os.Create(socket + ".log")
	if err != nil {
		return nil, err
	}
	p.log = log
	argv := append([]string{"taskset", "-c", "0"}, k.argv...)
	argv = append(argv, "-r", socket)
	p.cmd = exec.Command(argv[0], argv[1:]...)
	p.cmd.Stdout, p.cmd.Stderr = log, log
	if err := child.Start(p.cmd); err != nil {
		return nil, fmt.Errorf("start %s: %w", k.name, err)
	}
	if p.c, err = spdk.New(spdk.Config{Socket: socket, CallTimeout: 30 * time.Second}); err != nil {
		return nil, err
	}
	ready, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	if _, err := p.c.WaitReady(ready); err != nil {
		text, _ := os.ReadFile(log.Name())
		return nil, fmt.Errorf("%s does not answer: %w\n%s", k.name, err, text)
	}
	p.rpc = spdk.API{Caller: p.c}
	return p, p.call(ctx, "nvmf_create_transport", map[string]any{"trtype": "TCP"})
}

func (p *plane) call(ctx context.Context, method string, params any) error {
	if err := p.c.Call(ctx, method, params, nil); err != nil {
		return fmt.Errorf("%s: %w", p.kind.name, err)
	}
	return nil
}

// export shows a bdev through a subsystem that admits every host.
func (p *plane) export(ctx context.Context, nqn, bdev string) error {
	// An identity of its own: a process that attaches what it exports
	// itself refuses a namespace with the identity of a bdev that it has.
	id := uuid.New()
	address := map[string]any{"trtype": "TCP", "adrfam": "IPv4", "traddr": "127.0.0.1", "trsvcid": strconv.Itoa(p.port)}
	for _, c := range []struct {
		method string
		params map[string]any
	}{
		{"nvmf_create_subsystem", map[string]any{"nqn": nqn, "allow_any_host": true, "serial_number": "BENCH"}},
		{"nvmf_subsystem_add_ns", map[string]any{"nqn": nqn, "namespace": map[string]any{"bdev_name": bdev,
			"uuid": id.String(), "nguid": strings.ReplaceAll(id.String(), "-", "")}}},
		{"nvmf_subsystem_add_listener", map[string]any{"nqn": nqn, "listen_address": address}},
	} {
		if err := p.call(ctx, c.method, c.params); err != nil {
			return err
		}
	}
	return nil
}

// oneHop exports memory.
func (p *plane) oneHop(ctx context.Context) error {
	if err := p.call(ctx, "bdev_malloc_create", map[string]any{"name": "M", "block_size": 4096, "num_blocks": diskMiB << 8}); err != nil {
		return err
	}
	return p.export(ctx, frontNQN, "M")
}

// twoHops exports a raid0 over two memory disks that the same process
// exports to itself.
func (p *plane) twoHops(ctx context.Context) error { return p.array(ctx, []*plane{p, p}) }

// remoteArray exports a raid0 over a memory disk of each back process.
func (p *plane) remoteArray(ctx context.Context) error { return p.array(ctx, p.backs) }

// array makes memory disks on backs, attaches them and exports a raid0 over them,
// or over mirrors of them with a leg on each of backs.
func (p *plane) array(ctx context.Context, backs []*plane) error {
	var bases []string
	for i := range max(p.kind.cols, len(backs)) {
		var legs []map[string]any
		name := ""
		for l := range max(p.kind.legs, 1) {
			var err error
			if name, err = p.remoteDisk(ctx, backs[(i+l)%len(backs)], fmt.Sprintf("B%d%d", i, l)); err != nil {
				return err
			}
			legs = append(legs, map[string]any{"vd_id": uuid.NewString(), "bdev_name": name, "role": "member", "epoch": uuid.NewString()})
		}
		if p.kind.legs > 0 {
			name = fmt.Sprintf("M%d", i)
			if err := p.call(ctx, "vda_mirror_create", map[string]any{"name": name, "da_id": uuid.NewString(), "mirror_id": uuid.NewString(),
				"size": diskMiB << 19, "term": 1, "gen": 1, "legs": legs, "fresh": true}); err != nil {
				return err
			}
		}
		bases = append(bases, name)
	}
	if err := p.call(ctx, "bdev_raid_create", map[string]any{"name": "R", "raid_level": "raid0", "strip_size_kb": 64,
		"base_bdevs": bases}); err != nil {
		return err
	}
	return p.export(ctx, frontNQN, "R")
}

// remoteDisk makes a memory disk on back, with room for a mirror's label, attaches
// it and returns its name here.
func (p *plane) remoteDisk(ctx context.Context, back *plane, name string) (string, error) {
	nqn := backNQN + name
	if err := back.call(ctx, "bdev_malloc_create", map[string]any{"name": name, "block_size": 4096,
		"num_blocks": diskMiB<<7 + 256}); err != nil {
		return "", err
	}
	if err := back.export(ctx, nqn, name); err != nil {
		return "", err
	}
	return "N" + name + "n1", p.call(ctx, "bdev_nvme_attach_controller", map[string]any{"name": "N" + name, "trtype": "TCP",
		"adrfam": "IPv4", "traddr": "127.0.0.1", "trsvcid": strconv.Itoa(back.port), "subnqn": nqn})
}

// aioFile exports a file.
func (p *plane) aioFile(ctx context.Context, path string) error {
	if err := p.call(ctx, "bdev_aio_create", map[string]any{"name": "A", "filename": path, "block_size": 4096}); err != nil {
		return err
	}
	return p.export(ctx, frontNQN, "A")
}

// cpu is the processor time that the process has used.
func (p *plane) cpu() time.Duration { return cpuOf(p.cmd.Process.Pid) }

// allCPU is that of the process and of those whose disks it uses.
func (p *plane) allCPU() time.Duration {
	sum := p.cpu()
	for _, b := range p.backs {
		sum += b.cpu()
	}
	return sum
}

func cpuOf(pid int) time.Duration {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+2:]))
	user, _ := strconv.ParseInt(fields[11], 10, 64)
	system, _ := strconv.ParseInt(fields[12], 10, 64)
	const ticksPerSecond = 100 // USER_HZ, the same on every Linux
	return time.Duration(user+system) * time.Second / ticksPerSecond
}

func (p *plane) stop() {
	_ = p.c.Close()
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	done := make(chan struct{})
	go func() { _ = p.cmd.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(5 * time.Second):
		_ = p.cmd.Process.Kill()
		<-done
	}
	_ = p.log.Close()
}
