package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	vdacsi "github.com/virtual-disk-array/vda/csi"
	"github.com/virtual-disk-array/vda/csi/linux"
	"github.com/virtual-disk-array/vda/csi/node"
	"github.com/virtual-disk-array/vda/program/child"
)

const (
	// pluginArg has the program be a plugin, on the listener that it gets as descriptor 3.
	pluginArg = "plugin"
	// died begins what a plugin prints before it dies.
	died = "died "
	// atEnd ends a step in the middle of something that had come to its end already.
	atEnd = ", at its end"
)

// walk has plugins die at all steps of a call. What one has done the next one finds done, so
// that a call has other steps each time it is made.
func walk(method, request string) error {
	dir, err := os.MkdirTemp("", "walk")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	socket := filepath.Join(dir, "s")
	var before []string
	for refused := 0; ; {
		step, reply, err := dying(before, socket, method, request)
		switch {
		case step != "":
			fmt.Println(step)
			before = append(before, strings.TrimSuffix(step, atEnd))
		case err == nil:
			fmt.Println(reply)
			return nil
		case refused > 100:
			return err
		default: // as kubelet does
			refused++
			fmt.Fprintln(os.Stderr, "refused:", err)
			time.Sleep(100 * time.Millisecond)
		}
	}
}

// dying makes a call of a plugin that dies at its first step that is not one of before, and
// says which that was, "" when there was none.
func dying(before []string, socket, method, request string) (step, reply string, err error) {
	lis, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket})
	if err != nil {
		return "", "", err
	}
	f, err := lis.File()
	if err != nil {
		return "", "", errors.Join(err, lis.Close())
	}
	var said, log bytes.Buffer
	cmd := exec.Command("/proc/self/exe", pluginArg, strings.Join(before, separator))
	cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = &said, &log, []*os.File{f}
	err = child.Start(cmd)
	if err := errors.Join(err, f.Close()); err != nil {
		return "", "", errors.Join(err, lis.Close())
	}
	reply, err = call(socket, method, request)
	_ = cmd.Process.Kill()
	_ = cmd.Wait()  // it was killed, by itself or now
	_ = lis.Close() // which removes the socket
	if s, ok := strings.CutPrefix(strings.TrimSpace(said.String()), died); ok {
		return s, "", nil
	}
	if err != nil {
		err = fmt.Errorf("%w: %s", err, log.String())
	}
	return "", reply, err
}

// separator stands between steps.
const separator = ";"

// plugin is the driver's Node service, which dies at the first step that is not one of before.
func plugin(before string) error {
	lis, err := net.FileListener(os.NewFile(3, "listener"))
	if err != nil {
		return err
	}
	host, err := linux.NewHost("/")
	if err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	m := &mortal{Host: host, FileSystems: linux.NewFileSystems("/"), before: strings.Split(before, separator)}
	return vdacsi.NewServer(vdacsi.Config{Node: node.New(node.Config{Host: m, FileSystems: m, Log: log}), Log: log}).Serve(
		context.Background(), lis)
}

// mortal is a machine whose plugin is killed at a step: before or after what changes something,
// or in the middle of what takes long.
type mortal struct {
	node.Host
	node.FileSystems
	before []string // steps at which it goes on
}

// die ends the process as kill -9 does.
func die(step string) {
	fmt.Println(died + step)
	_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	select {}
}

func (m *mortal) step(step string) {
	if !slices.Contains(m.before, step) {
		die(step)
	}
}

// during is a step in the middle of do, as soon as reached says so, or at its end.
func (m *mortal) during(step string, reached func() bool, do func() error) error {
	if slices.Contains(m.before, step) {
		return do()
	}
	done := make(chan error, 1)
	go func() { done <- do() }()
	for {
		select {
		case <-done:
			die(step + atEnd)
		case <-time.After(time.Millisecond):
			if reached() {
				die(step)
			}
		}
	}
}

func (m *mortal) Connect(ctx context.Context, t node.Target) (missing []error, err error) {
	before, _ := m.Host.Controllers(t.NQN)
	err = m.during("during Connect", func() bool {
		now, _ := m.Host.Controllers(t.NQN)
		return len(now) > len(before)
	}, func() (err error) {
		missing, err = m.Host.Connect(ctx, t)
		return err
	})
	m.step("after Connect")
	return missing, err
}

func (m *mortal) Disconnect(ctx context.Context, nqn string) error {
	before, _ := m.Host.Controllers(nqn)
	err := m.during("during Disconnect", func() bool {
		now, _ := m.Host.Controllers(nqn)
		return len(now) < len(before)
	}, func() error { return m.Host.Disconnect(ctx, nqn) })
	m.step("after Disconnect")
	return err
}

func (m *mortal) Rescan(nqn string) error {
	err := m.Host.Rescan(nqn)
	m.step("after Rescan")
	return err
}

func (m *mortal) Format(ctx context.Context, device, volumeID, fs string, options []string) error {
	err := m.during("during Format", func() bool { return formatting(device) },
		func() error { return m.FileSystems.Format(ctx, device, volumeID, fs, options) })
	m.step("after Format")
	return err
}

// formatting reports that a device has the driver's stamp, which it has while there is a mkfs.
func formatting(device string) bool {
	d, err := os.Open(device)
	if err != nil {
		return false
	}
	defer d.Close()
	const block = 4096
	last := make([]byte, block)
	if _, err := d.Seek(-block, io.SeekEnd); err != nil {
		return false
	}
	_, err = io.ReadFull(d, last)
	return err == nil && bytes.HasPrefix(last, []byte("vda_csi is formatting"))
}

func (m *mortal) Check(ctx context.Context, device, fs string) error {
	err := m.FileSystems.Check(ctx, device, fs)
	m.step("after Check")
	return err
}

func (m *mortal) Mount(device, path, fs string, options []string) error {
	m.step("before Mount") // the folder is made
	err := m.FileSystems.Mount(device, path, fs, options)
	m.step("after Mount")
	return err
}

func (m *mortal) Grow(ctx context.Context, device, path, fs string) error {
	err := m.FileSystems.Grow(ctx, device, path, fs)
	m.step("after Grow")
	return err
}

func (m *mortal) Bind(from, path string, readonly bool) error {
	m.step("before Bind") // the target is made
	err := m.FileSystems.Bind(from, path, readonly)
	m.step("after Bind")
	return err
}

func (m *mortal) Unmount(path string) error {
	m.step("before Unmount")
	err := m.FileSystems.Unmount(path)
	m.step("after Unmount")
	return err
}

func (m *mortal) Flush(device string) error {
	err := m.FileSystems.Flush(device)
	m.step("after Flush")
	return err
}
