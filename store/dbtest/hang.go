package dbtest

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/go-sql-driver/mysql"
)

// Hang stops the server's processes where they are: they keep their
// connections and say nothing, until wake is called. It returns when all their
// threads stand still, which on a busy machine is a while after the signal.
func (s *Server) Hang() (wake func()) {
	s.t.Helper()
	pids := append([]int{s.cmd.Process.Pid}, children(s.cmd.Process.Pid)...)
	for _, pid := range pids {
		syscall.Kill(pid, syscall.SIGSTOP)
	}
	for _, pid := range pids {
		for !stopped(pid) {
			time.Sleep(time.Millisecond)
		}
	}
	return func() {
		for _, pid := range pids {
			syscall.Kill(pid, syscall.SIGCONT)
		}
	}
}

// stopped reports that no thread of a process can run; one that has ended has
// none.
func stopped(pid int) bool {
	stats, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/[0-9]*/stat", pid))
	for _, path := range stats {
		raw, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended
		}
		var state string
		fmt.Sscan(string(raw[strings.LastIndexByte(string(raw), ')')+1:]), &state) // proc(5): field 3, behind the name
		if state != "T" && state != "Z" && state != "X" {
			return false
		}
	}
	return true
}

// children are the processes that a process started.
func children(parent int) (pids []int) {
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range stats {
		raw, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended
		}
		var pid, ppid int
		var state string
		fmt.Sscan(string(raw), &pid)
		if _, err := fmt.Sscan(string(raw[strings.LastIndexByte(string(raw), ')')+1:]), &state, &ppid); err == nil && ppid == parent {
			pids = append(pids, pid)
		}
	}
	return pids
}

// tooManyConnections is MariaDB's ER_CON_COUNT_ERROR.
const tooManyConnections = 1040

// Admin runs one statement as the server's owner.
func (s *Server) Admin(statement string) {
	s.t.Helper()
	if strings.HasPrefix(s.URI, "postgresql") {
		s.admin(statement)
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	cfg := mysql.NewConfig()
	cfg.User, cfg.Net, cfg.Addr, cfg.Logger = "root", "unix", filepath.Join(s.dir, "sock"), &mysql.NopLogger{}
	connector, err := mysql.NewConnector(cfg)
	if err != nil {
		s.t.Fatal(err)
	}
	db := sql.OpenDB(connector)
	defer db.Close()
	for {
		_, err := db.ExecContext(ctx, statement)
		var full *mysql.MySQLError
		switch {
		case err == nil:
			return
		case !errors.As(err, &full) || full.Number != tooManyConnections || ctx.Err() != nil:
			s.t.Fatalf("%s: %v", statement, err)
		}
		time.Sleep(10 * time.Millisecond) // connections that were closed still count for a moment
	}
}
