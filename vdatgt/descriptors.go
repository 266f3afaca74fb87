package vdatgt

import (
	"os"
	"strconv"
	"strings"
	"syscall"
)

// ownDescriptors is how many descriptors are kept, where the limit allows it,
// for the JSON-RPC socket and its clients, block devices, and connections to
// remote disks.
const ownDescriptors = 4096

// FitDescriptors raises the limit of open files to what conns connections of
// hosts and the data plane's own descriptors need, as far as the process may,
// and returns how many connections fit below it, and the limit. Of a small
// limit half is kept for what is not a host's.
func FitDescriptors(conns int) (fit int, limit uint64) {
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		return conns, 0
	}
	if want := min(uint64(conns)+ownDescriptors, mostFiles()); l.Cur < want {
		// Above the hard limit only with CAP_SYS_RESOURCE.
		if syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: want, Max: max(l.Max, want)}) != nil {
			_ = syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: min(l.Max, want), Max: l.Max})
		}
		_ = syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l)
	}
	return fitConns(conns, l.Cur), l.Cur
}

// fitConns is how many of conns connections a limit of files leaves room for.
func fitConns(conns int, limit uint64) int {
	own := min(max(limit/4, 128), ownDescriptors, limit/2)
	return int(max(min(uint64(conns), limit-own), 1))
}

// mostFiles is the system's bound of the limit.
func mostFiles() uint64 {
	b, err := os.ReadFile("/proc/sys/fs/nr_open")
	if err != nil {
		return 1 << 20
	}
	n, err := strconv.ParseUint(strings.TrimSpace(string(b)), 10, 64)
	if err != nil {
		return 1 << 20
	}
	return n
}
