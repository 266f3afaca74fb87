//go:build e2e

package chaos

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	vda "github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/bdev"
	"github.com/virtual-disk-array/vda/module/aio"
	"github.com/virtual-disk-array/vda/module/lvol"
	"github.com/virtual-disk-array/vda/nvme"
	"github.com/virtual-disk-array/vda/test/verdict"
)

// leg is a vd of a mirrored array as SQL has it.
type leg struct {
	mirror string
	data   uint64 // bytes that legs of the mirror have in common; label and map follow
	vd     string
	role   string // number of a vda.LegRole
	at     *machine
}

// legs returns the legs of the array, those of one mirror in a row.
func (c *cluster) legs(ctx context.Context) ([]leg, error) {
	out, err := c.sql(ctx, "select m.id, m.size_bytes, v.id, v.role, d.name from vda.vda_mirror m join vda.vda_vd v on v.mirror_id = m.id "+
		"join vda.vda_dn d on d.id = v.dn_id where not v.deleted order by m.grp_idx, m.idx, v.id")
	if err != nil {
		return nil, err
	}
	var all []leg
	for line := range strings.Lines(string(out)) {
		f := strings.Split(strings.TrimSpace(line), "|")
		if len(f) != 5 {
			return nil, fmt.Errorf("legs in SQL: %q", line)
		}
		size, err := strconv.ParseUint(f[1], 10, 64)
		if err != nil {
			return nil, err
		}
		l := leg{mirror: f[0], data: size, vd: f[2], role: f[3]}
		for _, m := range c.order {
			if m.kind == "dn" && m.agent() == f[4] {
				l.at = m
			}
		}
		if l.at == nil {
			return nil, fmt.Errorf("vd %s is on dn %q, which is not of this cluster", l.vd, f[4])
		}
		all = append(all, l)
	}
	return all, nil
}

// redundancy is the array's redundancy_state.
func (c *cluster) redundancy(ctx context.Context) (string, error) {
	out, err := c.cli(ctx, "da get --da-name da0")
	if err != nil {
		return "", err
	}
	var reply struct {
		DaMsg struct {
			State string `json:"redundancy_state"`
		} `json:"da_msg"`
	}
	err = json.Unmarshal(out, &reply)
	return reply.DaMsg.State, err
}

// full waits until each mirror of the array has all its members, and returns the
// last state that was heard.
func (c *cluster) full(limit time.Duration) (state string, ok bool) {
	ctx, cancel := context.WithTimeout(context.Background(), max(limit, 2*time.Second))
	defer cancel()
	for end := time.Now().Add(limit); ; time.Sleep(200 * time.Millisecond) {
		s, err := c.redundancy(ctx)
		if err == nil {
			state = s
		}
		if state == string(vda.RedundancyFull) && err == nil {
			return state, true
		}
		if time.Now().After(end) {
			return state, false
		}
	}
}

// calmMonitors restarts both monitors: they forget that legs were lost again and
// again, for which those would have to wait for minutes.
func (c *cluster) calmMonitors() {
	for _, m := range c.order {
		if m.kind == "monitor" {
			m.daemon.kill(200 * time.Millisecond)
		}
	}
}

// settled waits until nothing is left to be repaired on any mirror: legs are
// equal then when nobody writes.
func (c *cluster) settled(ctx context.Context, limit time.Duration) error {
	var last error
	for end := time.Now().Add(limit); time.Now().Before(end); time.Sleep(200 * time.Millisecond) {
		if last = c.unrepaired(ctx); last == nil {
			return nil
		}
	}
	return last
}

func (c *cluster) unrepaired(ctx context.Context) error {
	n := 0
	for _, m := range c.order {
		if m.kind != "cn" {
			continue
		}
		out, err := c.output(ctx, m, "/root/vda_rpc -s /tmp/sock vda_mirror_get_bdevs")
		if err != nil {
			return err
		}
		var all []struct {
			Name   string
			Online bool
			Repair uint64 `json:"repair_bytes"`
		}
		if err := json.Unmarshal(out, &all); err != nil {
			return err
		}
		for _, x := range all {
			if n++; !x.Online || x.Repair != 0 {
				return fmt.Errorf("%s on %s: online %t, %d bytes to repair", x.Name, m.name, x.Online, x.Repair)
			}
		}
	}
	if n == 0 {
		return fmt.Errorf("no controller node has a mirror")
	}
	return nil
}

// heal waits until the array is whole again, under the host's load.
func (c *cluster) heal(t *verdict.T) {
	t.Helper()
	begin := time.Now()
	state, ok := c.full(10 * time.Second)
	if !ok {
		c.calmMonitors()
		state, ok = c.full(3 * time.Minute)
	}
	if !ok {
		out, _ := c.cli(context.Background(), "da get --da-name da0")
		t.Errorf("the array does not become whole: redundancy_state %q after %v: %s", state, time.Since(begin).Round(time.Second), out)
		return
	}
	t.Logf("all legs are members %.1f s after the last fault", time.Since(begin).Seconds())
}

