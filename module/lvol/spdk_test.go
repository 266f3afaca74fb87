package lvol

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/virtual-disk-array/vda/bdev"
	"github.com/virtual-disk-array/vda/module/aio"
	"github.com/virtual-disk-array/vda/nvmf/host"
)

// spdk is a running spdk_tgt, found through the environment variable SPDK_TGT.
type spdk struct {
	t    *testing.T
	cmd  *exec.Cmd
	log  bytes.Buffer
	conn net.Conn
	dec  *json.Decoder
	port string
}

func startSPDK(t *testing.T) *spdk {
	t.Helper()
	bin := os.Getenv("SPDK_TGT")
	if bin == "" {
		t.Skip("SPDK_TGT names no spdk_tgt: not compared with SPDK")
	}
	s := &spdk{t: t}
	sock := filepath.Join(t.TempDir(), "rpc.sock")
	s.cmd = exec.Command(bin, "-m", "0x1", "--disable-cpumask-locks", "--no-pci", "--no-huge", "-s", "1024", "--iova-mode=va", "-r", sock)
	s.cmd.Stdout, s.cmd.Stderr = &s.log, &s.log
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.kill)
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		conn, err := net.Dial("unix", sock)
		if err == nil {
			s.conn, s.dec = conn, json.NewDecoder(conn)
			break
		}
		if time.Now().After(deadline) {
			s.kill()
			t.Fatalf("spdk_tgt does not answer: %v\n%s", err, s.log.String())
		}
	}
	s.call("framework_wait_init", nil)
	return s
}

func (s *spdk) end(sig syscall.Signal) {
	if s.cmd == nil {
		return
	}
	_ = s.cmd.Process.Signal(sig)
	_ = s.cmd.Wait()
	s.cmd = nil
	if s.conn != nil {
		s.conn.Close()
	}
}

func (s *spdk) kill() { s.end(syscall.SIGKILL) }
func (s *spdk) quit() { s.end(syscall.SIGTERM) }

func (s *spdk) try(method string, params map[string]any) (json.RawMessage, error) {
	s.t.Helper()
	req := map[string]any{"jsonrpc": "2.0", "id": 1, "method": method}
	if params != nil {
		req["params"] = params
	}
	b, err := json.Marshal(req)
	if err == nil {
		_, err = s.conn.Write(b)
	}
	var reply struct {
		Result json.RawMessage
		Error  *struct {
			Code    int
			Message string
		}
	}
	if err == nil {
		err = s.dec.Decode(&reply)
	}
	if err != nil {
		s.t.Fatalf("%s: %v\n%s", method, err, s.log.String())
	}
	if reply.Error != nil {
		return nil, fmt.Errorf("%s: %d %s", method, reply.Error.Code, reply.Error.Message)
	}
	return reply.Result, nil
}

func (s *spdk) call(method string, params map[string]any) string {
	s.t.Helper()
	r, err := s.try(method, params)
	if err != nil {
		s.t.Fatalf("%v\n%s", err, s.log.String())
	}
	var str string
	_ = json.Unmarshal(r, &str)
	return str
}

// load makes the file a bdev and waits until its lvstore has been examined.
func (s *spdk) load(file string) {
	s.t.Helper()
	s.call("bdev_aio_create", map[string]any{"name": "a0", "filename": file, "block_size": 4096})
	s.call("bdev_wait_for_examine", nil)
}

// stores returns bdev_lvol_get_lvstores.
func (s *spdk) stores() []StoreInfo {
	s.t.Helper()
	r, err := s.try("bdev_lvol_get_lvstores", nil)
	var out []StoreInfo
	if err == nil {
		err = json.Unmarshal(r, &out)
	}
	if err != nil {
		s.t.Fatal(err)
	}
	return out
}

// lvols returns bdev_lvol_get_lvols by name.
func (s *spdk) lvols() map[string]VolumeInfo {
	s.t.Helper()
	r, err := s.try("bdev_lvol_get_lvols", nil)
	var list []VolumeInfo
	if err == nil {
		err = json.Unmarshal(r, &list)
	}
	if err != nil {
		s.t.Fatal(err)
	}
	out := map[string]VolumeInfo{}
	for _, v := range list {
		out[v.Name] = v
	}
	return out
}

