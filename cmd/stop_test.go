package cmd_test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"path/filepath"
	"testing"

	"github.com/virtual-disk-array/vda/agent/cn"
	"github.com/virtual-disk-array/vda/agent/dn"
	"github.com/virtual-disk-array/vda/monitor"
	"github.com/virtual-disk-array/vda/portal"
	"github.com/virtual-disk-array/vda/program"
)

// TestStoppedWhileStarting: a daemon that is asked to stop while what it needs does not
// answer ends as one that serves, with exit status 0 and without a word of failure.
func TestStoppedWhileStarting(t *testing.T) {
	conf := `{"trtype":"tcp","traddr":"127.0.0.1","adrfam":"ipv4","trsvcid":"4430"}`
	agent := func(p program.Program, dir, silent string) (program.Program, []string) {
		return p, []string{"--sock-path", silent, "--listener-conf", conf, "--state-dir", dir}
	}
	for name, start := range map[string]func(dir, socket, address string) (program.Program, []string){
		"vda_dn_agent": func(dir, socket, _ string) (program.Program, []string) { return agent(dn.App.Program(), dir, socket) },
		"vda_cn_agent": func(dir, socket, _ string) (program.Program, []string) { return agent(cn.App.Program(), dir, socket) },
		"vda_portal": func(_, _, address string) (program.Program, []string) {
			return portal.Program(), []string{"--db-uri", "postgresql://vda@" + address + "/vda?sslmode=disable"}
		},
		"vda_monitor": func(_, _, address string) (program.Program, []string) {
			return monitor.Program(), []string{"--db-uri", "mysql://vda@" + address + "/vda"}
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			accepted := make(chan net.Conn, 16)
			silent := func(network, address string) net.Addr {
				lis, err := net.Listen(network, address)
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
						accepted <- c
					}
				}()
				return lis.Addr()
			}
			p, args := start(dir, silent("unix", filepath.Join(dir, "s")).String(), silent("tcp", "127.0.0.1:0").String())
			ctx, stop := context.WithCancel(t.Context())
			var out bytes.Buffer
			ended := make(chan int)
			go func() {
				ended <- p.Run(ctx, program.Process{Args: append(args, "--listener", "127.0.0.1", "--port", fmt.Sprint(freePort(t))),
					Stdout: &out, Stderr: &out})
			}()
			select {
			case c := <-accepted:
				defer c.Close()
			case status := <-ended:
				t.Fatalf("ended with %d before it was asked to:\n%s", status, &out)
			}
			stop()
			if status := <-ended; status != 0 {
				t.Errorf("ended with %d:\n%s", status, &out)
			}
		})
	}
}

// TestStoppedAtOnce: likewise, whatever the stop meets first.
func TestStoppedAtOnce(t *testing.T) {
	dir := t.TempDir()
	nothing := filepath.Join(dir, "none.sock")
	agent := []string{"--sock-path", nothing, "--sock-wait", "1h", "--listener-conf",
		`{"trtype":"tcp","traddr":"127.0.0.1","adrfam":"ipv4","trsvcid":"4430"}`, "--state-dir"}
	for name, p := range map[string]struct {
		program.Program
		args []string
	}{
		"vda_dn_agent": {dn.App.Program(), append(agent[:len(agent):len(agent)], filepath.Join(dir, "dn"))},
		"vda_cn_agent": {cn.App.Program(), append(agent[:len(agent):len(agent)], filepath.Join(dir, "cn"))},
		"vda_portal":   {portal.Program(), []string{"--db-uri", "postgresql://vda@127.0.0.1:1/vda?sslmode=disable"}},
		"vda_monitor":  {monitor.Program(), []string{"--db-uri", "postgresql://vda@127.0.0.1:1/vda?sslmode=disable"}},
	} {
		ctx, stop := context.WithCancel(t.Context())
		stop()
		var out bytes.Buffer
		if status := p.Run(ctx, program.Process{Args: append(p.args, "--listener", "127.0.0.1", "--port", fmt.Sprint(freePort(t))),
			Stdout: &out, Stderr: &out}); status != 0 {
			t.Errorf("%s ended with %d:\n%s", name, status, &out)
		}
	}
}
