// Package spdktest has the typed methods of SPDK's that tests call and VDA does
// not, so that both data planes can be compared in them. A method that an agent
// comes to need moves to package spdk, which is where the agents' calls are.
package spdktest

import (
	"context"

	"github.com/virtual-disk-array/vda/spdk"
)

// Methods are the methods on any Caller, such as a Client. What is said of
// spdk.API holds for them, too.
type Methods struct {
	spdk.Caller
}

// name is the parameter object of methods that take a name alone.
type name struct {
	Name string `json:"name"`
}

// ask calls method for one result of type T.
func ask[T any](ctx context.Context, m Methods, method string, params any) (T, error) {
	var out T
	err := m.Call(ctx, method, params, &out)
	return out, err
}

// do calls method for its effect; results other than true are dropped.
func (m Methods) do(ctx context.Context, method string, params any) error {
	return m.Call(ctx, method, params, nil)
}

// Thread is one of the data plane's threads.
type Thread struct {
	Name      string `json:"name"`
	ID        uint64 `json:"id"`
	CPUMask   string `json:"cpumask"`
	Busy      uint64 `json:"busy"` // ticks
	Idle      uint64 `json:"idle"` // ticks
	Active    int    `json:"active_pollers_count"`
	Timed     int    `json:"timed_pollers_count"`
	Paused    int    `json:"paused_pollers_count"`
	Interrupt bool   `json:"in_interrupt"`
}

// ThreadStats is the result of thread_get_stats.
type ThreadStats struct {
	TickRate uint64   `json:"tick_rate"` // ticks per second
	Threads  []Thread `json:"threads"`
}

// ThreadGetStats tells how busy the data plane's threads are.
func (m Methods) ThreadGetStats(ctx context.Context) (*ThreadStats, error) {
	return ask[*ThreadStats](ctx, m, "thread_get_stats", nil)
}