// export returns a namespace on each of the volumes, over NVMe/TCP.
func (s *spdk) export(volumes ...string) map[string]*host.Namespace {
	s.t.Helper()
	const nqn = "nqn.2016-06.io.spdk:lvol-test"
	if s.port == "" {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			s.t.Fatal(err)
		}
		s.port = strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
		l.Close()
		s.call("nvmf_create_transport", map[string]any{"trtype": "TCP"})
		s.call("nvmf_create_subsystem", map[string]any{"nqn": nqn, "allow_any_host": true, "serial_number": "LVOL", "model_number": "LVOL"})
		s.call("nvmf_subsystem_add_listener", map[string]any{"nqn": nqn, "listen_address": map[string]any{"trtype": "TCP", "adrfam": "IPv4",
			"traddr": "127.0.0.1", "trsvcid": s.port}})
	}
	out := map[string]*host.Namespace{}
	nsids := map[string]uint32{}
	for _, v := range volumes {
		r, err := s.try("nvmf_subsystem_add_ns", map[string]any{"nqn": nqn, "namespace": map[string]any{"bdev_name": "lvs/" + v}})
		var nsid uint32
		if err == nil {
			err = json.Unmarshal(r, &nsid)
		}
		if err != nil {
			s.t.Fatal(err)
		}
		nsids[v] = nsid
	}
	c, err := host.Connect(context.Background(), host.Config{Traddr: "127.0.0.1", Trsvcid: s.port, SubNQN: nqn, Queues: 1, KeepAlive: -1})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(c.Close)
	for v, nsid := range nsids {
		if out[v] = c.Namespace(nsid); out[v] == nil {
			s.t.Fatalf("namespace %d of %s is not there", nsid, v)
		}
	}
	return out
}

func writeTo(t *testing.T, n *host.Namespace, at int64, data []byte) {
	t.Helper()
	if err := n.WriteAt(context.Background(), data, at); err != nil {
		t.Fatal(err)
	}
}

func readFrom(t *testing.T, n *host.Namespace, size int) []byte {
	t.Helper()
	buf := make([]byte, size)
	if err := n.ReadAt(context.Background(), buf, 0); err != nil {
		t.Fatal(err)
	}
	return buf
}

// aioFile makes an empty file for a store.
func aioFile(t *testing.T, bytes int64) string {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "disk"))
	if err == nil {
		err = f.Truncate(bytes)
	}
	if err == nil {
		err = f.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return f.Name()
}

// attach makes the file a bdev of the rig, in place of an earlier one.
func (r *rig) attach(file string) {
	r.t.Helper()
	d, err := aio.New(aio.Config{Name: "a0", Filename: file, BlockSize: 4096})
	if err == nil {
		err = r.reg.Register(d)
	}
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = r.reg.Unregister("a0") })
}

func (r *rig) want(name string, want []byte) {
	r.t.Helper()
	if got := r.read("lvs/"+name, 0, uint64(len(want))); !bytes.Equal(got, want) {
		r.t.Errorf("%s differs", name)
	}
}

// TestStoreOfSPDK has SPDK write a store, dies or not, and goes on with it
// here, then there again.
func TestStoreOfSPDK(t *testing.T) {
	for _, how := range []string{"quit", "kill"} {
		t.Run(how, func(t *testing.T) { storeOfSPDK(t, how) })
	}
}

