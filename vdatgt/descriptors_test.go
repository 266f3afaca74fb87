package vdatgt

import "testing"

// TestFitConns: whatever the limit of files is, some are left for what is not
// a host's, at least half of a small one.
func TestFitConns(t *testing.T) {
	for _, c := range []struct {
		conns int
		limit uint64
		want  int
	}{
		{4096, 1 << 20, 4096},
		{4096, 8192, 4096},
		{4096, 4096, 3072},
		{4096, 1024, 768},
		{4096, 256, 128},
		{4096, 80, 40},
		{10, 80, 10},
		{4096, 1, 1},
		{100000, 65536, 61440},
	} {
		if got := fitConns(c.conns, c.limit); got != c.want {
			t.Errorf("%d connections with %d files: %d, want %d", c.conns, c.limit, got, c.want)
		}
	}
}
