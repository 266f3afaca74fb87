package cn_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/nvmf/host"
	"github.com/virtual-disk-array/vda/spdk"
)

// A data plane that somebody else has configured and uses: a transport with
// options of its own, a disk with an lvstore, and a subsystem on the address
// that the agents listen on as well.
type stranger struct {
	*tgt
	port string
	file string // a disk with an lvstore of theirs, not open now
}

const strangerNQN = "nqn.2016-06.io.spdk:cnode1"

func (s *stranger) call(method string, params any) json.RawMessage {
	s.t.Helper()
	c, err := spdk.New(spdk.Config{Socket: s.socket})
	if err != nil {
		s.t.Fatal(err)
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var result json.RawMessage
	if err := c.Call(ctx, method, params, &result); err != nil {
		s.t.Fatal(err)
	}
	return result
}

type object = map[string]any

func (s *stranger) moveIn() {
	s.t.Helper()
	s.call("bdev_aio_create", object{"name": "Aio0", "filename": s.file, "block_size": 4096})
	s.call("bdev_lvol_create_lvstore", object{"bdev_name": "Aio0", "lvs_name": "theirs", "clear_method": "none"})
	s.call("bdev_aio_delete", object{"name": "Aio0"})
	s.call("nvmf_create_transport", object{"trtype": "TCP", "max_queue_depth": 64, "in_capsule_data_size": 8192})
	s.call("bdev_malloc_create", object{"name": "Malloc0", "num_blocks": 8192, "block_size": 4096})
	s.call("bdev_malloc_create", object{"name": "Malloc1", "num_blocks": 4096, "block_size": 4096})
	s.call("bdev_lvol_create_lvstore", object{"bdev_name": "Malloc0", "lvs_name": "lvs0", "clear_method": "none"})
	lvol := object{"lvs_name": "lvs0", "lvol_name": "vda-looks-like-ours", "size_in_mib": 16}
	var v spdk.Version
	if err := json.Unmarshal(s.call("spdk_get_version", nil), &v); err != nil {
		s.t.Fatal(err)
	}
	if !v.AtLeast(23, 5) {
		delete(lvol, "size_in_mib")
		lvol["size"] = 16 << 20
	}
	s.call("bdev_lvol_create", lvol)
	s.call("nvmf_create_subsystem", object{"nqn": strangerNQN, "serial_number": "SPDK1", "allow_any_host": true})
	s.call("nvmf_subsystem_add_ns", object{"nqn": strangerNQN, "namespace": object{"bdev_name": "lvs0/vda-looks-like-ours"}})
	s.call("nvmf_subsystem_add_ns", object{"nqn": strangerNQN, "namespace": object{"bdev_name": "Malloc1"}})
	s.call("nvmf_subsystem_add_listener", object{"nqn": strangerNQN,
		"listen_address": object{"trtype": "TCP", "adrfam": "IPv4", "traddr": "127.0.0.1", "trsvcid": s.port}})
}

// disk connects to the stranger's subsystem.
func (s *stranger) disk() *host.Namespace {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	c, err := host.Connect(ctx, host.Config{Traddr: "127.0.0.1", Trsvcid: s.port, SubNQN: strangerNQN,
		HostNQN: "nqn.2014-08.org.example:host", Queues: 1, KeepAlive: unhurried})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(c.Close)
	return c.Namespace(1)
}

// transport returns the options of the transport.
func (s *stranger) transport() string {
	s.t.Helper()
	var all []map[string]any
	if err := json.Unmarshal(s.call("nvmf_get_transports", nil), &all); err != nil || len(all) != 1 {
		s.t.Fatalf("transports %v, %v", all, err)
	}
	return fmt.Sprint(all[0]["max_queue_depth"], all[0]["in_capsule_data_size"])
}

func TestRealForeignObjects(t *testing.T) { planes(t, realForeignObjects) }

func realForeignObjects(t *testing.T, spdkDN, spdkCN bool) {
	var all []*stranger
	l, dnTgts, cnTgts := realsOn(t, 1, true, firsts(spdkDN, spdkCN), unhurried, func(g *tgt, port string) {
		s := &stranger{tgt: g, port: port, file: usedDisk(t)}
		s.moveIn()
		all = append(all, s)
	})
	if len(all) != len(dnTgts)+len(cnTgts) {
		t.Fatalf("%d data planes", len(all))
	}
	live := make([]*host.Namespace, len(all))
	for i, s := range all {
		live[i] = s.disk()
		write(t, live[i], byte(0x40+i))
	}
	before := make([][]string, len(all))
	for i, s := range all {
		before[i] = s.objects()
	}

	l.leased()
	l.up(0)
	a := l.disk(0)
	write(t, a, 0x66)
	verify(t, a, 0x66)
	for i, n := range l.dns { // a pd on a disk with another's lvstore
		n.version++
		r, err := n.a.Sync(context.Background(), &apiv1.SyncDnRequest{ClusterId: cluster, NodeId: n.id, Version: n.version,
			BaseVersion: n.version - 1,
			Pds: []*apiv1.PdSpec{{Id: id("a0", 7), Name: "pd7", ConfJson: fmt.Sprintf(`{"type":"aio","filename":%q}`, all[i].file),
				Format: true, Version: n.version}}})
		if err != nil || len(r.States) != 1 || !strings.Contains(r.States[0].ErrorMsg, `"theirs"`) {
			t.Errorf("dn%d takes a disk with another's lvstore: %v, %v", i, r, err)
		}
	}
	l.checked()

	for i, s := range all {
		now := s.objects()
		for _, o := range before[i] {
			if !slices.Contains(now, o) {
				t.Errorf("data plane %d: %s is gone", i, o)
			}
		}
		if got := s.transport(); got != "64 8192" {
			t.Errorf("data plane %d: the transport has options %s", i, got)
		}
		verify(t, live[i], byte(0x40+i)) // the connection of before
	}

	c := l.cntlr(0, 0)
	c.Deleted, c.DestroyData = true, true
	l.good(0, c)
	l.fence(true)
	for i, n := range l.dns {
		n.version++
		r, err := n.a.Sync(context.Background(), &apiv1.SyncDnRequest{ClusterId: cluster, NodeId: n.id, Version: n.version,
			BaseVersion: n.version - 1, AllowEmpty: true,
			Pds: []*apiv1.PdSpec{{Id: id("a0", 7), Name: "pd7", ConfJson: fmt.Sprintf(`{"type":"aio","filename":%q}`, all[i].file),
				Deleted: true, Version: n.version}}})
		if err != nil || len(r.States) != 1 || !r.States[0].Gone {
			t.Errorf("dn%d: %v, %v", i, r, err)
		}
		// SPDK dies when the agent lists lvstores while somebody else closes one.
		if err := n.a.Close(); err != nil {
			t.Error(err)
		}
		all[i].call("bdev_aio_create", object{"name": "Aio0", "filename": all[i].file, "block_size": 4096})
		all[i].call("bdev_examine", object{"name": "Aio0"})
		all[i].call("bdev_wait_for_examine", nil)
		if o := all[i].objects(); !slices.Contains(o, "lvstore theirs") {
			t.Errorf("dn%d: their lvstore is gone; there is %v", i, o)
		}
		all[i].call("bdev_aio_delete", object{"name": "Aio0"})
	}
	for i, s := range all {
		if now := s.objects(); strings.Join(sorted(now), "\n") != strings.Join(sorted(before[i]), "\n") {
			t.Errorf("data plane %d: %v, before us %v", i, now, before[i])
		}
		verify(t, live[i], byte(0x40+i))
	}
}

func sorted(s []string) []string { return slices.Sorted(slices.Values(s)) }
