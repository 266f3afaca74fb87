package cli

import (
	"context"
	"fmt"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/virtual-disk-array/vda/program"
)

// keyboard is somebody at a terminal in which a program runs.
type keyboard struct {
	t      *testing.T
	master *os.File

	mu   sync.Mutex
	seen string
	from int // of seen: what has been waited for is before it

	closed chan struct{} // nothing is shown any more
}

// openTerminal makes a pseudo terminal: its keyboard and screen, and the end that a program has.
func openTerminal(t *testing.T) (*keyboard, *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { master.Close() })
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	slave, err := os.OpenFile(fmt.Sprint("/dev/pts/", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err == nil {
		err = unix.IoctlSetWinsize(int(slave.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 40, Col: 200})
	}
	if err != nil {
		t.Fatal(err)
	}
	k := &keyboard{t: t, master: master, closed: make(chan struct{})}
	go func() {
		defer close(k.closed)
		b := make([]byte, 4096)
		for {
			n, err := master.Read(b)
			k.mu.Lock()
			k.seen += string(b[:n])
			k.mu.Unlock()
			if err != nil {
				return // the program's end is closed
			}
		}
	}()
	return k, slave
}

func (k *keyboard) press(keys string) {
	k.t.Helper()
	if _, err := k.master.WriteString(keys); err != nil {
		k.t.Fatal(err)
	}
}

// shows waits until the screen has had something since what was waited for last, and returns what came
// with it.
func (k *keyboard) shows(want string) string {
	k.t.Helper()
	re := regexp.MustCompile(want)
	for end := time.Now().Add(2 * time.Minute); ; time.Sleep(10 * time.Millisecond) {
		k.mu.Lock()
		rest := k.seen[k.from:]
		at := re.FindStringIndex(rest)
		if at != nil {
			k.from += at[1]
			k.mu.Unlock()
			return rest[:at[1]]
		}
		k.mu.Unlock()
		if time.Now().After(end) {
			k.t.Fatalf("the terminal does not show %q but\n%q", want, rest)
		}
	}
}

// TestPoint15Terminal: a person at a terminal has words completed with Tab as by a shell, and gets lines
// of before with the arrow keys; Ctrl-C throws a line away; commands find the terminal as it was.
func TestPoint15Terminal(t *testing.T) {
	_, u := well(t)
	u.ok("da create other --da-size 8M")
	k, slave := openTerminal(t)
	before, err := unix.IoctlGetTermios(int(slave.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan int)
	go func() {
		done <- Program().Run(context.Background(), program.Process{Args: []string{"interactive", "--addr-port", u.addr}, Stdin: slave,
			Stdout: slave, Stderr: slave, Getenv: func(string) (string, bool) { return "", false }})
	}()
	k.shows(`vda> `)
	// A command, its verb, a flag of it, a value of that, and a name: each begun, and completed.
	k.press("stat\t\r")
	k.shows(`status \r\n(?s:.*)The cluster is well\.(?s:.*)vda> `)
	k.press("da li\t-o na\t\r")
	k.shows(`da list -o name \r\nda0\r\nother\r\nvda> `)
	k.press("da get oth\t--outp\t")
	k.shows(`da get other --output`)
	k.press("\x15da get --da-name=ot\t-o jsonpath={.da_msg.da_size}\r")
	k.shows(`da get --da-name=other -o jsonpath=\{\.da_msg\.da_size\}\r\n8388608\r\nvda> `)
	// What may be several is completed as far as they agree, then shown.
	k.press("dn get d\t")
	k.shows(`dn get dn`)
	k.press("\t")
	k.shows(`dn0:9720  dn1:9720\r\n(?s:.*)vda> dn get dn`)
	k.press("1\t -o name\r")
	k.shows(`dn1:9720 (?s:.*)\r\ndn1:9720\r\nvda> `)
	// Nothing fits, nor inside of quotes: the line stays.
	k.press("da get nob\t -o name\r")
	k.shows(`da get nob(?s:.*)there is no da "nob"(?s:.*)vda> `)
	k.press("da get 'oth\ter' -o name\r")
	k.shows(`da get 'other' -o name\r\nother\r\nvda> `)
	// The line before that one, and on from there; what was thrown away is not run.
	k.press("\x1b[A\x1b[A\x1b[A\r")
	k.shows(`dn get dn1:9720  ?-o name\r\ndn1:9720\r\nvda> `)
	k.press("da delete other\x03")
	k.shows(`da delete other(?s:.*)\r\nvda> `)
	// A deletion asks, and the answer is typed to it.
	k.press("da delete other\r")
	if program.TypedByHand() {
		k.shows(`\[y/N\] `)
		k.press("n\r")
	}
	k.shows(`vda> `)
	k.press("exi\t\r")
	if exit := <-done; exit != 0 {
		t.Errorf("exit %d", exit)
	}
	after, err := unix.IoctlGetTermios(int(slave.Fd()), unix.TCGETS)
	if err != nil || *after != *before {
		t.Errorf("the terminal was %+v and is %+v, %v", before, after, err)
	}
	slave.Close()
	<-k.closed
	if strings.Contains(k.seen, "interactive") {
		t.Errorf("the screen has had\n%s", k.seen)
	}
}

// TestPoint15History: lines of before are kept once, up to a bound, and nothing that is empty.
func TestPoint15History(t *testing.T) {
	h := &past{}
	for _, line := range []string{"a", "", "a", "b", " ", "a"} {
		h.Add(line)
	}
	if got := strings.Join(h.lines, " "); got != "a b a" {
		t.Errorf("it has %q", got)
	}
	for i := range 2 * maxPast {
		h.Add(fmt.Sprint(i))
	}
	if h.Len() != maxPast || h.At(0) != fmt.Sprint(2*maxPast-1) {
		t.Errorf("%d lines, the newest %s", h.Len(), h.At(0))
	}
}
