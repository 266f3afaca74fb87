package cli

import (
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/virtual-disk-array/vda/portal/portaltest"
)

// fickle is a way to a portal that resets some connections: the first ones
// before a word is said, or once the request is on its way and carried out.
type fickle struct {
	resets atomic.Int64 // connections that are still to be reset
	late   bool         // with the request read
	conns  atomic.Int64
}

func (f *fickle) serve(t *testing.T, portal string) (addr string) {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { lis.Close() })
	go func() {
		for {
			c, err := lis.Accept()
			if err != nil {
				return
			}
			f.conns.Add(1)
			go f.connection(c.(*net.TCPConn), portal)
		}
	}()
	return lis.Addr().String()
}

func (f *fickle) connection(c *net.TCPConn, portal string) {
	defer c.Close()
	reset := f.resets.Add(-1) >= 0
	if reset && !f.late {
		c.SetLinger(0)
		return
	}
	p, err := net.Dial("tcp", portal)
	if err != nil {
		return
	}
	defer p.Close()
	if reset {
		// The portal gets the request; its reply never comes.
		go io.Copy(p, c)
		buf := make([]byte, 64<<10)
		for {
			n, err := p.Read(buf)
			if err != nil || strings.Contains(string(buf[:n]), "success") {
				break
			}
			c.Write(buf[:n])
		}
		c.SetLinger(0)
		return
	}
	go func() { io.Copy(p, c); p.Close() }()
	io.Copy(c, p)
}

// TestResetIsTriedAgain: a connection that is reset before the request was sent
// is made again, for a question and for a change; one that is lost later is for
// a question only.
func TestResetIsTriedAgain(t *testing.T) {
	c := portaltest.New(t)
	portal := c.Portal()
	const change = `cn create --timeout 30s --cn-name cn9:9820 --cn-listener-conf ` +
		`'{"trtype":"tcp","traddr":"192.0.2.9","adrfam":"ipv4","trsvcid":"4430"}'`
	early := &fickle{}
	u := &user{t, early.serve(t, portal)}
	for _, line := range []string{"dn list --timeout 30s", change} {
		early.resets.Store(3)
		u.ok(line)
	}
	if n := early.conns.Load(); n != 8 {
		t.Errorf("%d connections, want 3 that fail and one that does not, twice", n)
	}

	late := &fickle{late: true}
	u = &user{t, late.serve(t, portal)}
	late.resets.Store(2)
	u.ok("cn list --timeout 30s")
	late.resets.Store(1)
	late.conns.Store(0)
	_, stderr, exit := u.run("cn modify --timeout 30s --cn-name cn9:9820 --new-online false")
	if exit != exitUnreachable || !strings.Contains(stderr, "lost before it replied") ||
		!strings.Contains(stderr, "see how far it came") || late.conns.Load() != 1 {
		t.Errorf("a change whose reply is lost: exit %d after %d connections, %q", exit, late.conns.Load(), stderr)
	}
}
