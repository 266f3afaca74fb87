package vdatgt

import (
	"fmt"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/virtual-disk-array/vda/nvmf/nvmftgt"
)

// Agents ask for subsystems by name, each for its own: what that costs must not grow with how many
// others there are.
func TestOneSubsystemIsLookedAt(t *testing.T) {
	tgt, err := New(Config{RPCSocket: filepath.Join(t.TempDir(), "rpc.sock"), Log: testLog()})
	if err != nil {
		t.Fatal(err)
	}
	make := func(i int) {
		if _, err := tgt.nvmf.CreateSubsystem(nvmftgt.SubsystemConfig{NQN: fmt.Sprintf("nqn.2016-06.io.spdk:s%d", i), Serial: "1"}); err != nil {
			t.Fatal(err)
		}
	}
	make(0)
	cost := func() uint64 { // bytes of 100 questions
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for range 100 {
			l, err := getSubsystems(t.Context(), tgt, getSubsystemsParams{NQN: "nqn.2016-06.io.spdk:s0"})
			if s, _ := l.([]subsystemJSON); err != nil || len(s) != 1 || s[0].NQN != "nqn.2016-06.io.spdk:s0" {
				t.Fatalf("%+v, %v", l, err)
			}
		}
		runtime.ReadMemStats(&after)
		return after.TotalAlloc - before.TotalAlloc
	}
	alone := cost()
	for i := range 500 {
		make(1 + i)
	}
	if with := cost(); with > 2*alone { // 500 pointers are 4,000 bytes
		t.Errorf("to describe one subsystem 100 times takes %d bytes beside 500 others, %d alone", with, alone)
	}
}
