package blobstore

import (
	"errors"
	"sync"
	"syscall"

	"github.com/virtual-disk-array/vda/bdev"
	"github.com/virtual-disk-array/vda/nvme"
)

const opWrite = bdev.OpWrite

// worker does for I/O what needs metadata: it makes the store the writer
// before the first write, allocates clusters for writes
// and releases clusters for unmaps, for all requests that have gathered in one
// go, and then lets the requests proceed.
type worker struct {
	mu      sync.Mutex
	queue   []deferred
	stopped bool
	wake    chan struct{}
	done    chan struct{}
}

// deferred is a request that waits for metadata.
type deferred struct {
	b *Blob
	r *bdev.Request
}

func (w *worker) start(s *Store) {
	w.wake = make(chan struct{}, 1)
	w.done = make(chan struct{})
	go w.run(s)
}

// stop ends the worker; requests that still wait fail.
func (w *worker) stop() {
	if w.wake == nil {
		return
	}
	w.mu.Lock()
	w.stopped = true
	w.mu.Unlock()
	w.signal()
	<-w.done
}

func (w *worker) signal() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// add queues a request; false when the worker has stopped.
func (w *worker) add(d deferred) bool {
	w.mu.Lock()
	ok := !w.stopped
	if ok {
		w.queue = append(w.queue, d)
	}
	first := len(w.queue) == 1
	w.mu.Unlock()
	if ok && first {
		w.signal()
	}
	return ok
}

func (w *worker) run(s *Store) {
	defer close(w.done)
	var batch bdev.Batch
	for range w.wake {
		w.mu.Lock()
		todo, stopped := w.queue, w.stopped
		w.queue = nil
		w.mu.Unlock()
		if stopped {
			for _, d := range todo {
				d.r.Complete(nvme.InternalPathError, &batch)
			}
			batch.Flush()
			return
		}
		s.serve(todo, &batch)
		batch.Flush()
	}
}

// serve allocates and releases what the requests need and submits them again,
// or completes those that cannot be served.
func (s *Store) serve(todo []deferred, batch *bdev.Batch) {
	var needs []*need
	of := make([][]*need, len(todo))
	errs := make([]error, len(todo))
	s.md.Lock()
	if err := s.own(); err != nil {
		s.md.Unlock()
		for _, d := range todo {
			d.r.Complete(statusOf(err), batch)
		}
		return
	}
	for i, d := range todo {
		if d.r.Op == bdev.OpUnmap {
			errs[i] = s.release(d)
			continue
		}
		of[i] = d.b.needs(d.r)
		needs = append(needs, of[i]...)
	}
	s.allocate(needs)
	s.md.Unlock()
	for i, d := range todo {
		for _, n := range of[i] {
			if n.err != nil && errs[i] == nil {
				errs[i] = n.err
			}
		}
		if errs[i] != nil {
			d.r.Complete(statusOf(errs[i]), batch)
			continue
		}
		d.b.Submit(d.r, batch)
	}
}

// statusOf translates an error for the host: what the base device said, or
// that there is no space.
func statusOf(err error) nvme.Status {
	if err == nil {
		return nvme.Success
	}
	var s nvme.Status
	switch {
	case errors.As(err, &s) && s != nvme.Success:
		return s
	case errors.Is(err, syscall.ENOSPC):
		return nvme.CapacityExceeded | nvme.DNR
	case errors.Is(err, syscall.ENODEV), errors.Is(err, ErrTaken), errors.Is(err, ErrClosed):
		return nvme.InternalPathError
	}
	return nvme.InternalError
}
