package child_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/virtual-disk-array/vda/program/child"
	"github.com/virtual-disk-array/vda/test/tree"
)

// asParent has this binary start a child, say its process id, and wait.
const asParent = "VDA_TEST_CHILD_PARENT"

// The process's first thread, which never ends, is TestMain's alone.
func init() { runtime.LockOSThread() }

func TestMain(m *testing.M) {
	if os.Getenv(asParent) == "" {
		os.Exit(m.Run())
	}
	c := exec.Command("sleep", "600")
	if err := child.Start(c); err != nil {
		panic(err)
	}
	fmt.Println(c.Process.Pid)
	time.Sleep(10 * time.Minute)
}

// until waits until f says so.
func until(t *testing.T, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(2 * time.Minute); !f(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: not within 2 minutes", what)
		}
	}
}

// TestAChildOutlivesItsThread: the thread of the goroutine that has started a child ends, and
// the child goes on.
func TestAChildOutlivesItsThread(t *testing.T) {
	c := exec.Command("cat")
	in, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	thread, started := make(chan int, 1), make(chan error)
	go func() {
		runtime.LockOSThread() // and it is not unlocked: the thread ends with this goroutine
		thread <- syscall.Gettid()
		started <- child.Start(c)
	}()
	if err := <-started; err != nil {
		t.Fatal(err)
	}
	defer c.Wait() //nolint:errcheck // it is killed
	defer c.Process.Kill()
	path := fmt.Sprint("/proc/self/task/", <-thread)
	until(t, "the thread ends", func() bool { _, err := os.Stat(path); return err != nil })
	if _, err := io.WriteString(in, "hello\n"); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "hello\n" {
		t.Errorf("it says %q, %v", line, err)
	}
}

// TestAChildEndsWithItsProcess: a process is killed, and its child ends.
func TestAChildEndsWithItsProcess(t *testing.T) {
	parent := exec.Command(os.Args[0])
	parent.Env = append(os.Environ(), asParent+"=1")
	out, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(parent); err != nil {
		t.Fatal(err)
	}
	var pid int
	_, err = fmt.Fscan(out, &pid)
	_ = parent.Process.Kill()
	_ = parent.Wait() // it was killed
	if err != nil {
		t.Fatal(err)
	}
	until(t, "the child ends", func() bool {
		state, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			return true
		}
		var name, is string
		_, _ = fmt.Sscan(string(state), &pid, &name, &is)
		return is == "Z" || name != "(sleep)" // nobody has asked for its end, or the id is another's
	})
}

// TestDeathSignals: who asks for a death signal keeps the thread that starts the child. csi/linux
// does so for each of its programs, which run one beside another.
func TestDeathSignals(t *testing.T) {
	found := 0
	err := tree.Files("../..", ".go", func(path string, text []byte) error {
		if bytes.Contains(text, []byte("Pdeath"+"sig")) {
			if found++; path != "program/child/child.go" && path != "csi/linux/disk.go" {
				t.Errorf("%s sets a death signal; start the process by program/child", path)
			}
		}
		return nil
	})
	if err != nil || found < 2 {
		t.Errorf("%d files found: %v", found, err)
	}
}
