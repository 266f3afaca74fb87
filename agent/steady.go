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
	closes  func(method string) bool // plane.Setup's Closes
	lists   func(method string) bool // plane.Setup's Lists

	mu               sync.Mutex
	closing, listing int           // calls under way that close, and that list, what others close
	over             chan struct{} // closed when one of them drops to 0
}

func (s *steady) Call(ctx context.Context, method string, params, result any) error {
	switch {
	case s.closes(method):
		if err := s.enterClosing(ctx); err != nil {
			return err
		}
		defer s.leave(&s.closing)
	case s.lists(method):
		if err := s.enterListing(ctx); err != nil {
			return err
		}
		defer s.leave(&s.listing)
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

// Sequence is for calls that neither close nor list anything.
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

// together sends questions that neither close nor list anything: in one piece where the client
// can, else at once.
func (s *steady) together(ctx context.Context, reqs ...spdk.Request) []error {
	errs := make([]error, len(reqs))
	seq, ok := s.c.(spdk.Sequencer)
	if err := context.Cause(ctx); err != nil || !ok {
		var wg Group
		for i, r := range reqs {
			wg.Go(func() { errs[i] = s.Call(ctx, r.Method, r.Params, r.Result) })
		}
		wg.Wait()
		return errs
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.timeout)
	defer cancel()
	errs = seq.Sequence(ctx, reqs...)
	for i, r := range reqs {
		if errs[i] != nil && !spdk.IsNoSuchDevice(errs[i]) {
			s.log.Debug("data plane call", "method", r.Method, "params", r.Params, "err", errs[i])
		}
	}
	return errs
}

// enterClosing returns when nothing is listed. From its call on nothing begins to be, so that
// what closes does not wait for ever.
func (s *steady) enterClosing(ctx context.Context) error {
	s.mu.Lock()
	s.closing++
	s.mu.Unlock()
	err := s.await(ctx, func() bool { return s.listing == 0 })
	if err != nil {
		s.leave(&s.closing)
	}
	return err
}

// enterListing returns when nothing is being closed.
func (s *steady) enterListing(ctx context.Context) error {
	return s.await(ctx, func() bool {
		if s.closing > 0 {
			return false
		}
		s.listing++
		return true
	})
}

func (s *steady) leave(count *int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if *count--; *count == 0 && s.over != nil {
		close(s.over)
		s.over = nil
	}
}

// await returns when ok, which is called with the lock held, says so.
func (s *steady) await(ctx context.Context, ok func() bool) error {
	for {
		s.mu.Lock()
		if ok() {
			s.mu.Unlock()
			return nil
		}
		if s.over == nil {
			s.over = make(chan struct{})
		}
		over := s.over
		s.mu.Unlock()
		select {
		case <-over:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