// compareLegs compares the legs of each mirror byte by byte on copies of the
// disks, which no data plane uses any more.
func (c *cluster) compareLegs(t *verdict.T, all []leg) {
	t.Helper()
	copies := map[*machine]string{}
	for i := range all {
		m := all[i].at
		if copies[m] != "" {
			continue
		}
		path := filepath.Join(c.cfg.Dir, m.name+".pd0")
		if err := c.fetch(t.Context(), m, m.media, path); err != nil {
			t.Errorf("the disk of %s: %v", m.name, err)
			return
		}
		copies[m] = path
	}
	mirrors, sum, good := map[string]int{}, uint64(0), true
	for i := range all {
		mirrors[all[i].mirror]++
		if i == 0 || all[i].mirror != all[i-1].mirror {
			continue
		}
		a, b := &all[i-1], &all[i]
		if err := compareLeg(copies[a.at], a.vd, copies[b.at], b.vd, a.data); err != nil {
			good = false
			t.Errorf("mirror %s, legs on %s and %s: %v", a.mirror, a.at.name, b.at.name, err)
		}
		sum += a.data
	}
	for mirror, n := range mirrors {
		if n != int(c.cfg.Redundancy) {
			t.Errorf("mirror %s has %d legs, not %d", mirror, n, c.cfg.Redundancy)
		}
	}
	t.Logf("%d mirrors of %d legs compared offline, %d bytes per pair in all: equal %t", len(mirrors), len(all), sum, good)
	if good {
		for _, path := range copies {
			_ = os.Remove(path)
		}
	}
}

// fetch copies a file of a machine to this one.
func (c *cluster) fetch(ctx context.Context, m *machine, from, to string) error {
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	defer out.Close()
	cmd := m.h.Command(ctx, "cat", from)
	var text bytes.Buffer
	cmd.Stdout, cmd.Stderr = out, &text
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%w: %s", err, text.Bytes())
	}
	return out.Sync()
}

// compareLeg says where the first bytes of two vds differ, each in the lvstore of
// a file.
func compareLeg(pathA, vdA, pathB, vdB string, length uint64) error {
	a, err := readVD(pathA, vdA, length)
	if err != nil {
		return err
	}
	b, err := readVD(pathB, vdB, length)
	if err != nil {
		return err
	}
	var at []int
	for i := 0; i < len(a); i += blockSize {
		if !bytes.Equal(a[i:i+blockSize], b[i:i+blockSize]) {
			at = append(at, i)
		}
	}
	if len(at) == 0 {
		return nil
	}
	text := ""
	for _, i := range at[:min(len(at), 8)] {
		text += fmt.Sprintf("; at %d: %.28x… and %.28x…", i, a[i:], b[i:])
	}
	return fmt.Errorf("vds %s and %s differ in %d blocks of %d bytes%s", vdA, vdB, len(at), blockSize, text)
}

// readVD reads the begin of a vd from the lvstore in a file; nothing is written.
func readVD(path, vd string, length uint64) ([]byte, error) {
	reg := bdev.NewRegistry()
	defer reg.Close()
	dev, err := aio.New(aio.Config{Name: "pd", Filename: path, BlockSize: blockSize, ReadOnly: true})
	if err != nil {
		return nil, err
	}
	if err := reg.Register(dev); err != nil {
		return nil, err
	}
	m := lvol.New(lvol.Config{Registry: reg, Log: slog.New(slog.DiscardHandler)})
	defer m.Close()
	store, err := m.Examine("pd")
	if err != nil {
		return nil, fmt.Errorf("the lvstore in %s: %w", path, err)
	}
	for _, v := range store.Volumes() {
		if v.Name() != vda.VDPrefix+vd {
			continue
		}
		h, err := reg.Open(v.BdevName(), nil)
		if err != nil {
			return nil, err
		}
		defer h.Close()
		if i := h.Info(); i.Blocks*uint64(i.BlockSize) < length {
			return nil, fmt.Errorf("vd %s has %d bytes, not %d", vd, i.Blocks*uint64(i.BlockSize), length)
		}
		data := make([]byte, length)
		return data, transfer(h, bdev.OpRead, 0, data)
	}
	return nil, fmt.Errorf("%s: vd %s is not in the lvstore", path, vd)
}

// transfer reads or writes whole blocks, a MiB at a time.
func transfer(h *bdev.Handle, op bdev.Op, offset uint64, data []byte) error {
	size := uint64(h.Info().BlockSize)
	for at := 0; at < len(data); at += 1 << 20 {
		part := data[at:min(at+1<<20, len(data))]
		done := make(chan nvme.Status, 1)
		r := &bdev.Request{Op: op, Offset: (offset + uint64(at)) / size, Blocks: uint64(len(part)) / size, Iov: [][]byte{part},
			Done: func(r *bdev.Request, _ *bdev.Batch) { done <- r.Status }}
		var b bdev.Batch
		h.Submit(r, &b)
		b.Flush()
		if s := <-done; s != nvme.Success {
			return fmt.Errorf("%v of %d bytes at %d: %v", op, len(part), offset+uint64(at), s)
		}
	}
	return nil
}
