//go:build e2e

package chaos

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

// diskEnv has "FILE PATH" for the process that is to show a file as a disk.
const diskEnv = "VDA_CHAOS_DISK"

// diskFault is what is wrong with a disk. The zero value: nothing.
type diskFault struct {
	Read, Write syscall.Errno // of an I/O of this kind
	Percent     int           // of these I/Os fail; 0: all
	Hang        bool          // nothing is answered until the fault ends
	HangOne     bool          // one I/O is not answered until the fault ends
	Full        bool          // the file system has no space left
	Gone        bool          // the file is not there any more
}

// now is what is wrong.
func (d *fuseDisk) now() diskFault {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.fault
}

// set ends one fault and begins another.
func (d *fuseDisk) set(f diskFault) {
	d.mu.Lock()
	defer d.mu.Unlock()
	close(d.ended)
	d.fault, d.ended, d.stuck = f, make(chan struct{}), false
}

// meet has an I/O meet what is wrong: it waits for as long as it hangs, and returns
// what it fails with.
func (d *fuseDisk) meet(op uint32) syscall.Errno {
	d.mu.Lock()
	f, ended := d.fault, d.ended
	hang := f.Hang
	if f.HangOne && !d.stuck && (op == fuseRead || op == fuseWrite) {
		d.stuck, hang = true, true
	}
	d.turn++
	spared := f.Percent > 0 && int(d.turn%100*37%100) >= f.Percent
	d.mu.Unlock()
	switch {
	case hang:
		<-ended
		return 0
	case f.Gone:
		return syscall.ESTALE
	case spared:
		return 0
	case op == fuseRead:
		return f.Read
	}
	return f.Write
}

// runDisk is the process behind a disk. It takes faults from its standard input,
// one JSON object a line, and answers each with a line.
func runDisk() int {
	file, path, _ := strings.Cut(os.Getenv(diskEnv), " ")
	d, err := mountDisk(file, path)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	go func() {
		fmt.Println("ready")
		in := bufio.NewScanner(os.Stdin)
		for in.Scan() {
			var f diskFault
			if err := json.Unmarshal(in.Bytes(), &f); err != nil {
				fmt.Println(err)
				continue
			}
			d.set(f)
			fmt.Println("ready")
		}
		os.Exit(0)
	}()
	if err := d.serve(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// faultyDisk is a disk of a dn that can be made to fail.
type faultyDisk struct {
	cmd *exec.Cmd
	mu  sync.Mutex // one change at a time
	in  io.WriteCloser
	out *bufio.Scanner
}

// attachDisk shows a file of a dn as a disk at path.
func (c *cluster) attachDisk(m *machine, file, path string) error {
	d := &faultyDisk{cmd: m.h.Command(context.Background(), "env", diskEnv+"="+file+" "+path, "/root/chaos_disk")}
	d.cmd.Stderr = os.Stderr
	var err error
	if d.in, err = d.cmd.StdinPipe(); err != nil {
		return err
	}
	out, err := d.cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := d.cmd.Start(); err != nil {
		return err
	}
	d.out = bufio.NewScanner(out)
	m.disk = d
	return d.ready()
}

func (d *faultyDisk) ready() error {
	if !d.out.Scan() {
		return errors.Join(errors.New("the process of a disk has ended"), d.out.Err())
	}
	if text := d.out.Text(); text != "ready" {
		return errors.New(text)
	}
	return nil
}

// set makes the disk fail, or be well.
func (d *faultyDisk) set(f diskFault) error {
	text, err := json.Marshal(f)
	if err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, err := d.in.Write(append(text, '\n')); err != nil {
		return err
	}
	return d.ready()
}

// close ends the process. Nobody uses the disk any more, or it fails for them.
func (d *faultyDisk) close() {
	_ = d.set(diskFault{})
	_ = d.in.Close()
	_ = d.cmd.Wait()
}

// hasFuse reports that this machine can make disks that fail.
func hasFuse() bool {
	f, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	if err != nil {
		return false
	}
	_ = f.Close()
	return true
}

// badDisk has the disk of a dn fail for a while. What comes after that is up to the
// cluster: its agent takes the disk for a sick one for a while, and its legs have
// to come back.
func (f *chooser) badDisk(kind, what string, wrong diskFault) *fault {
	m, hold := f.any("dn"), f.span()
	return &fault{kind: kind, what: fmt.Sprintf("the disk of %s %s for %v", m.name, what, hold.Round(time.Millisecond)), hold: hold,
		inject: func() error { return m.disk.set(wrong) },
		heal:   func() error { return m.disk.set(diskFault{}) }}
}

// addDisks adds the faults of disks.
func (f *chooser) addDisks(add func(weight int, kind func() *fault)) {
	kind := func(weight int, kind, what string, wrong diskFault) {
		add(weight, func() *fault { return f.badDisk(kind, what, wrong) })
	}
	kind(3, "dn's disk has media errors", "fails all I/O", diskFault{Read: syscall.EIO, Write: syscall.EIO})
	kind(2, "dn's disk has media errors", "fails a third of all I/O", diskFault{Read: syscall.EIO, Write: syscall.EIO, Percent: 33})
	kind(3, "dn's disk cannot be read in places", "fails a twentieth of all reads", diskFault{Read: syscall.EIO, Percent: 5})
	kind(3, "no space below dn's disk", "has no space", diskFault{Write: syscall.ENOSPC, Full: true})
	kind(3, "dn's disk hangs", "hangs", diskFault{Hang: true})
	kind(2, "dn's disk holds one I/O back", "does not answer one I/O", diskFault{HangOne: true})
	kind(2, "dn's file is gone", "is not there", diskFault{Gone: true})
}