func storeOfSPDK(t *testing.T, how string) {
	s := startSPDK(t)
	file := aioFile(t, 256*mib)
	s.load(file)
	s.call("bdev_lvol_create_lvstore", map[string]any{"bdev_name": "a0", "lvs_name": "lvs", "cluster_sz": 128 << 10})
	create := func(name string, size int, thin bool) {
		s.call("bdev_lvol_create", map[string]any{"lvs_name": "lvs", "lvol_name": name, "size_in_mib": size, "thin_provision": thin})
	}
	create("thick", 10, false)
	create("thin", 80, true)
	create("gone", 20, false)
	ns := s.export("thick", "thin")
	thick, thin := noise(1, 10*mib), make([]byte, 80*mib)
	copy(thin[3*mib+4096:], noise(2, 2*mib))
	copy(thin[70*mib:], noise(3, mib))
	writeTo(t, ns["thick"], 0, thick)
	writeTo(t, ns["thin"], 3*mib+4096, thin[3*mib+4096:5*mib+4096])
	writeTo(t, ns["thin"], 70*mib, thin[70*mib:71*mib])
	s.call("bdev_lvol_snapshot", map[string]any{"lvol_name": "lvs/thin", "snapshot_name": "snap"})
	snap := bytes.Clone(thin)
	copy(thin[4*mib:], noise(4, 8192))
	writeTo(t, ns["thin"], 4*mib, thin[4*mib:4*mib+8192])
	s.call("bdev_lvol_clone", map[string]any{"snapshot_name": "lvs/snap", "clone_name": "clone"})
	s.call("bdev_lvol_delete", map[string]any{"name": "lvs/gone"})
	s.call("bdev_lvol_rename", map[string]any{"old_name": "lvs/thick", "new_name": "fat"})
	store, lvols := s.stores()[0], s.lvols()
	if how == "kill" {
		s.kill()
	} else {
		s.quit()
	}

	r := newRig(t)
	r.attach(file)
	st, err := r.m.Examine("a0")
	if err != nil {
		t.Fatal(err)
	}
	if got := st.Info(); got != store {
		t.Errorf("store: here %+v, there %+v", got, store)
	}
	for name, want := range lvols {
		v, ok := r.m.Volume("lvs/" + name)
		if !ok {
			t.Fatalf("no volume %s", name)
		}
		if got := v.Describe(); got != want {
			t.Errorf("%s: here %+v, there %+v", name, got, want)
		}
	}
	r.want("fat", thick)
	r.want("thin", thin)
	r.want("snap", snap)
	r.want("clone", snap)

	// Go on here.
	clone := bytes.Clone(snap)
	copy(clone[75*mib+4096:], noise(5, mib))
	r.write("lvs/clone", 75*mib+4096, clone[75*mib+4096:76*mib+4096])
	v, _ := r.m.Volume("lvs/clone")
	if _, err := v.Snapshot("snap2"); err != nil {
		t.Fatal(err)
	}
	copy(clone[:], noise(6, 4096))
	r.write("lvs/clone", 0, clone[:4096])
	r.volume(st, VolumeOpts{Name: "new", Bytes: 5 * mib})
	fat, _ := r.m.Volume("lvs/fat")
	if err := fat.Resize(30 * mib); err != nil {
		t.Fatal(err)
	}
	infos := map[string]VolumeInfo{}
	for _, v := range st.Volumes() {
		infos[v.Name()] = v.Describe()
	}
	info := st.Info()
	if how == "quit" {
		if err := st.Unload(); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.reg.Unregister("a0"); err != nil { // without a clean super block for "kill"
		t.Fatal(err)
	}

	// And there again.
	s = startSPDK(t)
	s.load(file)
	if got := s.stores(); len(got) != 1 || got[0] != info {
		t.Errorf("store: there %+v, here %+v\n%s", got, info, s.log.String())
	}
	for name, got := range s.lvols() {
		if got != infos[name] {
			t.Errorf("%s: there %+v, here %+v", name, got, infos[name])
		}
	}
	ns = s.export("thin", "snap", "clone", "fat")
	for name, want := range map[string][]byte{"thin": thin, "snap": snap, "clone": clone, "fat": thick} {
		if got := readFrom(t, ns[name], len(want)); !bytes.Equal(got, want) {
			t.Errorf("%s differs there", name)
		}
	}
	s.call("bdev_lvol_snapshot", map[string]any{"lvol_name": "lvs/clone", "snapshot_name": "snap3"})
	s.call("bdev_lvol_inflate", map[string]any{"name": "lvs/thin"})
	s.quit()
}

var _ bdev.Device = (*aio.Device)(nil)
