package agent

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/virtual-disk-array/vda/spdk"
)

// steady sends calls whose wait does not end with the caller's context, and
// serializes calls that crash SPDK when they overlap.
type steady struct {
	c       spdk.Caller
	timeout time.Duration
	log     *slog.Logger
	closes  func(method string) bool // plane.Setup's ClosesLvstore

	mu      sync.Mutex
	closing int           // calls under way that close lvstores
	closed  chan struct{} // closed when closing drops to 0
}

func (s *steady) Call(ctx context.Context, method string, params, result any) error {
	if s.closes(method) {
		s.enter()
		defer s.leave()
	}
	if method == "bdev_lvol_get_lvstores" {
		if err := s.awaitClosed(ctx); err != nil {
			return err
		}
	}
	if err := context.Cause(ctx); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.timeout)
	defer cancel()
	begin := time.Now()
	err := s.c.Call(ctx, method, params, result)
	if !strings.Contains(method, "_get_") || err != nil {
		s.log.Debug("data plane call", "method", method, "params", params, "took", time.Since(begin), "err", err)
	}
	return err
}

// Sequence is for calls that close no lvstore.
func (s *steady) Sequence(ctx context.Context, reqs ...spdk.Request) []error {
	errs := make([]error, len(reqs))
	seq, ok := s.c.(spdk.Sequencer)
	if err := context.Cause(ctx); err != nil || !ok {
		for i, r := range reqs {
			errs[i] = s.Call(ctx, r.Method, r.Params, r.Result)
		}
		return errs
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.timeout)
	defer cancel()
	begin := time.Now()
	errs = seq.Sequence(ctx, reqs...)
	for i, r := range reqs {
		s.log.Debug("data plane call", "method", r.Method, "params", r.Params, "took", time.Since(begin), "err", errs[i])
	}
	return errs
}

func (s *steady) enter() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing == 0 {
		s.closed = make(chan struct{})
	}
	s.closing++
}

func (s *steady) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing--; s.closing == 0 {
		close(s.closed)
	}
}

// awaitClosed returns when no lvstore is being closed.
func (s *steady) awaitClosed(ctx context.Context) error {
	for {
		s.mu.Lock()
		n, ch := s.closing, s.closed
		s.mu.Unlock()
		if n == 0 {
			return nil
		}
		select {
		case <-ch:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
