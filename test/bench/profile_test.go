package main

import (
	"slices"
	"testing"
)

// What go tool pprof -traces prints, and where its samples belong.
func TestShares(t *testing.T) {
	got, err := shares(`File: vda_tgt
Type: cpu
-----------+-------------------------------------------------------
     250ms   runtime.memmove
             github.com/virtual-disk-array/vda/module/malloc.(*Device).Submit
             github.com/virtual-disk-array/vda/nvmf/nvmftgt.(*conn).run
-----------+-------------------------------------------------------
     500ms   internal/runtime/syscall.Syscall6
             syscall.RawSyscall6
             github.com/virtual-disk-array/vda/nvmf/nvmftgt.recvInto (inline)
             github.com/virtual-disk-array/vda/nvmf/nvmftgt.(*conn).recv
-----------+-------------------------------------------------------
     250ms   github.com/virtual-disk-array/vda/nvmf/nvmftgt.(*conn).next
             github.com/virtual-disk-array/vda/nvmf/nvmftgt.(*conn).run
`)
	if err != nil {
		t.Fatal(err)
	}
	want := make([]float64, len(places)+1)
	want[0], want[2], want[len(places)] = .25, .5, .25
	if !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	if _, err := shares("nothing"); err == nil {
		t.Error("a profile without samples is accepted")
	}
}
